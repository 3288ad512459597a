"""The documents folder: what every corpus becomes, its filter, its writer and its reader.

``documents.jsonl.zst`` holds one JSON object a line (id, title, text); ``report.json`` the counts
of what was kept and dropped; ``characters.json`` how often each character occurs in kept text.
Memory is constant but for the keys of duplicate detection (see ``duplicates``).
"""

import argparse
import contextlib
import json
import multiprocessing
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import regex
import zstandard

from eliquare.corpus import compressed, duplicates
from eliquare.stage import InputError, existing, say, warn, whole_folder, write_json

FILE = "documents.jsonl.zst"
REASONS = ("redirect", "other_namespace", "short", "list", "exact_duplicate", "near_duplicate")
CHUNK = 32  # documents that a worker prepares at a time

# A line of running text is at least this long, counted in letters; a letter of a script without
# spaces stands for about two.
LINE_LETTERS = 40
LETTERS = regex.compile(r"[\p{L}\p{M}]+")
WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+")
BULLETS = ("*", "#", "- ", "•", "·", ":", ";", "|", "!")
UNWRITABLE = regex.compile(r"[\p{Cs}\x00-\x08\x0b-\x1f\x7f]")


class Document(NamedTuple):
    """One text of a corpus; paragraphs are lines."""

    id: str
    title: str
    text: str


class Filter(NamedTuple):
    """What is dropped: texts of fewer than ``min_characters``, lists, duplicates."""

    min_characters: int = 100
    lists: bool = True
    near_duplicates: bool = True


class Prepared(NamedTuple):
    """A document ready to be written, as a worker returns it."""

    reason: str | None
    line: bytes = b""
    characters: dict[str, int] | None = None
    text_key: int = 0
    band_keys: tuple[int, ...] = ()


@dataclass
class Report:
    """What became of a corpus: the content of ``report.json``."""

    source: str
    pages: int = 0
    documents: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    characters: int = 0
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Print a warning and keep it in the report."""
        warn(message)
        self.warnings.append(message)

    def summary(self) -> str:
        """One line for people."""
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items() if n)
        return f"{self.documents:,} of {self.pages:,} kept; dropped: {dropped or 'none'}"


def read(folder: str | Path) -> Iterator[Document]:
    """The documents of a folder in their order; InputError if it is missing or damaged."""
    path = existing(Path(folder) / FILE, "documents file (made by a stage of eliquare.corpus)")
    for number, line in enumerate(compressed.lines(path), start=1):
        try:
            row = json.loads(line)
            yield Document(row["id"], row["title"], row["text"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f'{path}, line {number}: expected a JSON object with "id", "title" and "text"'
            ) from None


def is_list(text: str) -> bool:
    """Whether most lines, and with them most of the text, are entries rather than running text."""
    lines = text.split("\n")
    running = [line for line in lines if is_running_text(line)]
    return 2 * len(running) < len(lines) and 2 * sum(map(len, running)) < len(text)


def is_running_text(line: str) -> bool:
    """Whether a line is long enough, mostly letters, and no entry of a list."""
    start = line[:200].strip()
    if start.startswith(BULLETS):
        return False
    letters = len("".join(LETTERS.findall(start)))
    return 2 * letters >= len(start) - start.count(" ") and (
        letters + len("".join(WIDE.findall(start))) >= LINE_LETTERS
    )


def prepare(document: Document, settings: Filter) -> Prepared:
    """Judge one document by itself and make its line and its keys."""
    text = UNWRITABLE.sub("", document.text).strip()
    if len(text) < max(settings.min_characters, 1):
        return Prepared("short")
    if settings.lists and is_list(text):
        return Prepared("list")
    row = {"id": document.id, "title": UNWRITABLE.sub("", document.title), "text": text}
    return Prepared(
        None,
        json.dumps(row, ensure_ascii=False).encode() + b"\n",
        dict(Counter(text)),
        duplicates.text_key(text),
        duplicates.band_keys(text) if settings.near_duplicates else (),
    )


def write(
    folder: str | Path,
    items: Iterable[Any],
    report: Report,
    settings: Filter,
    *,
    to_document: Any = None,
    processes: int = 1,
    min_documents: int = 1,
    max_documents: int = 0,
) -> Report:
    """Filter documents and write them as a documents folder, whole or not at all.

    Args:
        folder: where to write.
        items: documents, or anything that ``to_document`` (a function of a module, called in the
            workers) turns into one. Counts that ``items`` itself adds to ``report`` are kept.
        processes: workers; the output does not depend on them.
        min_documents: fewer than that raise InputError with the counts.
        max_documents: stop after so many kept documents; 0 for all.
    """
    characters: Counter[str] = Counter()
    known = duplicates.Duplicates()
    with whole_folder(folder) as beside:
        with (
            (beside / FILE).open("wb") as file,
            zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file) as out,
            contextlib.closing(_prepared(items, settings, to_document, processes)) as stream,
        ):
            for prepared in stream:
                reason = prepared.reason or known.reason(prepared.text_key, prepared.band_keys)
                report.pages += 1
                if reason:
                    report.dropped[reason] += 1
                    continue
                report.documents += 1
                out.write(prepared.line)
                characters.update(prepared.characters)
                if report.documents == max_documents:
                    break
        if report.documents < max(min_documents, 1):
            kind = "an empty corpus" if not report.documents else "too small a corpus"
            needed = f"; --min-documents asks for {min_documents}" if min_documents > 1 else ""
            raise InputError(f"{report.source}: {kind}: {report.summary()}{needed}")
        finish(beside, report, characters)
    say(f"{report.source}: {report.summary()}")
    return report


def finish(folder: Path, report: Report, characters: dict[str, int]) -> None:
    """Write the report and the character counts beside the documents."""
    report.characters = sum(characters.values())
    ordered = sorted(characters.items(), key=lambda pair: (-pair[1], pair[0]))
    write_json(folder / "characters.json", dict(ordered))
    write_json(folder / "report.json", vars(report))


def _prepared(
    items: Iterable[Any], settings: Filter, to_document: Any, processes: int
) -> Iterator[Prepared]:
    """Prepare items in worker processes, in order, with a bounded number of chunks under way."""
    items = iter(items)
    chunks = iter(lambda: list(islice(items, CHUNK)), [])
    if processes < 2:
        for chunk in chunks:
            yield from _prepare_chunk(chunk, settings, to_document)
        return
    # A forked child of a process with threads may hang; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting: deque = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_prepare_chunk, chunk, settings, to_document))
                if len(waiting) > 3 * processes:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare_chunk(chunk: list, settings: Filter, to_document: Any) -> list[Prepared]:
    documents = map(to_document, chunk) if to_document else chunk
    return [prepare(document, settings) for document in documents]


def add_filter_options(
    parser: argparse.ArgumentParser, min_characters: int = 100, min_documents: int = 1
) -> None:
    """The options that all corpus stages share."""
    parser.add_argument("--output", required=True, help="documents folder to write")
    parser.add_argument(
        "--min-characters",
        type=int,
        default=min_characters,
        help="drop documents with fewer characters of text (default %(default)s)",
    )
    parser.add_argument(
        "--min-documents",
        type=int,
        default=min_documents,
        help="refuse a corpus that leaves fewer documents (default %(default)s)",
    )
    parser.add_argument(
        "--near-duplicates",
        choices=["yes", "no"],
        default="yes",
        help="drop near-exact duplicates too, not exact ones alone (default %(default)s)",
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="worker processes (default %(default)s)"
    )
    parser.add_argument(
        "--max-documents",
        type=int,
        default=0,
        help="stop after so many kept documents; 0 for all (default %(default)s)",
    )


def chosen_filter(arguments: argparse.Namespace, lists: bool) -> Filter:
    """The filter that the shared options ask for."""
    return Filter(arguments.min_characters, lists, arguments.near_duplicates == "yes")
