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
from torch import nn
from transformers.utils import logging

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary.alike import Sample, Sentence, sources, take_sample
from eliquare.vocabulary.checks import (
    Pair,
    check_merges,
    check_rows,
    check_special_ids,
    match_vocabularies,
)
from eliquare.vocabulary.options import add_texts, local_folder
from eliquare.vocabulary.stored import read_rows, stored_tensors
from eliquare.vocabulary.weights import has_head, load_model

VERSION = 2

# Hidden states are equal bit for bit. The product with the output weights may round otherwise when
# the number of columns changes; single precision leaves differences of about 1e-6 of the largest.
LOGIT_TOLERANCE = 1e-5
POSITIONS_PER_SENTENCE = 8
BATCH = 4
SENTENCES = 200


@torch.inference_mode()
def outputs(
    model: Any, sentences: list[list[int]], rows: list[int] | None, padding: int | None
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Last hidden states of each sentence, and logits at the given rows for some positions.

    Without an MLM head, the logits are None; with no rows given, those at all rows. Sentences share
    a batch where there is a padding token, so that both models are run on the same shapes.
    """
    results = []
    together = 1 if padding is None else BATCH
    for start in range(0, len(sentences), together):
        batch = sentences[start : start + together]
        longest = max(map(len, batch))
        ids = torch.tensor([s + [padding or 0] * (longest - len(s)) for s in batch])
        real = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in batch])
        # A hook, since a model that returns its hidden states keeps those of every layer.
        last: list[torch.Tensor] = []
        hook = model.base_model.register_forward_hook(lambda *of, last=last: last.append(of[2][0]))
        output = model(input_ids=ids, attention_mask=real)
        hook.remove()
        for place, sentence in enumerate(batch):
            logits, size = None, len(sentence)
            if has_head(model):
                positions = torch.linspace(0, size - 1, POSITIONS_PER_SENTENCE).long().unique()
                logits = output.logits[place, positions]
                logits = (logits if rows is None else logits[:, rows]).clone()
            results.append((last[0][place, :size].clone(), logits))
    return results


def narrow_head(model: Any, folder: str | Path, rows: list[int]) -> bool:
    """Leave the MLM head with the given rows alone: each logit hangs on its own row only.

    The product with all rows would take as much memory as the embeddings. Returns whether this head
    could be narrowed; ``rows`` are in any order.
    """
    head = model.get_output_embeddings() if has_head(model) else None
    if not isinstance(head, nn.Linear) or len(head.weight) != model.config.vocab_size:
        return False
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    stored = stored_tensors(folder) if any(Path(folder).glob("model*.safetensors")) else {}
    for part in ("weight", "bias"):
        parameter = getattr(head, part)
        if parameter is not None:
            kept = read_rows(stored.get(names[id(parameter)]), rows)
            kept = parameter.detach()[rows] if kept is None else kept
            setattr(head, part, nn.Parameter(kept.to(parameter.dtype), requires_grad=False))
    return True


def run_old(
    folder: str | Path, sentences: list[Sentence], rows: list[int], padding: int | None
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """What the whole model makes of the sentences, with logits at the kept rows."""
    model = load_model(folder, torch.float32)
    narrowed = narrow_head(model, folder, rows)
    return outputs(model, [s.old_ids for s in sentences], None if narrowed else rows, padding)


def compare_outputs(
    reduced: Path, pair: Pair, sentences: list[Sentence], before: list, after: list
) -> float | None:
    """The largest relative difference of a logit, None without heads; InputError if outputs differ.

    ``before`` and ``after`` are the outputs of both models for the sentences.
    """
    largest = None
    for sentence, (old_hidden, old_logits), (new_hidden, new_logits) in zip(
        sentences, before, after, strict=True
    ):
        text = pair.new.decode(sentence.new_ids)[:60]
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

    ``sample`` is a documents folder or a text file, ``tasks`` are task files by name; ``sentences``
    of each are compared. Both models are run in float32, one after the other. Raises InputError
    that says what is wrong.
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
    before = run_old(model, chosen, pair.old_ids, pair.old.pad_token_id)
    new_rows = list(range(len(pair.old_ids)))
    new_ids = [sentence.new_ids for sentence in chosen]
    after = outputs(load_model(reduced, torch.float32), new_ids, new_rows, pair.new.pad_token_id)
    largest = compare_outputs(reduced, pair, chosen, before, after)
    return {
        "sub_words": len(pair.old_ids),
        "rows": "same",
        "mlm_head": head,
        "texts": {name: counted(one) for name, one in samples.items()},
        "pieces": "same",
        "hidden_states": "equal bit for bit",
        "largest_relative_logit_difference": largest,
        "logit_tolerance": LOGIT_TOLERANCE,
    }


def counted(sample: Sample) -> dict[str, int]:
    """How many sentences of a text were looked at, compared, and lost words to [UNK]."""
    return {
        "sentences_seen": sample.seen,
        "sentences_compared": len(sample.sentences),
        "sentences_newly_with_unknown": sample.newly_unknown,
    }


def describe(findings: dict[str, Any]) -> str:
    """The findings in one line."""
    compared = sum(text["sentences_compared"] for text in findings["texts"].values())
    difference = findings["largest_relative_logit_difference"]
    logits = "no MLM head to compare"
    if difference is not None:
        logits = f"largest relative difference of a logit: {difference:.1e}"
    return f"the same model on {compared:,} sentences ({logits})"


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
        help="sentences of each text to compare (default %(default)s)",
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
