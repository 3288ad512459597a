"""Fetch a Wikipedia dump from a mirror, check it, and leave it whole.

The host's own list of checksums says which file a date has; what ``latest`` meant the first time is
written beside the output and stays until --move-latest. An interrupted download is kept as
``.partial`` and goes on where it stopped.
"""

import argparse
import hashlib
import os
from pathlib import Path

from eliquare import stage
from eliquare.corpus.mirrors import Mirror, mirror_at
from eliquare.stage import InputError, say

VERSION = 1

SUFFIX = ".xml.bz2"


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--wiki", required=True, help="the wiki's name on the host, e.g. ukwiki")
    options.add_argument(
        "--date",
        default="latest",
        help="date of the dump, YYYYMMDD, or latest (default %(default)s)",
    )
    options.add_argument(
        "--mirror",
        default="https://dumps.wikimedia.org",
        help="address of the host or of a mirror, or a local folder with the same paths "
        "(default %(default)s)",
    )
    options.add_argument("--output", required=True, help="file to write, *-pages-articles.xml.bz2")
    options.add_argument(
        "--move-latest",
        action="store_true",
        help="ask the mirror again what latest means (default: what it meant the first time)",
    )
    options.add_argument(
        "--retries",
        type=int,
        default=5,
        help="tries without progress before a broken download is given up (default %(default)s)",
    )
    return options


def run(arguments: argparse.Namespace) -> None:
    """Fetch the dump, unless it stands there whole already."""
    output = Path(arguments.output)
    mirror = mirror_at(arguments.mirror, arguments.retries)
    remembered = output.with_name(output.name.removesuffix(SUFFIX) + ".json")
    if arguments.date == "latest":
        chosen = _remembered(remembered, arguments.wiki) if not arguments.move_latest else None
        if chosen is None:
            chosen = _listed(mirror, arguments.wiki, _latest_date(mirror, arguments.wiki))
            output.parent.mkdir(parents=True, exist_ok=True)
            with stage.whole_file(remembered) as beside:
                stage.write_json(beside, chosen)
        say(f"{arguments.wiki}: latest is {chosen['date']}")
    else:
        chosen = _listed(mirror, arguments.wiki, arguments.date)

    if output.exists() and sha1(output) == chosen["sha1"]:
        say(f"{output}: already there, checksum right")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    path = _path(chosen["wiki"], chosen["date"], f"pages-articles{SUFFIX}")
    if not mirror.fetch(path, partial):
        raise InputError(
            f"{mirror.address(path)}: not on the mirror any more; "
            f"{_advice(mirror, arguments.wiki)} (--move-latest asks again what latest means)"
        )
    found = sha1(partial)
    if found != chosen["sha1"]:
        mirror.forget(partial)
        raise InputError(
            f"{mirror.address(path)}: wrong checksum: sha1 {found}, the host lists "
            f"{chosen['sha1']}; removed; fetch it again, or try another mirror"
        )
    os.replace(partial, output)
    mirror.forget(partial)
    say(f"{output}: {output.stat().st_size:,} bytes, checksum right")


def sha1(path: Path) -> str:
    """The sha1 of a file, as Wikimedia lists it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _path(wiki: str, date: str, rest: str) -> str:
    return f"{wiki}/{date}/{wiki}-{date}-{rest}"


def _remembered(path: Path, wiki: str) -> dict | None:
    """What ``latest`` meant on an earlier call for the same wiki."""
    if not path.exists():
        return None
    chosen = stage.read_json(path)
    if not isinstance(chosen, dict) or {"wiki", "date", "sha1"} - chosen.keys():
        raise InputError(f"{path}: expected wiki, date, url and sha1; delete it to ask again")
    return chosen if chosen["wiki"] == wiki else None


def _latest_date(mirror: Mirror, wiki: str) -> str:
    """The date of the newest dump, learnt from the files that ``latest`` lists."""
    listing = mirror.text(_path(wiki, "latest", "sha1sums.txt"))
    if listing is not None:
        for _, name in _rows(listing):
            date = name.removeprefix(f"{wiki}-").split("-")[0]
            if name == _path(wiki, date, f"pages-articles{SUFFIX}").rsplit("/", 1)[1]:
                return date
    if dates := mirror.dates(wiki):
        return dates[-1]
    raise _unknown(mirror, wiki, "latest")


def _listed(mirror: Mirror, wiki: str, date: str) -> dict[str, str]:
    """The wiki, date, url and sha1 of a dump, from the host's list of checksums."""
    path = _path(wiki, date, f"pages-articles{SUFFIX}")
    listing = mirror.text(_path(wiki, date, "sha1sums.txt"))
    if listing is None:
        raise _unknown(mirror, wiki, date)
    for digest, name in _rows(listing):
        if name == path.rsplit("/", 1)[1]:
            return {"wiki": wiki, "date": date, "url": mirror.address(path), "sha1": digest}
    raise InputError(
        f"{mirror.address(_path(wiki, date, 'sha1sums.txt'))}: does not list "
        f"{path.rsplit('/', 1)[1]} (a dump that is not finished yet?); {_advice(mirror, wiki)}"
    )


def _rows(listing: str) -> list[tuple[str, str]]:
    """(sha1, file name) of each line of a list of checksums."""
    rows = (line.split(maxsplit=1) for line in listing.splitlines())
    return [(row[0].lower(), row[1].strip().lstrip("*")) for row in rows if len(row) == 2]


def _unknown(mirror: Mirror, wiki: str, date: str) -> InputError:
    if mirror.dates(wiki) or mirror.text(_path(wiki, "latest", "sha1sums.txt")) is not None:
        return InputError(
            f"--date {date}: {mirror.root} has no dump of {wiki} of that date; "
            f"{_advice(mirror, wiki)}"
        )
    code = wiki.removesuffix("wiki").replace("_", "-")
    return InputError(
        f'--wiki {wiki}: "{code}" is a language code that is no Wikipedia on {mirror.root}; use '
        "the code in the address of the Wikipedia, e.g. uk for https://uk.wikipedia.org, so ukwiki"
    )


def _advice(mirror: Mirror, wiki: str) -> str:
    dates = mirror.dates(wiki)
    return f"use latest or one of {', '.join(dates)}" if dates else "use latest or another date"


if __name__ == "__main__":
    stage.main(parser(), run)
