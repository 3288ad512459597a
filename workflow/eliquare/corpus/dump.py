"""Download a Wikipedia dump from a host, a mirror or a folder with the host's paths.

The host's own list of checksums says which file a date has. What ``latest`` meant the first time is
written beside the output and stays until ``--move-latest``. An interrupted download is kept as
``.partial`` and resumed; its name has the first digits of the checksum, so that the beginning of
another dump is never continued.
"""

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import requests
from pydantic import BaseModel, Field, ValidationError

from eliquare.cli import Options
from eliquare.config.model import Corpus, Date
from eliquare.io import InputError, atomic_write, progress, write_json

SUFFIX = ".xml.bz2"
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
T = TypeVar("T")

logger = logging.getLogger(__name__)


class DownloadOptions(Options):
    """Options of ``corpus dump``."""

    wiki: str = Field(description="Database name of the wiki, as ukwiki.")
    date: Date = Field("latest", description="Date of the dump, YYYYMMDD, or latest.")
    mirror: str = Field(
        Corpus.model_fields["mirror"].default,
        description="Address of the host or of a mirror, or a folder with the same paths.",
    )
    move_latest: bool = Field(
        False,
        description="Ask the mirror again what latest means; by default it stays what it was.",
    )
    retries: int = Field(
        5, ge=0, description="Tries without progress before a broken download is given up."
    )
    output: Path = Field(description="File to write, *-pages-articles.xml.bz2.")


class Dump(BaseModel):
    """One dump, as the host lists it."""

    wiki: str
    date: str
    url: str
    sha1: str

    @property
    def path(self) -> str:
        """Return its path on every mirror."""
        return path_of(self.wiki, self.date, f"pages-articles{SUFFIX}")


def download(options: DownloadOptions) -> None:
    """Download a dump, unless it is there already, and check it."""
    output = options.output
    mirror = Mirror(options.mirror, options.retries)
    dump = chosen_dump(options, mirror)
    if output.exists() and sha1(output) == dump.sha1:
        logger.info("%s: already there, checksum right", output)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.{dump.sha1[:8]}.partial")
    while True:
        resumed = partial.exists()
        if not mirror.fetch(dump.path, partial):
            raise InputError(
                f"{mirror.address(dump.path)}: not on the mirror any more; "
                f"{mirror.advice(options.wiki)} (--move-latest asks again what latest means)"
            )
        found = sha1(partial)
        if found == dump.sha1:
            break
        partial.unlink()
        if not resumed:
            raise InputError(
                f"{mirror.address(dump.path)}: wrong checksum: sha1 {found}, the host lists "
                f"{dump.sha1}; removed; fetch it again, or try another mirror"
            )
        logger.info("%s: wrong checksum; starting again", partial)
    os.replace(partial, output)
    logger.info("%s: %s bytes, checksum right", output, f"{output.stat().st_size:,}")


def sha1(path: Path) -> str:
    """Return the SHA-1 of a file, as Wikimedia lists it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


# Which dump.


def chosen_dump(options: DownloadOptions, mirror: "Mirror") -> Dump:
    """Return the dump of the date; record what ``latest`` means if it is asked for first."""
    if options.date != "latest":
        return listed_dump(mirror, options.wiki, options.date)
    record = options.output.with_name(options.output.name.removesuffix(SUFFIX) + ".json")
    dump = None if options.move_latest else recorded_dump(record, options.wiki)
    if dump is None:
        dump = listed_dump(mirror, options.wiki, latest_date(mirror, options.wiki))
        with atomic_write(record) as file:
            write_json(file, dump.model_dump())
    logger.info("%s: latest is %s", options.wiki, dump.date)
    return dump


def recorded_dump(path: Path, wiki: str) -> Dump | None:
    """Return what ``latest`` meant on an earlier call for the same wiki."""
    if not path.exists():
        return None
    try:
        dump = Dump.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(
            f"{path}: expected wiki, date, url and sha1; delete it to ask again"
        ) from None
    return dump if dump.wiki == wiki else None


def latest_date(mirror: "Mirror", wiki: str) -> str:
    """Return the date of the newest dump: that of the files that ``latest`` lists."""
    for _, name in listed_files(mirror, wiki, "latest") or []:
        date = name.removeprefix(f"{wiki}-").split("-")[0]
        if name == f"{wiki}-{date}-pages-articles{SUFFIX}":
            return date
    if dates := mirror.dates(wiki):
        return dates[-1]
    raise unknown_dump(mirror, wiki, "latest")


def listed_dump(mirror: "Mirror", wiki: str, date: str) -> Dump:
    """Return the dump of a date, from the host's list of checksums."""
    files = listed_files(mirror, wiki, date)
    if files is None:
        raise unknown_dump(mirror, wiki, date)
    wanted = f"{wiki}-{date}-pages-articles{SUFFIX}"
    for digest, name in files:
        if name == wanted:
            url = mirror.address(f"{wiki}/{date}/{name}")
            return Dump(wiki=wiki, date=date, url=url, sha1=digest)
    raise InputError(
        f"{mirror.address(path_of(wiki, date, 'sha1sums.txt'))}: does not list {wanted} (a dump "
        f"that is not finished yet?); {mirror.advice(wiki)}"
    )


def listed_files(mirror: "Mirror", wiki: str, date: str) -> list[tuple[str, str]] | None:
    """Return (sha1, file name) of each line of the list of checksums; None if there is no list."""
    listing = mirror.text(path_of(wiki, date, "sha1sums.txt"))
    if listing is None:
        return None
    rows = (line.split(maxsplit=1) for line in listing.splitlines())
    return [(row[0].lower(), row[1].strip().lstrip("*")) for row in rows if len(row) == 2]


def path_of(wiki: str, date: str, rest: str) -> str:
    """Return the path of a file on every mirror."""
    return f"{wiki}/{date}/{wiki}-{date}-{rest}"


def unknown_dump(mirror: "Mirror", wiki: str, date: str) -> InputError:
    """Return the error of a wiki or a date that the mirror does not have."""
    if mirror.dates(wiki) or listed_files(mirror, wiki, "latest") is not None:
        return InputError(
            f"--date {date}: {mirror.root} has no dump of {wiki} of that date; "
            f"{mirror.advice(wiki)}"
        )
    code = wiki.removesuffix("wiki").replace("_", "-")
    return InputError(
        f'--wiki {wiki}: "{code}" is a language code that is no Wikipedia on {mirror.root}; use '
        "the code in the address of the Wikipedia, e.g. uk for https://uk.wikipedia.org, so ukwiki"
    )


# Where from.


class Mirror:
    """A web host or a folder that holds files under the paths of dumps.wikimedia.org."""

    def __init__(self, address: str, retries: int = 5) -> None:
        self.root = address.rstrip("/")
        self.retries = retries
        self.session: requests.Session | None = None
        self.total: int | None = None  # bytes of the file that was asked for last
        if address.startswith(("http://", "https://")):
            self.session = requests.Session()
            self.session.headers.update(HEADERS)
        elif "://" in address:
            raise InputError(
                f"--mirror {address}: expected https://..., http://... or a folder's path"
            )
        elif not Path(address).is_dir():
            raise InputError(f"--mirror {address}: no such folder")

    def address(self, path: str) -> str:
        """Return where a path is."""
        return f"{self.root}/{path}"

    def dates(self, wiki: str) -> list[str]:
        """Return the dates of a wiki's dumps, oldest first; none if the mirror does not say."""
        if self.session is None:
            names = [folder.name for folder in Path(self.root, wiki).glob("*")]
        else:
            names = re.findall(r'href="(?:[^"]*/)?(\d{8})/?"', self.text(f"{wiki}/") or "")
        return sorted({name for name in names if re.fullmatch(r"\d{8}", name)})

    def advice(self, wiki: str) -> str:
        """Return what to write instead of a date that is not there."""
        dates = self.dates(wiki)
        return f"use latest or one of {', '.join(dates)}" if dates else "use latest or another date"

    def text(self, path: str) -> str | None:
        """Return the content of a small text file; None if there is no such file."""
        if self.session is None:
            file = Path(self.root, path)
            return file.read_text(encoding="utf-8") if file.is_file() else None

        def get(session: requests.Session) -> str | None:
            response = session.get(self.address(path), timeout=SECONDS_WITHOUT_DATA)
            content = response.content.decode("utf-8", errors="replace")
            return content if self._is_there(response) else None

        return self._retry(self.session, path, get)

    def fetch(self, path: str, partial: Path) -> bool:
        """Bring a file to ``partial``, or what is missing of it; False if there is no such file."""
        if self.session is None:
            file = Path(self.root, path)
            if file.is_file():
                shutil.copyfile(file, partial)
            return file.is_file()

        def get(session: requests.Session) -> bool:
            have = size(partial)
            headers = {"Range": f"bytes={have}-"} if have else {}
            address = self.address(path)
            with session.get(
                address, headers=headers, stream=True, timeout=SECONDS_WITHOUT_DATA
            ) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable:
                    return True  # nothing is missing, or it is another file: the checksum says
                if not self._is_there(response):
                    return False
                resumed = response.status_code == requests.codes.partial_content
                length = response.headers.get("Content-Length", "")
                self.total = int(length) + have * resumed if length.isdigit() else None
                if resumed:
                    logger.info("%s: resumed at %s bytes", partial.name, f"{have:,}")
                blocks = response.iter_content(BLOCK_BYTES)
                expected = -(-int(length) // BLOCK_BYTES) if self.total else None
                with partial.open("ab" if resumed else "wb") as file:
                    for block in progress(blocks, partial.name, expected, "blocks of 64 KiB"):
                        file.write(block)
            return True

        return self._retry(self.session, path, get, partial)

    def _retry(
        self,
        session: requests.Session,
        path: str,
        get: Callable[[requests.Session], T],
        partial: Path | None = None,
    ) -> T:
        """Call ``get`` until it gives an answer, or until it breaks too often without progress."""
        pauses, reached = self._pauses(), size(partial)
        while True:
            try:
                return get(session)
            except BROKEN as error:
                if size(partial) > reached:
                    pauses, reached = self._pauses(), size(partial)
                pause = next(pauses, None)
                if pause is None:
                    raise InputError(f"{self.address(path)}: {self._give_up(partial)}") from error
            logger.info("%s: connection broke; trying again in %.0f s", self.address(path), pause)
            time.sleep(pause)

    def _pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each further try."""
        yield from (min(2.0**n, LONGEST_PAUSE) for n in range(self.retries))

    def _give_up(self, partial: Path | None) -> str:
        if not size(partial):
            return "cannot be reached; check the connection and --mirror"
        of_total = f" of {self.total:,}" if self.total else ""
        return (
            f"interrupted download: {size(partial):,}{of_total} bytes are kept in {partial}; "
            "run the same command again to resume"
        )

    def _is_there(self, response: requests.Response) -> bool:
        """Return whether the file is there; what may change later is a broken connection."""
        status = response.status_code
        if status in (requests.codes.not_found, requests.codes.gone):
            return False
        if status == requests.codes.too_many_requests or status >= 500:
            raise requests.ConnectionError(f"the host answers {status}")
        if not response.ok:
            raise InputError(
                f"{response.url}: the host answers {status} {response.reason}; check --mirror"
            )
        return True


def size(path: Path | None) -> int:
    """Return the bytes of a file, 0 if there is none."""
    return path.stat().st_size if path is not None and path.exists() else 0
