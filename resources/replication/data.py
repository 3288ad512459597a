"""Fetch texts and tasks of the replication from the public repositories that hold them.

    python resources/replication/data.py resources/replication/data

`data.tsv` names each file, its repository, commit, path and SHA-256. That is all that
`config/real.yaml` needs, and every task of the other recipes, whose other texts docs/science.md
lists: they are not public in the form that was used (sentences of Common Voice in one file, news
put together from tokens, the first pages of dumps).

Files that are there stay. `--host` is another host with the same paths.
"""

import argparse
import csv
import gzip
import hashlib
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

TABLE = Path(__file__).with_suffix(".tsv")
HOST = "https://raw.githubusercontent.com"


class Unreachable(Exception):
    """The host does not answer, so no other file can be fetched either."""


def fetch(address: str, checksum: str, target: Path) -> str:
    """Fetch a file, packed where its name ends in .gz; return what is wrong, if anything is."""
    try:
        with urlopen(address, timeout=60) as answer:
            content: bytes = answer.read()
    except HTTPError as error:
        return f"{address}: {error}"
    except OSError as error:
        raise Unreachable(f"{address}: not reached ({error})") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        return f"{address}: another file than the one that was used (its SHA-256 differs)"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
    partial.replace(target)
    return ""


def main(folder: Path, host: str) -> int:
    """Fetch what is not there; return 2 where some file could not be fetched."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    problems = []
    for row in rows:
        target = folder / row["file"]
        address = f"{host}/{row['repository']}/{row['commit']}/{row['path']}"
        try:
            if not target.exists() and (problem := fetch(address, row["sha256"], target)):
                problems.append(problem)
        except Unreachable as error:
            problems.append(f"{error}; try again, or name a folder with the files: ELIQUARE_DATA")
            break
    there = sum((folder / row["file"]).exists() for row in rows)
    print(f"{folder}: {there} of {len(rows)} files", *problems, sep="\n")
    return 2 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch texts and tasks of the replication.")
    parser.add_argument("folder", type=Path, help="where they go")
    parser.add_argument("--host", default=HOST, help="where the repositories' files are")
    options = parser.parse_args()
    sys.exit(main(options.folder, options.host))
