"""Paired bootstrap over test items: how far the difference to the teacher depends on the items.

Every metric here is a function of sums over the items (right answers; true and false positives of
a class; bits and characters). So a resample is a vector of how often each item was drawn, and its
score follows from the sums weighted by it, for the student and its teacher alike (Efron and
Tibshirani 1993; Berg-Kirkpatrick et al. 2012).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eliquare.evaluation.data import MAIN_METRIC
from eliquare.io import read_json_lines
from eliquare.reporting.formats import Cell, Table, tabulate
from eliquare.reporting.results import Experiment

RESAMPLES = 2000
SEED = 0
PERCENTILES = (2.5, 97.5)
DIGITS = 12
# What is asked of held-out documents, under names that no task can have.
TITLES, TEXT = "held-out titles", "held-out text"
# Draws of items that are held at a time: 64 MB.
AT_ONCE = 8_000_000

Array = NDArray[np.float64]


class Answers(NamedTuple):
    """The answers of one run: ``counts[items, kinds]``, and the score of their sums.

    ``gold`` tells whether two systems answered the same items.
    """

    counts: Array | NDArray[np.bool_]
    score: Callable[[Array], Array]
    gold: Any


Runs = Sequence[Answers]


def table(experiment: Experiment) -> Table:
    """Each student against its teacher: on each task, by frozen embeddings, on held-out text."""
    pairs = [
        (student, experiment.teacher(student))
        for student in experiment.students
        if experiment.teacher(student) in experiment.systems
    ]
    systems = dict.fromkeys(system for pair in pairs for system in pair)
    records = []
    for names, read in questions(experiment):
        answered = {system: runs for system in systems if (runs := read(system)) is not None}
        both = [pair for pair in pairs if answered.keys() >= set(pair)]
        records += [names | each for each in compared(both, answered)]
    note = f"{RESAMPLES:,} resamples with one fixed seed."
    return tabulate(experiment, "bootstrap", records, notes=[note])


def questions(
    experiment: Experiment,
) -> Iterator[tuple[dict[str, Any], Callable[[str], Runs | None]]]:
    """Yield what systems answer: its task and metric, and a function that reads their answers."""
    for task in experiment.tasks:
        title = Cell(experiment.task_title(task))
        names = {"task": task, "task cell": title, "metric": experiment.metric(task)}
        yield names, partial(fine_tuned, experiment, task)
    for language in experiment.languages:
        spoken = experiment.language(language)
        asked = [
            (
                name,
                f"{experiment.task_title(name)}: frozen embeddings",
                MAIN_METRIC[experiment.settings.tasks[name].kind],
            )
            for name in experiment.paths.embedded([language])
        ]
        asked.append((TITLES, f"{spoken}: retrieval", "top_1"))
        asked.append((TEXT, f"{spoken}: held-out text", "bits_per_character"))
        for task, words, metric in asked:
            names = {"task": task, "task cell": Cell(words), "metric": metric}
            names |= {"language": language, "embeddings": None if task == TEXT else "frozen"}
            yield names, partial(untuned, experiment, language, task)


def compared(
    pairs: Sequence[tuple[str, str]], answered: Mapping[str, Runs]
) -> Iterator[dict[str, Any]]:
    """Yield the difference of two systems' mean scores over runs, with its 95% interval.

    The items are drawn once for all systems.
    """
    saved = [runs[0] for runs in answered.values() if runs]
    same = {
        system: runs
        for system, runs in answered.items()
        if runs and all(each.gold == saved[0].gold for each in runs)
    }
    items = len(saved[0].counts) if saved else 0
    scores = {system: float(mean_score(runs, np.ones(items))) for system, runs in same.items()}
    drawn = [
        {system: mean_score(runs, counts) for system, runs in same.items()}
        for counts in (resamples(items) if same else ())
    ]
    for student, teacher in pairs:
        names = {"student": student, "teacher": teacher}
        if not (answered[student] and answered[teacher]):
            yield names | {"remark": "predictions are not saved"}
        elif not {student, teacher} <= same.keys():
            yield names | {"remark": "not the same test items"}
        else:
            differences = np.concatenate([each[student] - each[teacher] for each in drawn])
            # Models that answer alike differ by 0, however a mean over runs is rounded.
            low, high = np.percentile(differences, PERCENTILES).round(DIGITS).tolist()
            yield names | {
                "student_score": scores[student],
                "teacher_score": scores[teacher],
                "difference": round(scores[student] - scores[teacher], DIGITS),
                "low": low,
                "high": high,
                "items": items,
                "remark": "includes 0" if low <= 0 <= high else "",
            }


def resamples(items: int) -> Iterator[Array]:
    """Yield ``drawn[resamples, items]``, how often each item was drawn, RESAMPLES in all.

    For a number of items they are the same each time.
    """
    generator = np.random.default_rng(SEED)
    step = max(1, AT_ONCE // items)
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        drawn = generator.integers(items, size=(size, items))
        drawn += items * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * items)
        yield counts.reshape(size, items).astype(np.float64)


def mean_score(runs: Runs, drawn: Array) -> Array:
    """Return the mean over runs of their scores on each resample ``drawn[..., items]``."""
    scores = np.stack([each.score(drawn @ each.counts) for each in runs])
    return np.asarray(scores.mean(axis=0))


# Answers


def fine_tuned(experiment: Experiment, task: str, system: str) -> Runs | None:
    """Return the saved answers of a system on a task, a list for its runs.

    Empty where some are not saved; None for a system without a score.
    """
    folders = experiment.finetuned(system, task)
    if not folders:
        return None
    files = [folder / "predictions.jsonl" for folder in folders.values()]
    if not all(file.exists() for file in files):
        return []
    kind = experiment.settings.tasks[task].kind
    found = []
    for file in files:
        rows = read_json_lines(file)
        gold, predicted = ([row[key] for row in rows] for key in ("gold", "predicted"))
        found.append(answers(kind, gold, predicted))
    return found


def untuned(experiment: Experiment, language: str, task: str, system: str) -> Runs | None:
    """Return what a system answers without fine-tuning; None if it does not answer that."""
    reports = experiment.intrinsic(system, language).values()
    return [found for report in reports for found in reported(report, task)] or None


def reported(report: dict[str, Any], task: str) -> Runs:
    """Return the answers in a report of `evaluation intrinsic`, none if it has no such task.

    The task is one that embeddings are scored on, a run for each draw of texts that topics are
    learnt from, or one of the held-out documents: TITLES or TEXT.
    """
    embedded = report.get("embeddings", {})
    tasks = embedded.get("topics", {}) | embedded.get("pairs", {})
    found = tasks.get(task) or (embedded.get("retrieval") if task == TITLES else None) or {}
    if "predicted" in found:
        gold = found["labels"]
        return [answers("classification", gold, predicted) for predicted in found["predicted"]]
    if "ranks" in found:
        return [answers("pair", [1] * len(found["ranks"]), found["ranks"])]
    if "cosines" in found:
        return [Answers(moments(found["scores"], found["cosines"]), pearson, found["scores"])]
    if task == TEXT and report.get("texts"):
        lengths = [text["characters"] for text in report["texts"]]
        rows = [(text["bits"], text["characters"]) for text in report["texts"]]
        return [Answers(np.array(rows, np.float64), share, lengths)]
    return []


def answers(kind: str, gold: list[Any], predicted: list[Any]) -> Answers:
    """Return the answers of a run, counted as the main metric of its kind of task needs it.

    ner: entities as seqeval counts them by default; upos: words, drawn by sentence; classification:
    macro-F1 over the labels that occur in a resample, as scikit-learn's; otherwise accuracy.
    """
    if kind == "ner":
        return Answers(entity_counts(gold, predicted), f1, gold)
    if kind == "upos":
        rows = [
            (sum(map(str.__eq__, right, given)), len(right))
            for right, given in zip(gold, predicted, strict=True)
        ]
        return Answers(np.array(rows, np.float64), share, gold)
    if kind == "classification":
        return Answers(label_counts(gold, predicted), macro_f1, gold)
    right = [(right == given, 1) for right, given in zip(gold, predicted, strict=True)]
    return Answers(np.array(right, np.float64), share, gold)


def entity_counts(gold: list[list[str]], predicted: list[list[str]]) -> Array:
    """Return for each sentence its right, predicted and true entities."""
    from seqeval.metrics.sequence_labeling import get_entities

    rows = []
    for right, given in zip(gold, predicted, strict=True):
        true, found = set(get_entities(right)), set(get_entities(given))
        rows.append((len(true & found), len(found), len(true)))
    return np.array(rows, np.float64)


def label_counts(gold: list[str], predicted: list[str]) -> NDArray[np.bool_]:
    """Return for each text and label whether it is right, predicted and true, in that order.

    A byte each: of many labels, draws and seeds there are many.
    """
    labels = sorted({*gold, *predicted})
    true, given = (np.array(each)[:, None] == np.array(labels)[None] for each in (gold, predicted))
    return np.concatenate([true & given, given, true], axis=1)


def moments(gold: Sequence[float], given: Sequence[float]) -> Array:
    """Return the ranks of each item, their squares and product: ``[items, (1, x, y, xx, yy, xy)]``.

    The ranks are those among all items, in a resample too.
    """
    x, y = rankdata(gold), rankdata(given)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def pearson(sums: Array) -> Array:
    """Return the correlation of ``sums[..., (1, x, y, xx, yy, xy)]``; 0 where one does not vary."""
    one, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    # Rounding may leave a variance of 0 below it.
    both = np.sqrt(np.maximum(one * xx - x * x, 0) * np.maximum(one * yy - y * y, 0))
    return np.asarray(np.divide(one * xy - x * y, both, out=np.zeros_like(both), where=both > 0))


def share(sums: Array) -> Array:
    """Return right over all, or bits over characters, of ``sums[..., (one, other)]``."""
    part, every = sums[..., 0], sums[..., 1]
    return np.divide(part, every, out=np.zeros_like(part), where=every > 0)


def f1(sums: Array) -> Array:
    """Return F1 of ``sums[..., (right, predicted, true)]``; 0 where there is nothing."""
    both = sums[..., 1] + sums[..., 2]
    return np.divide(2 * sums[..., 0], both, out=np.zeros_like(both), where=both > 0)


def macro_f1(sums: Array) -> Array:
    """Return the mean F1 over the labels that occur, of ``sums[..., 3 * labels]``."""
    by_label = np.stack(np.split(sums, 3, axis=-1), axis=-1)
    occurs = by_label[..., 1] + by_label[..., 2] > 0
    return np.asarray(f1(by_label).sum(-1) / np.maximum(occurs.sum(-1), 1))
