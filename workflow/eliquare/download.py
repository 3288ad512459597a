"""Download files from a web host, or from a folder with the host's paths: complete, or resumed.

An interrupted download is kept as ``.partial`` and resumed where its checksum is known; its name
has the first digits of the checksum, so that the beginning of another file is never continued.
"""

import hashlib
import io
import logging
import os
import shutil
import time
from pathlib import Path
from typing import IO, NamedTuple

import requests

from eliquare.io import InputError, progress

BLOCK_BYTES = 1 << 16  # what a broken connection can lose of what came
SECONDS_WITHOUT_DATA = 60
LONGEST_PAUSE = 60.0
HEADERS = {"User-Agent": "eliquare (a research workflow)", "Accept-Encoding": "identity"}
# A connection that breaks looks like this; anything else is an answer.
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)

logger = logging.getLogger(__name__)


class Unreachable(InputError):
    """A host that does not answer, refuses, or broke off."""


class Checksum(NamedTuple):
    """What a file's checksum must be, who says so ("the host lists"), and what to do otherwise."""

    algorithm: str
    value: str
    said: str
    advice: str

    def of(self, path: Path) -> str:
        """Return this kind of checksum of a file."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, self.algorithm).hexdigest()

    def refuse(self, place: str | Path, found: str) -> InputError:
        """Return the error of a file with another checksum."""
        differ = f"{self.algorithm} {found}, {self.said} {self.value}"
        return InputError(f"{place}: wrong checksum: {differ}; {self.advice}")


class Host:
    """A web host, or a folder with the same paths."""

    def __init__(self, address: str, retries: int, advice: str) -> None:
        self.root = address.rstrip("/")
        self.retries = retries
        self.advice = advice
        self.unreachable = f"cannot be reached; {advice}"
        self.session: requests.Session | None = None
        if address.startswith(("http://", "https://")):
            self.session = requests.Session()
            self.session.headers.update(HEADERS)

    def download(self, path: str, output: Path, expected: Checksum | None = None) -> bool:
        """Write a file, complete and with the right checksum; return False if it is not there.

        Raises InputError, with nothing left on the disk, for another checksum, and Unreachable for
        a page instead of a file.
        """
        output.parent.mkdir(parents=True, exist_ok=True)
        mark = f".{expected.value[:8]}" if expected else ""
        partial = output.with_name(f"{output.name}{mark}.partial")
        while True:
            with partial.open("ab" if expected else "wb") as file:
                resumed = file.tell() > 0
                is_there = self.fetch(path, file, str(partial) if expected else "")
            if not is_there:
                partial.unlink()
                return False
            if is_page(partial):
                partial.unlink()
                page = "an HTML page instead of a file (of a login, or of an error?)"
                raise Unreachable(f"{self.root}/{path}: {page}; {self.advice}")
            found = expected.of(partial) if expected else None
            if expected is None or found == expected.value:
                os.replace(partial, output)
                return True
            partial.unlink()
            if not resumed:
                raise expected.refuse(f"{self.root}/{path}", str(found))
            logger.info("%s: wrong checksum; starting again", partial)

    def text(self, path: str) -> str:
        """Return the content of a small text file; nothing if there is no such file."""
        content = io.BytesIO()
        self.fetch(path, content)
        return content.getvalue().decode("utf-8", errors="replace")

    def fetch(self, path: str, file: IO[bytes], name: str = "") -> bool:
        """Write to ``file`` what it lacks of a file; return False if there is no such file.

        A broken connection is tried again; Unreachable after ``retries`` tries without progress.
        ``name`` is the path of ``file`` if what came is kept there, to resume.
        """
        address = f"{self.root}/{path}"
        if self.session is None:
            if not Path(address).is_file():
                return False
            file.seek(0)
            file.truncate()
            with Path(address).open("rb") as content:
                shutil.copyfileobj(content, file)
            return True
        failures, reached, total = 0, file.tell(), 0
        while True:
            have = file.tell()
            headers = {"Range": f"bytes={have}-"} if have else {}
            try:
                with self.session.get(
                    address, headers=headers, stream=True, timeout=SECONDS_WITHOUT_DATA
                ) as response:
                    if response.status_code == requests.codes.requested_range_not_satisfiable:
                        return True  # nothing is missing, or it is another file: the checksum says
                    if not self.is_there(response):
                        return False
                    if response.status_code == requests.codes.partial_content:
                        logger.info("%s: resumed at %s bytes", name or address, f"{have:,}")
                    else:
                        have = file.seek(0)
                        file.truncate()
                    length = int(response.headers.get("Content-Length", 0))
                    total = have + length if length else 0
                    blocks = response.iter_content(BLOCK_BYTES)
                    expected = -(-length // BLOCK_BYTES) or None
                    for block in progress(blocks, name or address, expected, "blocks of 64 KiB"):
                        file.write(block)
                return True
            except BROKEN as error:
                if file.tell() > reached:
                    failures, reached = 0, file.tell()
                if failures == self.retries:
                    reason = interrupted(file.tell(), total, name) or self.unreachable
                    raise Unreachable(f"{address}: {reason}") from error
            pause = min(2.0**failures, LONGEST_PAUSE)
            failures += 1
            logger.info("%s: connection broke; trying again in %.0f s", address, pause)
            time.sleep(pause)

    def is_there(self, response: requests.Response) -> bool:
        """Return whether the file is there; what may change later is a broken connection."""
        status = response.status_code
        if status in (requests.codes.not_found, requests.codes.gone):
            return False
        if status == requests.codes.too_many_requests or status >= 500:
            raise requests.ConnectionError(f"the host answers {status}")
        if not response.ok:
            reason = f"the host answers {status} {response.reason}"
            raise Unreachable(f"{response.url}: {reason}; {self.advice}")
        return True


def interrupted(size: int, total: int, name: str) -> str:
    """Return what is said of a download that broke off; nothing if nothing came."""
    if not size:
        return ""
    said = f"interrupted download: {size:,}{f' of {total:,}' if total else ''} bytes"
    return f"{said} are kept in {name}; run the same command again to resume" if name else said


def is_page(path: Path) -> bool:
    """Return whether a file is an HTML page."""
    with path.open("rb") as file:
        begin = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return begin.startswith((b"<!doctype html", b"<html"))
