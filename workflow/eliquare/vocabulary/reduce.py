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
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from eliquare.cli import Options
from eliquare.io import InputError, atomic_dir, checksum, provenance, read_json, write_json
from eliquare.models.hub import local_folder
from eliquare.models.loading import (
    empty_model,
    has_mlm_head,
    load_config,
    load_fast_tokenizer,
    load_model,
    map_weights,
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
from eliquare.vocabulary.verify import TaskFiles, compare, describe_findings

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
        text = "%s: %d tokens join the selected ones (%s)"
        logger.info(text, options.vocabulary, len(added), describe_reasons(added))
    if options.sample is None:
        logger.warning("nothing proves this reduction: give --sample, some text to compare on")
    settings = {"model": options.model, "vocabulary": checksum(options.vocabulary)}
    reduce_model(folder, completed, options.output, options.sample, dict(options.tasks), settings)


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
        sample: documents folder or text file; the reduction is verified on it, and on the task
            files, before it takes its place.
        tasks: task files by name.
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
        reduce_weights(folder, kept, partial)
        findings = None
        if sample is not None:
            findings = compare(folder, partial, sample, tasks, SENTENCES)
            write_json(partial / "verification.json", findings)
        head = findings["mlm_head"] if findings else has_mlm_head(load_model(partial))
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
    numbers = (f"{number:,}" for number in (len(kept), len(tokens), after, before))
    logger.info("%s: %s of %s tokens, %s of %s parameters", output, *numbers)
    if findings is not None:
        logger.info("%s: %s", output, describe_findings(findings))
    return findings


# Weights


def reduce_weights(folder: Path, kept: Sequence[int], output: Path) -> None:
    """Write weights and configuration with the kept ids (ascending) only.

    Raises:
        InputError: a kept id has no row, the shape of a tensor depends on the vocabulary otherwise
            than by its rows, or positions are counted from the id of the padding token (RoBERTa,
            XLM-R) and that id would change.
    """
    config = load_config(folder)
    size, padding = config.vocab_size, config.pad_token_id
    if kept[-1] >= size:
        raise InputError(
            f"{folder}: the tokenizer has more tokens than the model has rows ({size:,}): token "
            f"{kept[-1]} has none; leave out those from {size:,} on"
        )
    empty = empty_model(config)
    if padding not in (None, -1) and counts_positions_from_padding(empty):
        new = list(kept).index(padding)
        if new != padding:
            raise InputError(
                f"{folder}: this model counts its positions from the id of its padding token, "
                f"which would change from {padding} to {new}; keep the tokens before it"
            )
    weights = map_weights(folder)
    per_token = vocabulary_names(folder, empty, weights.tensors)
    rows = torch.tensor(kept)
    reduced = weights.tensors | {name: weights.tensors[name][rows] for name in per_token}
    weights.release()
    save_file(reduced, output / "model.safetensors", {"format": "pt"})
    renumber_config(config, kept).save_pretrained(output)
    generation = folder / "generation_config.json"
    if generation.exists():
        write_json(output / generation.name, renumber_config(read_json(generation), kept))


def vocabulary_names(
    folder: Path, empty: PreTrainedModel, tensors: Mapping[str, torch.Tensor]
) -> list[str]:
    """Return the names of the stored tensors that have a row per token.

    A tensor that the model does not know (the head of another pre-training task) is judged by its
    shape.
    """
    size = empty.config.vocab_size
    shapes, wider = (
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for model in (empty, empty_model(empty.config, size + 1))
    )
    prefix = f"{empty.base_model_prefix}."
    other_sizes = [value for key, value in empty.config.to_dict().items() if key != "vocab_size"]
    names = []
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        aliases = (name, prefix + name, name.removeprefix(prefix))
        known = next((alias for alias in aliases if alias in shapes), None)
        if known is None:
            if shape[:1] != (size,):
                continue
            if size in other_sizes:
                raise InputError(
                    f"{folder}: cannot tell whether the {size:,} rows of {name} are tokens"
                )
        elif shapes[known] == wider[known]:
            continue
        elif shape != shapes[known]:
            raise InputError(
                f"{folder}: {name} has {shape[0]:,} rows, and config.json says vocab_size "
                f"{size:,}; correct vocab_size"
            )
        elif wider[known] != (size + 1, *shape[1:]):
            raise InputError(
                f"{folder}: tensor {name} of shape {shape} depends on the vocabulary otherwise "
                "than by its rows; models laid out in this way cannot be reduced"
            )
        names.append(name)
    return names


def counts_positions_from_padding(model: PreTrainedModel) -> bool:
    """Return whether an embedding of positions has a padding row, as in RoBERTa and its kin."""
    return any(
        "position" in name and isinstance(module, nn.Embedding) and module.padding_idx is not None
        for name, module in model.named_modules()
    )


def renumber_config(config: Any, kept: Sequence[int]) -> Any:
    """Return a copy of a configuration, or dictionary, with ``vocab_size`` and ids as they are now.

    ``kept`` are the old ids in the order of the new ones. An id beyond the old vocabulary, which
    configuration classes have as defaults, becomes None; one that is not kept is an InputError.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    values = config if isinstance(config, dict) else config.to_dict()
    size = values.get("vocab_size")

    def renumber(key: str, old: int | None) -> int | None:
        if old is None or old < 0:
            return old
        if size is not None and old < size and old not in new_ids:
            raise InputError(
                f"the configuration's {key} is {old}, which is not among the selected tokens; "
                "add it to them"
            )
        if old not in new_ids:
            text = "the configuration's %s %d is beyond the vocabulary; set to null"
            logger.warning(text, key, old)
        return new_ids.get(old)

    changes: dict[str, Any] = {"vocab_size": len(kept)} if size is not None else {}
    for key, ids in tokenizer_json.configured_ids(values).items():
        new = [renumber(key, index) for index in ids]
        changes[key] = new if isinstance(values[key], list) else new[0]
    result = copy.deepcopy(config)
    result.update(changes)
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
