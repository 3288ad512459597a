"""Examples for the report: masked words, long words, and where teacher and student differ.

The stage ``evaluation intrinsic`` leaves the first two, the same for every system of a language;
the stage ``evaluation finetune`` the answers on the test split of each task.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from eliquare.config.tasks import Task
from eliquare.corpus.sequences import document_number
from eliquare.evaluation import data
from eliquare.evaluation.data import WORD_KINDS
from eliquare.evaluation.readers import Example
from eliquare.io import InputError, read_json_lines
from eliquare.reporting.results import Experiment
from eliquare.reporting.sections import best_student

# Of the sentences where teacher and student disagree, this many of each kind are shown.
SHOWN = 5
# Rarer labels are one row and column together.
MOST_LABELS = 20
REST = "others"
LONGEST_TEXT = 400
WORDS_AROUND = 12
TOKENIZERS = 3

logger = logging.getLogger(__name__)


# Held-out text


def examples(experiment: Experiment, system: str, language: str) -> dict[str, Any]:
    """Return what ``evaluation intrinsic`` left of a system's first model; empty without it."""
    return next(iter(experiment.intrinsic(system, language).values()), {})


def readers_of(experiment: Experiment) -> list[str]:
    """Return the systems whose answers at masked words are shown: teachers and trained students."""
    students = [
        student
        for student in experiment.students
        if experiment.paths.is_distilled(experiment.paths.original_of(student))
    ]
    teachers = {experiment.teacher(student) for student in students}
    return [name for name in experiment.systems if name in teachers or name in students]


def masked_sentences(experiment: Experiment) -> list[dict[str, Any]]:
    """Return for each language its masked sentences, each with the answers of the systems."""
    found = []
    for language in experiment.languages:
        sentences: dict[tuple[str, str, str], dict[str, Any]] = {}
        for system in readers_of(experiment):
            for each in examples(experiment, system, language).get("masked_sentences", []):
                parts = {key: each[key] for key in ("before", "word", "after")}
                sentence = sentences.setdefault(tuple(parts.values()), parts | {"answers": {}})
                sentence["answers"][experiment.label(system)] = [
                    answer | {"is_right": answer["token"] == each["word"]}
                    for answer in each["answers"]
                ]
        if sentences:
            shown = {"code": language, "language": experiment.language(language)}
            found.append(shown | {"sentences": list(sentences.values())})
    return found


def long_words(experiment: Experiment) -> list[dict[str, Any]]:
    """Return for each language its long words as three tokenizers cut them.

    Those of the teacher and the best student, and a third: of a system that is not made here, or of
    any whose tokens differ.
    """
    best, teacher = best_student(experiment)
    others = [name for name in experiment.systems if name in experiment.settings.systems]
    order = dict.fromkeys([teacher, best, *others, *experiment.systems])
    found = []
    for language in experiment.languages:
        cuts: dict[str, dict[str, list[str]]] = {}
        for system in filter(None, order):
            words = examples(experiment, system, language).get("long_words", [])
            cut = {each["word"]: each["tokens"] for each in words}
            if cut and (len(cuts) < TOKENIZERS - 1 or cut not in cuts.values()):
                cuts[experiment.label(system)] = cut
        cuts = dict(list(cuts.items())[:TOKENIZERS])
        if cuts:
            words = list(next(iter(cuts.values())))
            rows = [(word, [cut.get(word, []) for cut in cuts.values()]) for word in words]
            shown = {"code": language, "language": experiment.language(language)}
            found.append(shown | {"systems": list(cuts), "rows": rows})
    return found


# Tasks


@dataclass(frozen=True)
class Confusion:
    """How often a system gave each label where another was right, over all its runs.

    ``rows`` hold for each right label the counts by given label; ``shares`` are of their row.
    """

    system: str
    labels: list[str]
    rows: list[list[int]]

    @property
    def shares(self) -> list[list[float]]:
        """The counts as shares of their row."""
        return [[count / max(sum(row), 1) for count in row] for row in self.rows]


@dataclass(frozen=True)
class Disagreement:
    """A test example on which teacher and student differ.

    ``words`` holds (word, right label, the teacher's, the student's); of a text, one of these.
    """

    words: list[tuple[str, str, str, str]]
    is_cut: bool = False


def answers(experiment: Experiment, task: str, system: str) -> list[list[dict[str, Any]]]:
    """Return the answers of the first model of a system on a task, a list for each seed."""
    member = experiment.members[system][0]
    files = [
        experiment.paths.predictions(task, member, seed)
        for seed in experiment.settings.experiment.seeds
    ]
    return [read_json_lines(file) for file in files if file.exists()]


def task_errors(experiment: Experiment) -> list[dict[str, Any]]:
    """Return for each task the confusions of teacher and best student, and where they disagree."""
    best, teacher = best_student(experiment)
    found = []
    for name in experiment.scored_tasks:
        task = experiment.settings.tasks[name]
        runs = {
            system: of_system
            for system in (teacher, best)
            if system
            and experiment.score(system, name)
            and (of_system := answers(experiment, name, system))
        }
        if not runs:
            continue
        labels = frequent_labels(task, chain.from_iterable(runs.values()))
        error: dict[str, Any] = {
            "title": experiment.task_title(name),
            "code": task.language,
            "confusions": [
                confusion(task, experiment.label(system), of_system, labels)
                for system, of_system in runs.items()
            ],
        }
        if len(runs) == 2:
            error |= disagreements(experiment, task, runs[teacher][0], runs[best][0])
        found.append(error)
    return found


def label_pairs(task: Task, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (right, given) of each word or text; of names, their types alone."""
    for row in rows:
        if task.kind not in WORD_KINDS:
            yield row["gold"], row["predicted"]
            continue
        for pair in zip(row["gold"], row["predicted"], strict=True):
            right, given = (tag.partition("-")[2] or tag for tag in pair)
            yield right, given


def frequent_labels(task: Task, runs: Iterable[Sequence[dict[str, Any]]]) -> list[str]:
    """Return the labels of a task, the most frequent first; rare ones stand together as REST."""
    counts = Counter(chain.from_iterable(label_pairs(task, chain.from_iterable(runs))))
    labels = sorted(counts, key=lambda label: (-counts[label], label))
    return labels if len(labels) <= MOST_LABELS else [*labels[: MOST_LABELS - 1], REST]


def confusion(
    task: Task, label: str, runs: Iterable[Sequence[dict[str, Any]]], labels: list[str]
) -> Confusion:
    """Return how often each label was given for each; those that are not listed are the last."""
    place = {name: number for number, name in enumerate(labels)}
    rows = [[0] * len(labels) for _ in labels]
    for right, given in label_pairs(task, chain.from_iterable(runs)):
        rows[place.get(right, -1)][place.get(given, -1)] += 1
    return Confusion(label, labels, rows)


def disagreements(
    experiment: Experiment,
    task: Task,
    teacher: Sequence[dict[str, Any]],
    student: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return how many test examples each answers right, and some on which they disagree.

    The examples are of the first seed of both, drawn by a hash of their text.
    """
    if [row["gold"] for row in teacher] != [row["gold"] for row in student]:
        return {}
    texts = texts_of_test(task, [row["gold"] for row in teacher])
    counts = Counter[str]()
    shown: dict[str, list[tuple[int, Disagreement]]] = {"teacher": [], "student": [], "neither": []}
    for number, (row, ours) in enumerate(zip(teacher, student, strict=True)):
        rights = row["predicted"] == row["gold"], ours["predicted"] == row["gold"]
        kind = {(True, False): "teacher", (False, True): "student", (True, True): "both"}
        counts[key := kind.get(rights, "neither")] += 1
        if row["predicted"] != ours["predicted"] and texts:
            columns = texts[number], row["gold"], row["predicted"], ours["predicted"]
            order = document_number(" ".join(texts[number]))
            shown[key].append((order, disagreement(task, *columns)))
    few = {
        key: [each for _, each in sorted(some, key=itemgetter(0))[:SHOWN]]
        for key, some in shown.items()
    }
    unit = "sentences" if task.kind in WORD_KINDS else "texts"
    return {"counts": counts, "total": len(teacher), "unit": unit, "shown": few}


def disagreement(task: Task, texts: Sequence[str], gold: Any, full: Any, ours: Any) -> Disagreement:
    """Return an example for people: of a long sentence, the words around the first difference."""
    if task.kind not in WORD_KINDS:
        text = " / ".join(texts)
        is_cut = len(text) > LONGEST_TEXT
        return Disagreement([(text[:LONGEST_TEXT], gold, full, ours)], is_cut)
    columns = list(zip(texts, gold, full, ours, strict=True))
    differing = next(n for n, (_, _, a, b) in enumerate(columns) if a != b)
    start = max(differing - WORDS_AROUND, 0)
    around = columns[start : differing + WORDS_AROUND + 1]
    return Disagreement(around, len(around) < len(columns))


def texts_of_test(task: Task, gold: Sequence[Any]) -> list[Sequence[str]]:
    """Return the texts, or words, of a task's test split; none if its files are others by now."""
    if not Path(task.test or task.train or "").is_file():
        return []
    try:
        found: Sequence[Example] = data.load(task).test
    except InputError as error:
        logger.warning("%s", error)
        return []
    right = [list(each.labels) if task.kind in WORD_KINDS else each.labels[0] for each in found]
    return [each.texts for each in found] if right == list(gold) else []
