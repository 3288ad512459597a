"""What an experiment left under results/: scores, benchmarks, histories and reports, read once.

A system may have been distilled with several seeds (``name``, ``name@2``, …). Everything here is
named by ``name`` alone, and its scores are over all pairs of distillation seed and fine-tuning
seed. All numbers of the tables, figures and sentences come from this module.
"""

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field

from eliquare.cli import Options
from eliquare.config import load
from eliquare.config.derive import base_name
from eliquare.config.model import Configuration, Student, Teacher
from eliquare.config.systems import System
from eliquare.evaluation.data import MAIN_METRIC
from eliquare.io import InputError, existing, read_json, read_json_lines
from eliquare.paths import FULL, Paths

# Upper over lower quartile of a latency: above this, other work disturbed the measurement.
STEADY = 1.5
METRICS = {
    "macro_f1": "macro-F1",
    "top_1": "top 1",
    "spearman": "Spearman",
    "bits_per_character": "bits per character",
    "entity_f1": "entity F1, conlleval",
    "entity_precision": "entity precision, conlleval",
    "entity_recall": "entity recall, conlleval",
    "entity_f1_strict": "entity F1, strict IOB2",
    "entity_precision_strict": "entity precision, strict IOB2",
    "entity_recall_strict": "entity recall, strict IOB2",
}
Entry = Student | Teacher | System
Run = tuple[str, int]  # a distilled model, and a fine-tuning seed
# For each (system, language): its sizes and speeds.
Benchmarks = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Score:
    """One metric of one system, a value for each run."""

    metric: str
    runs: dict[Run, float]

    @property
    def mean(self) -> float:
        """Mean over all runs."""
        return statistics.fmean(self.runs.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over all runs; None for one run."""
        return statistics.stdev(self.runs.values()) if len(self.runs) > 1 else None

    @property
    def by_distillation(self) -> list[list[float]]:
        """Values of the fine-tuning seeds for each distilled model."""
        members = dict.fromkeys(member for member, _ in self.runs)
        return [[self.runs[run] for run in self.runs if run[0] == member] for member in members]

    @property
    def distillation_deviation(self) -> float | None:
        """Deviation over distillation seeds, of the means over fine-tuning seeds; None for one."""
        means = list(map(statistics.fmean, self.by_distillation))
        return statistics.stdev(means) if len(means) > 1 else None

    @property
    def finetuning_deviation(self) -> float | None:
        """Deviation over fine-tuning seeds, pooled over the distilled models; None for one."""
        return pooled(self.by_distillation)


def pooled(groups: Iterable[Iterable[float]]) -> float | None:
    """Return the pooled sample standard deviation of groups of values around their own means.

    None if no group has two values.
    """
    several = [values for values in map(list, groups) if len(values) > 1]
    if not several:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    return math.sqrt(squares / sum(len(values) - 1 for values in several))


def within_spread(a: Score, b: Score) -> bool | None:
    """Whether two means differ by no more than the pooled deviation of their runs.

    None if both have a single run: the spread is unknown then.
    """
    deviation = pooled([a.runs.values(), b.runs.values()])
    return None if deviation is None else abs(a.mean - b.mean) <= deviation


def paired_differences(ours: Score, other: Score) -> Score:
    """Return each run minus the other's mean with the same fine-tuning seed."""
    means = {
        seed: statistics.fmean(value for (_, same), value in other.runs.items() if same == seed)
        for _, seed in other.runs
    }
    return Score(ours.metric, {run: value - means[run[1]] for run, value in ours.runs.items()})


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


class OutputOptions(ExperimentOptions):
    """Options of a stage that writes a folder."""

    output: Path = Field(description="Folder to write.")


class Experiment:
    """The complete configuration of an experiment, and its results, read when asked for.

    Attributes:
        entries: The settings of every system that the configuration names.
        languages: Codes of the languages, in the experiment's order.
        tasks: Names of the tasks to fine-tune on, in column order.
        minimal_pairs: Names of the tasks of minimal pairs, in column order.
        members: For each compared system, in row order: its models, one per distillation seed.
        systems: Names of the compared systems, without distillation seeds.
        students: The compared systems that are students made here.
        has_distillation_seeds: Whether any system was distilled with more than one seed.
        baseline: Label of the system that the others are compared with; empty if there is none.
    """

    def __init__(self, settings: Configuration, results: str | Path):
        self.settings = settings
        self.paths = Paths(settings, results)
        self.title = settings.title or settings.name
        teachers, students = settings.teachers, settings.students
        self.entries: dict[str, Entry] = {**teachers, **settings.systems, **students}
        self.languages = settings.experiment.languages
        self.tasks = self.paths.tasks()
        self.minimal_pairs = self.paths.minimal_pairs()
        self.members: dict[str, list[str]] = {}
        for name in settings.experiment.systems:
            self.members.setdefault(base_name(name), []).append(name)
        self.systems = list(self.members)
        self.students = [name for name in self.systems if name in students]
        self.has_distillation_seeds = len(self.systems) < len(settings.experiment.systems)
        baseline = settings.experiment.baseline
        self.baseline = self.label(baseline) if baseline else ""
        self._read: Callable[[Path], dict[str, Any]] = functools.cache(read_json)

    @property
    def over_seeds(self) -> str:
        """What mean and deviation of the scores are taken over, for captions."""
        n = len(self.settings.experiment.seeds)
        fine = f"{n} fine-tuning seed{'s' * (n > 1)}"
        if not self.has_distillation_seeds:
            return f"mean ± sample standard deviation over {fine}" if n > 1 else fine
        return (
            f"mean over up to {max(map(len, self.members.values()))} distillation seeds, each with "
            f"{fine}; D: sample standard deviation over distillation seeds; F: over fine-tuning "
            "seeds, pooled"
        )

    def language(self, code: str) -> str:
        """Return a language's name, or a mixture's with its languages."""
        if code in self.settings.mixtures:
            members = ", ".join(map(self.language, self.settings.members(code)))
            return f"{code} ({members})"
        language = self.settings.languages.get(code)
        return (language and language.name) or code

    def task_label(self, name: str) -> str:
        """Return a task's name for people."""
        return self.settings.tasks[name].label or name

    def task_title(self, name: str) -> str:
        """Return a task's name with its language's, unless the label begins with it."""
        language = self.language(self.settings.tasks[name].language)
        label = self.task_label(name)
        return label if label.split()[0] == language.split()[0] else f"{language}: {label}"

    def label(self, system: str) -> str:
        """Return a system's name for people."""
        return self.entries[system].label or system

    def member_label(self, member: str) -> str:
        """Return the label of one distilled model, with its seed where there are several."""
        recipe = base_name(member)
        if sum(base_name(name) == recipe for name in self.settings.students) < 2:
            return self.label(member)
        return f"{self.label(member)}, seed {self.settings.students[member].training.seed}"

    def teacher(self, system: str) -> str:
        """Return the name of a student's teacher; empty for a system that is no student."""
        student = self.settings.students.get(system)
        return (student and student.teacher) or ""

    def evaluated(self, system: str, task: str) -> dict[str, Any]:
        """Return what the fine-tuning of a system says of a task: its lengths and labels.

        Empty if the system is not for the task's language, and if one of the two is unavailable.
        """
        language = self.settings.tasks[task].language
        if not self.paths.is_for(system, language) or self.why_unscored(system, task):
            return {}
        scores = self._read(self.paths.scores(language, self.members[system][0]))
        found: dict[str, Any] = scores["tasks"].get(task, {})
        return found

    def why_unscored(self, system: str, task: str) -> str:
        """Return which of a system and a task is unavailable, and why; empty if neither is."""
        language = self.settings.tasks[task].language
        if not self.paths.is_for(system, language):
            return ""
        scores = self._read(self.paths.scores(language, self.members[system][0]))
        if reason := scores.get("unavailable"):
            return unavailable(self.label(system), reason)
        reason = scores["tasks"].get(task, {}).get("unavailable")
        return unavailable(self.task_title(task), reason) if reason else ""

    def runs(self, system: str, task: str, split: str) -> dict[Run, dict[str, float]]:
        """Return the metrics of each run of a system on a task; none if it is not for the task."""
        language = self.settings.tasks[task].language
        if not self.paths.is_for(system, language) or self.why_unscored(system, task):
            return {}
        found = {}
        for member, seed in product(self.members[system], self.settings.experiment.seeds):
            path = self.paths.scores(language, member)
            seeds = self._read(path)["tasks"].get(task, {"seeds": {}})["seeds"]
            if str(seed) not in seeds:
                raise InputError(f"{path}: no scores of {task} with seed {seed}")
            found[member, seed] = seeds[str(seed)][split]
        return found

    def score(
        self, system: str, task: str, metric: str | None = None, split: str = "test"
    ) -> Score | None:
        """Return a system's score on a task, by the main metric unless another is named.

        None if the system is not for the task's language, has no such metric, or if one of the two
        is unavailable.
        """
        name = metric or self.metric(task)
        runs = self.runs(system, task, split)
        found = {run: values[name] for run, values in runs.items() if name in values}
        return Score(name, found) if found else None

    def finetuned(self, system: str, task: str) -> dict[Run, Path]:
        """Return the folder of each fine-tuning of a system on a task; empty if it has none."""
        return {
            (member, seed): self.paths.finetuned(task, member, seed)
            for member, seed in self.runs(system, task, "test")
        }

    def seconds(self, system: str, task: str) -> Score | None:
        """Return the seconds of fine-tuning; None if a run was made before they were measured."""
        files = {run: path / "runtime.json" for run, path in self.finetuned(system, task).items()}
        if not files or not all(path.exists() for path in files.values()):
            return None
        return Score("seconds", {run: self._read(path)["seconds"] for run, path in files.items()})

    def metric(self, task: str) -> str:
        """Return the name of a task's main metric."""
        return MAIN_METRIC[self.settings.tasks[task].kind]

    def mean_score(self, system: str, tasks: list[str], split: str = "test") -> Score | None:
        """Return the mean over tasks, run by run; None if the system lacks one of the tasks.

        A task whose data are unavailable is left out.
        """
        tasks = self.scored(tasks)
        found = [score for task in tasks if (score := self.score(system, task, split=split))]
        if not found or len(found) < len(tasks):
            return None
        runs = {run: statistics.fmean(score.runs[run] for score in found) for run in found[0].runs}
        return Score("mean", runs)

    def scored(self, tasks: list[str]) -> list[str]:
        """Return the tasks on which any system has a score."""
        return [task for task in tasks if any(self.score(system, task) for system in self.systems)]

    @cached_property
    def scored_tasks(self) -> list[str]:
        """The tasks to fine-tune on whose data are there."""
        return self.scored(self.tasks)

    def benchmark(self, system: str, language: str) -> dict[str, Any] | None:
        """Return sizes and speeds of a compared system.

        None if it is not for the language, or unavailable.

        They are those of its first model: distillation seeds change neither.
        """
        if system not in self.members or not self.paths.is_for(system, language):
            return None
        found = self._read(self.paths.benchmark(language, system))
        return None if "unavailable" in found else found

    def benchmarks_of(self, systems: Iterable[str], languages: Iterable[str]) -> Benchmarks:
        """Return sizes and speeds of some systems for some languages."""
        return {
            (system, language): benchmark
            for language in languages
            for system in systems
            if (benchmark := self.benchmark(system, language))
        }

    def intrinsic(self, system: str, language: str) -> dict[str, dict[str, Any]]:
        """Return the scores without labels of each model of a compared system.

        Empty if the system is not for the language.
        """
        if system not in self.members or not self.paths.is_for(system, language):
            return {}
        members = self.members[system]
        return {member: self._read(self.paths.intrinsic(language, member)) for member in members}

    def fertility(self, system: str, language: str) -> float | None:
        """Return tokens per word of held-out text; None for a system that is not there."""
        found = [each.get("fertility") for each in self.intrinsic(system, language).values()]
        return found[0] if found else None

    def intrinsic_score(self, system: str, language: str, task: str | None = None) -> Score | None:
        """Return bits per character of held-out text, or the accuracy on a task's minimal pairs.

        None for a system that predicts no tokens, or is not for the language.
        """
        found = {
            (member, 0): report["minimal_pairs"][task]["accuracy"]
            if task
            else report["bits_per_character"]
            for member, report in self.intrinsic(system, language).items()
            if "unavailable" not in report
        }
        name = "accuracy" if task else "bits_per_character"
        return Score(name, found) if found and None not in found.values() else None

    def embedding_score(
        self, system: str, language: str, task: str | None = None, split: str = "test"
    ) -> Score | None:
        """Return the score of frozen embeddings on a task, or on titles of held-out documents.

        None for a system that is not there, and where the task's data or titles are not.
        """
        metric = MAIN_METRIC[self.settings.tasks[task].kind if task else "retrieval"]
        found = {}
        for member, report in self.intrinsic(system, language).items():
            scored = report.get("embeddings", {})
            if task in scored.get("topics", {}):
                scores = scored["topics"][task][split]
            else:
                scores = scored.get("pairs", {}).get(task) if task else scored.get("retrieval")
            if scores and metric in scores:
                found[member, 0] = scores[metric]
        return Score(metric, found) if found else None

    def mean_bits(self, system: str) -> float | None:
        """Return bits per character, the mean over languages; None if one of them is missing."""
        found = [self.intrinsic_score(system, language) for language in self.languages]
        known = [score.mean for score in found if score]
        return statistics.fmean(known) if known and len(known) == len(found) else None

    def mean_pairs(self, system: str) -> float | None:
        """Return the accuracy on minimal pairs, the mean over tasks; None if one is missing.

        A task whose data are unavailable is left out.
        """
        languages = {task: self.settings.tasks[task].language for task in self.minimal_pairs}
        found = [
            self.intrinsic_score(system, language, task)
            for task, language in languages.items()
            if any(self.intrinsic_score(each, language, task) for each in self.systems)
        ]
        known = [score.mean for score in found if score]
        return statistics.fmean(known) if known and len(known) == len(found) else None

    @property
    def benchmarks(self) -> Benchmarks:
        """Sizes and speeds of all systems."""
        return self.benchmarks_of(self.systems, self.languages)

    def parameters(self, system: str) -> float | None:
        """Return the parameters of a system, the mean over its languages; None if unavailable."""
        benchmarks = self.benchmarks_of([system], self.languages)
        totals = [each["parameters"]["total"] for each in benchmarks.values()]
        return statistics.fmean(totals) if totals else None

    def speedup(self, system: str, language: str, row: dict[str, Any]) -> float | None:
        """Return the teacher's latency over the system's, for one of its measurements.

        None without a teacher, where the two were not measured under the same conditions, and
        where other work disturbed one of them.
        """
        own = self.benchmark(system, language)
        teacher = self.benchmark(self.teacher(system), language)
        if not own or not teacher or conditions(own) != conditions(teacher):
            return None
        for other in teacher["measurements"]:
            if (other["batch_size"], other["part"]) == (row["batch_size"], row["part"]):
                latencies = other["latency_ms"], row["latency_ms"]
                if all(t["upper_quartile"] <= STEADY * t["lower_quartile"] for t in latencies):
                    return float(latencies[0]["median"] / latencies[1]["median"])
        return None

    @cached_property
    def curves(self) -> list[Curve]:
        """The history of each distillation that a student of the experiment comes from."""
        return [
            Curve(*origin, tuple(dict.fromkeys(map(base_name, of_it))), self.history(*origin))
            for origin, of_it in self.paths.distillations().items()
        ]

    def history(self, student: str, corpus: str) -> list[dict[str, Any]]:
        """Return the rows of the history of a distillation."""
        path = self.paths.student(student, corpus) / "history.jsonl"
        return read_json_lines(existing(path, "history of a distillation"))

    @cached_property
    def tokenizer_warnings(self) -> list[tuple[str, str, str]]:
        """(teacher, corpus, line) of each teacher whose full tokenizer does not know a corpus."""
        found = []
        for student, corpus in self.paths.distillations():
            teacher = self.paths.root_teacher(self.teacher(student))
            path = self.paths.prepared(corpus, teacher, FULL) / "sequences" / "report.json"
            # A student with an extension does not need its teacher's own sequences.
            lines = self._read(path)["warnings"] if path.exists() else []
            found += [(teacher, corpus, line) for line in lines]
        return list(dict.fromkeys(found))

    @cached_property
    def corpora(self) -> dict[str, dict[str, Any]]:
        """The report of the documents of each language, and of each mixture that was used."""
        names = dict.fromkeys([*self.languages, *(curve.corpus for curve in self.curves)])
        return {name: self.documents(name) for name in names}

    def documents(self, corpus: str) -> dict[str, Any]:
        """Return the report of a corpus's documents."""
        return self._read(self.paths.documents(corpus) / "report.json")

    @cached_property
    def vocabularies(self) -> list[dict[str, Any]]:
        """Reports of the reduced and extended vocabularies, each with its corpus and teacher."""
        return [
            {"corpus": corpus, "teacher": teacher, "vocabulary": vocabulary}
            | self._read(self.paths.vocabulary_report(corpus, teacher, vocabulary))
            for corpus, teacher, vocabulary in self.paths.vocabularies()
        ]


def conditions(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """Return the machine and the input of a benchmark: only alike ones can be compared."""
    return {key: benchmark[key] for key in ("device", "threads", "precision", "sequence_length")}


def in_words(measured: Mapping[str, Any]) -> str:
    """Return the conditions of a benchmark in words."""
    threads = "1 thread" if measured["threads"] == 1 else f"{measured['threads']} threads"
    length = f"sequences of {measured['sequence_length']} tokens"
    return f"{measured['device']}, {threads}, {measured['precision']}, {length}"


def unavailable(label: str, reason: str) -> str:
    """Return a note that something could not be fetched."""
    return f"{label}: not available: {reason}."


def metric_label(metric: str) -> str:
    """Return the name of a metric for people."""
    return METRICS.get(metric, metric)


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return mappings in a mapping as one, the keys joined by "_"."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        inner = value.items() if isinstance(value, dict) else ()
        result |= {f"{key}_{name}": each for name, each in inner} if inner else {key: value}
    return result


def read(options: ExperimentOptions) -> Experiment:
    """Return the experiment of a settings.json; raise InputError if it cannot be used."""
    return Experiment(load.restore(read_json(options.settings)), options.results)
