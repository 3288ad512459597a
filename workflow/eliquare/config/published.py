"""The numbers that the papers print, and which of them an experiment can be compared with.

The papers label their metrics loosely. ``metric_probable`` in published.csv is the metric that a
number most probably is, judged by its value, the data and the papers of the compared models.
"""

import csv
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from eliquare.config.base import Problem
from eliquare.config.errors import suggestion
from eliquare.config.model import Configuration, Student, Teacher
from eliquare.config.systems import System

# The metric of ours that the printed scores of a kind of task are compared with; of names that of
# run_ner.py, as conlleval counts. Rows of any other kind are no scores.
COMPARABLE = {
    "upos": "accuracy",
    "ner": "entity_f1",
    "nli": "accuracy",
    "sentiment": "accuracy",
    "topic": "macro_f1",
}
# Rows that are no scores of a task: coling2022 Table 3, and the pages of the Wikipedias.
EFFICIENCY, PAGES, SCRIPTS = "efficiency", "pages", "scripts"
BATCH_SIZE, SEQUENCE_LENGTH = 32, 512  # of coling2022 Table 3
# The printed row that the differences and the speed-ups of a table are relative to.
BASELINES = {
    ("electronics2023", "6"): "loss_ce1_cos1_mlm1",  # Figure 4
    ("electronics2023", "7"): "tau_2.0",  # Figure 5
} | {("cruz2024", table): "mbert" for table in "2345"}


@dataclass(frozen=True)
class Published:
    """One printed number: ``value`` in ``unit``, or between 0 and 1 if the unit is empty."""

    paper: str
    table: str
    system: str
    language: str
    task: str
    task_kind: str
    metric: str
    metric_probable: str
    value: float
    unit: str
    dataset: str
    condition: str
    flag: str

    @property
    def is_score(self) -> bool:
        """Whether this is the score of a system on a task."""
        return self.task_kind in COMPARABLE

    @property
    def is_for_every_language(self) -> bool:
        """Whether the paper prints one number for all its languages."""
        return self.language == "all"

    @property
    def is_of_one_task(self) -> bool:
        """Whether the number is of a task."""
        return not self.is_for_every_language and self.task != "all"

    @property
    def note(self) -> str:
        """A remark where label and value of the metric disagree."""
        label, probable = short(self.metric), short(self.metric_probable)
        if probable in ("", label):
            return ""
        words = "averaging not stated" if "not stated" in label else f"labelled {label}"
        return f"{words}; most probably {probable}"


@functools.cache
def read() -> tuple[Published, ...]:
    """Return all published numbers, in the order of the file."""
    file = resources.files("eliquare.config") / "published.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(Published(value=float(row.pop("value")), **row) for row in rows)


def printed(paper: str, table: str) -> list[Published]:
    """Return the numbers of one table, in the order of the file."""
    return [row for row in read() if (row.paper, row.table) == (paper, table)]


def short(label: str) -> str:
    """Return the label of a metric without its remarks."""
    return re.split(r" \(|;", label)[0].strip()


# What of an experiment is printed


def languages_of(settings: Configuration) -> list[str]:
    """Return the languages of the experiment."""
    return list(settings.experiment.languages or settings.languages)


def systems_printed_as(settings: Configuration, row: Published) -> list[str]:
    """Return the compared systems that a row is about, one name for all distillation seeds."""
    entries: dict[str, Teacher | Student | System] = {
        **settings.teachers,
        **settings.systems,
        **settings.students,
    }
    names = dict.fromkeys(name.partition("@")[0] for name in settings.experiment.systems)
    return [
        name
        for name in names
        if row.system in entries[name].published_as and is_for(entries[name], row)
    ]


def is_for(entry: Teacher | Student | System, row: Published) -> bool:
    """Return whether a system is for the language of a row."""
    languages = [] if isinstance(entry, Teacher) else entry.languages
    return row.is_for_every_language or not languages or row.language in languages


def tasks_printed_as(settings: Configuration, row: Published) -> list[str]:
    """Return the tasks of the experiment that a row is about."""
    names = settings.experiment.tasks
    return [
        name
        for name in (settings.tasks if names is None else names)
        if (known := settings.tasks[name].published_as)
        and (known.language or settings.tasks[name].language, known.task)
        == (row.language, row.task)
    ]


def compares(settings: Configuration, row: Published) -> bool:
    """Return whether the experiment has something to put beside a printed number."""
    if row.task_kind == PAGES:
        known = row.language in languages_of(settings)
        return known and settings.languages[row.language].corpus.source == "dump"
    systems = systems_printed_as(settings, row)
    return bool(systems and (not row.is_of_one_task or tasks_printed_as(settings, row)))


def problems(settings: Configuration) -> Iterator[Problem]:
    """Yield the names that no paper prints, and the tables that nothing can stand beside."""
    rows = read()
    systems = {row.system for row in rows}
    for section in ("teachers", "students", "systems"):
        for name, entry in getattr(settings, section).items():
            for each in entry.published_as:
                if each not in systems:
                    said = f"no paper prints a system {each!r}{suggestion(each, systems)}"
                    yield (section, name, "published_as"), said
    for name, task in settings.tasks.items():
        if known := task.published_as:
            code = known.language or task.language
            of_language = {row.task for row in rows if row.language == code and row.is_score}
            if known.task not in of_language:
                said = f"no paper prints a task {known.task!r} in {code!r}"
                where = ("tasks", name, "published_as")
                yield where, f"{said}{suggestion(known.task, of_language)}"
    for place, asked in enumerate(settings.experiment.papers):
        of_table = ("experiment", "papers", place)
        numbers = printed(asked.paper, asked.table)
        if not numbers or numbers[0].task_kind == SCRIPTS:
            known_tables = {row.table for row in rows if row.paper == asked.paper}
            tables = ", ".join(sorted(table for table in known_tables if table.isdigit()))
            said = f"table {asked.table!r} of {asked.paper} prints nothing that can be compared"
            yield of_table, f"{said}; those that can are {tables}"
        # An average over tasks is of those that are compared.
        elif not any(compares(settings, row) for row in numbers if row.task != "all"):
            yield of_table, f"table {asked.table} of {asked.paper}: {nothing_beside(numbers)}"
        elif all(row.task_kind == EFFICIENCY for row in numbers) and not measured(settings):
            size = f"batch_sizes: [1, {BATCH_SIZE}], sequence_length: {SEQUENCE_LENGTH}"
            said = f"of batches of {BATCH_SIZE} sequences of {SEQUENCE_LENGTH} tokens"
            fix = f"write `benchmark: {{{size}}}`, or remove the table"
            yield of_table, f"table {asked.table} of {asked.paper} is {said}; {fix}"


def measured(settings: Configuration) -> bool:
    """Return whether the experiment measures the size that coling2022 Table 3 prints."""
    asked = settings.benchmark
    return asked.sequence_length == SEQUENCE_LENGTH and BATCH_SIZE in asked.batch_sizes


def nothing_beside(numbers: list[Published]) -> str:
    """Return why nothing of an experiment can stand beside the numbers of a table."""
    if numbers[0].task_kind == PAGES:
        codes = ", ".join(row.language for row in numbers)
        return f"no language of the experiment is one of {codes} with a dump; remove the table"
    systems = ", ".join(dict.fromkeys(row.system for row in numbers))
    what = "system" if numbers[0].is_for_every_language else "system on a task"
    fix = "give it with `published_as`, or remove the table"
    return f"no {what} of the experiment is among its rows ({systems}); {fix}"
