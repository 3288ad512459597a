"""What tokenizers do: the scripts of a full vocabulary, and the segmentation of long words.

As electronics2023 shows them in its Figures 1 and 2.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eliquare.config import published
from eliquare.io import InputError, existing, why_unavailable
from eliquare.reporting.formats import Cell, Table, tabulate
from eliquare.reporting.results import Experiment
from eliquare.vocabulary.scripts import count_scripts, grouped
from eliquare.vocabulary.tokenizer import (
    Description,
    list_tokens,
    read_description,
)

COMMON = "Common"
# Whose tokens are shown side by side, as the heads of the table.
TEACHER, STUDENT, OTHER = "Teacher", "Student", "Best other model"


class Segmented(NamedTuple):
    """A long word of a language, and its tokens by some systems.

    ``systems`` and ``tokens`` are by what the system is: TEACHER, STUDENT, OTHER.
    """

    language: str
    word: str
    systems: dict[str, str]
    tokens: dict[str, list[str]]


@cache
def description_of(folder: Path) -> Description | None:
    """Return the tokenizer of a model folder; None if it was not fetched, or cannot be read."""
    if why_unavailable(folder):
        return None
    try:
        return read_description(existing(folder, "model folder with a tokenizer"))
    except InputError:
        return None


# Scripts


def scripts(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Return the tokens of each script in the full vocabulary of each teacher, most first."""
    paths = experiment.paths
    teachers = {
        paths.root_teacher(name): language
        for language, system in reversed(paths.pairs())
        if (name := experiment.teacher(system) or system) in experiment.settings.teachers
    }
    found = {}
    for teacher, language in reversed(teachers.items()):
        if description := description_of(paths.teacher(language, teacher)):
            found[teacher] = grouped(count_scripts(description, list_tokens(description)))
    return found


def published_scripts(experiment: Experiment, teacher: str) -> dict[str, int]:
    """Return the tokens of some scripts that electronics2023 states for a teacher."""
    names = experiment.settings.teachers[teacher].published_as
    return {
        row.task: int(row.value)
        for row in published.read()
        if row.task_kind == published.SCRIPTS and row.system in names
    }


def scripts_table(experiment: Experiment) -> Table:
    """The scripts of each teacher's full vocabulary, with the printed numbers."""
    records: list[dict[str, Any]] = []
    for teacher, counts in scripts(experiment).items():
        printed = published_scripts(experiment, teacher)
        for script, tokens in counts.items():
            records.append(
                {
                    "teacher": teacher,
                    "script": script,
                    "script cell": Cell(script_label(script)),
                    "tokens": tokens,
                    "share": tokens / sum(counts.values()),
                    "published": printed.get(script.lower()),
                }
            )
    stated = any(record["published"] is not None for record in records)
    columns = [("Published", "published", ",.0f")] if stated else []
    return tabulate(experiment, "teacher_scripts", records, columns)


def script_label(script: str) -> str:
    """Return the name of a script for people."""
    return "none (digits, signs)" if script == COMMON else script


# Words


def compared(experiment: Experiment, language: str) -> dict[str, str]:
    """Return a teacher, a student, and another model that segments the language better, if any.

    The student is the first whose vocabulary is not the teacher's in full. The other model is that
    of `systems` which needs the fewest tokens per word, fewer than the teacher: a monolingual one.
    """
    recipes = experiment.settings.students
    students = [name for name in experiment.students if experiment.paths.is_for(name, language)]
    own = [name for name in students if recipes[name].vocabulary or recipes[name].extension]
    if not students:
        return {}
    student = (own or students)[0]
    teacher = experiment.teacher(student)
    needed = {
        name: fertility
        for name in (teacher, *experiment.settings.systems)
        if experiment.paths.untaught(name) == name
        and (fertility := experiment.fertility(name, language)) is not None
    }
    best = min(needed, key=lambda name: needed[name], default=teacher)
    other = {OTHER: best} if teacher in needed and best != teacher else {}
    return {TEACHER: teacher, STUDENT: student, **other}


def segmented(experiment: Experiment, language: str) -> list[Segmented]:
    """Return long words of the held-out text of a language, cut by each compared tokenizer."""
    systems = compared(experiment, language)
    cut = {
        role: {row["word"]: row["tokens"] for row in reports[0]["long_words"]}
        for role, system in systems.items()
        if (reports := [*experiment.intrinsic(system, language).values()])
        and "long_words" in reports[0]
    }
    shown = {role: systems[role] for role in cut}
    words = list(next(iter(cut.values()), {}))
    return [
        Segmented(language, word, shown, {role: cut[role][word] for role in cut}) for word in words
    ]


def words_table(experiment: Experiment) -> Table:
    """The segmentation of long words, a row for each word."""
    found = [each for code in experiment.languages for each in segmented(experiment, code)]
    heads = [head for head in (TEACHER, STUDENT, OTHER) if any(head in e.tokens for e in found)]
    records = []
    notes: dict[str, None] = {}
    for each in found:
        words = "; ".join(
            f"{head}: {experiment.label(name)}" for head, name in each.systems.items()
        )
        notes[f"{experiment.language(each.language)}. {words}."] = None
        record: dict[str, Any] = {"language": each.language, "word": each.word}
        for head, tokens in each.tokens.items():
            record |= {
                f"{head} cell": Cell(" ".join(tokens)),
                f"{head.lower()} system": each.systems[head],
                f"{head.lower()} tokens": " ".join(tokens),
            }
        records.append(record)
    columns = [(head, f"{head} cell", "text") for head in heads]
    return tabulate(experiment, "segmentation", records, columns, list(notes))
