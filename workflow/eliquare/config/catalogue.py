"""What is known of each Wikipedia language: its Wikipedia, and the public tasks in it.

``languages.tsv`` has a row for each Wikipedia, ``catalogue.tsv`` one for each task of a language:
what is needed to make a ``Task`` of it, its sizes and terms, where that was read, and whether it
was ``read`` there or ``inferred``. Tasks of one language and sort stand in the order of preference.
``docs/tasks.md`` says what was taken from where.
"""

import csv
import difflib
import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eliquare.config.base import Problem
from eliquare.config.errors import suggestion

# The sorts of task that `tasks: auto` takes, one of each; and what they are called in tables.
AUTOMATIC = {
    "upos": "part of speech",
    "ner": "names",
    "topics": "topics",
    "intent": "intents",
    "sentiment": "sentiment",
    "agreement": "agreement",
    "similarity": "similarity",
}
# With fewer examples to learn from, a score says little of the model.
LEAST_TRAIN = 100
# Codes that ISO 639 leaves to everyone, as the demo's invented languages.
PRIVATE_USE = re.compile(r"q[a-t][a-z]")
# Keys of a task that say what it is; one without them changes settings of an automatic task.
DEFINING = frozenset({"kind", "train", "ud", "hub", "url"})
# Snakemake reads `--config tasks="{auto: true, cy-ner: null}"` as text.
AS_TEXT = {"true": True, "false": False, "null": None}


class Language(NamedTuple):
    """One Wikipedia, as of ``articles_date``."""

    code: str
    name: str
    autonym: str
    iso639_3: str
    script: str  # ISO 15924
    articles: int | None
    articles_date: str
    is_closed: bool
    dbname: str  # the database of its dumps, where that is not <code>wiki
    teachers: tuple[str, ...]  # those trained on it, of the ones whose languages are listed
    treebanks: str  # why it has no part of speech, where there is a treebank


class Entry(NamedTuple):
    """One task of the catalogue; a size that was not found is None."""

    code: str
    task: str
    kind: str
    name: str
    source: dict[str, Any]
    train: int | None
    validation: int | None
    test: int | None
    licence: str
    read_in: str
    confidence: str

    def values(self) -> dict[str, Any]:
        """Return the task as a configuration has it."""
        source = dict(self.source)
        for key in ("hub", "url"):
            if key in source and self.licence:
                source[key] = {**source[key], "licence": self.licence}
        label = f"{languages()[self.code].name} {AUTOMATIC.get(self.task, self.task)} ({self.name})"
        entry = {"language": self.code, "kind": self.kind, "label": label, "optional": True}
        return entry | source


@cache
def languages() -> dict[str, Language]:
    """Return the Wikipedias, closed ones too, by code."""
    return {
        row["code"]: Language(
            articles=number(row.pop("articles")),
            is_closed=row.pop("status") == "closed",
            teachers=tuple(row.pop("teachers").split()),
            **row,
        )
        for row in rows("languages.tsv")
    }


@cache
def entries() -> tuple[Entry, ...]:
    """Return all tasks, by language and sort, the preferred ones first."""
    sizes = ("train", "validation", "test")
    return tuple(
        Entry(**(row | {"source": json.loads(row["source"])} | {s: number(row[s]) for s in sizes}))
        for row in rows("catalogue.tsv")
    )


def rows(file: str) -> list[dict[str, Any]]:
    """Return the rows of a table beside this file."""
    with Path(__file__).with_name(file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def number(text: str) -> int | None:
    """Return a number, or None where there is none."""
    return int(text) if text else None


def is_known(code: str) -> bool:
    """Return whether a code is that of a Wikipedia, closed or not, or free for private use."""
    return code in languages() or PRIVATE_USE.fullmatch(code) is not None


# ISO 639 codes of varieties, by those of the Wikipedias that are written in them.
OTHER_CODES = {
    **{"nb": "no", "nob": "no", "cmn": "zh", "zsm": "ms", "pes": "fa", "arb": "ar", "ekk": "et"},
    **{"lvs": "lv", "kmr": "ku", "plt": "mg", "swh": "sw", "npi": "ne", "uzn": "uz", "khk": "mn"},
    **{"azj": "az", "ydd": "yi", "gaz": "om", "ory": "or", "mo": "ro", "filipino": "tl"},
}
# One letter more or less of so short a code is another language.
LONGEST_CODE = 3


def unknown(word: str) -> str:
    """Return what to say of a word that is no code: which code was probably meant."""
    names = {}
    for each in languages().values():
        for name in (each.autonym, each.iso639_3, each.name, each.code.replace("-", "_")):
            names[name.lower()] = each.code
    names |= {code: code for code in languages()} | OTHER_CODES
    address = re.sub(r"\.?wiki(pedia\.org)?$", "", word.lower())
    close = [word.lower(), address, re.split("[-_]", address)[0]]
    if len(word) > LONGEST_CODE:
        close += difflib.get_close_matches(word.lower(), names, n=1)
    meant = next((names[name] for name in close if name in names), None)
    hint = "it is the first part of the address, as cy in https://cy.wikipedia.org"
    if meant is not None:
        hint = f"did you mean {meant!r} ({languages()[meant].name})?"
    return f"there is no Wikipedia of the code {word!r}; {hint}"


# Tasks of a language


def entries_of(code: str) -> dict[str, Entry]:
    """Return the entry that ``tasks: auto`` takes for each sort of task; sorts may be missing."""
    found: dict[str, Entry] = {}
    for entry in entries():
        is_fit = entry.confidence == "read" and (entry.train or LEAST_TRAIN) >= LEAST_TRAIN
        if entry.code == code and entry.task in AUTOMATIC and is_fit:
            found.setdefault(entry.task, entry)
    return found


def tasks_of(code: str) -> dict[str, dict[str, Any]]:
    """Return the tasks that ``tasks: auto`` takes for a language, as a configuration has them.

    >>> list(tasks_of("ltg"))
    ['ltg-topics']
    """
    return {f"{code}-{task}": entry.values() for task, entry in entries_of(code).items()}


def treebank_prefix(treebank: str) -> str | None:
    """Return how the names of a treebank's files begin; None of one that is not here.

    >>> treebank_prefix("UD_Welsh-CCG")
    'cy_ccg'
    """
    prefixes = (each.source["ud"]["prefix"] for each in entries() if each.name == treebank)
    return next(prefixes, None)


def without_part_of_speech(code: str) -> str:
    """Return why a language has no automatic task of part of speech."""
    few = next((each for each in entries() if each.code == code and each.task == "upos"), None)
    if few is not None:
        return f"{few.name} has {few.train} sentences to train on, fewer than {LEAST_TRAIN}"
    return getattr(languages().get(code), "treebanks", "") or "no treebank is known"


# In a configuration


def spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose ``tasks: auto`` is a mapping, so that others go into it."""
    return dict(values) | ({"tasks": {"auto": True}} if values.get("tasks") == "auto" else {})


def resolved(tasks: Any, codes: Collection[str]) -> tuple[Any, list[Problem]]:
    """Return the tasks of a configuration with the automatic ones written out, and problems.

    ``auto: true`` adds the tasks of all languages; ``name: null`` takes one out; ``name: text``
    adds the entry of the catalogue that has this name; a mapping is a task of the user's, or
    changes settings of an automatic one.
    """
    if not isinstance(tasks, dict):
        return tasks, []
    written = {
        name: AS_TEXT.get(value, value) if isinstance(value, str) else value
        for name, value in tasks.items()
    }
    auto = written.pop("auto", False)
    # A bare no is false in YAML; such keys are reported elsewhere.
    codes = [code for code in codes if isinstance(code, str)]
    problems: list[Problem] = []
    result: dict[str, Any] = {}
    if auto is True:
        for code in codes:
            result |= tasks_of(code)
            if not is_known(code):
                problems.append((("languages", code), f"tasks: auto: {unknown(code)}"))
    elif auto is not False:
        problems.append((("tasks", "auto"), f"expected true or false, found {auto!r}"))
    automatic = list(result)
    for name, value in written.items():
        if value is None and "auto" in tasks:
            if result.pop(name, None) is None:
                message = f"no automatic task has this name{suggestion(name, automatic)}"
                problems.append((("tasks", name), message))
        elif isinstance(value, str):
            try:
                result[name] = named(name, value, codes)
            except ValueError as error:
                problems.append((("tasks", name), str(error)))
        elif isinstance(value, dict) and name in automatic and not DEFINING & value.keys():
            result[name] = result[name] | value
        else:
            result[name] = value
    return result, problems


def named(task: str, name: str, codes: Collection[str]) -> dict[str, Any]:
    """Return the entry of a name, for the language with whose code the task's name begins.

    Raises:
        ValueError: the task's name begins with no code, or the language has no such entry.
    """
    code = max((each for each in codes if str(task).startswith(f"{each}-")), key=len, default=None)
    if code is None:
        raise ValueError(
            f"begin its name with the code of its language, as {'-'.join([*codes][:1])}-{task}"
        )
    known = {each.name: each for each in entries() if each.code == code}
    if name not in known:
        raise ValueError(f"the catalogue has no {name!r} in {code!r}{suggestion(name, known)}")
    return known[name].values()
