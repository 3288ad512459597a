"""The texts of a task file, read plainly: what a vocabulary costs hangs on words, not on labels."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from eliquare import stage
from eliquare.corpus import compressed

TAG = re.compile(r"O|[BIESLU]-\S+")


def task_texts(path: str | Path) -> Iterator[str]:
    """The texts of a task file by the end of its name.

    CoNLL-U gives the words of its sentences; csv, tsv and jsonl their cells of several words;
    other files the words of their lines without the tags of named entities.
    """
    path = stage.existing(path, "task file")
    lines = (line.decode("utf-8", errors="replace").rstrip("\r") for line in compressed.lines(path))
    kind = next((s for s in reversed(path.suffixes) if s not in (".gz", ".bz2", ".zst")), "")
    if kind == ".conllu":
        yield from conllu_sentences(lines)
    elif kind in (".csv", ".tsv"):
        for cells in csv.reader(
            (line + "\n" for line in lines),
            delimiter="," if kind == ".csv" else "\t",
            quoting=csv.QUOTE_MINIMAL if kind == ".csv" else csv.QUOTE_NONE,
        ):
            yield from long_cells(cells)
    elif kind == ".jsonl":
        for line in filter(str.strip, lines):
            yield from long_cells([v for v in json.loads(line).values() if isinstance(v, str)])
    else:
        for line in lines:
            words = [word for word in line.split() if not TAG.fullmatch(word)]
            if words:
                yield " ".join(words)


def long_cells(cells: list[str]) -> list[str]:
    """The cells of several words, or else the longest one: labels and numbers are short."""
    return [cell for cell in cells if " " in cell.strip()] or [max(cells, key=len, default="")]


def conllu_sentences(lines: Iterable[str]) -> Iterator[str]:
    """The words of each sentence, joined by spaces; a multiword token stands once, as written."""
    words: list[str] = []
    covered = 0
    for line in lines:
        number, _, rest = line.partition("\t")
        first, _, last = number.partition("-")
        if not line.strip():
            if words:
                yield " ".join(words)
            words, covered = [], 0
        elif first.isdecimal() and int(first) > covered:
            words.append(rest.partition("\t")[0])
            covered = int(last) if last.isdecimal() else covered
    if words:
        yield " ".join(words)
