"""A tokenizer saved with another vocabulary than it was loaded with."""

from pathlib import Path
from typing import Any

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.tokenizer import Description

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
OLDER_FILES = ("vocab_file", "merges_file")


def save_tokenizer(tokenizer: Any, description: Description, output: Path) -> None:
    """Save the tokenizer with this description, as tokenizer.json alone: no older files beside it.

    Raises InputError if the tokenizer's class, when it loads the result, makes something else of
    it: some classes build parts of the tokenizer with numbers of their own.
    """
    tokenizer.save_pretrained(output)
    for file in output.iterdir():
        if file.name not in FILES:
            file.unlink()
    stage.write_json(output / "tokenizer.json", description)
    settings = stage.read_json(output / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        ids = {token["content"]: token["id"] for token in description["added_tokens"]}
        settings["added_tokens_decoder"] = {
            str(ids[token["content"]]): token for token in settings["added_tokens_decoder"].values()
        }
    if "unk_id" in description["model"] and "unk_id" in settings:
        settings["unk_id"] = description["model"]["unk_id"]
    for name in OLDER_FILES:
        settings.pop(name, None)
    stage.write_json(output / "tokenizer_config.json", settings)
    loaded = surgery.describe(surgery.load_tokenizer(output))
    for part in ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor"):
        if loaded[part] != description[part]:
            raise InputError(
                f"{tokenizer.name_or_path}: its tokenizer class {type(tokenizer).__name__} builds "
                f"another {part} than the new tokenizer has; save it as PreTrainedTokenizerFast "
                "first"
            )
