"""The numbers that the papers print, and which of our metrics each can be compared with.

The papers label their metrics loosely; ``metric_probable`` in resources/published.csv says what a
number most probably is, judged by its value, the data and the models' own papers.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from eliquare import stage

FILE = Path(__file__).parents[3] / "resources" / "published.csv"
NOT_SCORES = ("efficiency", "delta")


@dataclass(frozen=True)
class Published:
    """One printed number; ``value`` in ``unit`` where there is one, else a share of 1."""

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


def read(path: str | Path = FILE) -> list[Published]:
    """All rows of the file of published numbers, in its order."""
    path = stage.existing(path, "file of published numbers")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [Published(**{**row, "value": float(row["value"])}) for row in rows]


def find(
    rows: list[Published], system: str, language: str, task: str, tables: list[dict[str, str]]
) -> list[Published]:
    """The published scores of one system on one task, by the papers' names of all three.

    ``tables`` are the tables (keys paper and table) that the experiment repeats. Where none of them
    holds the system, the first table of their papers that does is taken: the papers print the
    teacher once and refer to it afterwards.
    """
    papers = {table["paper"] for table in tables}
    found = [
        row
        for row in rows
        if row.task_kind not in NOT_SCORES
        and row.paper in papers
        and (row.system, row.language, row.task) == (system, language, task)
    ]
    asked = {(table["paper"], table["table"]) for table in tables}
    return [row for row in found if (row.paper, row.table) in asked] or found[:1]


def metric_named(text: str, task_kind: str = "") -> str | None:
    """Our name of the metric in ``text``, None where the text leaves the averaging open."""
    if "macro-F1" in text and "NOT" not in text and "accuracy" not in text:
        return "macro_f1"
    if "accuracy" in text:
        return "accuracy"
    if "entity" in text or (text == "F1" and task_kind == "ner"):
        return "entity_f1"
    return None


def comparable(row: Published) -> str | None:
    """The metric of ours to compare this number with: the probable one, else as labelled."""
    return metric_named(row.metric_probable or row.metric, row.task_kind)


def short(text: str) -> str:
    """A metric's published name without its remarks."""
    return re.split(r" \(|;", text)[0].strip()


def note(row: Published) -> str:
    """What to know about the published metric's name; empty where label and value agree."""
    if not row.metric_probable:
        return ""
    labelled = metric_named(row.metric)
    if labelled is None:
        return f"averaging not stated; most probably {short(row.metric_probable)}"
    if labelled != comparable(row):
        return f"labelled {short(row.metric)}; most probably {short(row.metric_probable)}"
    return ""
