"""Fetch a treebank of Universal Dependencies from its repository, at a release."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eliquare.config import catalogue
from eliquare.config.sources import Treebank
from eliquare.download import Host, Unreachable
from eliquare.evaluation import readers
from eliquare.evaluation.readers import UPOS_TAGS, Example
from eliquare.evaluation.sources import NO_TAG, RAW, Dropped, Found, RawFiles, mirrored
from eliquare.io import Failure, InputError

logger = logging.getLogger(__name__)


def of_treebank(source: Treebank, raw: RawFiles) -> Found:
    """Return the splits of a treebank.

    Raises InputError where the treebank has no train split, and where its text is withheld.
    """
    prefix = source.prefix or catalogue.treebank_prefix(source.treebank)
    if prefix is None:
        raise InputError(
            f"ud.prefix: missing; {source.treebank} is not in the catalogue: write how its file "
            "names begin, as cy_ccg of cy_ccg-ud-train.conllu"
        )
    tag = f"r{source.release}"
    repository = f"{RAW}/UniversalDependencies/{source.treebank}/{tag}"

    def name(part: str) -> str:
        return f"{prefix}-ud-{part}.conllu"

    def get(part: str) -> Path | None:
        return raw.get(f"{repository}/{name(part)}", name(part))

    train = [f"train-{part}" for part in source.parts] or ["train"]
    raw.wanted |= {name(part): f"{repository}/{name(part)}" for part in (*train, "dev", "test")}
    files: dict[str, list[Path]] = {"train": train_files(source, get)}
    by_hand = any(path.parent == raw.by_hand for path in files["train"])
    for split, part in (("validation", "dev"), ("test", "test")):
        try:
            file = get(part)
        except Failure as failure:
            if not by_hand:
                raise
            # A treebank may lack this split, and whoever put the others in place knows.
            logger.warning("%s: taken as a split that the treebank lacks", failure)
            file = None
        if file:
            files[split] = [file]
    if not files["train"]:
        if len(files) > 1:
            raise InputError(
                f"{source.treebank} {source.release} has no train split, only "
                f"{' and '.join(sorted(files.keys() - {'train'}))}; take another treebank"
            )
        raise InputError(
            f"{repository}/{name('train')}: no such file; check ud.treebank, ud.release "
            f"and ud.prefix (https://github.com/UniversalDependencies/{source.treebank})"
        )
    return Found(
        {split: conllu_reader(paths) for split, paths in files.items()},
        tag,
        None if by_hand else licence_of(f"{repository}/README.md"),
    )


def train_files(source: Treebank, get: Callable[[str], Path | None]) -> list[Path]:
    """Return the file or files of the train split."""
    if source.parts:
        found = {part: get(f"train-{part}") for part in source.parts}
        if lacking := [part for part, path in found.items() if path is None]:
            raise InputError(
                f"{source.treebank} {source.release} has no file train-{lacking[0]}; check ud.parts"
            )
        return list(filter(None, found.values()))
    if single := get("train"):
        return [single]
    files = []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        if (path := get(f"train-{letter}")) is None:
            break
        files.append(path)
    return files


def licence_of(readme: str) -> str | None:
    """Return the licence that a treebank's README names; None where it cannot be read."""
    root, _, name = mirrored(readme).rpartition("/")
    try:
        text = Host(root, 0, "").text(name)
    except (Unreachable, InputError):
        return None
    found = re.search(r"^License:\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else None


def conllu_reader(paths: Sequence[Path]) -> Callable[[Dropped], Iterator[Example]]:
    """Return the reader of CoNLL-U files; sentences with a word that has no tag are dropped."""

    def read(dropped: Dropped) -> Iterator[Example]:
        for path in paths:
            with readers.reported_together(path) as report:
                for rows, words, labels in readers.tagged_sentences(path, report):
                    if "_" in labels or not labels:
                        dropped[NO_TAG] += 1
                        continue
                    for (line, _), label in zip(words, labels, strict=True):
                        if label not in UPOS_TAGS:
                            report(line, f"{label!r} is no UPOS tag")
                    written = "".join("\t".join(columns) + "\n" for _, columns in rows)
                    yield Example((f"{written}\n",), labels, path.name, (rows[0][0],))

    return read
