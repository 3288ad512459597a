"""The printed tables of the papers, and our result beside each of their numbers.

A printed number is compared with each system of the experiment whose ``published_as`` names its
row. ``as_printed`` gives the tables in the papers' own rows and columns, ``against_published`` the
same numbers one below the other.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from typing import Any

import yaml

from eliquare.config import published
from eliquare.config.published import BASELINES, COMPARABLE, Published
from eliquare.reporting.formats import ABSENT, Cell, Table, spread, tabulate
from eliquare.reporting.results import Experiment, Score, metric_label, paired_differences

PRINTED = yaml.safe_load(
    (resources.files("eliquare.reporting") / "templates/papers.yaml").read_text(encoding="utf-8")
)
ROWS, QUANTITIES, CAPTIONS = PRINTED["rows"], PRINTED["quantities"], PRINTED["captions"]
# The two parts of a model that a printed latency or memory can be of.
PARTS = ("encoder", "encoder_and_mlm_head")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Ours:
    """What stands beside a printed number: of a system, on a task, of a part of the model."""

    system: str | None = None
    task: str | None = None
    quantity: str = ""
    score: Score | None = None
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """A printed number and ours. ``quantity`` names what both are of: a score, a time, a memory."""

    row: Published
    ours: Ours

    @property
    def quantity(self) -> str:
        """The name in papers.yaml of what is compared; empty for a score."""
        return self.ours.quantity

    @property
    def form(self) -> str:
        """The format of both numbers."""
        return str(QUANTITIES[self.quantity]["form"]) if self.quantity else ".4f"

    def written(self, value: float | None) -> str:
        """Return a number as text."""
        return ABSENT if value is None else format(value, self.form).replace("-", "−")

    @property
    def difference(self) -> float | None:
        """Ours minus the printed number."""
        return None if self.ours.value is None else self.ours.value - self.row.value


# What stands beside a number


def comparisons(experiment: Experiment, paper: str, table: str) -> list[Comparison]:
    """Return each number of a printed table in the experiment's languages, and ours beside it."""
    return [
        Comparison(row, ours)
        for row in published.printed(paper, table)
        if row.is_for_every_language or row.language in experiment.languages
        for ours in beside(experiment, row)
    ]


def beside(experiment: Experiment, row: Published) -> Iterator[Ours]:
    """Yield ours for a printed number, at least once: empty where there is none."""
    if row.task_kind == published.PAGES:
        known = published.compares(experiment.settings, row)
        pages = experiment.documents(row.language)["pages"] / 1e6 if known else None
        yield Ours(quantity="pages", value=pages, note="" if known else "not from a dump")
        return
    # None: the experiment has none of them, or the number is of all of them.
    systems: list[str | None] = [*published.systems_printed_as(experiment.settings, row)]
    tasks: list[str | None] = [*published.tasks_printed_as(experiment.settings, row)]
    for system, task in product(systems or [None], tasks or [None]):
        yield from compared(experiment, row, system, task)


def compared(
    experiment: Experiment, row: Published, system: str | None, task: str | None
) -> Iterator[Ours]:
    """Yield ours for a printed number of a system on a task; twice for a latency or a memory."""
    kind = "" if row.is_score else row.metric
    if system is None or (row.is_of_one_task and task is None):
        lack = "system" if system is None else "task"
        said = f"no {lack} of the experiment is published as this"
        for quantity in quantities(kind):
            yield Ours(system, task, quantity, note=said)
        return
    if row.is_for_every_language:
        for quantity in quantities(kind):
            value = efficiency(experiment, system, quantity)
            yield Ours(system, task, quantity, value=value, note=not_measured(value))
        return
    if kind == "avg_speedup":
        value = average_speedup(experiment, row, system)
        yield Ours(system, task, kind, value=value, note=not_measured(value))
        return
    score = task and scored(experiment, row, system, task)
    missing = task and (experiment.why_unscored(system, task) or not_measured(score or None))
    yield Ours(system, task, kind, score or None, score.mean if score else None, missing or "")


def quantities(kind: str) -> list[str]:
    """Return the quantities of ours that one printed metric is compared with."""
    if kind in ("inference_time", "inference_memory"):
        return [f"{kind} {part}" for part in PARTS]
    return [kind]


def scored(experiment: Experiment, row: Published, system: str, task: str) -> Score | None:
    """Return the score, the difference to the table's baseline, or the seconds of fine-tuning."""
    if row.metric == "finetune_runtime":
        return experiment.seconds(system, task)
    metric = COMPARABLE.get(row.task_kind)
    if metric:
        return experiment.score(system, task, metric)
    kinds = [each.task_kind for each in same_task(row) if each.is_score]
    ours = experiment.score(system, task, COMPARABLE[kinds[0]])
    base = baseline(experiment, row)
    other = experiment.score(base, task, COMPARABLE[kinds[0]]) if base else None
    return paired_differences(ours, other) if ours and other else None


def same_task(row: Published) -> list[Published]:
    """Return the numbers of a row's table on its task."""
    return [each for each in published.printed(row.paper, row.table) if each.task == row.task]


def baseline(experiment: Experiment, row: Published) -> str | None:
    """Return the system of the experiment that a table's differences are relative to."""
    name = BASELINES.get((row.paper, row.table), "")
    systems = published.systems_printed_as(experiment.settings, replace(row, system=name))
    return systems[0] if systems else None


def average_speedup(experiment: Experiment, row: Published, system: str) -> float | None:
    """Return the fine-tuning time of the table's baseline over the system's, the mean over tasks.

    None if one of the tasks of the table that the experiment has was not timed.
    """
    timed = [
        task
        for each in published.printed(row.paper, row.table)
        if each.metric == "finetune_runtime" and each.system == row.system
        for task in published.tasks_printed_as(experiment.settings, each)
    ]
    base = baseline(experiment, row)
    ratios = []
    for task in timed if base else ():
        ours, other = experiment.seconds(system, task), experiment.seconds(base or "", task)
        if not ours or not other:
            return None
        ratios.append(other.mean / ours.mean)
    return statistics.fmean(ratios) if ratios else None


def efficiency(experiment: Experiment, system: str, quantity: str) -> float | None:
    """Return the parameters, latency or memory of a system, the mean over its languages.

    As coling2022 Table 3: millions of parameters; seconds for a batch of 32 sequences of 512
    tokens; megabytes of the weights and the peak of the batch above them.
    """
    benchmarks = experiment.benchmarks_of([system], experiment.languages).values()
    found = [measured(benchmark, quantity) for benchmark in benchmarks]
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known else None


def measured(benchmark: dict[str, Any], quantity: str) -> float | None:
    """Return one quantity of a benchmark; None if it was not measured at that size."""
    total = float(benchmark["parameters"]["total"])
    if quantity == "parameters":
        return total / 1e6
    metric, _, part = quantity.partition(" ")
    if benchmark["sequence_length"] != published.SEQUENCE_LENGTH:
        return None
    for row in benchmark["measurements"]:
        if (row["batch_size"], row["part"]) == (published.BATCH_SIZE, part):
            if metric == "inference_time":
                return float(row["latency_ms"]["median"]) / 1000
            return total * BYTES[benchmark["precision"]] / 1e6 + float(row["peak_memory_mb"])
    return None


def not_measured(value: object) -> str:
    """Return a note for a number that is not there."""
    return "not measured" if value is None else ""


# Tables


def as_printed(experiment: Experiment) -> list[Table]:
    """Return each table that is asked for in the paper's rows and columns, ours and its numbers."""
    asked = dict.fromkeys(
        (each.paper, each.table) for each in experiment.settings.experiment.papers
    )
    return [printed_table(experiment, *names) for names in asked]


def printed_table(experiment: Experiment, paper: str, table: str) -> Table:
    """Return one printed table: a row for each language and printed row, a column for each task."""
    found = comparisons(experiment, paper, table)
    languages = dict.fromkeys(each.row.language for each in found)
    heads = dict.fromkeys(head(experiment, each) for each in found)
    rows: dict[tuple[str, str, str | None], dict[str, Cell]] = {}
    # In the order of the paper, each language by itself.
    for language in languages:
        for each in found:
            if each.row.language == language:
                key = language, each.row.system, each.ours.system
                rows.setdefault(key, {}).setdefault(head(experiment, each), cell(experiment, each))
    with_language, with_system = len(languages) > 1, any(system for *_, system in rows)
    header = ["Language"] * with_language + ["As printed", "System"] * with_system + [*heads]
    cells = [
        [Cell(experiment.language(language))] * with_language
        + [
            Cell(ROWS[name]),
            Cell(experiment.label(system)) if system else Cell(),
        ]
        * with_system
        + [columns.get(each, Cell("")) for each in heads]
        for (language, name, system), columns in rows.items()
    ]
    notes = [*PRINTED["notes"].get(f"{paper} {table}", ())]
    notes += dict.fromkeys(each.ours.note for each in found if each.ours.note.endswith("."))
    caption = f"Table {table} of {paper}: {CAPTIONS[f'{paper} {table}']}. {PRINTED['beside']}"
    records = tabulate(
        experiment, "published", [record(experiment, each) for each in found]
    ).records
    return Table(f"{paper}-table-{table}", caption, header, cells, records, notes)


def head(experiment: Experiment, each: Comparison) -> str:
    """Return the head of the column in which a number stands."""
    row = each.row
    quantity = QUANTITIES[each.quantity]["head"] if each.quantity else ""
    if not row.is_of_one_task or row.task_kind == published.PAGES:
        return str(quantity)
    if row.task.isdigit():
        return f"Task {row.task}"
    task = PRINTED["tasks"][row.task]
    return f"{task}: {quantity or published.short(row.metric)}"


def cell(experiment: Experiment, each: Comparison) -> Cell:
    """Return ours, with its deviation, and the printed number in parentheses."""
    ours = each.ours
    written = each.written(ours.value)
    if ours.score and not ours.quantity:
        written = spread(experiment, ours.score).text
    return Cell(f"{written} ({each.written(each.row.value)})", ours.value)


def record(experiment: Experiment, each: Comparison) -> dict[str, Any]:
    """Return a comparison as a row of ``published.csv``."""
    row, ours = each.row, each.ours
    score, quantity = ours.score, each.quantity and QUANTITIES[each.quantity]["head"]
    shown = spread(experiment, score) if score and not quantity else None
    return {
        "system": ours.system,
        "system cell": Cell(experiment.label(ours.system) if ours.system else ROWS[row.system]),
        "language": None if row.is_for_every_language else row.language,
        "task": ours.task,
        "task cell": Cell(experiment.task_label(ours.task) if ours.task else ABSENT),
        "ours cell": shown or Cell(each.written(ours.value), ours.value),
        "metric": each.quantity or (score and score.metric),
        "metric cell": Cell(quantity or (metric_label(score.metric) if score else ABSENT)),
        "ours": ours.value,
        "deviation": score and score.deviation,
        "n": len(score.runs) if score else 0,
        "published": row.value,
        "published cell": Cell(each.written(row.value), row.value),
        "published_metric": row.metric,
        "published metric cell": Cell(quantity or published.short(row.metric)),
        "unit": row.unit,
        "difference": each.difference,
        "difference cell": Cell(signed(each), each.difference),
        "paper": row.paper,
        "table": row.table,
        "source cell": Cell(f"{row.paper}, table {row.table}"),
        "published_system": row.system,
        "published_dataset": row.dataset,
        "published_condition": row.condition,
        "note": ours.note or row.note,
    }


def signed(each: Comparison) -> str:
    """Return a difference with its sign."""
    if each.difference is None:
        return ABSENT
    form = each.form if each.form.startswith("+") else f"+{each.form}"
    return format(each.difference, form).replace("-", "−")


def against_published(experiment: Experiment) -> Table:
    """Each number that a paper prints too: ours, the printed one, and their difference.

    Ours is the metric that the printed number most probably is. The papers print the teacher once
    and refer to it afterwards: a system that is in none of the tables asked for stands beside its
    first row in another table of the same papers.
    """
    asked = dict.fromkeys(
        (each.paper, each.table) for each in experiment.settings.experiment.papers
    )
    found = [each for names in asked for each in comparisons(experiment, *names)]
    compared_already = {(each.ours.system, each.row.language, each.row.task) for each in found}
    papers = {paper for paper, _ in asked}
    for row in published.read():
        if row.paper in papers and row.is_score and row.language in experiment.languages:
            for ours in beside(experiment, row):
                key = (ours.system, row.language, row.task)
                if ours.system and ours.task and key not in compared_already:
                    compared_already.add(key)
                    found.append(Comparison(row, ours))
    return tabulate(experiment, "published", [record(experiment, each) for each in found])
