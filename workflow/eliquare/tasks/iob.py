"""Named entities from files with one token a line and its tag in the last column.

The tagging schemes IOB, IOB2 and BIOES (also called BILOU) are all read, and all become IOB2
(Tjong Kim Sang and Veenstra 1999, "Representing Text Chunks").
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from eliquare.stage import InputError
from eliquare.tasks.examples import Sentence, numbered_lines

TAG = re.compile(r"O|([BIESLU])-(\S+)")
SPACES = re.compile(r"[ \t]+")
BEGINS_ALWAYS = frozenset("BSU")
ENDS_ALWAYS = frozenset("ESLU")
MOST_COLUMNS = 4


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Tags of one sentence in IOB2: B- at the first token of each entity, I- at the others.

    An inside tag begins an entity where none of its type is open (as in IOB, where B- stands only
    between two adjoining entities of one type). Raises ValueError with the position of a tag that
    belongs to none of the schemes.
    """
    converted = []
    open_type = None
    for position, tag in enumerate(tags):
        match = TAG.fullmatch(tag)
        if match is None:
            raise ValueError(position)
        prefix, kind = match.groups()
        if kind is None:
            converted.append("O")
        elif prefix in BEGINS_ALWAYS or kind != open_type:
            converted.append(f"B-{kind}")
        else:
            converted.append(f"I-{kind}")
        open_type = None if prefix in ENDS_ALWAYS else kind
    return converted


def read(path: str | Path) -> Iterator[Sentence]:
    """Yield the sentences of a file of "token TAG", "index token TAG" or "token … TAG" lines.

    Columns are separated by tabs, or by spaces if there is no tab; an empty line ends a sentence;
    -DOCSTART- lines are skipped. Raises InputError with file and line for another number of
    columns than in the first line, an index that is no number, or a tag of no scheme.
    """
    sentences = list(_rows_by_sentence(path))
    index_first = _index_stands_first(sentences)
    for rows in sentences:
        for number, columns in rows:
            if index_first and not columns[0].isdecimal():
                raise InputError(
                    f"{path}, line {number}: {columns[0]!r} where the other lines have the "
                    f"token's index; expected index, token and tag"
                )
        try:
            labels = to_iob2([columns[-1] for _, columns in rows])
        except ValueError as error:
            number, columns = rows[error.args[0]]
            raise InputError(
                f"{path}, line {number}: {columns[-1]!r} is no IOB tag; expected O, or B-, I-, E- "
                f"or S- and a type, such as B-PER"
            ) from None
        yield Sentence(
            tuple(columns[1 if index_first else 0] for _, columns in rows),
            tuple(labels),
            str(path),
            tuple(number for number, _ in rows),
        )


def _rows_by_sentence(path: str | Path) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield, for each sentence, its (line number, columns)."""
    rows: list[tuple[int, list[str]]] = []
    expected = None
    for number, line in numbered_lines(path):
        if line.startswith("-DOCSTART-"):
            continue
        if not line.strip():
            if rows:
                yield rows
                rows = []
            continue
        columns = line.split("\t") if "\t" in line else SPACES.split(line.strip(" "))
        expected = expected or len(columns)
        if len(columns) != expected or not 2 <= len(columns) <= MOST_COLUMNS:
            raise InputError(
                f"{path}, line {number}: {len(columns)} columns, expected "
                f"{expected if 2 <= expected <= MOST_COLUMNS else '2 or 3'}: token and tag, or "
                f"index, token and tag, separated by tabs or by spaces"
            )
        rows.append((number, columns))
    if rows:
        yield rows


def _index_stands_first(sentences: list[list[tuple[int, list[str]]]]) -> bool:
    """Whether most lines begin with the token's number in its sentence, from 0 or from 1."""
    total = numbered = 0
    for rows in sentences:
        for position, (_, columns) in enumerate(rows):
            total += 1
            numbered += len(columns) > 2 and columns[0] in (str(position), str(position + 1))
    return 2 * numbered > total
