"""The numbers that the papers print, and the metric of ours that each can be compared with.

The papers label their metrics loosely. ``metric_probable`` in published.csv is the metric that a
number most probably is, judged by its value, the data and the papers of the compared models.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from eliquare.config.model import PublishedTable

# The metric of ours that the printed scores of a kind of task are compared with; of names that of
# run_ner.py, as conlleval counts. Rows of any other kind are no scores.
COMPARABLE = {
    "upos": "accuracy",
    "ner": "entity_f1",
    "nli": "accuracy",
    "sentiment": "accuracy",
    "topic": "macro_f1",
}


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
    def note(self) -> str:
        """A remark where label and value of the metric disagree."""
        label, probable = short(self.metric), short(self.metric_probable)
        if probable in ("", label):
            return ""
        words = "averaging not stated" if "not stated" in label else f"labelled {label}"
        return f"{words}; most probably {probable}"


def read() -> list[Published]:
    """Return all published numbers, in the order of the file."""
    file = resources.files("eliquare.reporting") / "published.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return [Published(value=float(row.pop("value")), **row) for row in rows]


def find(
    rows: list[Published], system: str, language: str, task: str, tables: Iterable[PublishedTable]
) -> list[Published]:
    """Return the published scores of a system on a task, by the papers' names of all three.

    If none of the ``tables`` that the experiment repeats holds the system, take the first table of
    the same papers that does: the papers print the teacher once and refer to it afterwards.
    """
    asked = {(table.paper, table.table) for table in tables}
    found = [
        row
        for row in rows
        if row.task_kind in COMPARABLE
        and row.paper in {paper for paper, _ in asked}
        and (row.system, row.language, row.task) == (system, language, task)
    ]
    return [row for row in found if (row.paper, row.table) in asked] or found[:1]


def short(label: str) -> str:
    """Return the label of a metric without its remarks."""
    return re.split(r" \(|;", label)[0].strip()
