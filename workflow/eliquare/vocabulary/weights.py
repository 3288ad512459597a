"""A masked language model with some rows of its vocabulary only.

Nothing here knows a model family: an empty model of the configuration and one with a sub-word more
are compared tensor by tensor, and a tensor that differs in its first dimension alone has a row for
each sub-word.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary.stored import StoredTensor, stored_tensors, write_rows

DEBERTA_V3_HEAD = "lm_predictions."


def load_config(folder: str | Path) -> PreTrainedConfig:
    """The configuration of a model folder, or an InputError.

    Published DeBERTa-v3 models keep their head under a name that transformers reads only where the
    configuration says ``legacy: false``, which theirs do not.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: no model configuration loads from it: {reason}") from None
    if getattr(config, "vocab_size", None) is None:
        raise InputError(f"{folder}/config.json: has no vocab_size; this is no language model")
    if getattr(config, "legacy", False) and any(Path(folder).glob("model*.safetensors")):
        names = stored_tensors(folder)
        if any(name.startswith(DEBERTA_V3_HEAD) for name in names):
            config.legacy = False
    return config


def load_model(
    folder: str | Path,
    dtype: torch.dtype | str = "auto",
    tensors: dict[str, torch.Tensor] | None = None,
) -> PreTrainedModel:
    """A masked language model, by default in its stored precision; bare without a stored MLM head.

    The weights stay in their files until they are used; ``tensors`` may stand for what is in the
    files. Raises InputError where the folder holds no model, or a part of one.
    """
    config = load_config(folder)
    try:
        # The automatic classes want a folder.
        kind = automatic_class(config) if tensors is None else type(empty_model(config))
        model, loading = kind.from_pretrained(
            folder if tensors is None else None,
            config=config,
            dtype=dtype,
            state_dict=tensors,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: no masked language model loads from it: {reason}") from None
    missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
    prefix = f"{model.base_model_prefix}."
    encoder = [name for name in missing if name.startswith(prefix) or model.base_model is model]
    if encoder:
        raise InputError(
            f"{folder}: the weights lack {', '.join(encoder[:3])}; they are not whole, or not of "
            "the model that config.json names"
        )
    return (model.base_model if missing else model).eval()


def has_head(model: PreTrainedModel) -> bool:
    """Whether the model is one with its MLM head."""
    return model.base_model is not model


def automatic_class(config: PreTrainedConfig) -> Any:
    """AutoModelForMaskedLM, or AutoModel for an architecture that has no masked form."""
    known = type(config) in AutoModelForMaskedLM._model_mapping
    return AutoModelForMaskedLM if known else AutoModel


def empty_model(config: PreTrainedConfig, vocabulary_size: int | None = None) -> PreTrainedModel:
    """The model of a configuration without weights, with so many sub-words if given."""
    config = copy.deepcopy(config)
    config.vocab_size = vocabulary_size or config.vocab_size
    with torch.device("meta"):
        return automatic_class(config).from_config(config)


def renumber_config(config: Any, kept: Sequence[int]) -> Any:
    """A copy with ``vocab_size`` and every ``*_token_id`` in the new numbers.

    Takes a configuration or a dictionary. An id beyond the old vocabulary, which configuration
    classes have as defaults, becomes None. Raises InputError for one whose sub-word is not kept.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    result = copy.deepcopy(config)
    values = config if isinstance(config, dict) else config.to_dict()
    size = values.get("vocab_size")

    def renumber(key: str, old: int | None) -> int | None:
        if old is None or old < 0 or old in new_ids:
            return old if old is None or old < 0 else new_ids[old]
        if size is not None and old < size:
            raise InputError(
                f"the configuration's {key} is {old}, which is not among the kept sub-words; "
                "add it to them"
            )
        stage.warn(f"the configuration's {key} {old} is beyond the vocabulary; it becomes null")
        return None

    changes = {"vocab_size": len(kept)} if size is not None else {}
    for key, value in values.items():
        if key.endswith("_token_id"):
            changes[key] = (
                [renumber(key, one) for one in value]
                if isinstance(value, list)
                else renumber(key, value)
            )
    for key, value in changes.items():
        result.__setitem__(key, value) if isinstance(config, dict) else setattr(result, key, value)
    return result


def cut_weights(
    folder: str | Path, config: PreTrainedConfig, kept: Sequence[int], output: Path
) -> None:
    """Write the weights with the kept rows only, without loading the model.

    ``kept`` are old ids in ascending order. Raises InputError where a kept id has no row, where a
    tensor's shape depends on the vocabulary in another way than by its rows, or where positions are
    counted from the id of the padding token (RoBERTa, XLM-R) and that id would change.
    """
    if kept[-1] >= config.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has more sub-words than the model has rows "
            f"({config.vocab_size:,}): sub-word {kept[-1]} has none; leave out those from "
            f"{config.vocab_size:,} on"
        )
    padding = config.pad_token_id
    if counts_positions_from_padding(empty_model(config)) and padding not in (None, -1):
        new = list(kept).index(padding)
        if new != padding:
            raise InputError(
                f"{folder}: this model counts its positions from the id of its padding token, "
                f"which would change from {padding} to {new}; keep the sub-words before it"
            )
    stored = stored_tensors(folder)
    write_rows(stored, vocabulary_names(folder, config, stored), kept, output)


def vocabulary_names(
    folder: str | Path, config: PreTrainedConfig, stored: dict[str, StoredTensor]
) -> set[str]:
    """The stored tensors that have a row for each sub-word.

    One that the model does not know (the head of another pre-training task) counts by its shape.
    """
    size = config.vocab_size
    empty, wider = empty_model(config), empty_model(config, size + 1)
    shapes, wider_shapes = (
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for model in (empty, wider)
    )
    prefix = f"{empty.base_model_prefix}."
    others = [value for key, value in config.to_dict().items() if key != "vocab_size"]
    found = set()
    for name, tensor in stored.items():
        known = next(
            (n for n in (name, prefix + name, name.removeprefix(prefix)) if n in shapes), None
        )
        if known is None:
            if tensor.shape[:1] != (size,):
                continue
            if size in others:
                raise InputError(
                    f"{folder}: cannot tell whether the {size:,} rows of {name} are sub-words"
                )
        elif shapes[known] == wider_shapes[known]:
            continue
        elif tensor.shape != shapes[known]:
            raise InputError(
                f"{folder}: {name} has {tensor.shape[0]:,} rows, and config.json says "
                f"vocab_size {size:,}; mend vocab_size"
            )
        elif wider_shapes[known] != (size + 1, *shapes[known][1:]):
            raise InputError(
                f"{folder}: tensor {name} of shape {tensor.shape} depends on the vocabulary "
                "otherwise than by its rows; models laid out in this way cannot be cut"
            )
        found.add(name)
    return found


def counts_positions_from_padding(model: PreTrainedModel) -> bool:
    """Whether an embedding of positions has a padding row, as in RoBERTa and its kin."""
    return any(
        "position" in name and isinstance(module, nn.Embedding) and module.padding_idx is not None
        for name, module in model.named_modules()
    )


def vocabulary_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The tensors with a row for each sub-word: embeddings, output weights and biases, by name."""
    wider = empty_model(model.config, model.config.vocab_size + 1)
    wider = wider if has_head(model) else wider.base_model
    shapes = {name: tensor.shape for name, tensor in wider.state_dict().items()}
    return {k: v for k, v in model.state_dict().items() if shapes[k] != v.shape}


def parameter_count(config: PreTrainedConfig, head: bool = True) -> int:
    """Parameters of the model of a configuration, with or without its MLM head; tied ones once."""
    model = empty_model(config)
    model = model if head else model.base_model
    return sum(parameter.numel() for parameter in model.parameters())
