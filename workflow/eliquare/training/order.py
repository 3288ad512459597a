"""The order of the training sequences, fixed by a seed, the epoch and the sequences of a step.

How the sequences of a step are split over passes and processes changes neither order nor masks.
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from datasets import Dataset as Sequences

from eliquare.masking import Masking
from eliquare.stage import InputError

STEPS_PER_POOL = 64
_FRACTION_SALT = 0x9E3779B97F4A7C15


def fraction_of_documents(documents: np.ndarray, fraction: float) -> np.ndarray:
    """Which sequences belong to the first ``fraction`` of the documents, in a fixed random order.

    ``documents`` holds the document number of each sequence, shape (sequences,). The choice is
    nested: the documents of 0.5 are among those of 0.8 (cruz2024, Table 3, cuts its corpus so).
    Returns the row numbers of the chosen sequences.
    """
    if fraction >= 1.0:
        return np.arange(len(documents), dtype=np.uint32)
    mixed = documents.astype(np.uint64) + np.uint64(_FRACTION_SALT)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.flatnonzero(mixed < np.uint64(fraction * (2**64 - 1))).astype(np.uint32)


def epoch_order(lengths: np.ndarray, step_size: int, seed: int, epoch: int) -> np.ndarray:
    """The sequences of one epoch in the order of training, shape (whole steps x step_size,).

    The sequences are shuffled, sorted by length within pools of 64 steps, cut into steps of like
    length, and the steps of each pool shuffled. Sequences that fill no whole step wait for another
    epoch, in which others do. Depends on nothing but the arguments.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    shuffled = generator.permutation(len(lengths)).astype(np.uint32)
    if len(lengths) <= step_size:
        return shuffled
    shuffled = shuffled[: len(lengths) - len(lengths) % step_size]
    pool_size = STEPS_PER_POOL * step_size
    for start in range(0, len(shuffled), pool_size):
        pool = shuffled[start : start + pool_size]
        by_length = pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, step_size)
        shuffled[start : start + pool_size] = generator.permutation(by_length).reshape(-1)
    return shuffled


class TrainingOrder(torch.utils.data.Dataset):
    """The sequences of a whole training, epoch after epoch, masked: item i is the i-th one trained.

    Step s takes the items from s x step_size on; each epoch is shuffled anew. The masks come from
    (seed, epoch, row of the sequence), so neither the batch nor the number of workers or processes
    changes them. Raises InputError where no sequence is left to train on.
    """

    def __init__(
        self,
        sequences: Sequences,
        masking: Masking,
        step_size: int,
        seed: int,
        fraction: float = 1.0,
    ):
        self.sequences = sequences.select_columns("input_ids").with_format("numpy")
        columns = sequences.with_format("numpy")
        self.rows = fraction_of_documents(np.asarray(columns["document"][:]), fraction)
        self.lengths = np.asarray(columns["length"][:])[self.rows]
        if not len(self.lengths):
            raise InputError(
                f"fraction: {fraction} of the documents holds no sequence of the "
                f"{len(sequences):,} in all; take more of the corpus"
            )
        self.masking = masking
        self.step_size = step_size
        self.seed = seed
        self.per_epoch = len(self.lengths)
        if self.per_epoch > step_size:
            self.per_epoch -= self.per_epoch % step_size
        self._order = lru_cache(maxsize=2)(self._compute_order)

    def _compute_order(self, epoch: int) -> np.ndarray:
        return epoch_order(self.lengths, self.step_size, self.seed, epoch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(masked input_ids, labels) of each item, each of shape (length,)."""
        places = [divmod(index, self.per_epoch) for index in indices]
        items = []
        for epoch, of_epoch in itertools.groupby(places, key=lambda place: place[0]):
            order = self._order(epoch)
            rows = [int(self.rows[order[position]]) for _, position in of_epoch]
            items += self.masked(epoch, rows)
        return items

    def masked(self, epoch: int, rows: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """These sequences with their masks of one epoch."""
        drawn = self.masking.draw_batch(self.sequences[rows]["input_ids"], epoch, rows)
        return list(zip(*drawn, strict=True))


class Passes(torch.utils.data.Sampler):
    """The items of each pass of one process, from step ``first`` up to step ``last``.

    A step has passes x processes x batch_size items. Batch k of a step is pass k // processes of
    process k % processes, so that one process with four passes and four processes with one see the
    same batches.
    """

    def __init__(
        self, first: int, last: int, batch_size: int, passes: int, rank: int, processes: int
    ):
        self.steps = range(first, last)
        self.batch_size = batch_size
        self.step_size = passes * processes * batch_size
        self.own = range(rank, passes * processes, processes)

    def __len__(self) -> int:
        return len(self.steps) * len(self.own)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            for batch in self.own:
                start = step * self.step_size + batch * self.batch_size
                yield list(range(start, start + self.batch_size))


class FixedMasks(torch.utils.data.Dataset):
    """The validation sequences with the masks that the masking stage fixed, longest first."""

    def __init__(self, validation: Sequences):
        lengths = np.asarray(validation.with_format("numpy")["length"][:])
        self.rows = np.argsort(-lengths.astype(np.int64), kind="stable")
        self.longest = int(lengths.max(initial=0))
        self.validation = validation.select_columns(["input_ids", "labels"]).with_format("numpy")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(masked input_ids, labels) of each item, each of shape (length,)."""
        rows = self.validation[self.rows[indices].tolist()]
        return list(zip(rows["input_ids"], rows["labels"], strict=True))


class PaddedBatch:
    """Collate (input_ids, labels) pairs: padded to the longest, with an attention mask.

    Rows are never shared: each holds one sequence, of one document.
    """

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, items: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
        """Tensors input_ids, attention_mask and labels, each of shape (batch, longest), int64.

        Beside them ``masked`` and ``unmasked``: where labels are, and the other real positions, as
        indices into the flattened (batch x longest), so that no device is asked for them.
        """
        shape = (len(items), max(len(input_ids) for input_ids, _ in items))
        input_ids = np.full(shape, self.pad_id, dtype=np.int64)
        labels = np.full(shape, -100, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        for row, (ids, targets) in enumerate(items):
            input_ids[row, : len(ids)] = ids
            labels[row, : len(ids)] = targets
            attention_mask[row, : len(ids)] = 1
        masked = labels != -100
        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "masked": np.flatnonzero(masked),
            "unmasked": np.flatnonzero(~masked & (attention_mask == 1)),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
