"""How often each token occurs, and in how many sentences and documents.

Counted exactly, in arrays: memory does not grow with the corpus. The special tokens around each
sequence are not counted.
"""

import csv
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as pa_csv
from pydantic import BaseModel, NonNegativeInt

from eliquare.corpus.tokenization import EncodedDocuments
from eliquare.io import InputError, existing, read_as, write_json

COLUMNS = ("id", "token", "occurrences", "sentences", "documents")
Int64 = npt.NDArray[np.int64]


@dataclass
class Counts:
    """The counts of a corpus; arrays hold one value per token, in the order of the ids.

    Attributes:
        tokens: The tokens.
        occurrences: ``occurrences[tokens]``.
        sentences: ``sentences[tokens]``, the sentences that hold the token.
        documents: ``documents[tokens]``, the documents that hold it.
        all_sentences: Sentences of the corpus.
        all_documents: Documents of the corpus.
    """

    tokens: list[str]
    occurrences: Int64
    sentences: Int64
    documents: Int64
    all_sentences: int = 0
    all_documents: int = 0

    @classmethod
    def none(cls, tokens: list[str]) -> "Counts":
        """Return the counts of nothing."""
        return cls(tokens, *np.zeros((3, len(tokens)), dtype=np.int64))

    def add(self, encoded: EncodedDocuments) -> None:
        """Add complete documents."""
        ids, size = encoded.ids, len(self.tokens)
        sentences = np.cumsum(encoded.is_start, dtype=np.int64)
        documents = np.repeat(np.arange(len(encoded.lengths)), encoded.lengths)
        self.occurrences += np.bincount(ids, minlength=size)
        self.sentences += holders(ids, sentences, size)
        self.documents += holders(ids, documents, size)
        self.all_sentences += int(np.count_nonzero(encoded.is_start))
        self.all_documents += int(np.count_nonzero(encoded.lengths))

    def __add__(self, other: "Counts") -> "Counts":
        """Return the counts of both."""
        names = [field.name for field in fields(self)[1:]]
        return Counts(self.tokens, *(getattr(self, n) + getattr(other, n) for n in names))

    def save(self, folder: Path) -> None:
        """Write counts.csv and totals.json."""
        columns = (self.occurrences, self.sentences, self.documents)
        with (folder / "counts.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            numbers = (column.tolist() for column in columns)
            table.writerows(zip(range(len(self.tokens)), self.tokens, *numbers, strict=True))
        totals = {
            "tokens": int(self.occurrences.sum()),
            "sentences": self.all_sentences,
            "documents": self.all_documents,
        }
        write_json(folder / "totals.json", totals)


class Totals(BaseModel):
    """The content of totals.json."""

    tokens: NonNegativeInt
    sentences: NonNegativeInt
    documents: NonNegativeInt


def read_counts(folder: str | Path, tokens: Sequence[str] | None = None) -> Counts:
    """Read a counts folder; raise InputError, with file and line, where it cannot be used.

    ``tokens`` are those of a model in the order of the ids: counts of others are refused.
    """
    path = existing(Path(folder) / "counts.csv", "file of counts")
    kinds = dict.fromkeys(COLUMNS, pa.int64()) | {"token": pa.string()}
    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False),  # only so are lines counted
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=kinds, null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: {error}; count again") from None
    if tuple(table.column_names) != COLUMNS:
        raise InputError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}")
    ids, found, *numbers = (table[name].to_pylist() for name in COLUMNS)
    if line := first_difference(ids, range(len(ids))):
        raise InputError(f"{path}, line {line}: expected id {line - 2}; count again")
    if tokens is not None and (line := first_difference(found, tokens)):
        raise InputError(
            f"{path}, line {line}: counts other tokens than the model's tokenizer has; count again "
            "with this one"
        )
    totals = read_as(path.with_name("totals.json"), Totals)
    occurrences, sentences, documents = columns = np.array(numbers, dtype=np.int64)
    if (columns < 0).any() or occurrences.sum() != totals.tokens:
        raise InputError(f"{path}: not the counts of {totals.tokens} tokens; count again")
    return Counts(found, occurrences, sentences, documents, totals.sentences, totals.documents)


def first_difference(found: Iterable[object], expected: Iterable[object]) -> int | None:
    """Return the line where a column is not as expected; its first value is in line 2."""
    pairs = itertools.zip_longest(found, expected)
    return next((line for line, (one, other) in enumerate(pairs, start=2) if one != other), None)


def holders(ids: Int64, groups: Int64, size: int) -> Int64:
    """Return ``counts[size]``: how many groups hold each id; ``groups[tokens]`` are numbers."""
    # Not np.unique, which hashes: a hundred times slower here than to sort.
    held = np.sort(groups * size + ids)
    held = held[np.diff(held, prepend=-1) > 0]
    return np.bincount(held % size, minlength=size)
