"""Cut a masked language model and its tokenizer to the kept sub-words, and change nothing else.

python -m eliquare.vocabulary.reduce --model MODEL --keep kept.csv --output FOLDER --sample TEXT

With --verify instead of --keep, nothing is made: the model in FOLDER, whoever cut it, is compared
with MODEL.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.kept import complete, read_kept, say_added, write_kept
from eliquare.vocabulary.options import add_texts, local_folder
from eliquare.vocabulary.saving import save_tokenizer
from eliquare.vocabulary.stored import as_safetensors
from eliquare.vocabulary.verify import describe, verify
from eliquare.vocabulary.weights import (
    cut_weights,
    has_head,
    load_config,
    load_model,
    parameter_count,
    renumber_config,
)

VERSION = 2

# Enough to show a mistake, and two seconds for a model of mBERT's size.
SENTENCES = 16
OLDER_WEIGHTS = ".older"


def reduce(
    model_folder: str | Path,
    kept_ids: Sequence[int] | dict[int, str],
    output: str | Path,
    sample: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    tasks: dict[str, str] | None = None,
) -> dict[str, Any] | None:
    """Write the model cut to ``kept_ids`` (ids of its own tokenizer) to the folder ``output``.

    For text whose sub-words are all kept, pieces and hidden states stay the same and MLM logits
    equal the old ones at the kept rows. BPE sub-words bring those on their routes along. With a
    sample (documents folder or text file) this is checked on it, and on the tasks, before the
    output takes its place; the findings are returned. Raises InputError where the model or
    tokenizer is of a kind that cannot be cut, or where the check finds a difference.
    """
    model_folder = local_folder(model_folder)
    reasons = kept_ids if isinstance(kept_ids, dict) else dict.fromkeys(kept_ids, "asked")
    tokenizer = surgery.load_tokenizer(model_folder)
    description = surgery.describe(tokenizer)
    reasons = complete(reasons, description, [])
    kept = list(reasons)
    subwords = surgery.list_subwords(description)
    with stage.whole_folder(output) as beside:
        save_tokenizer(tokenizer, surgery.cut(description, kept), beside)
        del tokenizer, description
        write_kept(beside / "kept.csv", [(i, subwords[i], reasons[i]) for i in kept])
        head, before, after = cut_model(model_folder, kept, beside)
        findings = None
        if sample is not None:
            findings = verify(model_folder, beside, sample, tasks, SENTENCES)
            stage.write_json(beside / "verification.json", findings)
        settings = {"sub_words": len(kept), "of": len(subwords)} | (settings or {})
        record = stage.provenance(settings, {"model": model_folder})
        stage.write_json(beside / "provenance.json", record)
        name = model_folder.resolve().name
        (beside / "README.md").write_text(card(name, settings, before, after))
    if not head:
        stage.say(f"{model_folder}: has no MLM head; its encoder alone was cut")
    stage.say(
        f"{output}: {len(kept):,} of {len(subwords):,} sub-words, "
        f"{after:,} of {before:,} parameters"
    )
    if findings is not None:
        stage.say(f"{output}: {describe(findings)}")
    return findings


def cut_model(folder: Path, kept: Sequence[int], output: Path) -> tuple[bool, int, int]:
    """Write weights and configurations cut to the kept ids.

    Returns whether the model has an MLM head, and the parameters before and after.
    """
    weights = as_safetensors(folder, output / OLDER_WEIGHTS)
    config = load_config(folder)
    new_config = renumber_config(config, kept)
    new_config.save_pretrained(output)
    cut_weights(weights, config, kept, output / "model.safetensors")
    if weights != folder:
        (weights / "model.safetensors").unlink()
        weights.rmdir()
    generation = folder / "generation_config.json"
    if generation.exists():
        values = stage.read_json(generation)
        stage.write_json(output / generation.name, renumber_config(values, kept))
    head = has_head(load_model(output))
    return head, parameter_count(config, head), parameter_count(new_config, head)


def card(name: str, settings: dict[str, Any], before: int, after: int) -> str:
    """A short model card."""
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
base_model: {name}
tags: [vocabulary-reduction]
---

# {name}, cut to {settings["sub_words"]:,} sub-words

This is the masked language model {name} with {settings["sub_words"]:,} of its {settings["of"]:,}
sub-words, and {after:,} of its {before:,} parameters. Nothing was trained. On text that the whole
model cuts into these sub-words, the hidden states are the same and the scores of the kept
sub-words too.

```python
from transformers import pipeline

fill = pipeline("fill-mask", "path/of/this/folder")
```

`provenance.json` says what it was made from. The terms of {name} hold for this model too.
"""


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    result = argparse.ArgumentParser(
        prog="python -m eliquare.vocabulary.reduce", description=__doc__.split("\n\n")[0]
    )
    result.add_argument("--model", required=True, help="model folder, or a hub id")
    action = result.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--keep", help="kept file of eliquare.vocabulary.select, or a list: one sub-word a line"
    )
    action.add_argument(
        "--verify", action="store_true", help="make nothing: compare the model in --output"
    )
    result.add_argument("--output", required=True, help="model folder to make, or to compare")
    add_texts(result, required=False)
    return result


def run(arguments: argparse.Namespace) -> None:
    """Cut the model; with a sample, refuse to write a result that differs from the old model."""
    logging.disable_progress_bar()
    folder = local_folder(arguments.model)
    tasks = dict(arguments.task)
    if arguments.sample is None and (arguments.verify or tasks):
        raise InputError("--sample: give a documents folder or a text file to compare on")
    if arguments.verify:
        findings = verify(folder, arguments.output, arguments.sample, tasks)
        stage.say(f"{arguments.output}: {describe(findings)}")
        return
    description = surgery.read_description(folder)
    kept = read_kept(arguments.keep, surgery.list_subwords(description))
    everything = complete(kept, description, surgery.special_ids(folder, description))
    say_added(kept, everything, arguments.keep)
    del description
    if arguments.sample is None:
        stage.warn("nothing proves this reduction: give --sample, some text to compare on")
    settings = {"model": str(arguments.model), "keep": stage.checksum(arguments.keep)}
    reduce(folder, everything, arguments.output, arguments.sample, settings, tasks)


if __name__ == "__main__":
    stage.main(parser(), run)
