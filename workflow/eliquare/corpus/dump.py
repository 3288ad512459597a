"""Download a Wikipedia dump from a host, a mirror or a folder with the host's paths.

The host's own list of checksums says which file a date has. What ``latest`` meant the first time is
written beside the output and stays until ``--move-latest``.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import Field

from eliquare.cli import Options
from eliquare.config.base import Date, WebAddress, WikiName
from eliquare.config.derive import dumps_host
from eliquare.download import Checksum, Host
from eliquare.io import InputError, atomic_write, read_as, write_json
from eliquare.outputs import claimed

PAGES = "pages-articles.xml.bz2"

logger = logging.getLogger(__name__)


class DownloadOptions(Options):
    """Options of ``corpus dump``."""

    # What stands at the output may be the dump itself: see `download`.
    outputs: ClassVar = ()

    wiki: WikiName = Field(description="Database name of the wiki, as ukwiki.")
    date: Date = Field("latest", description="Date of the dump, YYYYMMDD, or latest.")
    mirror: WebAddress = Field(
        default_factory=dumps_host,
        validate_default=True,
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
    advice = "removed; fetch it again, or try another mirror"
    listed = Checksum("sha1", dump.sha1, "the host lists", advice)
    if is_there(output, listed):
        return
    path = path_of(dump.wiki, dump.date, PAGES)
    with claimed("corpus dump", {"output": output}):
        # By whoever this one has waited for.
        if is_there(output, listed):
            return
        if not mirror.download(path, output, listed):
            raise InputError(
                f"{mirror.root}/{path}: not on the mirror any more; use another date, or "
                "--move-latest, which asks again what latest means"
            )
    logger.info("%s: %s bytes, checksum right", output, f"{output.stat().st_size:,}")


def is_there(output: Path, listed: Checksum) -> bool:
    """Return whether the dump is there already."""
    if not output.is_file() or listed.of(output) != listed.value:
        return False
    logger.info("%s: already there, checksum right", output)
    return True


def path_of(wiki: str, date: str, rest: str) -> str:
    """Return the path of a file on every mirror."""
    return f"{wiki}/{date}/{wiki}-{date}-{rest}"


def chosen_dump(options: DownloadOptions, mirror: "Mirror") -> Dump:
    """Return the dump of the date; record what ``latest`` means if it is asked for first."""
    if options.date != "latest":
        return listed_dump(mirror, options.wiki, options.date)
    record = options.output.with_name(options.output.name.removesuffix(".xml.bz2") + ".json")
    known = record.exists() and not options.move_latest
    dump = read_as(record, Dump) if known else None
    if dump is None or dump.wiki != options.wiki:
        dump = listed_dump(mirror, options.wiki, "latest")
        with atomic_write(record) as file:
            write_json(file, dump._asdict())
    logger.info("%s: latest is %s", options.wiki, dump.date)
    return dump


def listed_dump(mirror: "Mirror", wiki: str, date: str) -> Dump:
    """Return the dump of a date, or the latest one, from the host's list of checksums.

    The newest may not be finished yet: then the one before it is the latest.
    """
    # The list of ``latest`` names the files of its date.
    name = rf"{re.escape(wiki)}-(\d{{8}})-{re.escape(PAGES)}"
    for tried in dates_to_try(mirror, wiki, date):
        listing = mirror.text(path_of(wiki, tried, "sha1sums.txt"))
        if row := re.search(rf"^(\w{{40}})\s+\*?{name}\s*$", listing, re.MULTILINE):
            url = f"{mirror.root}/{path_of(wiki, row[2], PAGES)}"
            return Dump(wiki=wiki, date=row[2], url=url, sha1=row[1].lower())
    dates = mirror.dates(wiki)
    raise InputError(
        f"--wiki {wiki} --date {date}: {mirror.root} lists no {PAGES} of them (no such wiki, or a "
        f"dump that is not finished yet?); dates there: {', '.join(dates) or 'none'}; the wiki of "
        "https://uk.wikipedia.org, say, is ukwiki"
    )


def dates_to_try(mirror: "Mirror", wiki: str, date: str) -> Iterator[str]:
    """Yield a date; of the latest dump those of the mirror too, the newest first."""
    yield date
    if date == "latest":
        yield from reversed(mirror.dates(wiki))


class Mirror(Host):
    """A web host or a folder that holds files under the paths of dumps.wikimedia.org."""

    def __init__(self, address: str, retries: int) -> None:
        super().__init__(address, retries, "check the connection and --mirror")
        if self.session is not None:
            return
        if "://" in address:
            raise InputError(
                f"--mirror {address}: expected https://..., http://... or a folder's path"
            )
        if not Path(address).is_dir():
            raise InputError(f"--mirror {address}: no such folder")

    def dates(self, wiki: str) -> list[str]:
        """Return the dates of a wiki's dumps, oldest first; none if the mirror does not say."""
        if self.session is None:
            names = [folder.name for folder in Path(self.root, wiki).glob("*")]
        else:
            names = re.findall(r'href="(?:[^"]*/)?(\d{8})/?"', self.text(f"{wiki}/"))
        return sorted({name for name in names if re.fullmatch(r"\d{8}", name)})
