"""New sub-words by joining neighbours, the most frequent pair first, as byte-pair encoding does."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Merge:
    """Two neighbours that became one, and how many pieces the text has less for it."""

    left: str
    right: str
    result: str
    saved: int


class Merging:
    """Words in pieces, whose most frequent neighbours are joined step by step.

    It starts from the pieces of an existing tokenizer, so that each new sub-word is a run of old
    ones (Sennrich et al. 2016 start from characters). Ties go to the pair that is first in the
    order of code points. Time and memory are linear in the words; each step touches only the words
    that hold its pair.
    """

    def __init__(
        self,
        words: Iterable[tuple[tuple[str, ...], int]],
        join: Callable[[str, str], str],
        known: Collection[str],
        closed: Collection[str] = (),
        least: int = 1,
    ):
        """``words`` are (pieces, occurrences). Pairs are not joined to a sub-word in ``known``, nor
        with one in ``closed``, nor where they occur fewer than ``least`` times."""
        self.join = join
        self.known = known
        self.least = least
        self.words: list[list[str]] = []
        self.counts: list[int] = []
        self.uses: Counter[str] = Counter()
        self.pieces = 0
        self.alive: set[str] = set()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._where: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._new: set[str] = set()
        for pieces, count in words:
            self.pieces += count * len(pieces)
            for piece in pieces:
                self.uses[piece] += count
            for run in runs(pieces, closed):
                number = len(self.words)
                self.words.append(run)
                self.counts.append(count)
                for pair in pairwise(run):
                    self._pairs[pair] += count
                    self._where[pair].add(number)
        self._heap = [(-count, *pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._heap)

    def peek(self) -> int:
        """How often the next pair occurs; 0 where none is left."""
        while self._heap:
            count, left, right = self._heap[0]
            frequent = -count == self._pairs[left, right] >= self.least
            if frequent and self.join(left, right) not in self.known:
                return -count
            heapq.heappop(self._heap)
        return 0

    def step(self) -> Merge | None:
        """Join the most frequent pair everywhere; None where no pair is left to join."""
        if not self.peek():
            return None
        _, left, right = heapq.heappop(self._heap)
        result = self.join(left, right)
        changed: dict[tuple[str, str], None] = {}
        saved = 0
        for number in sorted(self._where.pop((left, right))):
            old, count = self.words[number], self.counts[number]
            new = joined(old, left, right, result)
            if len(new) == len(old):
                continue
            saved += count * (len(old) - len(new))
            for pair in pairwise(old):
                self._pairs[pair] -= count
                changed[pair] = None
            for pair in pairwise(new):
                self._pairs[pair] += count
                self._where[pair].add(number)
                changed[pair] = None
            self.words[number] = new
        for pair in changed:
            if self._pairs[pair] > 0:
                heapq.heappush(self._heap, (-self._pairs[pair], *pair))
        self.pieces -= saved
        self._new.add(result)
        self.uses[result] += saved
        for piece in (left, right):
            self.uses[piece] -= saved
        for piece in (left, right, result):
            alive = piece in self._new and self.uses[piece] >= self.least
            (self.alive.add if alive else self.alive.discard)(piece)
        return Merge(left, right, result, saved)


def runs(pieces: Iterable[str], closed: Collection[str]) -> list[list[str]]:
    """The stretches of two or more pieces between those that cannot be joined."""
    found: list[list[str]] = [[]]
    for piece in pieces:
        if piece in closed:
            found.append([])
        else:
            found[-1].append(piece)
    return [run for run in found if len(run) > 1]


def joined(pieces: list[str], left: str, right: str, result: str) -> list[str]:
    """The pieces with each left and right beside each other replaced, from the front."""
    new, place = [], 0
    while place < len(pieces):
        if pieces[place] == left and pieces[place + 1 : place + 2] == [right]:
            new.append(result)
            place += 2
        else:
            new.append(pieces[place])
            place += 1
    return new
