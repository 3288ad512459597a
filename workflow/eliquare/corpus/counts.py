"""Count each sub-word: its occurrences, the sentences that hold it, the documents that hold it.

Exact, in one pass over the sequences (train and validation), in arrays: memory does not grow with
the corpus. The special tokens around each sequence are not counted.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eliquare import stage
from eliquare.corpus import arrow
from eliquare.corpus import tokenizer as tokenizers
from eliquare.stage import InputError

VERSION = 1

COLUMNS = ("id", "subword", "occurrences", "sentences", "documents")


@dataclass(frozen=True)
class Counts:
    """One value for each id of the tokenizer, in id order."""

    subwords: list[str]
    occurrences: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray


def read(folder: str | Path) -> Counts:
    """Read the counts.csv of a counts folder; raises InputError that names file and line."""
    path = stage.existing(Path(folder) / "counts.csv", "file of counts")
    subwords, numbers = [], []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != COLUMNS:
            raise InputError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}")
        for row in rows:
            try:
                number, subword, *counts = row
                subwords.append(subword)
                numbers.append([int(count) for count in counts])
                good = int(number) == len(numbers) - 1 and len(counts) == 3
            except ValueError:
                good = False
            if not good:
                raise InputError(
                    f"{path}, line {rows.line_num}: expected id {len(subwords)}, its sub-word and "
                    "three counts"
                )
    if not numbers:
        raise InputError(f"{path}: no rows")
    occurrences, sentences, documents = np.array(numbers, dtype=np.int64).T
    return Counts(subwords, occurrences, sentences, documents)


class Holders:
    """How many groups (sentences or documents) hold each sub-word; a group may span batches."""

    def __init__(self, size: int):
        self.size = size
        self.counts = np.zeros(size, dtype=np.int64)
        self.groups = 0
        self.open = np.empty(0, dtype=np.int64)  # the distinct ids of the last group so far

    def add(self, ids: np.ndarray, is_start: np.ndarray) -> None:
        """Add tokens (int64) in running order; ``is_start`` marks where a new group begins."""
        group = np.cumsum(is_start)
        last = int(group[-1])
        # Group 0 is the one that the batch before left open.
        # Not np.unique, which hashes: a hundred times slower here than to sort.
        held = np.sort(np.concatenate([self.open, group * self.size + ids]))
        held = held[np.diff(held, prepend=-1) > 0]
        closed = np.searchsorted(held, last * self.size)
        self.counts += np.bincount(held[:closed] % self.size, minlength=self.size)
        self.open = held[closed:] - last * self.size
        self.groups += last

    def close(self) -> None:
        """Count the last group."""
        self.counts += np.bincount(self.open, minlength=self.size)
        self.open = self.open[:0]


def running_tokens(
    path: Path, frame: tokenizers.Frame
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The tokens of a sequences file without their frames, a batch at a time.

    Yields ids (int64), whether a sentence begins there, and whether a document does.
    """
    last_document = -1
    for batch in arrow.batches(path):
        offsets = batch["input_ids"].offsets.to_numpy().astype(np.int64)
        ids = batch["input_ids"].flatten().to_numpy().astype(np.int64)
        documents = batch["document"].to_numpy().astype(np.int64)

        real = np.ones(len(ids), dtype=bool)
        for place in range(len(frame.prefix)):
            real[offsets[:-1] + place] = False
        for place in range(1, len(frame.suffix) + 1):
            real[offsets[1:] - place] = False

        sentence = np.zeros(len(ids), dtype=bool)
        begins = batch["sentence_starts"]
        row_begin = np.repeat(offsets[:-1], np.diff(begins.offsets.to_numpy()))
        sentence[row_begin + begins.flatten().to_numpy()] = True

        document = np.zeros(len(ids), dtype=bool)
        new = np.diff(documents, prepend=last_document) != 0
        document[offsets[:-1][new] + len(frame.prefix)] = True
        last_document = int(documents[-1])
        yield ids[real], sentence[real], document[real]


def count(folder: Path, frame: tokenizers.Frame, size: int) -> tuple[np.ndarray, Holders, Holders]:
    """Count the sequences of a folder: occurrences, and who holds each of the ``size`` ids."""
    occurrences = np.zeros(size, dtype=np.int64)
    sentences, documents = Holders(size), Holders(size)
    for side in ("train", "validation"):
        batches = running_tokens(folder / f"{side}.arrow", frame)
        for ids, sentence, document in stage.progress(batches, f"counts, {side}", unit="batches"):
            occurrences += np.bincount(ids, minlength=size)
            sentences.add(ids, sentence)
            documents.add(ids, document)
    sentences.close()
    documents.close()
    return occurrences, sentences, documents


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--sequences", required=True, type=Path, help="sequences folder")
    options.add_argument(
        "--tokenizer", required=True, type=Path, help="model folder that tokenized the sequences"
    )
    options.add_argument("--output", required=True, type=Path, help="counts folder to write")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write counts.csv and totals.json."""
    tokenizer = tokenizers.load(arguments.tokenizer)
    names = tokenizers.subwords(tokenizer)
    tokenizers.require_same(arguments.sequences, len(names), arguments.tokenizer)
    frame = tokenizers.frame(tokenizer)
    occurrences, sentences, documents = count(arguments.sequences, frame, len(names))
    with stage.whole_folder(arguments.output) as folder:
        with (folder / "counts.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            columns = (occurrences, sentences.counts, documents.counts)
            table.writerows(
                zip(range(len(names)), names, *(column.tolist() for column in columns), strict=True)
            )
        totals = {
            "tokens": int(occurrences.sum()),
            "sentences": sentences.groups,
            "documents": documents.groups,
        }
        stage.write_json(folder / "totals.json", totals)
    stage.say(
        f"{totals['tokens']:,} tokens, {np.count_nonzero(occurrences):,} of {len(names):,} "
        f"sub-words used, in {arguments.output}"
    )


if __name__ == "__main__":
    stage.main(parser(), run)
