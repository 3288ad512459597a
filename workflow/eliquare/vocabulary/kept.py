"""The kept file: which sub-words of the teacher stay, and for which reason.

Either the columns id,subword,reason, as eliquare.vocabulary.select writes them, or a plain list of
sub-words, one a line.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery

COLUMNS = ["id", "subword", "reason"]
ASKED = "asked"


def write_kept(path: str | Path, rows: Iterable[tuple[int, str, str]]) -> None:
    """Write (id, sub-word, reason) rows, in the order of the teacher's ids."""
    with stage.whole_file(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(rows))


def read_kept(path: str | Path, subwords: Sequence[str]) -> dict[int, str]:
    """The kept ids in the order of the teacher, each with its reason; of a list, "asked".

    ``subwords`` are the teacher's, by id. Raises InputError for a file that is empty or names a
    sub-word that the teacher does not have (under that id).
    """
    with stage.existing(path, "kept file").open(encoding="utf-8", newline="") as file:
        table = file.readline().rstrip("\r\n") == ",".join(COLUMNS)
    kept = read_table(path, subwords) if table else read_list(path, subwords)
    if not kept:
        raise InputError(
            f"{path}: keeps no sub-word; make it with eliquare.vocabulary.select, or write the "
            "sub-words to keep, one a line"
        )
    return dict(sorted(kept.items()))


def read_table(path: str | Path, subwords: Sequence[str]) -> dict[int, str]:
    """The rows of a file with the columns id, subword and reason."""
    kept = {}
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if len(row) != len(COLUMNS) or not row[0].isdecimal():
                raise InputError(f"{where}: expected a number, a sub-word and a reason, got {row}")
            identifier = int(row[0])
            if identifier >= len(subwords) or subwords[identifier] != row[1]:
                raise InputError(
                    f"{where}: sub-word {row[1]!r} is not number {identifier} of the model's "
                    "tokenizer; select the sub-words again from the counts of this model"
                )
            if identifier in kept:
                raise InputError(f"{where}: number {identifier} ({row[1]!r}) stands here twice")
            kept[identifier] = row[2]
    return kept


def read_list(path: str | Path, subwords: Sequence[str]) -> dict[int, str]:
    """The sub-words of a plain list; warns of repeated ones."""
    ids = {subword: identifier for identifier, subword in enumerate(subwords)}
    times: Counter[str] = Counter()
    text = Path(path).read_text(encoding="utf-8")
    for number, line in enumerate(text.split("\n"), start=1):
        subword = line.removesuffix("\r")
        if subword and subword not in ids:
            raise InputError(
                f"{path}, line {number}: {subword!r} is not a sub-word of the model; write "
                "sub-words as its tokenizer does, or remove the line (a file of "
                f"eliquare.vocabulary.select begins with {','.join(COLUMNS)})"
            )
        times.update([subword] if subword else [])
    repeated = [subword for subword, number in times.items() if number > 1]
    if repeated:
        stage.warn(f"{path}: {len(repeated):,} sub-word(s) stand in it twice ({repeated[0]!r})")
    return {ids[subword]: ASKED for subword in times}


def complete(
    kept: dict[int, str], description: surgery.Description, specials: Iterable[int]
) -> dict[int, str]:
    """The kept ids with what they need beside themselves, each with its reason.

    That is the special tokens; and for BPE the alphabet and the routes of all kept sub-words.
    """
    kept = {identifier: "special" for identifier in specials} | kept
    return dict(sorted((kept | surgery.closing_ids(description, kept)).items()))


def say_added(before: dict[int, str], after: dict[int, str], source: str | Path) -> None:
    """Say how many sub-words joined those of a file, by reason."""
    added = Counter(reason for identifier, reason in after.items() if identifier not in before)
    if added:
        details = ", ".join(f"{number:,} {reason}" for reason, number in sorted(added.items()))
        stage.say(f"{source}: {added.total():,} sub-words joined what it keeps ({details})")
