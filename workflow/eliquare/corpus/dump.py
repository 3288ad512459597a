"""Download a Wikipedia dump from a host, a mirror or a folder with the host's paths.

The host's own list of checksums says which file a date has. What ``latest`` meant the first time is
written beside the output and stays until ``--move-latest``. An interrupted download is kept as
``.partial`` and resumed; its name has the first digits of the checksum, so that the beginning of
another dump is never continued.
"""

import hashlib
import io
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import IO, NamedTuple

import requests
from pydantic import Field

from eliquare.cli import Options
from eliquare.config.model import Corpus, Date
from eliquare.io import InputError, atomic_write, progress, read_json, write_json

PAGES = "pages-articles.xml.bz2"
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


class Dump(NamedTuple):
    """One dump, as the host lists it; also the record of what ``latest`` means."""

    wiki: str
    date: str
    url: str
    sha1: str


def download(options: DownloadOptions) -> None:
    """Download a dump, unless it is there already, and check it."""
    output, mirror = options.output, Mirror(options.mirror, options.retries)
    dump = chosen_dump(options, mirror)
    if output.exists() and sha1(output) == dump.sha1:
        logger.info("%s: already there, checksum right", output)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.{dump.sha1[:8]}.partial")
    path = path_of(dump.wiki, dump.date, PAGES)
    while True:
        with partial.open("ab") as file:
            resumed = file.tell() > 0
            is_there = mirror.fetch(path, file, str(partial))
        if not is_there:
            partial.unlink()
            raise InputError(
                f"{mirror.root}/{path}: not on the mirror any more; use another date, or "
                "--move-latest, which asks again what latest means"
            )
        found = sha1(partial)
        if found == dump.sha1:
            break
        partial.unlink()
        if not resumed:
            raise InputError(
                f"{mirror.root}/{path}: wrong checksum: sha1 {found}, the host lists {dump.sha1}; "
                "removed; fetch it again, or try another mirror"
            )
        logger.info("%s: wrong checksum; starting again", partial)
    os.replace(partial, output)
    logger.info("%s: %s bytes, checksum right", output, f"{output.stat().st_size:,}")


def sha1(path: Path) -> str:
    """Return the SHA-1 of a file, as Wikimedia lists it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def path_of(wiki: str, date: str, rest: str) -> str:
    """Return the path of a file on every mirror."""
    return f"{wiki}/{date}/{wiki}-{date}-{rest}"


def chosen_dump(options: DownloadOptions, mirror: "Mirror") -> Dump:
    """Return the dump of the date; record what ``latest`` means if it is asked for first."""
    if options.date != "latest":
        return listed_dump(mirror, options.wiki, options.date)
    record = options.output.with_name(options.output.name.removesuffix(".xml.bz2") + ".json")
    known = record.exists() and not options.move_latest
    try:
        dump = Dump(**read_json(record)) if known else None
    except TypeError:
        raise InputError(f"{record}: not what latest means; delete it, to ask again") from None
    if dump is None or dump.wiki != options.wiki:
        dump = listed_dump(mirror, options.wiki, "latest")
        with atomic_write(record) as file:
            write_json(file, dump._asdict())
    logger.info("%s: latest is %s", options.wiki, dump.date)
    return dump


def listed_dump(mirror: "Mirror", wiki: str, date: str) -> Dump:
    """Return the dump of a date, or the latest one, from the host's list of checksums."""
    listing = mirror.text(path_of(wiki, date, "sha1sums.txt"))
    # The list of ``latest`` names the files of its date.
    name = rf"{re.escape(wiki)}-(\d{{8}})-{re.escape(PAGES)}"
    if row := re.search(rf"^(\w{{40}})\s+\*?{name}\s*$", listing, re.MULTILINE):
        url = f"{mirror.root}/{path_of(wiki, row[2], PAGES)}"
        return Dump(wiki=wiki, date=row[2], url=url, sha1=row[1].lower())
    dates = mirror.dates(wiki)
    if date == "latest" and dates:
        return listed_dump(mirror, wiki, dates[-1])
    raise InputError(
        f"--wiki {wiki} --date {date}: {mirror.root} lists no {PAGES} of them (no such wiki, or a "
        f"dump that is not finished yet?); dates there: {', '.join(dates) or 'none'}; the wiki of "
        "https://uk.wikipedia.org, say, is ukwiki"
    )


class Mirror:
    """A web host or a folder that holds files under the paths of dumps.wikimedia.org."""

    def __init__(self, address: str, retries: int) -> None:
        self.root = address.rstrip("/")
        self.retries = retries
        self.session: requests.Session | None = None
        if address.startswith(("http://", "https://")):
            self.session = requests.Session()
            self.session.headers.update(HEADERS)
        elif "://" in address:
            raise InputError(
                f"--mirror {address}: expected https://..., http://... or a folder's path"
            )
        elif not Path(address).is_dir():
            raise InputError(f"--mirror {address}: no such folder")

    def dates(self, wiki: str) -> list[str]:
        """Return the dates of a wiki's dumps, oldest first; none if the mirror does not say."""
        if self.session is None:
            names = [folder.name for folder in Path(self.root, wiki).glob("*")]
        else:
            names = re.findall(r'href="(?:[^"]*/)?(\d{8})/?"', self.text(f"{wiki}/"))
        return sorted({name for name in names if re.fullmatch(r"\d{8}", name)})

    def text(self, path: str) -> str:
        """Return the content of a small text file; nothing if there is no such file."""
        content = io.BytesIO()
        self.fetch(path, content)
        return content.getvalue().decode("utf-8", errors="replace")

    def fetch(self, path: str, file: IO[bytes], name: str = "") -> bool:
        """Write to ``file`` what it lacks of a file; return False if there is no such file.

        A broken connection is tried again; InputError after ``retries`` tries without progress.
        ``name`` is the path of ``file``, where what came is kept.
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
                    if not is_there(response):
                        return False
                    if response.status_code == requests.codes.partial_content:
                        logger.info("%s: resumed at %s bytes", name, f"{have:,}")
                    else:
                        have = file.seek(0)
                        file.truncate()
                    length = int(response.headers.get("Content-Length", 0))
                    total = have + length if length else 0
                    blocks = response.iter_content(BLOCK_BYTES)
                    expected = -(-length // BLOCK_BYTES) or None
                    for block in progress(blocks, name, expected, "blocks of 64 KiB"):
                        file.write(block)
                return True
            except BROKEN as error:
                if file.tell() > reached:
                    failures, reached = 0, file.tell()
                if failures == self.retries:
                    of_total = f" of {total:,}" if total else ""
                    reason = "cannot be reached; check the connection and --mirror"
                    if name and file.tell():
                        reason = (
                            f"interrupted download: {file.tell():,}{of_total} bytes are kept in "
                            f"{name}; run the same command again to resume"
                        )
                    raise InputError(f"{address}: {reason}") from error
            pause = min(2.0**failures, LONGEST_PAUSE)
            failures += 1
            logger.info("%s: connection broke; trying again in %.0f s", address, pause)
            time.sleep(pause)


def is_there(response: requests.Response) -> bool:
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
