"""Bring a model from a hub or a folder into the results, whole and checked.

python -m eliquare.models.fetch --model HUB_ID_OR_FOLDER --revision COMMIT --output O
"""

import argparse
import re
import shutil
from pathlib import Path

import transformers

from eliquare import stage
from eliquare.models.loading import load_masked_model, load_tokenizer

VERSION = 1

TERMS = ["README.md", "LICENSE*"]
FILES = [*TERMS, "*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model.bin"]


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="hub id, or a folder")
    parser.add_argument("--revision", help="commit of the hub's repository (for a hub id)")
    parser.add_argument(
        "--any-model", action="store_true", help="take models without an MLM head (no teachers)"
    )
    parser.add_argument("--output", required=True, help="folder to make")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Copy or download the model; a teacher must have an MLM head."""
    is_folder = Path(arguments.model).is_dir()
    source = Path(arguments.model) if is_folder else download(arguments.model, arguments.revision)
    # A folder's path is of this machine alone; what it holds is in the checksum.
    settings = {"model": Path(arguments.model).resolve().name if is_folder else arguments.model}
    settings["revision"] = None if is_folder else arguments.revision
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with stage.whole_folder(arguments.output) as partial:
        if arguments.any_model:
            copy(source, FILES, partial)
        else:
            # Saved anew, so that every later stage reads one weight format and a fast tokenizer.
            load_masked_model(source).save_pretrained(partial)
            load_tokenizer(source).save_pretrained(partial)
            copy(source, TERMS, partial)
        provenance = stage.provenance(settings, {"model": source})
        stage.write_json(partial / "provenance.json", provenance)


def copy(source: Path, patterns: list[str], folder: Path) -> None:
    """Copy the files at the top of ``source`` whose names fit."""
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


def download(model: str, revision: str | None) -> Path:
    """The folder of a pinned revision in the hub's cache, where a broken download goes on.

    Raises InputError in words where it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not revision or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise stage.InputError(
            f"{model}: no such folder; for a hub id, give the commit as revision (40 hexadecimal "
            f"digits), so that the same model is fetched next year; found {revision!r}"
        )
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise stage.InputError(
            f"{model}@{revision}: cannot be fetched ({str(error).splitlines()[0]})"
        ) from None


if __name__ == "__main__":
    stage.main(parser(), run)
