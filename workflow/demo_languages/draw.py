"""Seeded random draws: one stream for each (seed, language, purpose), cheap one at a time."""

import itertools
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy

T = TypeVar("T")
BUFFER = 16384
ZIPF_EXPONENT = 0.5
ZIPF_OFFSET = 2.0


class Pool(Generic[T]):
    """Items drawn by Zipf's law with Mandelbrot's offset: weight (rank + offset) ** -exponent."""

    def __init__(self, items: Sequence[T]) -> None:
        if not items:
            raise ValueError("a pool needs at least one item")
        self.items = list(items)
        weights = [(rank + ZIPF_OFFSET) ** -ZIPF_EXPONENT for rank in range(len(self.items))]
        self.cumulative = list(itertools.accumulate(weights))


class Draw:
    """Random draws that depend on the seed and the key alone, not on what else is generated.

    Uniform numbers are taken from a PCG64 generator in blocks: a call of numpy for each number
    would be most of the run time.
    """

    def __init__(self, seed: int, *key: str) -> None:
        words = [seed, *(zlib.crc32(part.encode()) for part in key)]
        self.generator = numpy.random.Generator(numpy.random.PCG64(words))
        self.block: list[float] = []

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        if not self.block:
            self.block = self.generator.random(BUFFER).tolist()
        return self.block.pop()

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform() < probability

    def between(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items, each as likely."""
        return items[int(self.uniform() * len(items))]

    def pool(self, pool: Pool[T]) -> T:
        """Return one of the pool's items, by its weights."""
        point = self.uniform() * pool.cumulative[-1]
        return pool.items[bisect_right(pool.cumulative, point)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order (Fisher and Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.between(0, last)
            result[last], result[other] = result[other], result[last]
        return result
