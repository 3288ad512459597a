"""The data of a task: its three splits, as given or cut from train, and its labels."""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eliquare.config.model import TaskData
from eliquare.evaluation import readers
from eliquare.evaluation.readers import UPOS_TAGS, Example
from eliquare.io import InputError

WORD_KINDS = ("upos", "ner")
# The metric by which the best epoch of a task is chosen, and systems are compared.
MAIN_METRIC = {
    "upos": "accuracy",
    "ner": "entity_f1",
    "classification": "macro_f1",
    "pair": "accuracy",
}
SPLIT_SEED = 0
HELD_OUT_SHARE = 0.1


class Splits(NamedTuple):
    """The three parts of a task's data, and its labels in the order of their ids."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    labels: list[str]


def load(task: TaskData, max_train_samples: int | None = None) -> Splits:
    """Read a task's files, cut the splits that are missing, and check the labels.

    Of train, at most ``max_train_samples`` are drawn, with a fixed seed. Raises InputError, with
    file and line, for what cannot be read or cannot be learned.
    """
    columns = [task.label_column, task.text_column]
    if task.text_pair_column:
        columns.append(task.text_pair_column)
    given = [
        readers.read(task.kind, path, columns) if path else []
        for path in (task.train, task.validation, task.test)
    ]
    splits = split(task.kind, *given)
    check_labels(splits.labels, [*splits.validation, *splits.test])
    train = splits.train
    if max_train_samples is not None and len(train) > max_train_samples:
        chosen = random.Random(SPLIT_SEED).sample(range(len(train)), max_train_samples)
        train = [train[n] for n in sorted(chosen)]
    return splits._replace(train=train)


def split(
    kind: str,
    train: Sequence[Example],
    validation: Sequence[Example] = (),
    test: Sequence[Example] = (),
) -> Splits:
    """Return the splits that are given, with each missing one, a tenth, cut from train.

    The cut is random with a fixed seed, whatever the seed of the training: all runs of a task are
    scored on the same test split. Every part keeps the file's order. A drawn example with a label
    that would be left without any in train stays in train. Raises InputError if train is too
    small.
    """
    missing = [name for name, given in (("test", test), ("validation", validation)) if not given]
    size = round(HELD_OUT_SHARE * len(train))
    if missing and not size:
        raise InputError(
            f"{train[0].file}: {len(train)} examples are too few to cut off a {missing[0]} split; "
            f"add examples, or name a file in the task's {missing[0]}"
        )
    order = list(range(len(train)))
    random.Random(SPLIT_SEED).shuffle(order)
    drawn = {name: order[size * n : size * (n + 1)] for n, name in enumerate(missing)}
    rest = order[size * len(missing) :]
    known = frozenset(label_inventory(kind, [train[n] for n in rest]))
    for name, numbers in drawn.items():
        back = [n for n in numbers if not known.issuperset(train[n].labels)]
        rest += back
        drawn[name] = sorted(set(numbers) - set(back))
    stays = [train[n] for n in sorted(rest)]
    return Splits(
        stays,
        validation or [train[n] for n in drawn["validation"]],
        test or [train[n] for n in drawn["test"]],
        label_inventory(kind, stays),
    )


def label_inventory(kind: str, train: Iterable[Example]) -> list[str]:
    """Return the labels of a task in the order of their ids.

    upos: the universal tags that occur in train, in their usual order. ner: O, then B- and I- of
    each entity type in train. Otherwise the labels of train, sorted.
    """
    seen = {label for example in train for label in example.labels}
    if kind == "upos":
        return [tag for tag in UPOS_TAGS if tag in seen]
    if kind == "ner":
        types = sorted({tag.partition("-")[2] for tag in seen} - {""})
        return ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]
    return sorted(seen)


def check_labels(labels: Sequence[str], examples: Iterable[Example]) -> None:
    """Raise InputError naming each label that train never had, where it first occurs."""
    first: dict[str, str] = {}
    for example in examples:
        for label, line in zip(example.labels, example.lines, strict=True):
            first.setdefault(label, f"{example.file}, line {line}")
    unknown = [
        f"{where}: the label {label!r} never occurs in the training data; add examples of it "
        f"there, or remove it here (known: {', '.join(labels)})"
        for label, where in first.items()
        if label not in labels
    ]
    if unknown:
        raise InputError("\n".join(unknown))
