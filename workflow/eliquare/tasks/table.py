"""Labelled texts from csv and tsv (RFC 4180 quoting) and from JSON lines, by the columns' names."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eliquare.stage import InputError
from eliquare.tasks.examples import Text, numbered_lines, open_text, suffix_of

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_ENDINGS = (".jsonl", ".json", ".ndjson")
LONGEST_FIELD = 2**31 - 1


def read(
    path: str | Path, text_column: str, label_column: str, second_column: str | None = None
) -> Iterator[Text]:
    """Yield the rows of a .csv, .tsv or .jsonl file as labelled texts, or pairs of texts.

    Raises InputError with file and line for a column that is not there, an empty label, a row of
    another width than the header's, or a quote that is never closed.
    """
    asked = [text_column, label_column] + ([second_column] if second_column else [])
    ending = suffix_of(path)
    if ending in DELIMITERS:
        rows = _delimited_rows(path, DELIMITERS[ending], asked)
    elif ending in JSON_ENDINGS:
        rows = _json_rows(path, asked)
    else:
        raise InputError(
            f"{path}: expected a file name that ends in .csv, .tsv or .jsonl (or these and .gz)"
        )
    for line, row in rows:
        label = row[label_column].strip()
        if not label:
            raise InputError(
                f"{path}, line {line}: the label (column {label_column!r}) is empty; give the row "
                f"a label or remove it"
            )
        second = row[second_column] if second_column else None
        yield Text(row[text_column], second, label, str(path), line)


def _require(path: str | Path, asked: list[str], present: list[str], line: int) -> None:
    for column in asked:
        if column not in present:
            raise InputError(
                f"{path}, line {line}: no column {column!r}; the columns are "
                f"{', '.join(map(repr, present))}; name yours with --text-column, "
                f"--second-column and --label-column"
            )


def _delimited_rows(
    path: str | Path, delimiter: str, asked: list[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line on which the row begins, {column: value})."""
    csv.field_size_limit(LONGEST_FIELD)
    with open_text(path, newline="\n") as file:
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
                    _require(path, asked, header, line)
                elif len(row) != len(header):
                    raise InputError(
                        f"{path}, line {line}: {len(row)} columns, but the header has "
                        f"{len(header)}; quote a field that holds the separator or a line end"
                    )
                else:
                    yield line, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise InputError(
                f"{path}, line {begins}: not a row as RFC 4180 has it ({error}); a field that "
                f"begins with a quote ends with one, and quotes inside it are doubled"
            ) from None


def _json_rows(path: str | Path, asked: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected one JSON object on each line")
        _require(path, asked, list(row), number)
        yield number, {column: _as_text(row[column]) for column in asked}


def _as_text(value: Any) -> str:
    """A JSON value as text; null is empty, numbers and booleans as JSON writes them."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
