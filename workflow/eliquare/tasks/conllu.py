"""Words and universal part-of-speech tags from CoNLL-U (universaldependencies.org/format.html)."""

import re
from collections.abc import Iterator
from pathlib import Path

from eliquare.stage import InputError
from eliquare.tasks.examples import Sentence, numbered_lines

COLUMNS = 10
# fmt: off
UPOS_TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
# Universal Dependencies 1 had CONJ where version 2 has CCONJ; treebanks of both are in use.
RENAMED = {"CONJ": "CCONJ"}
NOT_A_WORD = re.compile(r"\d+-\d+|\d+\.\d+")


def read(path: str | Path) -> Iterator[Sentence]:
    """Yield the sentences of a CoNLL-U file: syntactic words and their UPOS tags.

    Multiword tokens (3-4) and empty nodes (5.1) are not words and are left out. Raises InputError
    with file and line for a line that has not ten columns, an identifier that is not the next
    number, or a tag that is none of the 17 universal ones.
    """
    words: list[str] = []
    labels: list[str] = []
    lines: list[int] = []
    for number, line in numbered_lines(path):
        if line.startswith("#"):
            continue
        if line.strip():
            columns = line.split("\t")
            if len(columns) != COLUMNS:
                raise InputError(
                    f"{path}, line {number}: {len(columns)} columns, but a CoNLL-U line has "
                    f"{COLUMNS}, with a tab between each two and _ where there is nothing"
                )
            if NOT_A_WORD.fullmatch(columns[0]):
                continue
            if columns[0] != str(len(words) + 1):
                raise InputError(
                    f"{path}, line {number}: the word's number is {columns[0]!r}, expected "
                    f"{len(words) + 1}; number the words of a sentence from 1, and separate "
                    f"sentences by an empty line"
                )
            tag = RENAMED.get(columns[3], columns[3])
            if tag not in UPOS_TAGS:
                raise InputError(
                    f"{path}, line {number}: {columns[3]!r} in the fourth column is no universal "
                    f"part-of-speech tag; expected one of {', '.join(UPOS_TAGS)}"
                )
            words.append(columns[1])
            labels.append(tag)
            lines.append(number)
        elif words:
            yield Sentence(tuple(words), tuple(labels), str(path), tuple(lines))
            words, labels, lines = [], [], []
    if words:
        yield Sentence(tuple(words), tuple(labels), str(path), tuple(lines))
