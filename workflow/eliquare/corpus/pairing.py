"""Documents in two tokenizers at once, cut into sequences where both have a boundary."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from eliquare.corpus.tokenizer import Frame
from eliquare.pairs import common_spans


class Side(NamedTuple):
    """The pieces of several documents in one tokenizer: ids, offsets, numbers of their units."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    units: np.ndarray


class Cut(NamedTuple):
    """One sequence: its columns but for the document."""

    ids: np.ndarray
    sentence_starts: np.ndarray
    teacher_ids: np.ndarray
    spans: np.ndarray
    teacher_spans: np.ndarray


def encode(tokenizer: Any, units: list[str]) -> Side:
    """The pieces of each unit with their character offsets."""
    encodings = tokenizer.backend_tokenizer.encode_batch(units, add_special_tokens=False)
    offsets = np.array([pair for one in encodings for pair in one.offsets], dtype=np.int64)
    offsets = offsets.reshape(-1, 2)
    return Side(
        np.array([number for one in encodings for number in one.ids], dtype=np.int64),
        offsets[:, 0],
        offsets[:, 1],
        np.repeat(np.arange(len(units)), [len(one.ids) for one in encodings]),
    )


def keep_units(side: Side, kept: np.ndarray) -> Side:
    """The pieces of the units that are in ``kept``."""
    inside = np.isin(side.units, kept)
    return Side(*(column[inside] for column in side))


def cut(
    student: Side,
    teacher: Side,
    begins: list[list[int]],
    owners: np.ndarray,
    frames: tuple[Frame, Frame],
    max_length: int,
) -> Iterator[tuple[int, Cut]]:
    """(document, sequence) for each sequence; ``owners`` has the document of each unit."""
    both = np.intersect1d(student.units, teacher.units)
    student, teacher = keep_units(student, both), keep_units(teacher, both)
    if not len(both):
        return
    mine, theirs = common_spans(
        (student.starts, teacher.starts),
        (student.ends, teacher.ends),
        (student.units, teacher.units),
    )
    sizes, teacher_sizes = np.bincount(mine), np.bincount(theirs)
    first, teacher_first = (np.cumsum(side) - side for side in (sizes, teacher_sizes))
    owner = owners[student.units[first]]
    starts = np.zeros(len(student.ids), dtype=bool)
    for unit in both:
        low, high = np.searchsorted(student.units, [unit, unit + 1])
        places = low + np.searchsorted(student.starts[low:high], begins[unit])
        starts[places[places < high]] = True
        starts[low] = True
    rooms = [max_length - frame.size for frame in frames]
    fits = (sizes <= rooms[0]) & (teacher_sizes <= rooms[1])
    for document in np.unique(owner):
        low, high = np.searchsorted(owner, [document, document + 1])
        chosen = low + np.flatnonzero(fits[low:high])
        for spans in packed(chosen, sizes, teacher_sizes, rooms):
            yield (
                int(document),
                framed(
                    gather(student.ids, first[spans], sizes[spans]),
                    gather(starts, first[spans], sizes[spans]),
                    gather(teacher.ids, teacher_first[spans], teacher_sizes[spans]),
                    sizes[spans],
                    teacher_sizes[spans],
                    frames,
                ),
            )


def packed(
    spans: np.ndarray, sizes: np.ndarray, teacher_sizes: np.ndarray, rooms: list[int]
) -> Iterator[np.ndarray]:
    """The spans in stretches that have room on both sides, each as long as can be."""
    totals = [np.cumsum(side[spans]) for side in (sizes, teacher_sizes)]
    begin = 0
    while begin < len(spans):
        before = [total[begin - 1] if begin else 0 for total in totals]
        end = min(
            int(np.searchsorted(total, start + room, side="right"))
            for total, start, room in zip(totals, before, rooms, strict=True)
        )
        yield spans[begin:end]
        begin = end


def gather(values: np.ndarray, first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The values of stretches that begin at ``first`` and have these sizes, in a row."""
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return values[np.repeat(first, sizes) + within]


def framed(ids, starts, teacher_ids, sizes, teacher_sizes, frames: tuple[Frame, Frame]) -> Cut:
    """A sequence with the special tokens of both models, which are spans, too."""
    around = []
    for part in ("prefix", "suffix"):
        one, other = (len(getattr(frame, part)) for frame in frames)
        around.append(([1] * one, [1] * other) if one == other else ([one], [other]))
    (prefix, teacher_prefix), (suffix, teacher_suffix) = around
    mine, theirs = frames
    return Cut(
        np.concatenate([mine.prefix, ids, mine.suffix]).astype(np.int64),
        np.flatnonzero(starts) + len(mine.prefix),
        np.concatenate([theirs.prefix, teacher_ids, theirs.suffix]).astype(np.int64),
        np.concatenate([prefix, sizes, suffix]).astype(np.int64),
        np.concatenate([teacher_prefix, teacher_sizes, teacher_suffix]).astype(np.int64),
    )
