"""Load any masked language model with a new head for a task."""

from pathlib import Path

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from eliquare import stage
from eliquare.models.loading import longest_sequence


def load(source: str, revision: str | None, words: bool, names: list[str], max_length: int):
    """The model in float32 with a new head for the labels ``names``, its tokenizer, and the longest
    sequence that it takes, at most ``max_length``.

    ``words``: one label for each word, else one for each text. Raises InputError if the folder or
    hub id does not load.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    heads = AutoModelForTokenClassification if words else AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(
            source,
            revision=revision,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = heads.from_pretrained(source, revision=revision, config=config, dtype=torch.float32)
    except Exception as error:  # A foreign folder breaks in any way; each is the user's to mend.
        what = "" if Path(source).exists() else "no such folder, and "
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise stage.InputError(
            f"{source}: {what}does not load as a model ({reason}); expected a folder with "
            f"config.json, model.safetensors and a tokenizer, or a hub id"
        ) from None
    if tokenizer.pad_token_id is None:
        raise stage.InputError(f"{source}: its tokenizer has no padding token; add one")
    model.config.pad_token_id = tokenizer.pad_token_id
    longest = longest_sequence(model)
    if longest < max_length:
        stage.warn(
            f"{source}: takes sequences of at most {longest} sub-words; "
            f"--max-length {max_length} is lowered to that"
        )
        max_length = longest
    return model, tokenizer, max_length
