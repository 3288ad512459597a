"""What a task's file holds once it is read: tagged sentences, or labelled texts."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from eliquare import stage


class Sentence(NamedTuple):
    """A sentence with one tag for each word, and where its words stand in the file."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    file: str
    lines: tuple[int, ...]


class Text(NamedTuple):
    """A text, or a pair of texts, with its label, and the line on which it begins."""

    text: str
    second: str | None
    label: str
    file: str
    line: int


@contextlib.contextmanager
def open_text(path: str | Path, newline: str) -> Iterator[TextIO]:
    """Open a UTF-8 file, gzipped if its name ends in .gz; ``newline`` as in the built-in open.

    Raises InputError if the file is missing, not UTF-8, or not whole.
    """
    path = stage.existing(path, "task file")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        raise stage.InputError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert it to UTF-8"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise stage.InputError(f"{path}: not a whole gzip file ({error}); fetch it again") from None


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end); only \\n and \\r\\n end a line."""
    with open_text(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\r\n")


def suffix_of(path: str | Path) -> str:
    """The file's ending without .gz: ".csv" for "train.csv.gz"."""
    path = Path(path)
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
