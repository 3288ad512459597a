"""The data of a task: its three splits, as given or cut from train, and its labels."""

import itertools
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from eliquare.config.tasks import TaskData
from eliquare.corpus.documents import UNIT
from eliquare.evaluation import readers
from eliquare.evaluation.readers import UPOS_TAGS, Example
from eliquare.io import InputError, existing, why_unavailable

WORD_KINDS = ("upos", "ner")
# The metric by which the best epoch of a task is chosen, and systems are compared.
MAIN_METRIC = {
    "upos": "accuracy",
    "ner": "entity_f1",
    "classification": "macro_f1",
    "pair": "accuracy",
    "minimal_pairs": "accuracy",
    "retrieval": "top_1",
    "similarity": "spearman",
}
SPLIT_SEED = 0
HELD_OUT_SHARE = 0.1

logger = logging.getLogger(__name__)


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
    check_labels(task.kind, splits)
    if max_train_samples is None or len(splits.train) <= max_train_samples:
        return splits
    train = sample(task.kind, splits.train, max_train_samples)
    if len(found := label_inventory(task.kind, train)) < 2:
        raise InputError(
            f"{train[0].file}: of the {len(train)} examples that were drawn all have the label "
            f"{found[0]!r}; expected at least two labels: raise the task's max_train_samples"
        )
    return splits._replace(train=train)


def unavailable_task(task: TaskData) -> str:
    """Return why the data of a task could not be fetched; empty for those in place."""
    return why_unavailable(Path(task.test or task.train or "").parent)


def sample(kind: str, train: Sequence[Example], size: int) -> list[Example]:
    """Draw so many examples with a fixed seed, in their order.

    A label of texts that would be left without any takes the place of one whose label has others,
    as long as there are such.
    """
    chosen = random.Random(SPLIT_SEED).sample(range(len(train)), size)
    if kind not in WORD_KINDS:
        counts = Counter(train[n].labels for n in chosen)
        first = {each.labels: n for n, each in reversed(list(enumerate(train)))}
        for labels in sorted(first.keys() - counts.keys()):
            others = (place for place, n in enumerate(chosen) if counts[train[n].labels] > 1)
            if (place := next(others, None)) is None:
                break
            counts[train[chosen[place]].labels] -= 1
            counts[labels] += 1
            chosen[place] = first[labels]
    return [train[n] for n in sorted(chosen)]


def unlabelled(kind: str, path: Path, number: int | None = None) -> list[Example]:
    """Return the first sentences of a file, one per line, as examples of a task without labels."""
    lines = existing(path, "text file").read_text(encoding="utf-8").splitlines()[:number]
    of_words = kind in WORD_KINDS
    texts = (tuple(UNIT.findall(line)) if of_words else (line,) for line in lines)
    return [
        Example(words, ("",) * len(words), str(path), (row,) * len(words))
        for row, words in enumerate(texts, start=1)
    ]


def split(
    kind: str,
    train: Sequence[Example],
    validation: Sequence[Example] = (),
    test: Sequence[Example] = (),
) -> Splits:
    """Return the splits that are given, with each missing one, a tenth, cut from train.

    The cut is random with a fixed seed, whatever the seed of the training: all runs of a task are
    scored on the same test split. Every part keeps the file's order. Examples of one text are drawn
    together; those of a label that would be left without any in train stay in train. Raises
    InputError if train is too small.
    """
    missing = [name for name, given in (("test", test), ("validation", validation)) if not given]
    size = round(HELD_OUT_SHARE * len(train))
    if missing and not size:
        raise InputError(
            f"{train[0].file}: {len(train)} examples are too few to cut off a {missing[0]} split; "
            f"add examples, or name a file in the task's {missing[0]}"
        )
    of_text: dict[tuple[str, ...], list[int]] = {}
    for number, example in enumerate(train):
        of_text.setdefault(example.texts, []).append(number)
    groups = list(of_text.values())
    random.Random(SPLIT_SEED).shuffle(groups)
    left = iter(groups)
    drawn = {name: take(left, size) for name in missing}
    stays = list(left)
    known = frozenset(label_inventory(kind, examples_of(train, stays)))

    def is_known(group: list[int]) -> bool:
        return all(known.issuperset(train[number].labels) for number in group)

    for name, some in drawn.items():
        stays += itertools.filterfalse(is_known, some)
        drawn[name] = list(filter(is_known, some))
    if empty := [name for name, some in drawn.items() if not some]:
        raise InputError(
            f"{train[0].file}: no example is left for the {empty[0]} split, since too few texts "
            "differ, or each drawn one has a label of its own; add examples, or name a file in the "
            f"task's {empty[0]}"
        )
    kept = examples_of(train, stays)
    return Splits(
        kept,
        validation or examples_of(train, drawn["validation"]),
        test or examples_of(train, drawn["test"]),
        label_inventory(kind, kept),
    )


def take(groups: Iterator[list[int]], size: int) -> list[list[int]]:
    """Take the next groups until they have so many members."""
    taken = []
    for group in groups:
        taken.append(group)
        size -= len(group)
        if size <= 0:
            break
    return taken


def examples_of(train: Sequence[Example], groups: Iterable[list[int]]) -> list[Example]:
    """Return the examples with the numbers of some groups, in their order."""
    return [train[number] for number in sorted(itertools.chain(*groups))]


def seen_shares(splits: Splits) -> dict[str, float]:
    """Return the share of the validation and test examples whose text is in train too."""
    seen = {example.texts for example in splits.train}
    return {
        name: sum(example.texts in seen for example in part) / len(part)
        for name, part in (("validation", splits.validation), ("test", splits.test))
    }


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


def check_labels(kind: str, splits: Splits) -> None:
    """Log each label of validation or test that train never had.

    It stays: no system can predict it, so it counts as an error. Raises InputError where nothing
    can be learned or scored: train has a single label of texts, or a split has none of train's.
    """
    if kind not in WORD_KINDS and len(splits.labels) == 1:
        raise InputError(
            f"{splits.train[0].file}: every training example has the label {splits.labels[0]!r}; "
            f"expected at least two labels"
        )
    if kind == "ner":
        check_entities(splits)
    for examples in (splits.validation, splits.test):
        unseen = unseen_labels(kind, splits.labels, examples)
        for label, places in unseen.items():
            line = (
                "%s: training never had the label %r, which counts as an error (%d in this split)"
            )
            logger.warning(line, places[0], label, len(places))
        # A word outside of entities says nothing of their names.
        known = {*splits.labels} - {"O"} if kind == "ner" else {*splits.labels}
        if unseen and not any(known.intersection(each.labels) for each in examples):
            raise InputError(
                f"{next(iter(unseen.values()))[0]}: no label of this split occurs in the training "
                f"data; expected some of {', '.join(splits.labels)}, found {', '.join(unseen)}"
            )


def check_entities(splits: Splits) -> None:
    """Raise InputError where no entity can be learned or found; log where none can be chosen by."""
    for name, examples in (("train", splits.train), ("test", splits.test)):
        if not any(set(example.labels) - {"O"} for example in examples):
            raise InputError(
                f"{examples[0].file}: no entity in the {name} split, so there is no F1; give other "
                f"data as {name}"
            )
    if not any(set(example.labels) - {"O"} for example in splits.validation):
        line = "%s: no entity in the validation split, so that every epoch has an F1 of 0"
        logger.warning(line, splits.validation[0].file)


def unseen_labels(
    kind: str, labels: Sequence[str], examples: Iterable[Example]
) -> dict[str, list[str]]:
    """Return the labels that are not among ``labels``, each with the places where it stands.

    ner: the types of entities, each entity once, where it begins.
    """
    known = frozenset(labels)
    found: dict[str, list[str]] = {}
    for example in examples:
        for label, line in zip(example.labels, example.lines, strict=True):
            prefix, _, entity = label.partition("-") if kind == "ner" else ("B", "", label)
            if label not in known and prefix == "B":
                found.setdefault(entity, []).append(f"{example.file}, line {line}")
    return found
