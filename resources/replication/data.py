"""Fetch texts and tasks of the replication from the public repositories that hold them.

    python resources/replication/data.py resources/replication/data

`data.tsv` names each file, its repository, commit, path and SHA-256: all that `config/real.yaml`
needs, and every task of the recipes in this folder. Their other texts are not public in the form
that was used; docs/science.md lists them. A file that is there with the right checksum stays.
Sentences of treebanks and of names become texts too, for `sentences.yaml`.
ELIQUARE_RAW is a mirror of raw.githubusercontent.com: an address, or a folder with its paths.
"""

import csv
import re
import sys
from itertools import chain
from pathlib import Path

from eliquare.download import Checksum, Host, Unreachable
from eliquare.evaluation.readers import read_texts
from eliquare.evaluation.sources import RAW, mirrored
from eliquare.io import InputError, atomic_write

TABLE = Path(__file__).with_suffix(".tsv")
RETRIES = 3
# A text, and the tasks whose sentences it has.
SENTENCES = {
    "text/nl/treebank.txt": ("tasks/nl/upos/train.conllu", "tasks/nl/upos/dev.conllu"),
    "text/hi/treebank.txt": ("tasks/hi/upos/dev.conllu",),
    "text/fr/treebank.txt": ("tasks/fr/upos/train.conllu", "tasks/fr/upos/dev.conllu"),
    "text/nl/names.txt": ("tasks/nl/wikineural/val.txt", "tasks/nl/wikineural/test.txt"),
    "text/fr/names.txt": ("tasks/fr/wikineural/val.txt", "tasks/fr/wikineural/test.txt"),
    "text/hi/names.txt": ("tasks/hi/ner/dev.txt",),
}
MIN_WORDS = 4
# Spaces that stand between tokens, but not in text.
SPACED = re.compile(r"\s+(?=[.,;:!?)\]»”%])|(?<=[(\[«“])\s+|(?<=\w['’])\s+")


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
    if not problems:
        write_sentences(folder)
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
    return 2 if problems else 0


def write_sentences(folder: Path) -> None:
    """Write the sentences of tasks as texts, without the spaces between word and punctuation."""
    for name, sources in SENTENCES.items():
        texts = chain.from_iterable(read_texts(folder / source) for source in sources)
        lines = [SPACED.sub("", text) for text in texts if len(text.split()) >= MIN_WORDS]
        with atomic_write(folder / name) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
