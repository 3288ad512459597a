"""Download files from a web host, or from a folder with the host's paths: complete, or resumed.

An interrupted download is kept as ``.partial`` and resumed where its checksum is known; its name
has the first digits of the checksum, so that the beginning of another file is never continued.
"""

import hashlib
import io
import logging
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import requests
import urllib3

from eliquare.io import Failure, InputError, disk_faults, progress, publish

BLOCK_BYTES = 1 << 16  # what a broken connection can lose of what came
SECONDS_WITHOUT_DATA = 60
# A connection that is slower over SECONDS_WITHOUT_DATA is as good as broken.
LEAST_BYTES_PER_SECOND = 1000
LONGEST_TEXT = 64 << 20  # the longest list of the hosts is below 1 MB
LONGEST_PAUSE = 60.0
HEADERS = {"User-Agent": "eliquare (a research workflow)", "Accept-Encoding": "identity"}
# A connection that breaks looks like this; anything else is an answer.
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.HTTPError,
)

logger = logging.getLogger(__name__)


class Unreachable(Failure):
    """A host that does not answer, refuses, or broke off."""


class TooSlow(requests.Timeout):
    """A connection below LEAST_BYTES_PER_SECOND."""


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
            advice = "what came is kept. Make room, then run the same command again"
            with disk_faults(partial, advice), partial.open("ab" if expected else "wb") as file:
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
                publish(partial, output)
                return True
            partial.unlink()
            if not resumed:
                raise expected.refuse(f"{self.root}/{path}", str(found))
            logger.info("%s: wrong checksum; starting again", partial)

    def text(self, path: str) -> str:
        """Return the content of a small text file; nothing if there is no such file."""
        content = io.BytesIO()
        self.fetch(path, content, longest=LONGEST_TEXT)
        return content.getvalue().decode("utf-8", errors="replace")

    def fetch(self, path: str, file: IO[bytes], name: str = "", longest: int | None = None) -> bool:
        """Write to ``file`` what it lacks of a file; return False if there is no such file.

        A broken connection is tried again; Unreachable after ``retries`` tries without progress.

        Args:
            path: the path below the host's address.
            file: what is there of it already.
            name: the path of ``file`` if what came is kept there, to resume.
            longest: the most bytes that are read; InputError for more.
        """
        address = f"{self.root}/{path}"
        if self.session is None:
            return copy_file(Path(address), file)
        failures, reached, total, encoded = 0, file.tell(), 0, False
        while True:
            have = file.tell()
            try:
                with self.ask(address, have) as response:
                    if response.status_code == requests.codes.requested_range_not_satisfiable:
                        return True  # nothing is missing, or it is another file: the checksum says
                    if not self.is_there(response):
                        return False
                    encoded = is_encoded(response)
                    is_part = response.status_code == requests.codes.partial_content
                    if is_part and (encoded or begin_of(response) != have):
                        start_over(file)
                        raise requests.ConnectionError("the host answers another part")
                    if is_part and have:
                        logger.info("%s: resumed at %s bytes", name or address, f"{have:,}")
                    elif have:
                        have = start_over(file)
                    length = 0 if encoded else length_of(response)
                    total = have + length if length else 0
                    expected = -(-length // BLOCK_BYTES) or None
                    blocks = blocks_of(response, longest)
                    for block in progress(blocks, name or address, expected, "blocks of 64 KiB"):
                        file.write(block)
                return True
            except BROKEN as error:
                if encoded:
                    start_over(file)  # no part of it can be asked for
                if file.tell() > reached and not isinstance(error, TooSlow):
                    failures, reached = 0, file.tell()
                if failures == self.retries:
                    reason = interrupted(file.tell(), total, name) or self.unreachable
                    raise Unreachable(f"{address}: {reason}") from error
            pause = min(2.0**failures, LONGEST_PAUSE)
            failures += 1
            logger.info("%s: connection broke; trying again in %.0f s", address, pause)
            time.sleep(pause)

    def ask(self, address: str, have: int) -> requests.Response:
        """Return the host's answer to the question for a file from byte ``have`` on.

        Raises InputError for an address, a redirection or a proxy that is of no use.
        """
        assert self.session is not None
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            return self.session.get(
                address, headers=headers, stream=True, timeout=SECONDS_WITHOUT_DATA
            )
        except BROKEN:
            raise
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{address}: {reason}; {self.advice}") from None

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


def copy_file(source: Path, file: IO[bytes]) -> bool:
    """Write a file's content to another that is open; return False if there is no such file."""
    if not source.is_file():
        return False
    start_over(file)
    with source.open("rb") as content:
        shutil.copyfileobj(content, file)
    return True


def begin_of(response: requests.Response) -> int | None:
    """Return at which byte of the file an answer says that it begins."""
    begin = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""), re.ASCII)
    return int(begin[1]) if begin else None


def is_encoded(response: requests.Response) -> bool:
    """Return whether what comes is compressed on the way, so that bytes count otherwise."""
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"


def length_of(response: requests.Response) -> int:
    """Return how many bytes come, 0 where the host does not say."""
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else 0


def start_over(file: IO[bytes]) -> int:
    """Empty a file; return where it is then."""
    file.seek(0)
    file.truncate()
    return 0


def blocks_of(response: requests.Response, longest: int | None) -> Iterator[bytes]:
    """Yield what comes, decoded; raise TooSlow below LEAST_BYTES_PER_SECOND.

    Raises InputError where more than ``longest`` bytes come.
    """
    begun, since, came = time.monotonic(), 0, 0
    block = bytearray()
    while part := response.raw.read1(BLOCK_BYTES - len(block), decode_content=True):
        block += part
        came += len(part)
        if len(block) == BLOCK_BYTES:
            yield bytes(block)
            block.clear()
        if longest is not None and came > longest:
            raise InputError(f"{response.url}: more than {longest:,} bytes; not the list expected")
        seconds = time.monotonic() - begun
        if seconds > SECONDS_WITHOUT_DATA:
            if came - since < LEAST_BYTES_PER_SECOND * seconds:
                raise TooSlow(f"below {LEAST_BYTES_PER_SECOND} bytes per second")
            begun, since = time.monotonic(), came
    yield bytes(block)


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
