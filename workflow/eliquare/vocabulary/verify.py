"""Check that a model with a smaller vocabulary is otherwise the same, and say where it is not.

python -m eliquare.vocabulary.verify --model OLD --reduced NEW --sample TEXT --output report.json

Ids, rows and merges are compared for the whole vocabulary; pieces, hidden states and MLM logits on
sentences of a corpus, and of each task, whose old segmentation uses kept sub-words only. It also
judges models that other tools have cut.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary.alike import Sample, Sentence, sources, take_sample
from eliquare.vocabulary.checks import (
    check_merges,
    check_rows,
    check_special_ids,
    match_vocabularies,
)
from eliquare.vocabulary.options import add_texts, local_folder
from eliquare.vocabulary.outputs import Outputs, outputs

VERSION = 2

# Hidden states are equal bit for bit. The product with the output weights may round otherwise when
# the number of columns changes; single precision leaves differences of about 1e-6 of the largest.
LOGIT_TOLERANCE = 1e-5
SENTENCES = 200


def compare_outputs(
    reduced: Path, sentences: list[Sentence], before: Outputs, after: Outputs
) -> float | None:
    """The largest relative difference of a logit, None without heads; InputError if outputs differ.

    ``before`` and ``after`` are the outputs of both models for the sentences.
    """
    largest = None
    for sentence, (old_hidden, old_logits), (new_hidden, new_logits) in zip(
        sentences, before, after, strict=True
    ):
        text = sentence.text[:60]
        if not torch.equal(old_hidden, new_hidden):
            raise InputError(f"{reduced}: other hidden states than the old model for {text!r}")
        if old_logits is None:
            continue
        difference = float((old_logits - new_logits).abs().max())
        largest = max(largest or 0.0, difference / max(1.0, float(old_logits.abs().max())))
        # Written so that a logit that is not a number counts as different.
        if not largest <= LOGIT_TOLERANCE:
            raise InputError(
                f"{reduced}: MLM logits differ from the old ones by {difference:.2g} for {text!r}"
            )
    return largest


def verify(
    model: str | Path,
    reduced: str | Path,
    sample: str | Path | None = None,
    tasks: dict[str, str] | None = None,
    sentences: int = SENTENCES,
) -> dict[str, Any]:
    """Compare a model with its reduced form; return what was compared and found.

    ``sample`` is a documents folder or a text file, ``tasks`` are task files by name; both models
    are run on up to ``sentences`` of each, in float32, one after the other. Raises InputError that
    says what is wrong.
    """
    reduced = Path(reduced)
    pair = match_vocabularies(model, reduced)
    check_merges(reduced, pair)
    check_special_ids(model, reduced, pair)
    head = check_rows(model, reduced, pair)
    samples = {
        name: take_sample(pair, reduced, name, texts, sentences)
        for name, texts in sources(sample, tasks or {}).items()
    }
    chosen = [sentence for one in samples.values() for sentence in one.sentences]
    # Like lengths share a batch.
    chosen.sort(key=lambda sentence: len(sentence.old_ids))
    old_rows, new_rows = pair.old_ids, list(range(len(pair.old_ids)))
    old_padding, new_padding = pair.old.pad_token_id, pair.new.pad_token_id
    # The models need the memory.
    del pair
    before = outputs(model, [s.old_ids for s in chosen], old_rows, old_padding)
    after = outputs(reduced, [s.new_ids for s in chosen], new_rows, new_padding)
    largest = compare_outputs(reduced, chosen, before, after)
    return {
        "sub_words": len(old_rows),
        "rows": "same",
        "mlm_head": head,
        "texts": {name: counted(one) for name, one in samples.items()},
        "pieces": "same",
        "hidden_states": "equal bit for bit",
        "largest_relative_logit_difference": largest,
        "logit_tolerance": LOGIT_TOLERANCE,
    }


def counted(sample: Sample) -> dict[str, int]:
    """How many sentences of a text were looked at, cut alike, run, and lost words to [UNK]."""
    return {
        "sentences_seen": sample.seen,
        "sentences_cut_alike": sample.alike,
        "sentences_run": len(sample.sentences),
        "sentences_newly_with_unknown": sample.newly_unknown,
    }


def describe(findings: dict[str, Any]) -> str:
    """The findings in one line."""
    texts = findings["texts"].values()
    cut, run = (sum(text[f"sentences_{key}"] for text in texts) for key in ("cut_alike", "run"))
    difference = findings["largest_relative_logit_difference"]
    logits = "no MLM head to compare"
    if difference is not None:
        logits = f"largest relative difference of a logit: {difference:.1e}"
    return f"cuts {cut:,} sentences alike, and is the same model on {run:,} of them ({logits})"


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    result = argparse.ArgumentParser(
        prog="python -m eliquare.vocabulary.verify", description=__doc__.split("\n\n")[0]
    )
    result.add_argument("--model", required=True, help="folder of the whole model, or a hub id")
    result.add_argument("--reduced", required=True, help="folder of the model with fewer sub-words")
    add_texts(result)
    result.add_argument(
        "--sentences",
        type=int,
        default=SENTENCES,
        help="sentences of each text to run both models on (default %(default)s)",
    )
    result.add_argument("--output", help="findings to write (JSON)")
    return result


def run(arguments: argparse.Namespace) -> None:
    """Verify and write the findings; a difference is an InputError."""
    logging.disable_progress_bar()
    folder = local_folder(arguments.model)
    findings = verify(
        folder, arguments.reduced, arguments.sample, dict(arguments.task), arguments.sentences
    )
    if arguments.output:
        with stage.whole_file(arguments.output) as beside:
            stage.write_json(beside, findings)
    stage.say(f"{arguments.reduced}: {describe(findings)}")


if __name__ == "__main__":
    stage.main(parser(), run)
