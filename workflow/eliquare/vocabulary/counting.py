"""How often each sub-word occurs: read from a counts folder, or counted in a plain text."""

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eliquare import stage
from eliquare.corpus import compressed
from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery

COUNTS_COLUMNS = ["id", "subword", "occurrences", "sentences", "documents"]
BATCH = 1000


class Counts(NamedTuple):
    """Occurrences and sentences of each sub-word, as int64 arrays in the order of the ids."""

    occurrences: np.ndarray
    sentences: np.ndarray
    all_sentences: int


def read_counts(folder: str | Path, subwords: list[str]) -> Counts:
    """Read a counts folder; raise InputError where it is not that of these sub-words."""
    path = stage.existing(Path(folder) / "counts.csv", "counts file")
    numbers = np.zeros((len(subwords), 2), dtype=np.int64)
    rows = 0
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        if next(reader, None) != COUNTS_COLUMNS:
            raise InputError(f"{path}, line 1: expected the columns {','.join(COUNTS_COLUMNS)}")
        for rows, row in enumerate(reader, start=1):
            if rows > len(subwords) or row[:2] != [str(rows - 1), subwords[rows - 1]]:
                raise InputError(
                    f"{path}, line {reader.line_num}: {','.join(row[:2])!r} is not sub-word "
                    f"{rows - 1} of the model; count again with this model's tokenizer"
                )
            try:
                numbers[rows - 1] = int(row[2]), int(row[3])
            except (ValueError, IndexError):
                raise InputError(
                    f"{path}, line {reader.line_num}: expected whole numbers, got {row[2:]}"
                ) from None
    if rows != len(subwords):
        raise InputError(
            f"{path}: counts {rows} sub-words, the model's tokenizer has {len(subwords)}; "
            "count again with this model's tokenizer"
        )
    sentences = int(stage.read_json(Path(folder) / "totals.json")["sentences"])
    return Counts(numbers[:, 0], numbers[:, 1], sentences)


def count_text(path: str | Path, model: str | Path, size: int) -> tuple[Counts, list[str]]:
    """Counts in a text file with one sentence a line, and the characters of the text.

    ``size`` is the number of the tokenizer's sub-words. Raises InputError for a text of no words.
    """
    backend = surgery.load_tokenizer(model).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    occurrences = np.zeros(size, dtype=np.int64)
    sentences = np.zeros(size, dtype=np.int64)
    characters: Counter[str] = Counter()
    number = 0
    lines = text_lines(path)
    while batch := list(islice(lines, BATCH)):
        number += len(batch)
        characters.update("".join(batch))
        for encoding in backend.encode_batch(batch, add_special_tokens=False):
            np.add.at(occurrences, encoding.ids, 1)
            sentences[np.unique(np.array(encoding.ids, dtype=np.int64))] += 1
    if not number:
        raise InputError(f"{path}: no text in it; expected one sentence a line")
    return Counts(occurrences, sentences, number), sorted(characters)


def text_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file that are not empty."""
    for line in compressed.lines(path):
        text = line.decode("utf-8", errors="replace").strip()
        if text:
            yield text
