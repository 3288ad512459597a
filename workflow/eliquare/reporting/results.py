"""What an experiment left under results/: scores, benchmarks, histories and reports, read once.

A system may have been distilled with several seeds (``name``, ``name@2``, …). Everything here is
named by ``name`` alone, and its scores are over all pairs of distillation seed and fine-tuning
seed. All numbers of the tables, figures and sentences come from this module.
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from eliquare.cli import Options
from eliquare.config import load
from eliquare.config.model import Configuration, Student, System, Task, Teacher
from eliquare.io import InputError, existing, read_json, read_json_lines
from eliquare.paths import Paths

# Upper over lower quartile of a latency: above this, other work disturbed the measurement.
STEADY = 1.5
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "entity_f1": "entity F1",
    "micro_f1": "micro-F1",
}
Split = Literal["test", "validation"]
# For each (system, language): its sizes and speeds.
Benchmarks = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Score:
    """One metric of one system, a value for each (distilled model, fine-tuning seed)."""

    metric: str
    runs: dict[tuple[str, int], float]

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.runs)

    @property
    def mean(self) -> float:
        """Mean over all runs."""
        return statistics.fmean(self.runs.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over all runs; None for one run."""
        return statistics.stdev(self.runs.values()) if self.n > 1 else None

    @cached_property
    def by_distillation(self) -> dict[str, list[float]]:
        """Values of the fine-tuning seeds for each distilled model."""
        groups: dict[str, list[float]] = {}
        for (member, _), value in self.runs.items():
            groups.setdefault(member, []).append(value)
        return groups

    @property
    def distillation_deviation(self) -> float | None:
        """Deviation over distillation seeds, of the means over fine-tuning seeds; None for one."""
        means = [statistics.fmean(values) for values in self.by_distillation.values()]
        return statistics.stdev(means) if len(means) > 1 else None

    @property
    def finetuning_deviation(self) -> float | None:
        """Deviation over fine-tuning seeds, pooled over the distilled models; None for one."""
        groups = [values for values in self.by_distillation.values() if len(values) > 1]
        return pooled(groups) if groups else None


def pooled(groups: Iterable[Iterable[float]]) -> float:
    """Return the pooled sample standard deviation of groups of values around their own means."""
    squares, freedom = 0.0, 0
    for group in map(list, groups):
        squares += statistics.variance(group) * (len(group) - 1) if len(group) > 1 else 0.0
        freedom += len(group) - 1
    return math.sqrt(squares / freedom)


def within_spread(a: Score, b: Score) -> bool | None:
    """Whether two means differ by no more than the pooled deviation of their runs.

    None if both have a single run: the spread is unknown then.
    """
    if a.n + b.n <= 2:
        return None
    return abs(a.mean - b.mean) <= pooled([a.runs.values(), b.runs.values()])


@dataclass(frozen=True)
class Curve:
    """The history of one distillation; ``students`` are the systems that come from it."""

    student: str
    corpus: str
    students: tuple[str, ...]
    rows: list[dict[str, Any]]


class ExperimentOptions(Options):
    """Options of all stages of this room."""

    settings: Path = Field(description="The experiment's settings.json.")
    results: Path = Field(Path("results"), description="Folder of all results.")


class Experiment:
    """The complete configuration of an experiment, and its results, read when asked for."""

    def __init__(self, settings: Configuration, results: str | Path):
        self.settings = settings
        self.paths = Paths(settings, results)
        self._files: dict[Path, dict[str, Any]] = {}

    @property
    def title(self) -> str:
        """Title of the report."""
        return self.settings.title or self.settings.name

    @property
    def languages(self) -> list[str]:
        """Language codes, in the experiment's order."""
        return self.settings.experiment.languages

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in column order."""
        return self.settings.experiment.tasks or []

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """For each compared system, in row order: its models, one for each distillation seed."""
        members: dict[str, list[str]] = {}
        for name in self.settings.experiment.systems:
            members.setdefault(load.base_name(name), []).append(name)
        return members

    @property
    def systems(self) -> list[str]:
        """Names of the compared systems, without distillation seeds."""
        return list(self.members)

    @property
    def students(self) -> list[str]:
        """The compared systems that are students made here."""
        return [name for name in self.systems if name in self.settings.students]

    @property
    def has_distillation_seeds(self) -> bool:
        """Whether any system was distilled with more than one seed."""
        return any(len(members) > 1 for members in self.members.values())

    def language(self, code: str) -> str:
        """Return a language's name, or a mixture's with its languages."""
        if code in self.settings.mixtures:
            members = ", ".join(map(self.language, self.settings.mixtures[code]))
            return f"{code} ({members})"
        language = self.settings.languages.get(code)
        return (language and language.name) or code

    def task(self, name: str) -> Task:
        """Return a task's settings."""
        return self.settings.tasks[name]

    def task_label(self, name: str) -> str:
        """Return a task's name for people."""
        return self.task(name).label or name

    def task_title(self, name: str) -> str:
        """Return a task's name with its language's, unless the label begins with it."""
        language = self.language(self.task(name).language)
        label = self.task_label(name)
        return label if label.split()[0] == language.split()[0] else f"{language}: {label}"

    def tasks_of(self, language: str) -> list[str]:
        """Return the experiment's tasks in one language."""
        return [name for name in self.tasks if self.task(name).language == language]

    def entry(self, system: str) -> Student | Teacher | System:
        """Return the settings of a system."""
        found: Student | Teacher | System | None = self.settings.students.get(system)
        found = found or self.settings.systems.get(system)
        return found or self.settings.teachers[system]

    def label(self, system: str) -> str:
        """Return a system's name for people."""
        return self.entry(system).label or system

    def teacher(self, system: str) -> str:
        """Return the name of a student's teacher; empty for a system that is no student."""
        student = self.settings.students.get(system)
        return (student and student.teacher) or ""

    def finetuned(self, system: str, task: str) -> dict[str, dict[str, Any]]:
        """Return the results of a task for each model of a system; empty if it is not for it."""
        language = self.task(task).language
        if not self.paths.is_for(system, language):
            return {}
        found = {}
        for member in self.members[system]:
            path = self.paths.scores(language, member)
            scores = self._read(path)["tasks"]
            if task not in scores:
                raise InputError(f"{path}: no scores of {task}; fine-tune this system on it")
            found[member] = scores[task]
        return found

    def score(
        self, system: str, task: str, metric: str | None = None, split: Split = "test"
    ) -> Score | None:
        """Return a system's score on a task, by the main metric unless another is named."""
        found = self.finetuned(system, task)
        if not found:
            return None
        metric = metric or next(iter(found.values()))["metric"]
        runs = {}
        for member, results in found.items():
            for seed in self.settings.experiment.seeds:
                if str(seed) not in results["seeds"]:
                    path = self.paths.scores(self.task(task).language, member)
                    raise InputError(f"{path}: no scores of {task} with seed {seed}")
                values = results["seeds"][str(seed)][split]
                if metric not in values:
                    return None
                runs[member, seed] = values[metric]
        return Score(metric, runs)

    def metrics_of(self, system: str, task: str) -> list[str]:
        """Return the names of all numeric metrics of a system on a task."""
        for results in self.finetuned(system, task).values():
            values = results["seeds"][str(self.settings.experiment.seeds[0])]["test"]
            return [name for name, value in values.items() if isinstance(value, int | float)]
        return []

    def metric(self, task: str) -> str:
        """Return the name of a task's main metric."""
        scores = (self.score(system, task) for system in self.systems)
        return next(score.metric for score in scores if score)

    def mean_score(self, system: str, tasks: list[str], split: Split = "test") -> Score | None:
        """Return the mean over tasks, run by run; None if the system lacks one of the tasks."""
        scores = [self.score(system, task, split=split) for task in tasks]
        found = [score for score in scores if score is not None]
        if not found or len(found) < len(scores):
            return None
        runs = {run: statistics.fmean(score.runs[run] for score in found) for run in found[0].runs}
        return Score("mean", runs)

    def _read(self, path: Path) -> dict[str, Any]:
        if path not in self._files:
            self._files[path] = read_json(path)
        return self._files[path]

    def benchmark(self, system: str, language: str) -> dict[str, Any] | None:
        """Return sizes and speeds of a compared system; None if it is not for the language.

        They are those of its first model: distillation seeds change neither.
        """
        if system not in self.members or not self.paths.is_for(system, language):
            return None
        return self._read(self.paths.benchmark(language, system))

    @property
    def benchmarks(self) -> Benchmarks:
        """Sizes and speeds of all systems."""
        return self.benchmarks_of(self.systems, self.languages)

    def benchmarks_of(self, systems: Iterable[str], languages: Iterable[str]) -> Benchmarks:
        """Return sizes and speeds of some systems for some languages."""
        return {
            (system, language): benchmark
            for language in languages
            for system in systems
            if (benchmark := self.benchmark(system, language))
        }

    def parameters(self, system: str) -> float:
        """Return the parameters of a system, the mean over its languages."""
        return statistics.fmean(
            benchmark["parameters"]["total"]
            for (name, _), benchmark in self.benchmarks.items()
            if name == system
        )

    def speedup(self, system: str, language: str, row: dict[str, Any]) -> float | None:
        """Return the teacher's latency over the system's, for one of its measurements.

        None without a teacher, and where other work disturbed one of the two measurements.
        """
        teacher = self.benchmark(self.teacher(system), language)
        for other in teacher["measurements"] if teacher else []:
            if (other["batch_size"], other["part"]) == (row["batch_size"], row["part"]):
                latencies = other["latency_ms"], row["latency_ms"]
                if all(map(is_steady, latencies)):
                    return float(latencies[0]["median"] / latencies[1]["median"])
        return None

    @cached_property
    def curves(self) -> list[Curve]:
        """The history of each distillation that a student of the experiment comes from."""
        students: dict[Path, tuple[str, str, dict[str, None]]] = {}
        for language, member in self.paths.pairs():
            path = self.history(member, language)
            if path:
                original = self.paths.original_of(member)
                corpus = self.paths.corpus_of(original, language)
                names = students.setdefault(path, (original, corpus, {}))[2]
                names[load.base_name(member)] = None
        return [
            Curve(original, corpus, tuple(names), self.rows(path))
            for path, (original, corpus, names) in students.items()
        ]

    def history(self, system: str, language: str) -> Path | None:
        """Return the history of a system's distillation; None if it has none."""
        student = system in self.settings.students
        return self.paths.history(system, language) if student else None

    def rows(self, history: Path) -> list[dict[str, Any]]:
        """Return the rows of a history; raise InputError if it is not there."""
        return read_json_lines(existing(history, "history of a distillation"))

    def provenance(self, student: str, corpus: str) -> dict[str, Any]:
        """Return the origin of a distilled student; empty if it is not recorded."""
        path = self.paths.student(student, corpus, "distilled") / "provenance.json"
        found: dict[str, Any] = read_json(path) if path.exists() else {}
        return found

    @cached_property
    def corpora(self) -> dict[str, dict[str, Any]]:
        """The report of the documents of each language, and of each mixture that was used."""
        names = dict.fromkeys([*self.languages, *(curve.corpus for curve in self.curves)])
        return {name: self.documents(name) for name in names}

    def documents(self, corpus: str) -> dict[str, Any]:
        """Return the report of a corpus's documents."""
        report: dict[str, Any] = read_json(self.paths.documents(corpus) / "report.json")
        return report

    @cached_property
    def vocabularies(self) -> list[dict[str, Any]]:
        """Reports of the reduced and extended vocabularies, each with its corpus and teacher."""
        found = []
        for corpus, teacher, vocabulary in self.paths.vocabularies():
            report = read_json(self.paths.vocabulary_report(corpus, teacher, vocabulary))
            names = {"corpus": corpus, "teacher": teacher, "vocabulary": vocabulary}
            found.append(names | report)
        return found


def metric_label(metric: str) -> str:
    """Return the name of a metric for people."""
    return METRICS.get(metric, metric)


def is_steady(latency: dict[str, float]) -> bool:
    """Whether the middle half of the batches took nearly the same time."""
    return latency["upper_quartile"] <= STEADY * latency["lower_quartile"]


def read(options: ExperimentOptions) -> Experiment:
    """Return the experiment of a settings.json; raise InputError if it cannot be used."""
    return Experiment(load.restore(read_json(options.settings)), options.results)
