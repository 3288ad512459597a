"""Read what an experiment left under results/: the only module that knows where it lies."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eliquare import stage
from eliquare.layout import Layout

# Upper over lower quartile of a latency: more than this, and other work disturbed it.
STEADY = 1.5
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "entity_f1": "entity F1",
    "micro_f1": "micro-F1",
}


@dataclass(frozen=True)
class Score:
    """One metric of one system on one task, one value a seed."""

    metric: str
    by_seed: dict[int, float]

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.by_seed)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds (n - 1); None with one seed, where it is unknown."""
        return statistics.stdev(self.by_seed.values()) if self.n > 1 else None


@dataclass(frozen=True)
class Curve:
    """The history of one distillation; ``students`` are the systems that come from it."""

    student: str
    corpus: str
    students: tuple[str, ...]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Experiment:
    """The completed configuration of an experiment, and its results."""

    settings: dict[str, Any]
    layout: Layout

    def of_language(self, language: str) -> "Experiment":
        """The part of the experiment that is about one language, read without the others."""
        own = {
            "languages": [language],
            "tasks": self.tasks_of(language),
            "systems": [name for name in self.systems if self.layout.is_for(name, language)],
        }
        settings = self.settings | {"experiment": self.settings["experiment"] | own}
        return Experiment(settings, Layout(settings, self.layout.results))

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.settings["name"]

    @property
    def title(self) -> str:
        """Its title, as people read it."""
        return self.settings.get("title") or self.name

    @property
    def languages(self) -> list[str]:
        """Language codes, in the experiment's order."""
        return self.settings["experiment"]["languages"]

    @property
    def systems(self) -> list[str]:
        """Names of the compared systems, in row order."""
        return self.settings["experiment"]["systems"]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in column order."""
        return self.settings["experiment"]["tasks"]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the fine-tuning."""
        return self.settings["experiment"]["seeds"]

    @property
    def baseline(self) -> str | None:
        """The system that differences are taken to."""
        return self.settings["experiment"].get("baseline")

    @property
    def papers(self) -> list[dict[str, str]]:
        """The published tables that this experiment repeats."""
        return self.settings["experiment"].get("papers") or []

    @property
    def students(self) -> list[str]:
        """The compared systems that are students made here."""
        return [name for name in self.systems if name in self.settings["students"]]

    def language(self, code: str) -> str:
        """A language's name, or a mixture's with its languages."""
        if code in self.settings.get("mixtures", {}):
            members = ", ".join(self.language(member) for member in self.settings["mixtures"][code])
            return f"{code} ({members})"
        return (self.settings["languages"].get(code) or {}).get("name") or code

    def task(self, name: str) -> dict[str, Any]:
        """A task's settings."""
        return self.settings["tasks"][name]

    def task_label(self, name: str) -> str:
        """A task's name as people read it."""
        return self.task(name).get("label") or name

    def task_title(self, name: str) -> str:
        """A task's name with its language's, where the label does not begin with it."""
        language = self.language(self.task(name)["language"])
        label = self.task_label(name)
        return label if label.split()[0] == language.split()[0] else f"{language}: {label}"

    def entry(self, system: str) -> dict[str, Any]:
        """The settings of a student, a teacher or another system."""
        for kind in ("students", "systems", "teachers"):
            if system in self.settings[kind]:
                return self.settings[kind][system]
        raise stage.InputError(
            f"settings, experiment.systems: {system} is no student, teacher or system; "
            "give it an entry under one of them"
        )

    def label(self, system: str) -> str:
        """A system's name as people read it."""
        return self.entry(system).get("label") or system

    def teacher(self, system: str) -> str | None:
        """The name of a student's teacher, None for what is no student."""
        return self.entry(system)["teacher"] if system in self.settings["students"] else None

    def tasks_of(self, language: str) -> list[str]:
        """The experiment's tasks in one language."""
        return [name for name in self.tasks if self.task(name)["language"] == language]

    def is_distilled(self, student: str) -> bool:
        """Whether a student was trained at all, or is the start of one for comparison."""
        return any(self.layout.history(student, language) for language in self.languages)

    @cached_property
    def finetuned(self) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
        """For each (system, task): the metrics file of each seed."""
        found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        for task, system, seed in self.layout.runs():
            path = self.layout.finetuned(task, system, seed) / "metrics.json"
            found.setdefault((system, task), {})[seed] = stage.read_json(path)
        return found

    def score(self, system: str, task: str, metric: str | None = None) -> Score | None:
        """A system's score on a task's test split, by its main metric where none is named."""
        by_seed = self.finetuned.get((system, task))
        if by_seed is None:
            return None
        metric = metric or next(iter(by_seed.values()))["metric"]
        if any(metric not in metrics["test"] for metrics in by_seed.values()):
            return None
        return Score(metric, {seed: metrics["test"][metric] for seed, metrics in by_seed.items()})

    def metric(self, task: str) -> str:
        """The name of a task's main metric."""
        scores = (self.score(system, task) for system in self.systems)
        return next(score.metric for score in scores if score)

    def mean_score(self, system: str, tasks: list[str]) -> float | None:
        """Mean of a system's main metrics over tasks; None where one is missing."""
        scores = [self.score(system, task) for task in tasks]
        if not scores or None in scores:
            return None
        return statistics.fmean(score.mean for score in scores)

    @cached_property
    def measured(self) -> dict[tuple[str, str], dict[str, Any]]:
        """For each (system, language): the measured file."""
        return {
            (system, language): stage.read_json(self.layout.measured(language, system))
            for language, system in self.layout.pairs()
        }

    def parameters(self, system: str) -> float:
        """Parameters of a system: the mean over its languages."""
        return statistics.fmean(
            measured["parameters"]["total"]
            for (name, _), measured in self.measured.items()
            if name == system
        )

    def encoder_latency(self, system: str, language: str) -> dict[int, float]:
        """For each batch size: median milliseconds of the encoder alone, where they are steady."""
        measured = self.measured.get((system, language), {"measurements": []})
        return {
            row["batch_size"]: row["latency_ms"]["median"]
            for row in measured["measurements"]
            if row["part"] == "encoder" and is_steady(row["latency_ms"])
        }

    @cached_property
    def curves(self) -> list[Curve]:
        """One history for each distillation that a student of the experiment comes from."""
        found: dict[Path, tuple[str, str, dict[str, None]]] = {}
        for student in self.students:
            for language in self.languages:
                path = self.layout.history(student, language)
                if path:
                    by = self.layout.distilled_by(student)
                    corpus = self.layout.corpus_of(by, language)
                    found.setdefault(path, (by, corpus, {}))[2][student] = None
        return [
            Curve(by, corpus, tuple(students), list(read_lines(path)))
            for path, (by, corpus, students) in found.items()
        ]

    def provenance(self, student: str, corpus: str) -> dict[str, Any]:
        """What a distilled student came from; empty where nothing was written."""
        path = self.layout.student(student, corpus, "distilled") / "provenance.json"
        return stage.read_json(path) if path.exists() else {}

    @cached_property
    def corpora(self) -> dict[str, dict[str, Any]]:
        """The report of the documents of each language, and of each mixture that was made."""
        paths = {code: self.layout.documents(code) / "report.json" for code in self.languages}
        for curve in self.curves:
            path = self.layout.documents(curve.corpus) / "report.json"
            if path.exists():
                paths[curve.corpus] = path
        return {name: stage.read_json(path) for name, path in paths.items()}

    @cached_property
    def vocabularies(self) -> list[dict[str, Any]]:
        """Reports of the vocabularies that were cut, each with its corpus, teacher and rule."""
        found = []
        for corpus, teacher, rule in self.layout.vocabulary_rules():
            report = stage.read_json(self.layout.vocabulary_report(corpus, teacher, rule))
            found.append({"corpus": corpus, "teacher": teacher, "rule": rule, **report})
        return found


def is_steady(latency: dict[str, float]) -> bool:
    """Whether the middle half of the batches took nearly the same time.

    Where it did not, other work on the machine disturbed the measurement.
    """
    return latency["upper_quartile"] <= STEADY * latency["lower_quartile"]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    with stage.existing(path, "history of a distillation").open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise stage.InputError(f"{path}, line {number}: not JSON ({error.msg})") from None


def read(settings: str | Path, results: str | Path) -> Experiment:
    """Read the settings; results are read when they are asked for.

    Raises InputError for a missing file or key.
    """
    values = stage.read_json(settings)
    for key in ("name", "languages", "teachers", "students", "systems", "tasks", "experiment"):
        if key not in values:
            raise stage.InputError(f"{settings}: no key {key}; expected completed settings")
    for key in ("languages", "systems", "tasks", "seeds"):
        if key not in values["experiment"]:
            raise stage.InputError(f"{settings}: no key experiment.{key}")
    experiment = Experiment(values, Layout(values, results))
    for system in experiment.systems:
        experiment.entry(system)
    return experiment
