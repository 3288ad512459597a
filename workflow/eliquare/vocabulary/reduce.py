"""Reduce a masked language model and its tokenizer to selected tokens, and change nothing else.

    eliquare vocabulary reduce --model MODEL --vocabulary vocabulary.csv --sample TEXT
        --output FOLDER

Works with any model of transformers whose tokenizer is WordPiece, Unigram or BPE. Nothing here
knows a model family: an empty model of the configuration and one with a token more are compared
tensor by tensor, and a tensor that differs in its first dimension alone has a row per token.
"""

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
from eliquare.models.hub import local_folder, name_of
from eliquare.models.loading import (
    empty_model,
    has_mlm_head,
    load_config,
    load_fast_tokenizer,
    load_model,
    map_weights,
    parameter_count,
    quiet,
    vocabulary_tensors,
)
from eliquare.models.sentence import copy_sentence_files
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.heads import check_addressing, prompt_ids
from eliquare.vocabulary.select import complete, describe_reasons, read_vocabulary, write_vocabulary
from eliquare.vocabulary.verify import TaskFiles, compare, describe_findings

# Enough to show a mistake, and two seconds for a model of mBERT's size.
SENTENCES = 16
GENERATION_CONFIG = "generation_config.json"
CARD = """---
library_name: transformers
{tag}base_model: {name}
tags: [vocabulary-reduction]
---

# {name}, reduced to {tokens:,} tokens

This is {name} with {tokens:,} of its {total:,} tokens, and {after:,} of its {before:,}
parameters{without_head}. Nothing was trained. On text that the full model segments into these
tokens, the hidden states are the same, and so are the logits of these tokens where it predicts
tokens. It loads as {name} does.

`provenance.json` says what it was made from. The terms of {name} hold for this model too.
"""

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
    verify: bool = Field(
        False, description="Refuse to write a model that is not compared, its head included."
    )
    output: Path = Field(description="Model folder to make.")


def reduce(options: ReduceOptions) -> None:
    """Write a model reduced to the selected tokens, and those that they need beside them.

    For text whose tokens are all selected, the segmentation and the hidden states stay the same and
    MLM logits equal the old ones at the selected rows. With a sample, that is verified on it and on
    the task files before the result takes its place.

    Raises:
        InputError: model or tokenizer are of a kind that cannot be reduced, or the verification
            finds a difference.
    """
    quiet()
    folder, output = local_folder(options.model), options.output
    if (options.tasks or options.verify) and options.sample is None:
        raise InputError("--sample: give a documents folder or a text file to compare on")
    check_addressing(folder)
    if options.sample is None:
        logger.warning("nothing proves this reduction: give --sample, some text to compare on")
    tokenizer = load_fast_tokenizer(folder)
    description = tokenizer_json.describe(tokenizer)
    tokens = tokenizer_json.list_tokens(description, folder)
    selected = read_vocabulary(options.vocabulary, tokens)
    prompts = dict.fromkeys(prompt_ids(folder, description), "prompt")
    completed = complete(
        prompts | selected, description, tokenizer_json.special_ids(folder, description)
    )
    if added := [reason for index, reason in completed.items() if index not in selected]:
        text = "%s: %d tokens join the selected ones (%s)"
        logger.info(text, options.vocabulary, len(added), describe_reasons(added))
    kept = list(completed)
    settings = {"tokens": len(kept), "of": len(tokens), "model": name_of(options.model, folder)}
    settings["vocabulary"] = checksum(options.vocabulary)
    del tokenizer, description
    with atomic_dir(output) as partial:
        write_vocabulary(partial / "vocabulary.csv", completed, tokens)
        write_reduced(folder, kept, partial)
        if options.sample is None:
            head = has_mlm_head(load_model(partial))
        else:
            findings = compare(folder, partial, options.sample, options.tasks, SENTENCES)
            write_json(partial / "verification.json", findings)
            head = findings["mlm_head"]
            logger.info("%s: %s", output, describe_findings(findings))
        write_json(partial / "provenance.json", provenance(settings, {"model": folder}))
        before, after = (parameter_count(load_config(model), head) for model in (folder, partial))
        card = {"name": settings["model"], "tokens": len(kept), "total": len(tokens)}
        card["tag"] = "pipeline_tag: fill-mask\n" if head else ""
        card["without_head"] = "" if head else ", those of a head for a task left out"
        text = CARD.format(**card, before=before, after=after)
        (partial / "README.md").write_text(text, encoding="utf-8")
    if not head:
        logger.info("%s: has no MLM head; what it has was reduced", folder)
    numbers = (f"{number:,}" for number in (len(kept), len(tokens), after, before))
    logger.info("%s: %s of %s tokens, %s of %s parameters", output, *numbers)


def write_reduced(folder: Path, kept: Sequence[int], output: Path) -> None:
    """Write a model and its tokenizer with the kept ids (ascending) only; errors as ``reduce``."""
    tokenizer = load_fast_tokenizer(folder)
    reduced = tokenizer_json.reduce(tokenizer_json.describe(tokenizer), kept)
    tokenizer_json.save_tokenizer(tokenizer, reduced, output)
    # The weights need the memory.
    del tokenizer, reduced
    reduce_weights(folder, kept, output)
    copy_sentence_files(folder, output)


# Weights


def reduce_weights(folder: Path, kept: Sequence[int], output: Path) -> None:
    """Write weights and configuration with the kept ids (ascending) only.

    Raises:
        InputError: a kept id has no row, the shape of a tensor depends on the vocabulary otherwise
            than by its rows, or positions are counted from the id of the padding token (RoBERTa,
            XLM-R) and that id would change.
    """
    config = load_config(folder)
    tokenizer_json.require_rows(folder, kept[-1] + 1, config.vocab_size)
    empty = empty_model(config)
    check_positions(empty, kept)
    weights = map_weights(folder)
    per_token = vocabulary_names(folder, empty, weights.tensors)
    rows = torch.tensor(kept)
    reduced = weights.tensors | {name: weights.tensors[name][rows] for name in per_token}
    weights.release()
    save_file(reduced, output / "model.safetensors", {"format": "pt"})
    config.update(renumbered(config.to_dict(), kept))
    config.save_pretrained(output)
    if (folder / GENERATION_CONFIG).exists():
        generation = read_json(folder / GENERATION_CONFIG)
        write_json(output / GENERATION_CONFIG, generation | renumbered(generation, kept))


def vocabulary_names(
    folder: Path, empty: PreTrainedModel, tensors: Mapping[str, torch.Tensor]
) -> list[str]:
    """Return the names of the stored tensors that have a row per token.

    A tensor that the model does not know (the head of another pre-training task) is judged by its
    shape. Raises InputError where a tensor does not have the rows that config.json says.
    """
    size = empty.config.vocab_size
    known, per_token = empty.state_dict().keys(), vocabulary_tensors(empty)
    prefix = f"{empty.base_model_prefix}."
    names = []
    for name, tensor in tensors.items():
        aliases = (name, prefix + name, name.removeprefix(prefix))
        alias = next((alias for alias in aliases if alias in known), None)
        if alias in per_token and len(tensor) != size:
            raise InputError(
                f"{folder}: {name} has {len(tensor):,} rows, and config.json says vocab_size "
                f"{size:,}; correct vocab_size, or use a model with a row per token"
            )
        if alias in per_token or (alias is None and tensor.shape[:1] == (size,)):
            names.append(name)
    return names


def check_positions(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Raise InputError where positions are counted from the padding id and that would change.

    RoBERTa and its kin do so: their embeddings of positions have a padding row.
    """
    padding = model.config.pad_token_id
    counts_from_padding = any(
        "position" in name and isinstance(module, nn.Embedding) and module.padding_idx is not None
        for name, module in model.named_modules()
    )
    if counts_from_padding and padding in kept and list(kept).index(padding) != padding:
        raise InputError(
            f"{model.config.name_or_path}: this model counts its positions from the id of its "
            f"padding token, {padding}, which would change; keep the tokens before it"
        )


def renumbered(config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return those entries of a configuration that hold ``vocab_size`` or ids, as they are now.

    ``kept`` are the old ids in the order of the new ones. An id beyond the old vocabulary, which
    configuration classes have as defaults, becomes None; one that is not kept is an InputError.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    changes: dict[str, Any] = {"vocab_size": len(kept)} if "vocab_size" in config else {}
    for key, ids in tokenizer_json.configured_ids(config).items():
        for old in ids:
            if old in range(config.get("vocab_size", 0)) and old not in new_ids:
                raise InputError(
                    f"the configuration's {key} is {old}, which is not among the selected tokens; "
                    "add it to them"
                )
        new = [old if old is None or old < 0 else new_ids.get(old) for old in ids]
        changes[key] = new if isinstance(config[key], list) else new[0]
    return changes
