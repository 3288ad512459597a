"""The weight of a term over the training: constant, or by a schedule."""

import bisect
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eliquare.stage import InputError

SHAPES = ("linear", "cosine")
EXPECTED = (
    'a number of 0 or more, {"from": 5, "to": 1, "shape": "linear"} (or "cosine"), or '
    '{"points": [[0, 5], [0.5, 2], [1, 0]]} with shares of the training that rise from 0 to 1'
)


@dataclass(frozen=True)
class Schedule:
    """A weight over the share of the training that is done, from 0 to 1.

    ``points`` are (share, weight), the shares rising from 0 to 1; between two points the weight
    goes in a straight line, or, if ``cosine``, along half a cosine.
    """

    points: tuple[tuple[float, float], ...]
    cosine: bool = False

    def at(self, progress: float) -> float:
        """The weight when this share of the training is done."""
        shares = [share for share, _ in self.points]
        after = min(max(bisect.bisect_right(shares, progress), 1), len(shares) - 1)
        (start, before), (end, then) = self.points[after - 1], self.points[after]
        share = min(max((progress - start) / (end - start), 0.0), 1.0)
        if self.cosine:
            share = (1 - math.cos(math.pi * share)) / 2
        return before + share * (then - before)

    @property
    def mean(self) -> float:
        """The mean weight over the whole training; half a cosine has the mean of a line."""
        return sum(
            (end - start) * (one + other) / 2
            for (start, one), (end, other) in pairwise(self.points)
        )

    @property
    def constant(self) -> bool:
        """Whether the weight stays the same."""
        return len({weight for _, weight in self.points}) == 1


def schedule(value: Any, where: str) -> Schedule:
    """The schedule that a weight says; raises InputError, naming ``where``, for any other."""
    wrong = InputError(f"{where}: expected {EXPECTED}; found {value!r}")
    if _weight(value):
        return Schedule(((0.0, float(value)), (1.0, float(value))))
    if not isinstance(value, dict):
        raise wrong
    if set(value) == {"points"} and isinstance(value["points"], list):
        points = value["points"]
        if not all(isinstance(point, list) and len(point) == 2 for point in points):
            raise wrong
        shares = [share for share, _ in points]
        rising = all(one < other for one, other in pairwise(shares))
        if (
            not all(_weight(number) for point in points for number in point)
            or len(points) < 2
            or not rising
            or (shares[0], shares[-1]) != (0, 1)
        ):
            raise wrong
        return Schedule(tuple((float(share), float(weight)) for share, weight in points))
    shape = value.get("shape", "linear")
    if set(value) - {"shape"} != {"from", "to"} or shape not in SHAPES:
        raise wrong
    if not (_weight(value["from"]) and _weight(value["to"])):
        raise wrong
    ends = ((0.0, float(value["from"])), (1.0, float(value["to"])))
    return Schedule(ends, cosine=shape == "cosine")


def _weight(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0
