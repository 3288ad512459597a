"""Fetch texts and tasks of the replication from the public repositories that hold them.

    python resources/replication/data.py resources/replication/data

`data.tsv` names each file, its repository, commit, path and SHA-256: all that `config/real.yaml`
needs, and every task of the recipes in this folder. Their other texts are not public in the form
that was used; docs/science.md lists them. A file that is there with the right checksum stays.
ELIQUARE_RAW is a mirror of raw.githubusercontent.com: an address, or a folder with its paths.
"""

import csv
import sys
from pathlib import Path

from eliquare.download import Checksum, Host, Unreachable
from eliquare.evaluation.sources import RAW, mirrored
from eliquare.io import InputError

TABLE = Path(__file__).with_suffix(".tsv")
RETRIES = 3


def main(folder: Path) -> int:
    """Fetch what is not there; return 2 where some file could not be fetched."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    host = Host(mirrored(f"{RAW}/"), RETRIES, "try again, or name a mirror of it: ELIQUARE_RAW")
    problems = []
    for row in rows:
        target = folder / row["file"]
        path = f"{row['repository']}/{row['commit']}/{row['path']}"
        expected = Checksum(
            "sha256", row["sha256"], "data.tsv lists", "it is not the file that was used"
        )
        if target.exists() and expected.of(target) == expected.value:
            continue
        try:
            if not host.download(path, target, expected):
                problems.append(f"{host.root}/{path}: not there")
        except InputError as error:
            problems.append(str(error))
        except Unreachable as error:
            problems.append(str(error))
            break
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
