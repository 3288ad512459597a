"""Take files out of a .zip or .tar.gz archive, which is not trusted."""

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from eliquare.io import Failure, InputError, disk_fault

# A member of an archive, and all that is read to find it, unpacked.
MOST_BYTES, MOST_BYTES_READ = 4 << 30, 40 << 30
BLOCK_BYTES = 1 << 20
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError),
)


def unpacked(archive: Path, members: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return copies of members of an archive, in a folder, under names of our own.

    Nothing else is unpacked, and no path of the archive is used. Raises InputError for an archive
    with a path that leaves its folder, for a link in place of a file, and for absurd sizes.
    """
    wanted = {str(PurePosixPath(member)): member for member in members}
    copies: dict[str, Path] = {}
    names = []
    read = 0
    try:
        for name, size, is_file, open_member in archive_members(archive):
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
                raise InputError(
                    f"{archive.name}: the path {name!r} in it leaves the archive's folder; this is "
                    "no archive to trust"
                )
            names.append(str(path))
            read += size
            member = wanted.get(str(path))
            if size > MOST_BYTES or read > MOST_BYTES_READ:
                raise InputError(
                    f"{archive.name}: {name!r} in it is absurdly large ({size:,} bytes)"
                )
            if member is None:
                continue
            if not is_file:
                raise InputError(
                    f"{archive.name}: {name!r} in it is a link or a folder, not a file"
                )
            copies[member] = folder / f"{len(copies) + 1}-{path.name}"
            with open_member() as source, copies[member].open("wb") as target:
                copy_at_most(source, target, f"{archive.name}: {name!r}")
    except DAMAGED as error:
        if reason := disk_fault(error):
            raise Failure(f"{folder}: cannot be written ({reason}); make room there") from None
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{archive.name}: not an intact .zip or .tar.gz archive ({reason}); fetch it again"
        ) from None
    for member in members:
        if member not in copies:
            close = get_close_matches(member, names, n=3, cutoff=0.3)
            near = f"; near to it: {', '.join(close)}" if close else ""
            raise InputError(f"{archive.name}: no file {member!r} in it{near}")
    return copies


def archive_members(
    archive: Path,
) -> Iterator[tuple[str, int, bool, Callable[[], IO[bytes]]]]:
    """Yield (path, size, whether it is a plain file, how to open it) of each member."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as content:
            for entry in content.infolist():
                # A link in a zip file says so in the Unix mode.
                is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
                is_file = not is_link and not entry.is_dir()
                yield entry.filename, entry.file_size, is_file, partial(content.open, entry)
        return
    with tarfile.open(archive, "r|*") as stream:
        for each in stream:

            def open_member(member: tarfile.TarInfo = each) -> IO[bytes]:
                file = stream.extractfile(member)
                assert file is not None
                return file

            yield each.name, each.size, each.isreg(), open_member


def copy_at_most(source: IO[bytes], target: IO[bytes], name: str) -> None:
    """Copy a file; raise InputError where it is too large, whatever size the archive lists."""
    size = 0
    while block := source.read(BLOCK_BYTES):
        size += len(block)
        if size > MOST_BYTES:
            raise InputError(f"{name} in it is absurdly large (more than {MOST_BYTES:,} bytes)")
        target.write(block)
