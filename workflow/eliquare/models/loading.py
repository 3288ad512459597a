"""Loading models and tokenizers, with plain errors for what cannot be used."""

import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from eliquare import stage
from eliquare.vocabulary.weights import load_config


def load_masked_model(folder: str | Path) -> PreTrainedModel:
    """A masked language model in float32, its MLM head included.

    Raises InputError where there is no model, or one without an MLM head: a head made up at
    loading would teach the student noise.
    """
    config = Path(folder) / "config.json"
    if not config.exists():
        raise stage.InputError(f"{folder}: no model here (config.json is missing)")
    architectures = stage.read_json(config).get("architectures") or []
    if not any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in architectures):
        raise stage.InputError(
            f"{folder}: {', '.join(architectures) or 'a bare encoder'} has no head for masked "
            "language modelling, so it cannot teach; choose a model saved as …ForMaskedLM"
        )
    try:
        model, loading = AutoModelForMaskedLM.from_pretrained(
            folder, config=load_config(folder), dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise stage.InputError(f"{folder}: does not load ({reason})") from None
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise stage.InputError(f"{folder}: weights are missing ({missing}), the MLM head's perhaps")
    return model


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder, with a padding and a mask sub-word.

    Raises InputError where it does not load or cannot be used for masked language modelling.
    """
    # What is no folder would be looked up on a hub.
    stage.existing(folder, "model folder with a tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise stage.InputError(f"{folder}: no tokenizer loads ({reason})") from None
    if not tokenizer.is_fast:
        raise stage.InputError(f"{folder}: no fast tokenizer; expected a tokenizer.json")
    for name in ("pad_token_id", "mask_token_id"):
        if getattr(tokenizer, name) is None:
            raise stage.InputError(f"{folder}: the tokenizer has no {name}")
    return tokenizer


def longest_sequence(model: PreTrainedModel) -> int:
    """How many sub-words the model takes at most, special tokens included.

    ``sys.maxsize`` for a model that sets no limit.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:
        return sys.maxsize
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            # RoBERTa and XLM-R count positions from the padding id + 1.
            return positions - padding - 1
    return positions
