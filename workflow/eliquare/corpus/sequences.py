"""Cut documents into sequences of token ids, for training and for validation.

Documents are read in batches of about a million characters, so that memory does not grow with the
corpus, and are divided by hashes of their text, so that neither their order nor the number of
threads changes what comes out. A sequence holds tokens of one document only.
"""

import argparse
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eliquare import stage
from eliquare.corpus import arrow
from eliquare.corpus import tokenizer as tokenizers
from eliquare.corpus.documents import Document
from eliquare.corpus.documents import read as read_documents
from eliquare.corpus.sentences import encode, split_sentences
from eliquare.corpus.split import Split, document_number
from eliquare.corpus.tokenizer import Frame
from eliquare.stage import InputError

VERSION = 1

BATCH_CHARACTERS = 1_000_000
LOOK_AHEAD_DOCUMENTS = 10_000
FILL_BATCH = 32
SIDES = ("train", "validation")


@dataclass
class Tally:
    """What one side of the split holds; ``by_length[n]`` counts its sequences of length n."""

    by_length: np.ndarray
    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    unknown: int = 0

    def report(self, frame: Frame) -> dict[str, int | float]:
        """The numbers for report.json; shares are of 1, lengths in tokens, specials included."""
        sequences = int(self.by_length.sum())
        special = sequences * frame.size
        return {
            "documents": self.documents,
            "sentences": self.sentences,
            "sequences": sequences,
            "tokens": self.tokens,
            "special_tokens": special,
            "mean_length": (self.tokens + special) / sequences,
            "unknown_share": self.unknown / self.tokens,
            "fill": fill(self.by_length, FILL_BATCH),
        }


def fill(by_length: np.ndarray, batch: int) -> float:
    """The share of positions that are not padding, in batches of sequences sorted by length."""
    longest_first = np.cumsum(by_length[::-1])
    sequences = int(longest_first[-1])
    leaders = np.arange(0, sequences, batch)
    widths = len(by_length) - 1 - np.searchsorted(longest_first, leaders, side="right")
    rows = np.minimum(batch, sequences - leaders)
    return float(by_length @ np.arange(len(by_length)) / (widths @ rows))


def batches(documents: Iterable[Document]) -> Iterator[list[tuple[int, str]]]:
    """Numbered texts, in lists of about BATCH_CHARACTERS characters."""
    batch: list[tuple[int, str]] = []
    characters = 0
    for number, document in enumerate(documents):
        batch.append((number, document.text))
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def write(
    documents: Iterable[Document],
    tokenizer: Any,
    split: Split,
    language: str,
    max_length: int,
    folder: Path,
) -> dict[str, Tally]:
    """Write train.arrow and validation.arrow; return what each holds."""
    frame = tokenizers.frame(tokenizer)
    kind = tokenizers.integer_type(len(tokenizers.subwords(tokenizer)))
    columns = arrow.schema(
        {
            "input_ids": [kind.name],
            "length": "uint16",
            "document": "uint32",
            "sentence_starts": ["uint16"],
        }
    )
    tallies = {side: Tally(np.zeros(max_length + 1, dtype=np.int64)) for side in SIDES}
    with ExitStack() as stack:
        writers = {
            side: stack.enter_context(pa.ipc.new_stream(str(folder / f"{side}.arrow"), columns))
            for side in SIDES
        }
        for batch in batches(documents):
            chosen: dict[str, list[tuple[int, str]]] = {side: [] for side in SIDES}
            for number, text in batch:
                chosen[split.side(text)].append((number, text))
            for side in SIDES:
                numbers = np.array([number for number, _ in chosen[side]], dtype=np.int64)
                ids, is_start, lengths = encode(
                    tokenizer,
                    [split_sentences(text, language) for _, text in chosen[side]],
                )
                if not len(ids):
                    continue
                arrays = arrow.cut(ids.astype(kind), is_start, lengths, numbers, frame, max_length)
                writers[side].write_batch(pa.record_batch(list(arrays), schema=columns))
                tally = tallies[side]
                tally.by_length += np.bincount(arrays[1], minlength=max_length + 1)
                tally.documents += int(np.count_nonzero(lengths))
                tally.sentences += int(is_start.sum())
                tally.tokens += len(ids)
                if tokenizer.unk_token_id is not None:
                    tally.unknown += int(np.count_nonzero(ids == tokenizer.unk_token_id))
    return tallies


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--documents", required=True, type=Path, help="documents folder")
    options.add_argument(
        "--tokenizer", required=True, type=Path, help="model folder whose tokenizer is used"
    )
    options.add_argument(
        "--max-length", type=int, default=256, help="tokens of a sequence at most, specials too"
    )
    options.add_argument(
        "--validation-share", type=float, default=0.1, help="share of the documents to validate on"
    )
    options.add_argument(
        "--language",
        default="en",
        help="Wikipedia code whose rules end sentences; English rules for codes without their own",
    )
    options.add_argument("--threads", type=int, default=1, help="threads that tokenize")
    options.add_argument("--output", required=True, type=Path, help="sequences folder to write")
    return options


def check(arguments: argparse.Namespace) -> None:
    """Refuse settings that cannot work, before anything is read."""
    if not 0 < arguments.validation_share < 1:
        raise InputError("--validation-share: expected a share between 0 and 1, both excluded")
    if not 0 < arguments.max_length < 2**16:
        raise InputError("--max-length: expected a number of tokens from 1 to 65535")
    if arguments.threads < 1:
        raise InputError("--threads: expected at least 1")


def checked_frame(tokenizer: Any, folder: Path, max_length: int) -> Frame:
    """The special tokens around a sequence; raises InputError where none of this length fits."""
    frame = tokenizers.frame(tokenizer)
    if max_length <= frame.size:
        raise InputError(
            f"--max-length: {max_length} leaves no room beside the {frame.size} special "
            "tokens of the model; expected more"
        )
    if max_length > tokenizer.model_max_length:
        raise InputError(
            f"--max-length: {max_length} is more than the {tokenizer.model_max_length} "
            f"tokens that the model in {folder} reads"
        )
    return frame


def split_of(arguments: argparse.Namespace) -> Split:
    """How the documents divide; raises InputError where they are too few."""
    texts = (document.text for document in read_documents(arguments.documents))
    first = [
        document_number(text)
        for text in itertools.islice(texts, LOOK_AHEAD_DOCUMENTS)
        if text.strip()
    ]
    try:
        return Split.fit(first, arguments.validation_share)
    except InputError as error:
        raise InputError(f"{arguments.documents}: {len(first)} documents; {error}") from None


def report_of(
    arguments: argparse.Namespace, tokenizer: Any, frame: Frame, tallies: dict[str, Tally]
) -> dict[str, Any]:
    """What report.json holds; raises InputError where one side has no tokens."""
    for side in SIDES:
        if not tallies[side].tokens:
            raise InputError(f"{arguments.documents}: no document with tokens for the {side}")
    report = {
        "vocabulary": len(tokenizers.subwords(tokenizer)),
        "max_length": arguments.max_length,
        "prefix": list(frame.prefix),
        "suffix": list(frame.suffix),
    }
    return report | {side: tallies[side].report(frame) for side in SIDES}


def run(arguments: argparse.Namespace) -> None:
    """Write the sequences folder."""
    check(arguments)
    # The tokenizer's thread pool reads this once, when it first works.
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    tokenizer = tokenizers.load(arguments.tokenizer)
    frame = checked_frame(tokenizer, arguments.tokenizer, arguments.max_length)
    split = split_of(arguments)
    read = stage.progress(read_documents(arguments.documents), "sequences", unit="documents")
    with stage.whole_folder(arguments.output) as folder:
        tallies = write(read, tokenizer, split, arguments.language, arguments.max_length, folder)
        report = report_of(arguments, tokenizer, frame, tallies)
        stage.write_json(folder / "report.json", report)
    stage.say(
        f"{report['train']['sequences']:,} sequences to train on, "
        f"{report['validation']['sequences']:,} to validate on, in {arguments.output}"
    )


if __name__ == "__main__":
    stage.main(parser(), run)
