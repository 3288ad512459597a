"""What the sources of task data share: their files as they come, and examples as they are stored.

A source (``treebank``, ``hub``, ``addresses``) gives the readers of its splits. An example that a
reader yields holds in ``texts`` what is written to the split's file.
"""

import csv
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eliquare.download import Checksum, Host, Unreachable, is_page
from eliquare.evaluation import readers
from eliquare.evaluation.readers import Example
from eliquare.io import (
    Failure,
    InputError,
    atomic_write,
    checksum,
    locked,
    read_as,
    remove,
    work_folder,
    write_json,
)

RAW = "https://raw.githubusercontent.com"
# The environment variables that name mirrors.
MIRRORS = {RAW: "ELIQUARE_RAW", "https://huggingface.co": "HF_ENDPOINT"}
# Why a row is dropped.
NO_LABEL, NO_TEXT = "the label is empty", "the text is empty"
SAME_TEXT = "the two sentences are the same"
NO_WORD, NO_TAG = "a word is empty", "a word has no tag"

logger = logging.getLogger(__name__)

Dropped = Counter[str]


class Found(NamedTuple):
    """What a source has: a way to read each split, its revision and its licence."""

    splits: Mapping[str, Callable[[Dropped], Iterable[Example]]]
    revision: str | None
    licence: str | None


class RawFiles:
    """The files of a source as they come: put in place by a user, or downloaded.

    Downloads are kept until the task is complete, so that a later run need not repeat them.
    """

    def __init__(self, output: Path, retries: int) -> None:
        self.retries = retries
        self.by_hand = output.with_name(f"{output.name}.raw")
        self.downloads = output.with_name(f".{output.name}.downloads")
        self.checksums = output.with_name("checksums.json")
        self.known: dict[str, str] = (
            read_as(self.checksums, dict[str, str]) if self.checksums.exists() else {}
        )
        self.wanted: dict[str, str] = {}
        self.used: dict[str, Path] = {}
        self.unverified: list[Path] = []
        self._working = work_folder(output)

    def __enter__(self) -> "RawFiles":
        self.work = self._working.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._working.__exit__(None, None, None)
        if kind is None:
            remove(self.downloads)
        elif issubclass(kind, InputError):
            # What is amiss may be a file that came broken: the next run fetches it again.
            for path in self.unverified:
                remove(path)

    def get(self, address: str, name: str, sha256: str | None = None) -> Path | None:
        """Return the file of an address, called ``name`` here; None if the host has no such file.

        Raises Failure, with a line for each file wanted, if the host cannot be reached, and
        InputError for another checksum and for a page instead of a file.
        """
        expected = self.expected(address, sha256)
        path = self.by_hand / name
        if not path.exists():
            path = self.downloads / name
            if path.exists() and expected and expected.of(path) != expected.value:
                remove(path)
            if not path.exists() and not self.download(address, path, expected):
                return None
            if expected is None:
                self.unverified.append(path)
        return self.take(address, path, sha256)

    def take(self, address: str, path: Path, sha256: str | None = None) -> Path:
        """Return a file that is here, checked; it is recorded as that of an address."""
        expected = self.expected(address, sha256)
        if is_page(path):
            raise InputError(f"{path}: an HTML page instead of a file; replace it")
        if expected and (found := expected.of(path)) != expected.value:
            raise expected.refuse(path, found)
        logger.info("%s: %s", address, path)
        self.used[address] = path
        return path

    def expected(self, address: str, sha256: str | None) -> Checksum | None:
        """Return the checksum that a file must have: the one given, or an earlier download's."""
        if sha256:
            return Checksum("sha256", sha256, "the configuration says", "check its sha256")
        if address in self.known:
            said = "an earlier download had"
            advice = f"to take the new file, remove the line of this address in {self.checksums}"
            return Checksum("sha256", self.known[address], said, advice)
        return None

    def download(self, address: str, path: Path, expected: Checksum | None) -> bool:
        """Download a file; return False if the host has none."""
        root, _, name = mirrored(address).rpartition("/")
        try:
            return Host(root, self.retries, "check the connection").download(name, path, expected)
        except Unreachable as error:
            raise self.missing(str(error), address, path.name) from None

    def missing(self, reason: str, address: str, name: str) -> Failure:
        """Return the failure of a file, which names all that are wanted and not there."""
        lines = [f"{reason}; or put the file at {self.by_hand / name}"]
        for other, address_of_other in self.wanted.items():
            there = [folder / other for folder in (self.by_hand, self.downloads)]
            if address_of_other != address and not any(path.exists() for path in there):
                lines.append(f"{address_of_other}: put this file at {self.by_hand / other} then")
        return Failure("\n".join(lines))

    def record(self) -> list[dict[str, Any]]:
        """Return address, checksum and size of each file; remember the checksums."""
        files = [
            {"address": address, "sha256": checksum(path), "bytes": path.stat().st_size}
            for address, path in self.used.items()
        ]
        with locked(self.checksums, "list of checksums"):
            known = read_as(self.checksums, dict[str, str]) if self.checksums.exists() else {}
            known |= {file["address"]: file["sha256"] for file in files}
            with atomic_write(self.checksums) as partial:
                write_json(partial, dict(sorted(known.items())))
        return files


def mirrored(address: str) -> str:
    """Return the address at a mirror of its host, where there is one; the record keeps its own."""
    for host, variable in MIRRORS.items():
        if (mirror := os.environ.get(variable)) and address.startswith(f"{host}/"):
            return mirror.rstrip("/") + address.removeprefix(host)
    return address


def words_with_tags(
    kind: str,
    words: Sequence[str],
    tags: Sequence[str],
    place: tuple[str, int],
    dropped: Dropped,
) -> Iterator[Example]:
    """Yield a sentence; words that are empty are dropped, and a sentence without any."""
    pairs = [(one_line(word), tag) for word, tag in zip(words, tags, strict=True)]
    kept = [(word, tag) for word, tag in pairs if word]
    dropped.update({NO_WORD: len(pairs) - len(kept)} if len(kept) < len(pairs) else {})
    if not kept:
        return
    labels = tuple(tag for _, tag in kept)
    lines = [f"{word}\t{tag}" for word, tag in kept]
    if kind == "upos":
        blank = "\t_" * 6
        lines = [f"{n}\t{word}\t_\t{tag}{blank}" for n, (word, tag) in enumerate(kept, start=1)]
    yield Example(("\n".join([*lines, "", ""]),), labels, place[0], (place[1],))


def table_row(cells: Sequence[str], place: tuple[str, int], dropped: Dropped) -> Iterator[Example]:
    """Yield a row of a table, label first; one with an empty label or text is dropped."""
    label, *texts = (cell.strip() for cell in cells)
    if not label or not all(texts):
        dropped[NO_TEXT if label else NO_LABEL] += 1
        return
    yield Example((table_line([*texts, label]),), (label,), place[0], (place[1],))


def scored_pair(
    cells: Sequence[str], place: tuple[str, int], dropped: Dropped
) -> Iterator[Example]:
    """Yield a row of a table with a number and two texts, which may be two lines of one.

    Raises:
        InputError: no number, or not two texts.
    """
    for example in table_row(cells, place, dropped):
        for mistake in readers.similarity_mistakes(cells[0].strip(), cells[1:]):
            raise InputError(f"{place[0]}, row {place[1]}: {mistake}")
        yield example


def pair_of_texts(
    cells: Sequence[str], place: tuple[str, int], dropped: Dropped, *, differ: bool
) -> Iterator[Example]:
    """Yield two texts; a pair that lacks one, or has one twice where they differ, is dropped."""
    first, second = (cell.strip() for cell in cells)
    if not first or not second or (differ and first == second):
        dropped[SAME_TEXT if first and second else NO_TEXT] += 1
        return
    yield Example((table_line([first, second]),), (), place[0], (place[1],))


def one_line(word: str) -> str:
    """Return a word without tabs and line breaks, and without space at its ends."""
    return re.sub(r"[\t\n\v\f\r]+", " ", word).strip()


def table_line(cells: Sequence[str], delimiter: str = "\t") -> str:
    r"""Return a line of a table by RFC 4180; line breaks inside are ``\n``, tabs a space."""
    line = io.StringIO()
    plain = [cell.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ") for cell in cells]
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(plain)
    return line.getvalue()
