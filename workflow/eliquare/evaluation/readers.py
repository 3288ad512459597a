"""Read task files: CoNLL-U, IOB tags in columns, and tables (csv, tsv, JSON lines).

A reader yields sentences with one tag per word, or texts with one label. It reports the mistakes
of a file together, each with its line, what was expected and how to fix it. Nothing here imports
torch, so that mistakes are reported at once.

Files are UTF-8, with or without a byte-order mark, and may be compressed (``.gz``, ``.bz2``,
``.xz``, ``.zst``).
"""

import contextlib
import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from xopen import xopen

from eliquare.io import InputError, existing

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
REPORTED_MISTAKES = 20

# fmt: off
UPOS_TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
# Universal Dependencies 1 had CONJ where version 2 has CCONJ; treebanks of both are in use.
RENAMED_TAGS = {"CONJ": "CCONJ"}
CONLLU_COLUMNS = 10
MULTIWORD_TOKEN = re.compile(r"(\d+)-(\d+)")
EMPTY_NODE = re.compile(r"\d+\.\d+")

IOB_TAG = re.compile(r"O|([BIESLU])-(\S+)")
ALWAYS_BEGINS = frozenset("BSU")
ALWAYS_ENDS = frozenset("ESLU")
IOB_COLUMNS = (2, 3, 4)

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".json", ".ndjson")


class Sentence(NamedTuple):
    """A sentence with one tag per word; ``lines`` holds the line number of each word."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    file: str
    lines: tuple[int, ...]


class Text(NamedTuple):
    """A text, or a pair of texts, with its label; ``line`` is where its row begins."""

    text: str
    text_pair: str | None
    label: str
    file: str
    line: int


Examples = Sequence[Sentence | Text]


class Row(NamedTuple):
    """A line of a file in columns, and its number from 1."""

    line: int
    columns: list[str]


class Mistakes:
    """The mistakes of one file, collected so that they are reported together."""

    def __init__(self, file: str | Path) -> None:
        self.file = file
        self.lines: list[str] = []

    def add(self, line: int, message: str) -> None:
        """Record a mistake on a line (from 1)."""
        self.lines.append(f"{self.file}, line {line}: {message}")

    def raise_any(self) -> None:
        """Raise InputError with one line per mistake, if there are any."""
        if not self.lines:
            return
        more = len(self.lines) - REPORTED_MISTAKES
        rest = [f"{self.file}: {more} more mistakes"] if more > 0 else []
        raise InputError("\n".join(self.lines[:REPORTED_MISTAKES] + rest))


def read(
    kind: str,
    path: str | Path,
    text_column: str = "text",
    label_column: str = "label",
    text_pair_column: str | None = None,
) -> Examples:
    """Return the examples of a file in its order, read as the kind of task wants.

    The columns are used for ``classification`` (text, label) and ``pair`` (all three). Raises
    InputError for a file that cannot be read, and for one without an example.
    """
    examples: Examples
    if kind == "upos":
        examples = list(read_conllu(path))
    elif kind == "ner":
        examples = list(read_iob(path))
    else:
        pair = text_pair_column if kind == "pair" else None
        examples = list(read_table(path, text_column, label_column, pair))
    if not examples:
        raise InputError(f"{path}: no example in it; expected a file for a task of kind {kind}")
    return examples


def read_texts(path: str | Path) -> Iterator[str]:
    """Yield the bare texts of a task file of any format, told by the end of its name.

    CoNLL-U and IOB files give sentences, with a space between two tokens and a multiword token as
    it is written; tables give the cells of several words of each row; other files their lines.
    """
    suffix = format_suffix(path)
    if suffix == ".conllu":
        for sentence in conllu_sentences(path):
            yield " ".join(surface_tokens(sentence))
    elif suffix in DELIMITERS or suffix in JSON_LINES:
        for _, row in table_rows(path):
            cells = list(row.values())
            # Labels and numbers are short; a row without longer text has its longest cell.
            yield from [c for c in cells if " " in c.strip()] or [max(cells, key=len, default="")]
    elif mostly_tagged(path):
        for tagged in read_iob(path):
            yield " ".join(tagged.words)
    else:
        yield from (line for _, line in numbered_lines(path) if line.strip())


# --- CoNLL-U (https://universaldependencies.org/format.html)


def read_conllu(path: str | Path) -> Iterator[Sentence]:
    """Yield the sentences of a CoNLL-U file: syntactic words and universal part-of-speech tags.

    Multiword tokens (``3-4``) and empty nodes (``5.1``) are not words and are left out. Raises
    InputError for lines without ten columns, a word out of order, or an unknown tag.
    """
    mistakes = Mistakes(path)
    for sentence in conllu_sentences(path, mistakes):
        rows = [row for row in sentence if row.columns[0].isdecimal()]
        labels = [RENAMED_TAGS.get(row.columns[3], row.columns[3]) for row in rows]
        for row, label in zip(rows, labels, strict=True):
            if label not in UPOS_TAGS:
                mistakes.add(
                    row.line,
                    f"{label!r} in the fourth column is no universal part-of-speech tag; expected "
                    f"one of {', '.join(UPOS_TAGS)}",
                )
        if rows:
            words = tuple(row.columns[1] for row in rows)
            yield Sentence(words, tuple(labels), str(path), tuple(row.line for row in rows))
    mistakes.raise_any()


def conllu_sentences(path: str | Path, mistakes: Mistakes | None = None) -> Iterator[list[Row]]:
    """Yield the rows of each sentence of a CoNLL-U file, multiword tokens and empty nodes too.

    Mistakes of form are added to ``mistakes``, or raised at the end.
    """
    found = mistakes or Mistakes(path)
    sentence: list[Row] = []
    expected: int | None = 1  # the next word's number; None after a line that could not be read
    for line, text in numbered_lines(path):
        if text.startswith("#"):
            continue
        if not text.strip():
            if sentence:
                yield sentence
            sentence, expected = [], 1
            continue
        row = Row(line, text.split("\t"))
        if len(row.columns) != CONLLU_COLUMNS:
            found.add(
                line,
                f"{len(row.columns)} columns, but a line of CoNLL-U has {CONLLU_COLUMNS}; put a "
                f"tab between each two, and _ where there is nothing",
            )
            expected = None
            continue
        number = row.columns[0]
        if not (MULTIWORD_TOKEN.fullmatch(number) or EMPTY_NODE.fullmatch(number)):
            if expected is not None and number != str(expected):
                found.add(
                    line,
                    f"the word's number is {number!r}, expected {expected}; number the words of a "
                    f"sentence from 1, and separate sentences by an empty line",
                )
                expected = None
            expected = None if expected is None else expected + 1
        sentence.append(row)
    if sentence:
        yield sentence
    if mistakes is None:
        found.raise_any()


def surface_tokens(sentence: Sequence[Row]) -> Iterator[str]:
    """Yield the tokens of a CoNLL-U sentence as written, a multiword token once."""
    covered = 0
    for number, form, *_ in (row.columns for row in sentence):
        multiword = MULTIWORD_TOKEN.fullmatch(number)
        if multiword:
            covered = int(multiword[2])
            yield form
        elif number.isdecimal() and int(number) > covered:
            yield form


# --- Named entities: one token per line, its tag in the last column


def read_iob(path: str | Path) -> Iterator[Sentence]:
    """Yield the sentences of a file of "token TAG", "index token TAG" or "token ... TAG" lines.

    Tags of IOB, IOB2 and BIOES (also called BILOU) become IOB2 (Tjong Kim Sang and Veenstra 1999,
    "Representing Text Chunks"). Columns are separated by tabs, or by spaces where there is no tab;
    an empty line ends a sentence; -DOCSTART- lines are skipped. Raises InputError for another
    number of columns than in the first line, an index that is no number, or a tag of no scheme.
    """
    mistakes = Mistakes(path)
    sentences = list(iob_sentences(path, mistakes))
    mistakes.raise_any()
    token = 1 if index_stands_first(sentences) else 0
    for rows in sentences:
        for row in rows:
            if token == 1 and not row.columns[0].isdecimal():
                mistakes.add(
                    row.line,
                    f"{row.columns[0]!r} where the other lines have the token's index; expected "
                    f"index, token and tag",
                )
            if not IOB_TAG.fullmatch(row.columns[-1]):
                mistakes.add(
                    row.line,
                    f"{row.columns[-1]!r} is no IOB tag; expected O, or B-, I-, E- or S- and a "
                    f"type, such as B-PER",
                )
    mistakes.raise_any()
    for rows in sentences:
        yield Sentence(
            tuple(row.columns[token] for row in rows),
            tuple(to_iob2([row.columns[-1] for row in rows])),
            str(path),
            tuple(row.line for row in rows),
        )


def iob_sentences(path: str | Path, mistakes: Mistakes) -> Iterator[list[Row]]:
    """Yield the rows of each sentence; rows of the wrong width are mistakes and left out."""
    rows: list[Row] = []
    width = None
    for line, text in numbered_lines(path):
        if text.startswith("-DOCSTART-"):
            continue
        if not text.strip():
            if rows:
                yield rows
            rows = []
            continue
        columns = text.split("\t") if "\t" in text else re.split(r"[ \t]+", text.strip(" "))
        if width is None and len(columns) in IOB_COLUMNS:
            width = len(columns)
        if len(columns) == width:
            rows.append(Row(line, columns))
        else:
            mistakes.add(
                line,
                f"{len(columns)} columns, expected {width or '2 or 3'}: token and tag, or index, "
                f"token and tag, separated by tabs or by spaces",
            )
    if rows:
        yield rows


def mostly_tagged(path: str | Path) -> bool:
    """Return whether most lines of a file end in an IOB tag."""
    last = [line.split()[-1] for _, line in numbered_lines(path) if line.strip()]
    return 2 * sum(IOB_TAG.fullmatch(word) is not None for word in last) > len(last)


def index_stands_first(sentences: Sequence[Sequence[Row]]) -> bool:
    """Return whether most lines begin with the token's number in its sentence, from 0 or 1."""
    numbered = [
        len(row.columns) > 2 and row.columns[0] in (str(position), str(position + 1))
        for rows in sentences
        for position, row in enumerate(rows)
    ]
    return 2 * sum(numbered) > len(numbered)


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Return the tags of a sentence in IOB2: B- at an entity's first token, I- at the others.

    An inside tag begins an entity where none of its type is open (in IOB, B- stands only between
    two adjoining entities of one type). Raises ValueError for a tag of no scheme.

    >>> to_iob2(["I-PER", "I-PER", "O", "S-LOC"])
    ['B-PER', 'I-PER', 'O', 'B-LOC']
    """
    converted = []
    open_type = None
    for tag in tags:
        match = IOB_TAG.fullmatch(tag)
        if match is None:
            raise ValueError(f"{tag!r} is no IOB tag")
        prefix, kind = match.groups()
        if kind is None:
            converted.append("O")
        elif prefix in ALWAYS_BEGINS or kind != open_type:
            converted.append(f"B-{kind}")
        else:
            converted.append(f"I-{kind}")
        open_type = None if prefix in ALWAYS_ENDS else kind
    return converted


# --- Tables: csv and tsv with the quoting of RFC 4180, and JSON lines


def read_table(
    path: str | Path, text_column: str, label_column: str, text_pair_column: str | None = None
) -> Iterator[Text]:
    """Yield the rows of a table as labelled texts, or pairs of texts.

    Raises InputError for a missing column, an empty label, a row of another width than the
    header's, or a quote that is never closed.
    """
    columns = [text_column, label_column, *([text_pair_column] if text_pair_column else [])]
    mistakes = Mistakes(path)
    for line, row in table_rows(path, columns):
        label = row[label_column].strip()
        if not label:
            mistakes.add(
                line,
                f"the label (column {label_column!r}) is empty; give the row a label or remove it",
            )
        text_pair = row[text_pair_column] if text_pair_column else None
        yield Text(row[text_column], text_pair, label, str(path), line)
    mistakes.raise_any()


def table_rows(
    path: str | Path, required: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line on which each row of a table begins, and its cells by column."""
    suffix = format_suffix(path)
    if suffix in DELIMITERS:
        yield from delimited_rows(path, DELIMITERS[suffix], required)
    elif suffix in JSON_LINES:
        yield from json_rows(path, required)
    else:
        raise InputError(
            f"{path}: expected a file name that ends in .csv, .tsv or .jsonl (or these and .gz)"
        )


def delimited_rows(
    path: str | Path, delimiter: str, required: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and cells of each row after the header of a csv or tsv file."""
    csv.field_size_limit(2**31 - 1)
    mistakes = Mistakes(path)
    with open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = None
        begins = 1
        try:
            for row in reader:
                begins, line = reader.line_num + 1, begins
                if not row:
                    continue
                if header is None:
                    header = row
                    require_columns(path, required, header, line)
                elif len(row) == len(header):
                    yield line, dict(zip(header, row, strict=True))
                else:
                    mistakes.add(
                        line,
                        f"{len(row)} columns, but the header has {len(header)}; quote a field that "
                        f"holds the separator or a line end",
                    )
        except csv.Error as error:
            mistakes.add(
                begins,
                f"no row by RFC 4180 ({error}); a field that begins with a quote ends with one, "
                f"and quotes inside it are doubled",
            )
    mistakes.raise_any()


def json_rows(path: str | Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and cells of each row of a JSON lines file."""
    mistakes = Mistakes(path)
    for line, text in numbered_lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            mistakes.add(line, f"not JSON ({error.msg})")
            continue
        if not isinstance(row, dict):
            mistakes.add(line, "expected one JSON object per line")
            continue
        require_columns(path, required, list(row), line)
        yield line, {column: json_text(value) for column, value in row.items()}
    mistakes.raise_any()


def require_columns(
    path: str | Path, required: Sequence[str], present: Sequence[str], line: int
) -> None:
    """Raise InputError naming the columns that a table lacks and those that it has."""
    missing = [column for column in required if column not in present]
    if missing:
        raise InputError(
            f"{path}, line {line}: no column {', '.join(map(repr, missing))}; the columns are "
            f"{', '.join(map(repr, present))}; name yours with the task's text_column, "
            f"text_pair_column and label_column"
        )


def json_text(value: Any) -> str:
    """Return a JSON value as text: null is empty, numbers and booleans as JSON writes them."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- Files


@contextlib.contextmanager
def open_text(path: str | Path) -> Iterator[TextIO]:
    r"""Open a UTF-8 file, compressed or not; only ``\n`` ends a line.

    Raises InputError if the file is missing, not UTF-8 or not intact.
    """
    path = existing(path, "task file")
    try:
        with xopen(path, "rt", encoding="utf-8-sig", newline="\n", threads=0) as file:
            yield file
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert it to UTF-8"
        ) from None
    except InputError:
        raise
    except Exception as error:  # Each compression library has errors of its own.
        if path.suffix not in COMPRESSED:
            raise
        raise InputError(
            f"{path}: not an intact {path.suffix} file ({error}); fetch it again"
        ) from None


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Yield each line's number from 1 and the line without its end, ``\n`` or ``\r\n``."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\r\n")


def format_suffix(path: str | Path) -> str:
    """Return the ending that names the format: ".csv" for "train.csv.gz"."""
    suffixes = [suffix for suffix in Path(path).suffixes if suffix not in COMPRESSED]
    return suffixes[-1] if suffixes else ""
