"""Reduce a masked language model and its tokenizer to selected tokens, and change nothing else.

    eliquare vocabulary reduce --model MODEL --vocabulary vocabulary.csv --sample TEXT
        --output FOLDER

Works with any model of transformers whose tokenizer is WordPiece, Unigram or BPE. Nothing here
knows a model family: an empty model of the configuration and one with a token more are compared
tensor by tensor, and a tensor that differs in its first dimension alone has a row per token.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from eliquare.cli import Options
from eliquare.io import InputError, atomic_dir, checksum, provenance, read_json, write_json
from eliquare.models.hub import local_folder
from eliquare.models.loading import (
    empty_model,
    first_line,
    has_mlm_head,
    load_config,
    load_fast_tokenizer,
    load_model,
    parameter_count,
    quiet,
)
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.select import (
    Row,
    complete,
    describe_reasons,
    read_vocabulary,
    write_vocabulary,
)
from eliquare.vocabulary.verify import TaskFiles, compare, describe_findings, files_by_name

# Enough to show a mistake, and two seconds for a model of mBERT's size.
SENTENCES = 16

logger = logging.getLogger(__name__)


class ReduceOptions(Options):
    """Options of ``vocabulary reduce``."""

    model: str = Field(description="Model folder, or a hub id.")
    vocabulary: Path = Field(
        description="Vocabulary file of `vocabulary select`, or a plain list of tokens, one per "
        "line."
    )
    sample: Path | None = Field(
        None,
        description="Documents folder, or a text file with one text per line: both models are "
        "compared on it before anything is written.",
    )
    tasks: TaskFiles = Field([], description="Task files to compare on too, as NAME=FILE.")
    output: Path = Field(description="Model folder to make.")


def reduce(options: ReduceOptions) -> None:
    """Reduce the model; with a sample, refuse to write a result that differs from the old model."""
    folder = local_folder(options.model)
    if options.tasks and options.sample is None:
        raise InputError("--sample: give a documents folder or a text file to compare on")
    description = tokenizer_json.read_description(folder)
    selected = read_vocabulary(options.vocabulary, tokenizer_json.list_tokens(description))
    specials = tokenizer_json.special_ids(folder, description)
    completed = complete(selected, description, specials)
    if added := [completed[index] for index in completed if index not in selected]:
        logger.info(
            "%s: %d tokens join the selected ones (%s)",
            options.vocabulary,
            len(added),
            describe_reasons(added),
        )
    if options.sample is None:
        logger.warning("nothing proves this reduction: give --sample, some text to compare on")
    settings = {"model": options.model, "vocabulary": checksum(options.vocabulary)}
    tasks = files_by_name(options.tasks)
    reduce_model(folder, completed, options.output, options.sample, tasks, settings)


def reduce_model(
    folder: Path,
    selected: Mapping[int, str],
    output: Path,
    sample: Path | None = None,
    tasks: Mapping[str, Path] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Write a model reduced to the selected tokens; return the findings of its verification.

    For text whose tokens are all selected, the segmentation and the hidden states stay the same and
    MLM logits equal the old ones at the selected rows.

    Args:
        folder: the model.
        selected: reasons by id of the model's own tokenizer. BPE tokens bring those on their routes
            along.
        output: the folder to make.
        sample: documents folder or text file to verify the reduction on before it takes its place.
        tasks: task files by name, to verify it on too.
        settings: recorded in provenance.json.

    Raises:
        InputError: model or tokenizer are of a kind that cannot be reduced, or the verification
            finds a difference.
    """
    quiet()
    tokenizer = load_fast_tokenizer(folder)
    description = tokenizer_json.describe(tokenizer)
    selected = complete(dict(selected), description)
    kept = list(selected)
    tokens = tokenizer_json.list_tokens(description)
    with atomic_dir(output) as partial:
        reduced = tokenizer_json.reduce(description, kept)
        tokenizer_json.save_tokenizer(tokenizer, reduced, partial)
        # The models need the memory.
        del tokenizer, description, reduced
        rows = [Row(index, tokens[index], reason) for index, reason in selected.items()]
        write_vocabulary(partial / "vocabulary.csv", rows)
        head = reduce_weights(folder, kept, partial)
        findings = None
        if sample is not None:
            findings = compare(folder, partial, sample, tasks, SENTENCES)
            write_json(partial / "verification.json", findings)
        sizes = {"tokens": len(kept), "of": len(tokens)}
        record = provenance(sizes | dict(settings or {}), {"model": folder})
        write_json(partial / "provenance.json", record)
        before, after = (parameter_count(load_config(model), head) for model in (folder, partial))
        (partial / "README.md").write_text(
            model_card(folder.resolve().name, f"{len(kept):,}", f"{len(tokens):,}", before, after),
            encoding="utf-8",
        )
    if not head:
        logger.info("%s: has no MLM head; its encoder alone was reduced", folder)
    logger.info(
        "%s: %s of %s tokens, %s of %s parameters",
        output,
        *(f"{number:,}" for number in (len(kept), len(tokens), after, before)),
    )
    if findings is not None:
        logger.info("%s: %s", output, describe_findings(findings))
    return findings


# Weights


def reduce_weights(folder: Path, kept: Sequence[int], output: Path) -> bool:
    """Write weights and configuration with the kept ids only; return whether there is an MLM head.

    Args:
        folder: the model, with safetensors or older weights.
        kept: old ids in ascending order.
        output: folder to write to.

    Raises:
        InputError: a kept id has no row, the shape of a tensor depends on the vocabulary otherwise
            than by its rows, or positions are counted from the id of the padding token (RoBERTa,
            XLM-R) and that id would change.
    """
    config = load_config(folder)
    if kept[-1] >= config.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has more tokens than the model has rows "
            f"({config.vocab_size:,}): token {kept[-1]} has none; leave out those from "
            f"{config.vocab_size:,} on"
        )
    padding = config.pad_token_id
    if counts_positions_from_padding(empty_model(config)) and padding not in (None, -1):
        new = list(kept).index(padding)
        if new != padding:
            raise InputError(
                f"{folder}: this model counts its positions from the id of its padding token, "
                f"which would change from {padding} to {new}; keep the tokens before it"
            )
    tensors = stored_tensors(folder)
    per_token = vocabulary_names(folder, config, tensors)
    rows = torch.tensor(kept)
    save_file(
        {name: value[rows] if name in per_token else value for name, value in tensors.items()},
        output / "model.safetensors",
        {"format": "pt"},
    )
    renumber_config(config, kept).save_pretrained(output)
    generation = folder / "generation_config.json"
    if generation.exists():
        write_json(output / generation.name, renumber_config(read_json(generation), kept))
    return has_mlm_head(load_model(output))


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a folder's weight files by name, mapped: nothing is read until used.

    Raises:
        InputError: there are no weights, or a file is damaged.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                names = opened.keys()
                tensors.update((name, opened.get_slice(name)[:]) for name in names)
        except SafetensorError as error:
            raise InputError(f"{file}: damaged or cut short ({first_line(error)})") from None
    if tensors:
        return tensors
    seen: set[int] = set()
    for file in sorted(folder.glob("pytorch_model*.bin")):
        try:
            state = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(
                f"{file}: does not load ({first_line(error)}); save it as safetensors"
            ) from None
        for name, tensor in state.items():
            # Tied tensors share their memory; a model ties them again when it loads.
            if tensor.data_ptr() not in seen:
                tensors[name] = tensor.contiguous()
            seen.add(tensor.data_ptr())
    if not tensors:
        raise InputError(
            f"{folder}: no weights here (expected model.safetensors or pytorch_model.bin)"
        )
    return tensors


def vocabulary_names(
    folder: Path, config: PreTrainedConfig, tensors: Mapping[str, torch.Tensor]
) -> set[str]:
    """Return the names of the stored tensors that have a row per token.

    A tensor that the model does not know (the head of another pre-training task) is judged by its
    shape.
    """
    size = config.vocab_size
    empty, wider = empty_model(config), empty_model(config, size + 1)
    shapes, wider_shapes = (
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for model in (empty, wider)
    )
    prefix = f"{empty.base_model_prefix}."
    other_sizes = [value for key, value in config.to_dict().items() if key != "vocab_size"]
    names = set()
    for name, tensor in tensors.items():
        aliases = (name, prefix + name, name.removeprefix(prefix))
        known = next((alias for alias in aliases if alias in shapes), None)
        if known is None:
            if tensor.shape[:1] != (size,):
                continue
            if size in other_sizes:
                raise InputError(
                    f"{folder}: cannot tell whether the {size:,} rows of {name} are tokens"
                )
        elif shapes[known] == wider_shapes[known]:
            continue
        elif tuple(tensor.shape) != shapes[known]:
            raise InputError(
                f"{folder}: {name} has {tensor.shape[0]:,} rows, and config.json says "
                f"vocab_size {size:,}; correct vocab_size"
            )
        elif wider_shapes[known] != (size + 1, *shapes[known][1:]):
            raise InputError(
                f"{folder}: tensor {name} of shape {tuple(tensor.shape)} depends on the vocabulary "
                "otherwise than by its rows; models laid out in this way cannot be reduced"
            )
        names.add(name)
    return names


def counts_positions_from_padding(model: PreTrainedModel) -> bool:
    """Return whether an embedding of positions has a padding row, as in RoBERTa and its kin."""
    return any(
        "position" in name and isinstance(module, nn.Embedding) and module.padding_idx is not None
        for name, module in model.named_modules()
    )


def renumber_config(config: Any, kept: Sequence[int]) -> Any:
    """Return a copy with ``vocab_size`` and every ``*_token_id`` in the new ids.

    An id beyond the old vocabulary, which configuration classes have as defaults, becomes None.

    Args:
        config: a configuration, or a dictionary.
        kept: old ids, in the order of the new ones.

    Raises:
        InputError: the token of an id is not kept.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    result = copy.deepcopy(config)
    values = config if isinstance(config, dict) else config.to_dict()
    size = values.get("vocab_size")

    def renumber(key: str, old: int | None) -> int | None:
        if old is None or old < 0:
            return old
        if old in new_ids:
            return new_ids[old]
        if size is not None and old < size:
            raise InputError(
                f"the configuration's {key} is {old}, which is not among the selected tokens; "
                "add it to them"
            )
        logger.warning("the configuration's %s %d is beyond the vocabulary; set to null", key, old)
        return None

    changes: dict[str, Any] = {"vocab_size": len(kept)} if size is not None else {}
    for key, value in values.items():
        if key.endswith("_token_id"):
            ids = value if isinstance(value, list) else [value]
            new = [renumber(key, index) for index in ids]
            changes[key] = new if isinstance(value, list) else new[0]
    for key, value in changes.items():
        result.__setitem__(key, value) if isinstance(config, dict) else setattr(result, key, value)
    return result


def model_card(name: str, tokens: str, all_tokens: str, before: int, after: int) -> str:
    """Return a short model card."""
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
base_model: {name}
tags: [vocabulary-reduction]
---

# {name}, reduced to {tokens} tokens

This is the masked language model {name} with {tokens} of its {all_tokens} tokens, and {after:,} of
its {before:,} parameters. Nothing was trained. On text that the full model segments into these
tokens, the hidden states are the same, and so are the logits of these tokens.

```python
from transformers import pipeline

fill = pipeline("fill-mask", "path/of/this/folder")
```

`provenance.json` says what it was made from. The terms of {name} hold for this model too.
"""
