"""Read task files: CoNLL-U, IOB tags in columns, and tables (csv, tsv, JSON lines).

A reader yields sentences with one tag per word, or texts with one label. It reports the mistakes
of a file together, each with its line, what was expected and how to fix it. Nothing here imports
torch, so that mistakes are reported at once.

Files are UTF-8, with or without a byte-order mark, and may be compressed (``.gz``, ``.bz2``,
``.xz``, ``.zst``).
"""

import codecs
import contextlib
import csv
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import dropwhile, groupby
from pathlib import Path
from typing import Any, NamedTuple

from eliquare.corpus.documents import LINE_BYTES, read_lines
from eliquare.io import InputError, existing_file, format_suffix

REPORTED_MISTAKES = 20

# fmt: off
UPOS_TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
# Universal Dependencies 1 had CONJ where version 2 has CCONJ; treebanks of both are in use.
RENAMED_TAGS = {"CONJ": "CCONJ"}
WORD = re.compile(r"\d{1,9}")  # the number of a word
NO_WORD = re.compile(r"\d{1,9}[-.]\d{1,9}")  # that of a multiword token, or an empty node
IOB_TAG = re.compile(r"O|[BIESLU]-\S+")
LANGUAGE_PREFIX = re.compile(r"[a-z]{2,}(-[a-z]+)*:")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".json", ".ndjson")

logger = logging.getLogger(__name__)

Report = Callable[[int, str], None]  # records a mistake on a line
Row = tuple[int, list[str]]  # a line's number from 1, and its columns
TableRow = tuple[int, list[str], list[str] | None]  # where a row begins, its columns, its cells


class Example(NamedTuple):
    """A sentence with one tag per word, or a text or a pair of texts with one label.

    ``texts`` holds the words, or the texts; ``lines`` where each word, or the row, begins.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    file: str
    lines: tuple[int, ...]


def read(kind: str, path: str | Path, columns: Sequence[str] = ("label", "text")) -> list[Example]:
    """Return the examples of a file in its order, read as the kind of task wants.

    Of tables, ``columns`` names the column of the label, and that of each text; of minimal pairs
    and retrieval, those of the two texts. Raises InputError for a file that cannot be read, and for
    one without an example.
    """
    with reported_together(path) as report:
        if kind == "upos":
            examples = list(read_conllu(path, report))
        elif kind == "ner":
            examples = list(read_iob(path, report))
        elif kind in ("minimal_pairs", "retrieval"):
            examples = list(read_pairs(path, report, columns, differ=kind == "minimal_pairs"))
        elif kind == "similarity":
            examples = list(read_similarity(path, report, columns))
        else:
            examples = list(read_table(path, report, columns))
    if not examples:
        raise InputError(f"{path}: no example in it; expected a file for a task of kind {kind}")
    if kind == "retrieval" and len({each.texts[1] for each in examples}) < 2:
        raise InputError(f"{path}: one document alone; expected two or more to choose among")
    if kind == "similarity" and len({float(each.labels[0]) for each in examples}) < 2:
        raise InputError(f"{path}: all pairs have one number; expected numbers to rank them by")
    return examples


def read_texts(path: str | Path) -> Iterator[str]:
    """Yield the bare texts of a task file of any format, told by the end of its name.

    CoNLL-U and IOB files give sentences, with a space between two tokens and a multiword token as
    it is written; tables give the cells of several words of each row; other files their lines.
    """
    suffix = format_suffix(path)
    with reported_together(path) as report:
        if suffix == ".conllu":
            for rows in conllu_sentences(path, report):
                yield " ".join(surface_tokens(rows))
        elif suffix in DELIMITERS or suffix in JSON_LINES:
            for _, row in table_rows(path, report):
                cells = list(row.values())
                # Labels and numbers are short; a row without longer text has its longest cell.
                longer = [cell for cell in cells if " " in cell.strip()]
                yield from longer or [max(cells, key=len, default="")]
        elif mostly_tagged(path):
            yield from (" ".join(sentence.texts) for sentence in read_iob(path, report))
        else:
            yield from (line for _, line in numbered_lines(path) if line.strip())


@contextlib.contextmanager
def reported_together(path: str | Path) -> Iterator[Report]:
    """Yield a function that records a mistake; at the end, raise InputError with a line each."""
    found: list[tuple[int, str]] = []
    yield lambda line, message: found.append((line, message))
    lines = [f"{path}, line {line}: {message}" for line, message in sorted(found)]
    if len(lines) > REPORTED_MISTAKES:
        more = len(lines) - REPORTED_MISTAKES
        lines[REPORTED_MISTAKES:] = [f"{path}: {more} more mistakes"]
    if lines:
        raise InputError("\n".join(lines))


# --- CoNLL-U (https://universaldependencies.org/format.html)


def read_conllu(path: str | Path, report: Report) -> Iterator[Example]:
    """Yield the sentences of a CoNLL-U file: syntactic words and universal part-of-speech tags.

    Multiword tokens (``3-4``) and empty nodes (``5.1``) are not words and are left out. Where words
    are written without a space (``SpaceAfter=No``) is not kept: systems are fine-tuned on words
    with spaces between them, as in the field.
    """
    for _, words, labels in tagged_sentences(path, report):
        for (line, _), label in zip(words, labels, strict=True):
            if label not in UPOS_TAGS:
                report(line, f"{label!r} is no UPOS tag; expected one of {', '.join(UPOS_TAGS)}")
        forms = tuple(columns[1] for _, columns in words)
        for (line, _), form in zip(words, forms, strict=True):
            if not form:
                report(line, "no word in column 2; an unknown one is written _")
        if words:
            yield Example(forms, labels, str(path), tuple(line for line, _ in words))


def tagged_sentences(
    path: str | Path, report: Report
) -> Iterator[tuple[list[Row], list[Row], tuple[str, ...]]]:
    """Yield the rows of each sentence, those of its words, and their tags.

    Raises InputError at the end for a treebank whose text is withheld.
    """
    sentences = withheld = 0
    for rows in conllu_sentences(path, report):
        words = [(line, columns) for line, columns in rows if columns[0].isdecimal()]
        sentences += 1
        withheld += len(words) > 1 and {columns[1] for _, columns in words} == {"_"}
        yield rows, words, tuple(RENAMED_TAGS.get(c[3], c[3]) for _, c in words)
    if withheld:
        raise InputError(
            f"{path}: {withheld:,} of {sentences:,} sentences have no words ('_' instead): the "
            "treebank's text is withheld for its licence; take another treebank"
        )


def conllu_sentences(path: str | Path, report: Report) -> Iterator[list[Row]]:
    """Yield the rows of each sentence, those of multiword tokens and empty nodes too."""
    for lines in line_groups(path, "#"):
        rows = [(line, text.split("\t")) for line, text in lines]
        wrong = [(line, len(columns)) for line, columns in rows if len(columns) != 10]
        for line, number in wrong:
            report(line, f"{number} columns, expected 10 with tabs between them")
        if wrong:
            continue
        yield rows
        words = [(line, columns[0]) for line, columns in rows if not NO_WORD.fullmatch(columns[0])]
        for expected, (line, found) in enumerate(words, start=1):
            if found != str(expected):
                report(line, f"word {found!r}, expected {expected}; an empty line ends a sentence")
                break


def surface_tokens(sentence: Iterable[Row]) -> Iterator[str]:
    """Yield the tokens of a CoNLL-U sentence as written, a multiword token once."""
    covered = 0
    for _, (number, form, *_) in sentence:
        if "-" in number and NO_WORD.fullmatch(number):
            covered = int(number.partition("-")[2])
            yield form
        elif WORD.fullmatch(number) and int(number) > covered:
            yield form


# --- Named entities: one token per line, its tag in the last column


def read_iob(path: str | Path, report: Report) -> Iterator[Example]:
    """Yield the sentences of a file of "token TAG", "index token TAG" or "token ... TAG" lines.

    Tags of IOB, IOB2 and BIOES (also called BILOU) become IOB2 (Tjong Kim Sang and Veenstra 1999,
    "Representing Text Chunks"). Columns are separated by tabs, or by spaces where there is no tab;
    an empty line ends a sentence, and so does -DOCSTART-. Lines before a sentence that begin with
    "# " and end in no tag are comments, as in MultiCoNER. Where every word of the file begins
    with one language code, as in PAN-X ("sl:Ljubljana"), it is removed.
    """
    groups = map(without_comments, line_groups(path, "-DOCSTART-", ends=True))
    sentences = [
        [(line, re.split("\t" if "\t" in text else " +", text.strip(" "))) for line, text in lines]
        for lines in groups
        if lines
    ]
    widths = Counter(len(columns) for rows in sentences for _, columns in rows)
    width = max(widths.keys() - {1}, key=lambda width: widths[width], default=2)
    # An index is, on most lines, the token's number in its sentence from 0 or 1.
    numbered = [
        len(columns) > 2 and columns[0] in (str(place), str(place + 1))
        for rows in sentences
        for place, (_, columns) in enumerate(rows)
    ]
    token = 1 if 2 * sum(numbered) > len(numbered) else 0
    right = [columns for rows in sentences for _, columns in rows if len(columns) == width]
    if prefix := language_prefix([columns[token] for columns in right]):
        message = "%s, line %d: every word begins with %r, as in PAN-X; it is removed"
        logger.info(message, path, sentences[0][0][0], prefix)
    for rows in sentences:
        mistaken = False
        for line, columns in rows:
            if len(columns) != width:
                mistake = f"{len(columns)} columns, expected {width}: (index,) token, tag"
            elif token and not columns[0].isdecimal():
                mistake = f"{columns[0]!r} where the other lines have the token's index"
            elif not IOB_TAG.fullmatch(columns[-1]):
                mistake = f"{columns[-1]!r} is no IOB tag such as O, B-PER, I-PER, E-PER or S-PER"
            elif not columns[token].strip():
                mistake = "no token before the tag; add it or remove the line"
            else:
                continue
            report(line, mistake)
            mistaken = True
        if not mistaken:
            words = tuple(columns[token].removeprefix(prefix) for _, columns in rows)
            labels = to_iob2([columns[-1] for _, columns in rows])
            yield Example(words, tuple(labels), str(path), tuple(line for line, _ in rows))


def without_comments(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the numbered lines of a sentence without the comments before it."""

    def is_comment(line: tuple[int, str]) -> bool:
        return line[1].startswith("# ") and not IOB_TAG.fullmatch(line[1].split()[-1])

    return list(dropwhile(is_comment, lines))


def language_prefix(words: Sequence[str]) -> str:
    """Return the language code and colon with which all of several words begin, or nothing.

    >>> language_prefix(["sl:Ljubljana", "sl::"])
    'sl:'
    """
    found = {match[0] if (match := LANGUAGE_PREFIX.match(word)) else "" for word in words}
    return found.pop() if len(words) > 1 and len(found) == 1 else ""


def mostly_tagged(path: str | Path) -> bool:
    """Return whether most lines of a file end in an IOB tag."""
    last = [line.split()[-1] for _, line in numbered_lines(path) if line.strip()]
    return 2 * sum(IOB_TAG.fullmatch(word) is not None for word in last) > len(last)


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Return the tags of a sentence in IOB2: B- at an entity's first token, I- at the others.

    An inside tag begins an entity where none of its type is open (in IOB, B- stands only between
    two adjoining entities of one type).

    >>> to_iob2(["I-PER", "I-PER", "O", "S-LOC"])
    ['B-PER', 'I-PER', 'O', 'B-LOC']
    """
    converted = []
    open_type = ""
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        inside = prefix in "IEL" and kind == open_type
        converted.append(f"{'I' if inside else 'B'}-{kind}" if kind else "O")
        open_type = "" if prefix in "ESLU" else kind
    return converted


# --- Tables: csv and tsv with the quoting of RFC 4180, and JSON lines


def read_table(path: str | Path, report: Report, columns: Sequence[str]) -> Iterator[Example]:
    """Yield the rows of a table, each with its label and one or two texts."""
    for example in labelled_rows(path, report, columns):
        for column, text in zip(columns[1:], example.texts, strict=True):
            if not text.strip():
                empty = f"the text (column {column!r}) is empty; add it or remove the row"
                report(example.lines[0], empty)
        yield example


def labelled_rows(path: str | Path, report: Report, columns: Sequence[str]) -> Iterator[Example]:
    """Yield the rows of a table, each with its label, which is not empty, and its texts."""
    for line, row in table_rows(path, report, columns):
        label, *texts = (row[column] for column in columns)
        if not label.strip():
            report(line, f"the label (column {columns[0]!r}) is empty; add it or remove the row")
        yield Example(tuple(texts), (label.strip(),), str(path), (line,))


def read_pairs(
    path: str | Path, report: Report, columns: Sequence[str], *, differ: bool
) -> Iterator[Example]:
    """Yield the rows of a table: a right and a wrong sentence, which differ, or query, document."""
    for line, row in table_rows(path, report, columns):
        first, second = (row[column].strip() for column in columns)
        if not first or not second:
            report(line, "one of the two texts is empty; add it or remove the row")
        elif differ and first == second:
            report(line, "the two sentences are the same; expected a right and a wrong one")
        yield Example((first, second), (), str(path), (line,))


def read_similarity(path: str | Path, report: Report, columns: Sequence[str]) -> Iterator[Example]:
    """Yield the rows of a table: two texts, or one of two lines, and how alike they are."""
    for example in labelled_rows(path, report, columns):
        for mistake in similarity_mistakes(example.labels[0], example.texts):
            report(example.lines[0], mistake)
        yield example._replace(texts=two_texts(example.texts))


def two_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return two texts, which may be two lines of one; more or less than two are a mistake."""
    lines = texts if len(texts) > 1 else texts[0].strip().split("\n")
    return tuple(text.strip() for text in lines)


def similarity_mistakes(number: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with a row of a table of similarities, but for an empty number."""
    found = two_texts(texts)
    if len(found) != 2 or not all(found):
        yield (
            "expected two texts, in two columns (name the second in text_pair_column) or in two "
            "lines of one"
        )
    with contextlib.suppress(ValueError):
        if not number or math.isfinite(float(number)):
            return
    yield f"expected a number that says how alike two texts are, found {number!r}"


def table_rows(
    path: str | Path, report: Report, required: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line on which each row of a table begins, and its cells by column.

    Raises InputError for a missing column.
    """
    suffix = format_suffix(path)
    if suffix in JSON_LINES:
        rows = json_rows(path, report, required)
    elif suffix in DELIMITERS:
        rows = delimited_rows(path, report, DELIMITERS[suffix])
    else:
        raise InputError(f"{path}: expected a file name that ends in .csv, .tsv, .jsonl (or + .gz)")
    for line, header, cells in rows:
        if missing := [column for column in required if column not in header]:
            raise InputError(
                f"{path}, line {line}: no column {', '.join(map(repr, missing))}; the columns are "
                f"{', '.join(map(repr, header))}; name yours with the task's text_column, "
                f"text_pair_column and label_column"
            )
        if twice := [column for column in required if header.count(column) > 1]:
            raise InputError(
                f"{path}, line {line}: the column {twice[0]!r} stands twice; rename or remove one"
            )
        if cells is not None:
            yield line, dict(zip(header, cells, strict=True))


def json_rows(path: str | Path, report: Report, required: Sequence[str] = ()) -> Iterator[TableRow]:
    """Yield line, columns and cells of each object of a JSON lines file; null and NaN are empty."""
    for line, text in numbered_lines(path):
        if not text.strip():
            continue
        row: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(text, object_pairs_hook=each_once, parse_constant=no_value)
        if not isinstance(row, dict):
            report(line, "not JSON with one object per line, and each name once in it")
            continue
        if nested := [name for name in required if isinstance(row.get(name), list | dict)]:
            report(line, f"{nested[0]!r} is a list or an object; expected one text")
            continue
        texts = ("" if value is None else value for value in row.values())
        cells = [t if isinstance(t, str) else json.dumps(t, ensure_ascii=False) for t in texts]
        try:
            "".join([*row, *cells]).encode()
        except UnicodeEncodeError as error:
            report(line, f"{error.object[error.start]!a} is half of a character; remove it")
            continue
        yield line, list(row), cells


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; refuse one in which a name stands twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a name stands twice")
    return row


def no_value(_: str) -> None:
    """Return NaN and Infinity, which are no JSON, as null: programs write missing values so."""


def delimited_rows(path: str | Path, report: Report, delimiter: str) -> Iterator[TableRow]:
    """Yield line, columns and cells of each row of a csv or tsv file; no cells at the header."""
    csv.field_size_limit(LINE_BYTES)
    reader = csv.reader(text_lines(path), delimiter=delimiter, strict=True)
    header: list[str] = []
    begins = 1
    try:
        for row in reader:
            begins, line = reader.line_num + 1, begins
            if not row:
                continue
            if not header:
                header = row
                yield line, header, None
            elif delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in row):
                report(line, "a quote opens here that closes in another row; double it, or use csv")
            elif len(row) == len(header):
                yield line, header, row
            else:
                report(line, f"{len(row)} columns, the header has {len(header)}; missing quotes?")
    except csv.Error as error:
        report(begins, f"no row by RFC 4180 ({error}); quotes around a field, doubled inside it")


# --- Files


def text_lines(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file, compressed or not, with their ends; only ``\n`` is one.

    Raises InputError if the file is missing, not UTF-8 or not intact, or a line is endless.
    """
    for number, raw in enumerate(read_lines(existing_file(path, "task file")), start=1):
        try:
            line = (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not UTF-8 text ({error.reason}); convert it to UTF-8"
            ) from None
        yield line + "\n"


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Yield each line's number from 1 and the line without its end, ``\n`` or ``\r\n``."""
    for number, line in enumerate(text_lines(path), start=1):
        yield number, line.rstrip("\r\n")


def line_groups(
    path: str | Path, comment: str, ends: bool = False
) -> Iterator[list[tuple[int, str]]]:
    """Yield the numbered lines between empty lines, without those that begin as a comment.

    ``ends`` says that a comment ends a group, as an empty line does.
    """

    def is_between(line: tuple[int, str]) -> bool:
        return not line[1].strip() or (ends and line[1].startswith(comment))

    for between, lines in groupby(numbered_lines(path), is_between):
        kept = [line for line in lines if not line[1].startswith(comment)]
        if kept and not between:
            yield kept
