"""The documents folder: what every corpus becomes; its filter, its writer and its reader.

``documents.jsonl.zst`` holds one JSON object per line (id, title, text); ``report.json`` how many
documents were kept, and how many dropped for which reason; ``characters.json`` how often each
character occurs in kept text. Memory is constant but for the keys of duplicate detection.
"""

import codecs
import contextlib
import itertools
import json
import logging
import lzma
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import regex
import xopen
import xxhash
import zstandard
from pydantic import Field

from eliquare.cli import Options
from eliquare.config.corpus import DocumentFilter
from eliquare.corpus import identify
from eliquare.corpus.extractor import SHARED_MEMORY
from eliquare.io import (
    Failure,
    InputError,
    atomic_dir,
    existing,
    existing_file,
    read_json,
    write_json,
)

FILE = "documents.jsonl.zst"
OTHER_LANGUAGE = "other_language"
REASONS = ("redirect", "other_namespace", "short", "list", "exact_duplicate", "near_duplicate")
BLOCK_BYTES = 1 << 20
TEXT_CHARACTERS = 50_000_000  # of one document, so that memory has a limit
LINE_BYTES = 1 << 28
# Files that start so hold other files.
ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"PK\x03\x04": "zip", b"Rar!\x1a\x07": "rar"}
CHUNK = 32  # documents that a worker prepares at a time

# A line of running text is at least this long, counted in letters; a letter of a script without
# spaces stands for about two.
LINE_LETTERS = 40
SENTENCE_WORDS = 4  # of a shorter line that ends as sentences do
FULL_STOPS = (".", "!", "?", "…", "。", "।", "॥", "؟", "۔", "።", "։", "၊", "။", "។")
LETTERS = regex.compile(r"[\p{L}\p{M}]+")
WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+")
BULLETS = ("*", "#", "- ", "•", "·", ":", ";", "|")
# Control characters: those that part words become spaces, the others go.
SEPARATORS = b"\x0b\x0c\r\x1c\x1d\x1e\x1f"
TO_SPACES = bytes.maketrans(SEPARATORS, b" " * len(SEPARATORS))
CONTROLS = bytes({*range(0x20), 0x7F} - {*b"\t\n", *SEPARATORS})
SURROGATES = regex.compile(r"\p{Cs}")
ZstdError: type[Exception] = xopen.zstd.ZstdError  # type: ignore[attr-defined]
TO_JSON = json.JSONEncoder(ensure_ascii=False).encode

SHINGLE_WORDS = 5
BANDS = 8
BAND_ROWS = 16
SHINGLES_AT_ONCE = 512  # with 128 hashes each they fit a cache
RANDOM = np.random.RandomState(1)  # the generator whose numbers never change
FACTORS = RANDOM.randint(0, 2**31, BANDS * BAND_ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
SUMMANDS = RANDOM.randint(0, 2**32, BANDS * BAND_ROWS, dtype=np.uint32)
# Scripts that write no spaces between words count each character as a word.
WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}]+"
)
# A word, or another character that is no space.
UNIT = regex.compile(rf"{WORD.pattern}|\S")

logger = logging.getLogger(__name__)


class CorpusOptions(Options, DocumentFilter):
    """Options that all stages share that make a documents folder of a source."""

    identify: str | None = Field(
        None, description="Drop documents that are identified as another language than this code."
    )
    processes: int = Field(1, ge=1, description="Worker processes; the documents are the same.")
    output: Path = Field(description="Documents folder to write.")


class Document(NamedTuple):
    """One text of a corpus; paragraphs are lines."""

    id: str
    title: str
    text: str


class Dropped(NamedTuple):
    """A document that is not to be had: the reason, and a warning that names it."""

    reason: str
    warning: str


class Read(NamedTuple):
    """What was read of one item of a source, and how many parts of it were left out, by kind."""

    document: Document | Dropped
    dropped_parts: Mapping[str, int]


@dataclass
class Report:
    """What became of a corpus: the contents of ``report.json``."""

    source: str
    pages: int = 0
    documents: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    # Parts of the pages that were read, kept or not: list items, tables, templates, ...
    dropped_parts: dict[str, int] = field(default_factory=dict)
    characters: int = 0
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Log a warning and keep it in the report."""
        logger.warning("warning: %s", message)
        self.warnings.append(message)

    def summary(self) -> str:
        """Return one line for people."""
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items() if n)
        return f"{self.documents:,} of {self.pages:,} kept; dropped: {dropped or 'none'}"


# Reading.


def read(folder: str | Path) -> Iterator[Document]:
    """Yield the documents of a folder in order; InputError if it is missing or damaged."""
    path = existing(Path(folder) / FILE, "documents file (made by a stage of eliquare corpus)")
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
            yield Document(row["id"], row["title"], row["text"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f'{path}, line {number}: expected a JSON object with "id", "title" and "text"'
            ) from None


def sample_texts(source: str | Path, number: int) -> Iterator[str]:
    """Yield at most ``number`` texts at equal distances, in their order.

    ``source`` is a documents folder, or a text file with one text per line.
    """
    source = existing(source, "documents folder or text file")
    if source.is_dir():
        total = read_json(source / "report.json")["documents"]
        texts = (document.text for document in read(source))
    else:
        total = sum(1 for _ in read_lines(source))
        texts = (line.strip() for line in utf8_lines(source))
    return itertools.islice(texts, 0, None, max(1, -(-total // number)))


def utf8_lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; InputError names the line and byte that are not UTF-8."""
    for number, raw in enumerate(read_lines(path), start=1):
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        if len(line) > TEXT_CHARACTERS:
            raise InputError(
                f"{path}, line {number}: {len(line):,} bytes; expected lines of text of at most "
                f"{TEXT_CHARACTERS:,}"
            )
        try:
            yield line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}, byte {error.start + 1}: not UTF-8 ({error.reason}); "
                "convert the file with iconv"
            ) from None


def read_lines(path: str | Path) -> Iterator[bytes]:
    """Yield the lines of a file without their newlines; raise InputError as ``read_blocks``.

    Also for a line of more than LINE_BYTES, which memory must not depend on.
    """
    begun: list[bytes] = []  # the parts of a line whose end has not come
    size = 0
    for block in read_blocks(path):
        begin, *others = block.split(b"\n")
        begun.append(begin)
        size += len(begin)
        if size > LINE_BYTES:
            raise InputError(
                f"{path}: has a line of more than {LINE_BYTES >> 20} MiB; expected lines of text"
            )
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun, size = [others[-1]], len(others[-1])
    if size:
        yield b"".join(begun)


def read_blocks(path: str | Path) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed if its name ends in .gz, .bz2, .xz or .zst.

    Several streams or frames one after the other, as Wikimedia and ``cat`` make them, are one file.
    Raises InputError if the file is missing, truncated, damaged or an archive.
    """
    path = existing_file(path)
    try:
        # Without threads the library decompresses by itself: the zstd program hides a truncation.
        with path.open("rb") as raw:
            require_no_archive(path, raw.read(8))
        with xopen.xopen(path, "rb", threads=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except EOFError:
        raise InputError(
            f"{path}: ends in the middle of the compressed data (an interrupted download?); "
            "fetch it again"
        ) from None
    except (OSError, zlib.error, lzma.LZMAError, ZstdError) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None


def require_no_archive(path: Path, begin: bytes) -> None:
    """Raise InputError if a file that begins so is an archive, by its name."""
    for magic, kind in ARCHIVES.items():
        if begin.startswith(magic):
            raise InputError(
                f"{path}: is a {kind} archive, which is not read; unpack it and give the file in "
                "it, plain or as .gz, .bz2, .xz or .zst"
            )


# Writing.


def write(
    options: CorpusOptions,
    items: Iterable[Any],
    report: Report,
    read_items: Callable[[Iterable[Any]], Iterator[Read]] | None = None,
    drop_lists: bool = False,
) -> None:
    """Filter documents and write them as a documents folder, complete or not at all.

    Args:
        options: What is dropped, and where to write.
        items: Documents, or what ``read_items`` (called in the workers) reads them in, in order.
        report: Takes the counts; those that ``items`` itself adds are kept.
        read_items: See items.
        drop_lists: Whether texts that are lists are dropped.

    Raises:
        InputError: Fewer than ``options.min_documents`` are left.
    """
    if options.identify:
        identify.require_known(options.identify)
        report.dropped[OTHER_LANGUAGE] = 0
    characters = np.zeros(0x110000, dtype=np.int64)
    known = [KeySet() for _ in range(1 + BANDS)]
    judge = partial(prepare, options, drop_lists, read_items)
    with atomic_dir(options.output) as folder:
        with (
            open_for_writing(folder) as file,
            contextlib.closing(in_order(judge, items, options.processes)) as documents,
        ):
            for document in documents:
                report.pages += 1
                if document.warning:
                    report.warn(document.warning)
                for part, number in document.dropped_parts.items():
                    report.dropped_parts[part] = report.dropped_parts.get(part, 0) + number
                if reason := document.reason or duplicate(known, document.keys):
                    report.dropped[reason] += 1
                    continue
                report.documents += 1
                file.write(document.line)
                characters[document.characters] += document.character_counts
                if report.documents == options.max_documents:
                    break
        if report.documents < options.min_documents:
            kind = "too small a corpus" if report.documents else "an empty corpus"
            raise InputError(
                f"{report.source}: {kind}: {report.summary()}; "
                f"--min-documents asks for {options.min_documents}"
            )
        occurring = np.flatnonzero(characters)
        finish(folder, report, {chr(code): int(characters[code]) for code in occurring})


def open_for_writing(folder: Path) -> IO[bytes]:
    """Open the documents file of a folder to write lines to."""
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    file: IO[bytes] = zstandard.open(folder / FILE, "wb", cctx=compressor)
    return file


def finish(folder: Path, report: Report, characters: Mapping[str, int]) -> None:
    """Write the report and the character counts beside the documents."""
    report.characters = sum(characters.values())
    ordered = sorted(characters.items(), key=lambda pair: (-pair[1], pair[0]))
    write_json(folder / "characters.json", dict(ordered))
    rows = asdict(report)
    if not report.dropped_parts:
        del rows["dropped_parts"]
    write_json(folder / "report.json", rows)
    logger.info("%s: %s", report.source, report.summary())


# Judging documents one by one, which several processes may do.

NONE = np.zeros(0, dtype=np.int64)


class Prepared(NamedTuple):
    """A document ready to be written, or the reason why it is dropped.

    ``characters[distinct]`` are code points, and ``character_counts[distinct]`` how often each
    occurs; ``keys`` are those of duplicate detection, the first one that of the complete text.
    """

    reason: str | None
    line: bytes = b""
    characters: npt.NDArray[np.int64] = NONE
    character_counts: npt.NDArray[np.int64] = NONE
    keys: tuple[int, ...] = ()
    warning: str = ""
    dropped_parts: Mapping[str, int] = MappingProxyType({})


Judge = Callable[[Iterable[Any]], Iterator[Prepared]]


def in_order(judge: Judge, items: Iterable[Any], processes: int) -> Generator[Prepared, None, None]:
    """Judge items in worker processes, in order, with a bounded number of chunks under way."""
    if processes < 2:
        yield from judge(items)
        return
    items = iter(items)
    with killed_is_failure(), workers(processes) as pool:
        waiting: deque[Future[list[Prepared]]] = deque()
        while chunk := list(itertools.islice(items, CHUNK)):
            waiting.append(pool.submit(prepare_list, judge, chunk))
            if len(waiting) > 3 * processes:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def workers(processes: int) -> ProcessPoolExecutor:
    """Return worker processes; raise Failure where they find no shared memory."""
    # A forked child of a process with threads may hang; one forked from a server starts clean, and
    # has this room imported.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eliquare.corpus.wikipedia"])
    try:
        return ProcessPoolExecutor(processes, context, initializer=end_with_parent)
    except OSError as error:
        raise Failure(f"worker processes cannot start ({error}); {SHARED_MEMORY}") from None


def end_with_parent() -> None:
    """End this worker when its parent ends, which a killed one does without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, interrupted too, ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def wait() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def killed_is_failure() -> Iterator[None]:
    """Raise Failure where a worker was killed."""
    try:
        yield
    except BrokenProcessPool:
        raise Failure(
            "a worker process was killed, as it happens where memory runs out; give the job more "
            "memory or fewer --processes"
        ) from None


def prepare(
    options: CorpusOptions,
    drop_lists: bool,
    read_items: Callable[[Iterable[Any]], Iterator[Read]] | None,
    items: Iterable[Any],
) -> Iterator[Prepared]:
    """Judge documents one by one, and make their lines and keys."""
    for read in read_items(items) if read_items else (Read(item, {}) for item in items):
        yield prepare_one(options, drop_lists, *read)


def prepare_list(judge: Judge, items: list[Any]) -> list[Prepared]:
    """Judge a chunk of items."""
    return list(judge(items))


def prepare_one(
    options: CorpusOptions,
    drop_lists: bool,
    document: Document | Dropped,
    parts: Mapping[str, int],
) -> Prepared:
    """Judge one document by itself, and make its line and its keys."""
    if isinstance(document, Dropped):
        return Prepared(document.reason, warning=document.warning)
    text = writable(document.text).strip()
    if len(text) < options.min_characters:
        return Prepared("short", dropped_parts=parts)
    if drop_lists and is_list(text):
        return Prepared("list", dropped_parts=parts)
    if options.identify and identify.is_another_language(text, options.identify):
        return Prepared(OTHER_LANGUAGE, dropped_parts=parts)
    row = {"id": document.id, "title": writable(document.title), "text": text}
    counts = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"))
    characters = np.flatnonzero(counts)
    bands = band_keys(text) if options.near_duplicates else ()
    line = TO_JSON(row).encode() + b"\n"
    keys = (text_key(text), *bands)
    return Prepared(None, line, characters, counts[characters], keys, dropped_parts=parts)


def writable(text: str) -> str:
    """Return the text without control characters and surrogates; what parts words is a space."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        encoded = SURROGATES.sub("", text).encode()
    return encoded.replace(b"\r\n", b"\n").translate(TO_SPACES, CONTROLS).decode()


def is_list(text: str) -> bool:
    """Return whether most lines, and with them most of the text, are no running text."""
    lines = text.split("\n")
    running = characters = 0
    for line in sorted(lines, key=len, reverse=True):  # few of the longest hold most of the text
        if is_running_text(line):
            running += 1
            characters += len(line)
            if 2 * running >= len(lines) or 2 * characters >= len(text):
                return False
    return True


def is_running_text(line: str) -> bool:
    """Return whether a line is mostly letters and long, or a sentence, and no entry of a list."""
    is_sentence = line.endswith(FULL_STOPS)
    if 2 * len(line) < LINE_LETTERS and not is_sentence:
        return False
    start = line[:200].strip()
    if start.startswith(BULLETS):
        return False
    letters = len("".join(LETTERS.findall(start)))
    if 2 * letters < len(start) - start.count(" "):
        return False
    if letters >= LINE_LETTERS or letters + len("".join(WIDE.findall(start))) >= LINE_LETTERS:
        return True
    return is_sentence and len(start.split()) >= SENTENCE_WORDS


# Duplicates, exact and nearly so.
#
# A document is told apart by 64-bit keys: one of its complete text, and one for each of 8 bands of
# 16 values of its MinHash over shingles of 5 words (Broder 1997; banding as in Leskovec, Rajaraman
# & Ullman, "Mining of Massive Datasets", chapter 3). Two documents that share a band are
# near-duplicates: of pairs with Jaccard similarity 0.95, 99% are found; of 0.9, 81%; of 0.8, 20%;
# of 0.7, 3%.


def text_key(text: str) -> int:
    """Return a 64-bit key of the text, white space aside."""
    return int(xxhash.xxh3_64_intdigest(" ".join(text.split()).encode()))


def band_keys(text: str) -> tuple[int, ...]:
    """Return the 64-bit keys of the bands of the text's MinHash."""
    words = WORD.findall(text.lower())
    joined = " ".join(words).encode()
    ends = list(itertools.accumulate(len(word) + 1 for word in joined.split(b" ")))
    begins = [0, *ends[:-SHINGLE_WORDS]]  # one shingle of fewer words in a shorter text
    shingles = zip(begins, ends[SHINGLE_WORDS - 1 :] or ends[-1:], strict=True)
    hashes = [xxhash.xxh32_intdigest(joined[begin : end - 1]) for begin, end in shingles]
    bands = min_hashes(np.array(hashes, dtype=np.uint32)).astype("<u8").reshape(BANDS, BAND_ROWS)
    return tuple(xxhash.xxh3_64_intdigest(band.tobytes()) for band in bands)


def min_hashes(hashes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the least of ``hashes[n]`` under each of 128 permutations: those of datasketch 2.

    Written out, since its import takes longer than a small corpus, and a newer version could make
    other keys. Each permutation is a mixing (MurmurHash3's last step), then a * h + b modulo 2^32.
    """
    mixed = hashes ^ hashes >> 16
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> 13
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> 16
    least = np.full(BANDS * BAND_ROWS, 2**32 - 1, dtype=np.uint32)
    for begin in range(0, len(mixed), SHINGLES_AT_ONCE):
        permuted = mixed[begin : begin + SHINGLES_AT_ONCE, None] * FACTORS + SUMMANDS
        np.minimum(least, permuted.min(axis=0), out=least)
    return least


class KeySet:
    """A set of 64-bit keys in 8 bytes per slot, a tenth of a set of Python integers.

    Open addressing with linear probing; the keys are hashes already. A slot of 0 is empty.
    """

    def __init__(self) -> None:
        self.size = 0
        self.slots = array("Q", bytes(8 << 10))

    def _slot(self, key: int) -> int:
        mask = len(self.slots) - 1
        slot = key & mask
        while self.slots[slot] not in (0, key):
            slot = (slot + 1) & mask
        return slot

    def __contains__(self, key: int) -> bool:
        return self.slots[self._slot(key or 1)] != 0

    def add(self, key: int) -> None:
        """Add a key."""
        slot = self._slot(key or 1)
        self.size += self.slots[slot] == 0
        self.slots[slot] = key or 1
        if self.size * 3 > len(self.slots) * 2:
            old = self.slots
            self.slots = array("Q", bytes(16 * len(old)))
            for present in old:
                if present:
                    self.slots[self._slot(present)] = present


def duplicate(known: list[KeySet], keys: tuple[int, ...]) -> str | None:
    """Return the reason to drop a document as a duplicate, or None: then its keys are remembered.

    ``known`` holds a set for the key of the complete text, and one for each band. They take 8 bytes
    per slot and are filled to at most two thirds: 2.5 million documents take 9 x 4.2 million slots
    = 0.3 GB; 10 million take 1.2 GB.
    """
    if keys[0] in known[0]:
        return "exact_duplicate"
    pairs = list(zip(known, keys, strict=False))  # without bands, of exact duplicates alone
    if any(key in same for same, key in pairs):
        return "near_duplicate"
    for same, key in pairs:
        same.add(key)
    return None
