"""Where dumps come from: a web host or a local folder with the host's paths."""

import json
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import requests

from eliquare.stage import InputError, progress, say

BLOCK = 1 << 16  # what a broken connection can lose of what came
SECONDS_WITHOUT_DATA = 60
LONGEST_PAUSE = 60
HEADERS = {"User-Agent": "eliquare (a research workflow)", "Accept-Encoding": "identity"}
DATE = re.compile(r"\d{8}")
# What a connection that breaks looks like; anything else is an answer.
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class Mirror(ABC):
    """A place that holds files under the paths of dumps.wikimedia.org."""

    root: str

    def address(self, path: str) -> str:
        """Where a path is, for messages."""
        return f"{self.root}/{path}"

    @abstractmethod
    def text(self, path: str) -> str | None:
        """The content of a small text file; None if there is no such file."""

    @abstractmethod
    def dates(self, wiki: str) -> list[str]:
        """The dates of a wiki's dumps, oldest first; empty if the mirror does not tell."""

    @abstractmethod
    def fetch(self, path: str, partial: Path) -> bool:
        """Bring a file to ``partial``, whole; False if there is no such file."""

    def forget(self, partial: Path) -> None:
        """Remove a partial file and what is remembered about it."""
        partial.unlink(missing_ok=True)
        _origin_of(partial).unlink(missing_ok=True)


def mirror_at(address: str, retries: int) -> Mirror:
    """The mirror at a web address or in a folder."""
    if address.startswith(("http://", "https://")):
        return WebMirror(address.rstrip("/"), retries)
    if "://" in address:
        raise InputError(f"--mirror {address}: expected https://..., http://... or a folder's path")
    if not Path(address).is_dir():
        raise InputError(f"--mirror {address}: no such folder")
    return FolderMirror(address.rstrip("/"))


class FolderMirror(Mirror):
    """A local folder with the host's paths."""

    def __init__(self, root: str) -> None:
        self.root = root

    def text(self, path: str) -> str | None:
        file = Path(self.root, path)
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def dates(self, wiki: str) -> list[str]:
        return sorted(f.name for f in Path(self.root, wiki).glob("*") if DATE.fullmatch(f.name))

    def fetch(self, path: str, partial: Path) -> bool:
        file = Path(self.root, path)
        if not file.is_file():
            return False
        shutil.copyfile(file, partial)
        return True


class WebMirror(Mirror):
    """A host that is asked over HTTP; broken connections are tried again."""

    def __init__(self, root: str, retries: int) -> None:
        self.root = root
        self.retries = retries
        self.session = requests.Session()
        self.session.headers.update(HEADERS)

    def text(self, path: str) -> str | None:
        for pause in self._pauses():
            try:
                answer = self.session.get(self.address(path), timeout=SECONDS_WITHOUT_DATA)
                if self._there(answer):
                    return answer.content.decode("utf-8", errors="replace")
                return None
            except BROKEN as error:
                self._wait(pause, path, error)
        raise AssertionError("the last try returns or raises")

    def dates(self, wiki: str) -> list[str]:
        page = self.text(f"{wiki}/") or ""
        return sorted(set(re.findall(r'href="(?:[^"]*/)?(\d{8})/?"', page)))

    def fetch(self, path: str, partial: Path) -> bool:
        pauses = self._pauses()
        reached = _size(partial)
        while True:
            try:
                return self._go_on(path, partial)
            except BROKEN as error:
                if _size(partial) > reached:
                    reached = _size(partial)
                    pauses = self._pauses()
                self._wait(next(pauses), path, error, partial)

    def _go_on(self, path: str, partial: Path) -> bool:
        """Fetch what is missing of a partial file, or all of it if the file has changed."""
        address = self.address(path)
        known = _origin(partial, address)
        have = _size(partial) if known else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and known["etag"]:
            headers["If-Range"] = known["etag"]
        with self.session.get(
            address, headers=headers, stream=True, timeout=SECONDS_WITHOUT_DATA
        ) as answer:
            if have and answer.status_code == 416:
                if _total(answer) == have:
                    return True
                return self._start_again(path, partial)
            if not self._there(answer):
                return False
            resumed = answer.status_code == 206
            total = _total(answer) if resumed else _length(answer)
            if resumed and (total != known["size"] or not _begins_at(answer, have)):
                return self._start_again(path, partial)
            if resumed:
                say(f"{partial.name}: going on at {have:,} of {total:,} bytes")
            else:
                have = 0
            etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            origin = {"url": address, "etag": "" if etag.startswith("W/") else etag, "size": total}
            _origin_of(partial).write_text(json.dumps(origin), encoding="utf-8")
            with partial.open("ab" if resumed else "wb") as file:
                blocks = answer.iter_content(BLOCK)
                expected = -(-(total - have) // BLOCK) if total else None
                for block in progress(blocks, partial.name, expected, "blocks of 64 KiB"):
                    file.write(block)
        if total is not None and _size(partial) < total:
            raise requests.ConnectionError(f"{_size(partial):,} of {total:,} bytes came")
        return True

    def _start_again(self, path: str, partial: Path) -> bool:
        say(f"{partial.name}: the file on the mirror has changed; starting again")
        self.forget(partial)
        return self._go_on(path, partial)

    def _there(self, answer: requests.Response) -> bool:
        """Whether the file is there; an answer that may be another later is a broken connection."""
        if answer.status_code in (404, 410):
            return False
        if answer.status_code == 429 or answer.status_code >= 500:
            raise requests.ConnectionError(f"the host answers {answer.status_code}")
        if not answer.ok:
            raise InputError(
                f"{answer.url}: the host answers {answer.status_code} {answer.reason}; "
                "check --mirror"
            )
        return True

    def _pauses(self) -> Iterator[float | None]:
        """Seconds to wait after each try; None after the last one."""
        yield from (min(2.0**n, LONGEST_PAUSE) for n in range(self.retries))
        yield None

    def _wait(
        self, pause: float | None, path: str, error: Exception, partial: Path | None = None
    ) -> None:
        if pause is not None:
            say(f"{self.address(path)}: connection broke; trying again in {pause:.0f} s")
            time.sleep(pause)
            return
        if partial is None or not _size(partial):
            why = "cannot be reached; check the connection and --mirror"
        else:
            size = json.loads(_origin_of(partial).read_text(encoding="utf-8"))["size"]
            of_total = f" of {size:,}" if size else ""
            why = (
                f"interrupted download: {_size(partial):,}{of_total} bytes are kept in {partial}; "
                "run the same command again to go on"
            )
        raise InputError(f"{self.address(path)}: {why}") from error


def _origin_of(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _origin(partial: Path, address: str) -> dict | None:
    """What is known about the file that a partial one began as, if it is the same address."""
    try:
        known = json.loads(_origin_of(partial).read_text(encoding="utf-8"))
        return known if known["url"] == address else None
    except (OSError, ValueError, KeyError):
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _length(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _total(answer: requests.Response) -> int | None:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _begins_at(answer: requests.Response, position: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {position}-")
