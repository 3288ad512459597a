"""One text in two tokenizers, a student's and a teacher's: common spans, and masks on both sides.

A span is the smallest stretch of characters that begins and ends between two pieces on both sides.
What stands around the text ([CLS], [SEP]) is a span of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eliquare import stage
from eliquare.corpus import arrow
from eliquare.stage import InputError

IGNORED = -100
COLUMNS = ("input_ids", "teacher_input_ids", "spans", "teacher_spans")
SHARED = "shared.npy"


class Pair(NamedTuple):
    """A sequence on both sides; the spans say how many pieces each span has, in order."""

    input_ids: np.ndarray
    teacher_input_ids: np.ndarray
    spans: np.ndarray
    teacher_spans: np.ndarray


class MaskedPair(NamedTuple):
    """A masked sequence on both sides; ``labels`` are the student's, -100 where none is asked.

    ``same`` says of each span whether it is one piece on both sides, and the same sub-word.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    teacher_input_ids: np.ndarray
    spans: np.ndarray
    teacher_spans: np.ndarray
    same: np.ndarray


def is_paired(sequences: str | Path) -> bool:
    """Whether a sequences folder holds each text in two tokenizers."""
    return (Path(sequences) / SHARED).exists()


@dataclass(frozen=True)
class Carrier:
    """Carries the student's masks over to the teacher's pieces.

    ``to_teacher`` has for each student id the teacher's id of the same sub-word, or -1.
    """

    to_teacher: np.ndarray
    mask_id: int
    teacher_mask_id: int

    @classmethod
    def load(cls, sequences: str | Path, mask_id: int) -> "Carrier":
        """The carrier of a paired sequences folder; ``mask_id`` is the student's."""
        sequences = Path(sequences)
        if not is_paired(sequences):
            raise InputError(
                f"{sequences}: not made for a student with another tokenizer than its teacher's; "
                "make it with eliquare.corpus.paired"
            )
        teacher = stage.read_json(sequences / "report.json")["teacher"]
        return cls(np.load(sequences / SHARED), mask_id, teacher["mask_id"])

    def shared(self, ids: np.ndarray) -> np.ndarray:
        """Those of the student's ids whose sub-word the teacher has too."""
        return ids[self.to_teacher[ids] >= 0]

    def carry(self, pair: Pair, masked: np.ndarray, labels: np.ndarray) -> MaskedPair:
        """The masks of a student's sequence, made whole spans and put on both sides.

        A span with a drawn piece is drawn as a whole, and treated as its first drawn piece: all its
        pieces become the mask, on both sides; or all become one random sub-word, which both have;
        or all stay. All pieces of a drawn span are asked for in the labels.
        """
        mine = np.repeat(np.arange(len(pair.spans)), pair.spans)
        theirs = np.repeat(np.arange(len(pair.teacher_spans)), pair.teacher_spans)
        drawn = np.flatnonzero(labels != IGNORED)
        spans, first = np.unique(mine[drawn], return_index=True)
        places = drawn[first]
        become = masked[places]
        stays = become == pair.input_ids[places]

        taken = np.zeros(len(pair.spans), dtype=bool)
        taken[spans] = True
        new = np.full(len(pair.spans), -1, dtype=np.int64)
        new[spans] = np.where(stays, -1, become)
        teacher_new = np.full(len(pair.spans), -1, dtype=np.int64)
        to_teacher = np.where(become == self.mask_id, self.teacher_mask_id, self.to_teacher[become])
        teacher_new[spans] = np.where(stays, -1, to_teacher)
        ids, teacher_ids = (
            side.astype(np.int64) for side in (pair.input_ids, pair.teacher_input_ids)
        )
        return MaskedPair(
            np.where(new[mine] >= 0, new[mine], ids),
            np.where(taken[mine], ids, IGNORED),
            np.where(teacher_new[theirs] >= 0, teacher_new[theirs], teacher_ids),
            pair.spans,
            pair.teacher_spans,
            same_pieces(pair, self.to_teacher),
        )


def same_pieces(pair: Pair, to_teacher: np.ndarray) -> np.ndarray:
    """For each span: whether it is one piece on both sides, and the same sub-word."""
    first, teacher_first = (
        np.cumsum(sizes, dtype=np.int64) - sizes for sizes in (pair.spans, pair.teacher_spans)
    )
    single = (pair.spans == 1) & (pair.teacher_spans == 1)
    return single & (to_teacher[pair.input_ids[first]] == pair.teacher_input_ids[teacher_first])


def rows(path: Path, numbers: Sequence[int]) -> list[Pair]:
    """The sequences with these numbers of a paired file, in their order."""
    wanted = {number: place for place, number in enumerate(numbers)}
    found: list[Pair | None] = [None] * len(wanted)
    first = 0
    for batch in arrow.batches(path):
        for number in range(first, first + len(batch)):
            if number in wanted:
                values = (batch[name][number - first].values.to_numpy() for name in COLUMNS)
                found[wanted[number]] = Pair(*(column.copy() for column in values))
        first += len(batch)
    return found


def common_spans(
    starts: Sequence[np.ndarray], ends: Sequence[np.ndarray], units: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The number of the span of each piece, on both sides, counted through all units.

    For each side: character offsets (start, end) of the pieces within their unit, and the number of
    the unit, ascending. Each unit has pieces on both sides. A piece may begin a span where none
    before it reaches further than its start: pieces that share the bytes of one character do not.
    """
    stride = 1 + max(int(side.max(initial=0)) for side in ends)
    keys = []
    for start, end, unit in zip(starts, ends, units, strict=True):
        first = np.diff(unit, prepend=-1) != 0
        begin = unit * stride + np.where(first, 0, start)
        reached = np.maximum.accumulate(unit * stride + end)
        may = first | (begin >= np.concatenate([[0], reached[:-1]]))
        places = np.flatnonzero(may)
        places = places[np.diff(begin[places], prepend=-1) != 0]
        keys.append((begin[places], places))
    (one, places), (other, other_places) = keys
    _, kept, other_kept = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    numbers = []
    for unit, chosen in ((units[0], places[kept]), (units[1], other_places[other_kept])):
        begins = np.zeros(len(unit), dtype=np.int64)
        begins[chosen] = 1
        numbers.append(np.cumsum(begins) - 1)
    return numbers[0], numbers[1]
