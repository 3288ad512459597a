"""Files that may be compressed (.gz, .bz2, .zst or plain), read as blocks or lines of bytes."""

import bz2
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

from eliquare.stage import InputError, existing

BLOCK = 1 << 20
ZSTANDARD_BLOCK = 1 << 16  # one block can unfold into thousands of times its size


def blocks(path: str | Path) -> Iterator[bytes]:
    """The decompressed bytes of a file, block by block, in constant memory.

    Several streams or frames one after the other, as Wikimedia and ``cat`` make them, are one file.
    Raises InputError if the file is missing, cut off or damaged.
    """
    path = existing(path, "file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file")
    try:
        if path.suffix == ".zst":
            yield from _zstandard_blocks(path)
            return
        opened = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
        with opened(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except EOFError:
        raise InputError(
            f"{path}: ends in the middle of the compressed data (an interrupted download?); "
            "fetch it again"
        ) from None
    except (OSError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None


def lines(path: str | Path) -> Iterator[bytes]:
    """The lines of a file without their newlines; raises InputError as ``blocks`` does."""
    rest = b""
    for block in blocks(path):
        *whole, rest = (rest + block).split(b"\n") if b"\n" in block else [rest + block]
        yield from whole
    if rest:
        yield rest


def _zstandard_blocks(path: Path) -> Iterator[bytes]:
    """As ``blocks``; EOFError where the last frame is not whole, which zstandard itself hides."""
    with path.open("rb") as file:
        frame = zstandard.ZstdDecompressor().decompressobj()
        begun = False
        data = file.read(ZSTANDARD_BLOCK)
        while data:
            begun = True
            if block := frame.decompress(data):
                yield block
            data = b""
            if frame.eof:
                data, begun = frame.unused_data, False
                frame = zstandard.ZstdDecompressor().decompressobj()
            data = data or file.read(ZSTANDARD_BLOCK)
        if begun:
            raise EOFError
