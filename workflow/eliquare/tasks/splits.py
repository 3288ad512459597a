"""Train, validation and test: as given, or cut from what is given in the same way every time."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from eliquare.stage import InputError
from eliquare.tasks import labels
from eliquare.tasks.examples import Sentence, Text

Examples = Sequence[Sentence | Text]
SPLIT_SEED = 0
SHARE = 0.1


class Splits(NamedTuple):
    """The three parts of a task's data."""

    train: Examples
    validation: Examples
    test: Examples


def divide(kind: str, train: Examples, validation: Examples = (), test: Examples = ()) -> Splits:
    """Use the splits that are given, and cut each missing one, a tenth, from train.

    The cut is random with a fixed seed, whatever the seed of the training: all runs of a task are
    scored on the same test split. Every part keeps the file's order. A drawn example with a label
    that would be left without any in train stays in train. Raises InputError if train is too small.
    """
    missing = [name for name, given in (("test", test), ("validation", validation)) if not given]
    size = round(SHARE * len(train))
    if missing and not size:
        raise InputError(
            f"{train[0].file}: {len(train)} examples are too few to cut off a {missing[0]} split; "
            f"give more, or give --{missing[0]}"
        )
    order = list(range(len(train)))
    random.Random(SPLIT_SEED).shuffle(order)
    drawn = {name: order[size * n : size * (n + 1)] for n, name in enumerate(missing)}
    kept = order[size * len(missing) :]
    known = frozenset(labels.inventory(kind, [train[n] for n in kept]))
    for name, numbers in drawn.items():
        stays = [n for n in numbers if labels.first_unknown(train[n], known)]
        kept += stays
        drawn[name] = sorted(set(numbers) - set(stays))
    return Splits(
        [train[n] for n in sorted(kept)],
        validation or [train[n] for n in drawn["validation"]],
        test or [train[n] for n in drawn["test"]],
    )


def first(examples: Examples, most: int | None) -> Examples:
    """At most ``most`` examples, drawn with a fixed seed, in the file's order."""
    if most is None or len(examples) <= most:
        return examples
    numbers = random.Random(SPLIT_SEED).sample(range(len(examples)), most)
    return [examples[n] for n in sorted(numbers)]
