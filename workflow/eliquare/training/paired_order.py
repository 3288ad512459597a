"""The order of sequences in two tokenizers: as TrainingOrder's, with masks on both sides."""

from dataclasses import replace

import numpy as np
import torch
from datasets import Dataset as Sequences

from eliquare.masking import Masking
from eliquare.pairs import COLUMNS, Carrier, MaskedPair, Pair
from eliquare.training.order import FixedMasks, TrainingOrder


class PairedOrder(TrainingOrder):
    """The student's sequences in TrainingOrder's order and with its masks, the teacher's beside.

    A random sub-word that takes a place is one that both have.
    """

    def __init__(
        self,
        sequences: Sequences,
        masking: Masking,
        carrier: Carrier,
        step_size: int,
        seed: int,
        fraction: float = 1.0,
    ):
        masking = replace(masking, random_ids=carrier.shared(masking.random_ids))
        super().__init__(sequences, masking, step_size, seed, fraction)
        self.pairs = sequences.select_columns(list(COLUMNS)).with_format("numpy")
        self.carrier = carrier

    def masked(self, epoch: int, rows: list[int]) -> list[MaskedPair]:
        """These sequences with their masks of one epoch."""
        columns = self.pairs[rows]
        drawn = self.masking.draw_batch(columns["input_ids"], epoch, rows)
        pairs = (Pair(*values) for values in zip(*(columns[n] for n in COLUMNS), strict=True))
        return [
            self.carrier.carry(pair, masked, labels)
            for pair, masked, labels in zip(pairs, *drawn, strict=True)
        ]


class PairedMasks(FixedMasks):
    """The validation sequences with the masks that the masking stage fixed on both sides."""

    def __init__(self, validation: Sequences):
        super().__init__(validation)
        columns = list(MaskedPair._fields)
        self.validation = validation.select_columns(columns).with_format("numpy")

    def __getitems__(self, indices: list[int]) -> list[MaskedPair]:
        """The masked pair of each item."""
        rows = self.validation[self.rows[indices].tolist()]
        columns = (rows[name] for name in MaskedPair._fields)
        return [MaskedPair(*values) for values in zip(*columns, strict=True)]


class PairedBatch:
    """Collate masked pairs: both sides padded to their longest, and the spans of all pieces."""

    def __init__(self, pad_id: int, teacher_pad_id: int):
        self.pad_id = pad_id
        self.teacher_pad_id = teacher_pad_id

    def __call__(self, items: list[MaskedPair]) -> dict[str, torch.Tensor]:
        """Tensors input_ids, attention_mask, labels and spans of shape (batch, longest), int64,
        and teacher_input_ids, teacher_attention_mask and teacher_spans, the same of the teacher.

        ``spans`` says of each piece which span it belongs to, counted through the whole batch; of
        padding it says -1. ``same`` and ``teacher_same`` are the places of the pieces that are one
        and the same on both sides, as indices into the flattened (batch x longest), those with a
        label first; ``same_masked`` has a row for each of these.
        """
        batch = self.side(items, "", self.pad_id) | self.side(
            items, "teacher_", self.teacher_pad_id
        )
        labels = np.full(batch["input_ids"].shape, -100, dtype=np.int64)
        for row, item in enumerate(items):
            labels[row, : len(item.labels)] = item.labels
        same = np.concatenate([item.same for item in items]).astype(bool)
        mine, theirs = (
            np.flatnonzero((spans >= 0) & same[spans])
            for spans in (batch["spans"].ravel(), batch["teacher_spans"].ravel())
        )
        masked = labels.ravel()[mine] != -100
        order = np.argsort(~masked, kind="stable")
        batch |= {
            "labels": labels,
            "same": mine[order],
            "teacher_same": theirs[order],
            "same_masked": mine[masked],
        }
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def side(self, items: list[MaskedPair], name: str, pad_id: int) -> dict[str, np.ndarray]:
        """The columns of one side; ``name`` stands before the names of the teacher's."""
        ids = [getattr(item, f"{name}input_ids") for item in items]
        shape = (len(items), max(map(len, ids)))
        table = np.full(shape, pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        spans = np.full(shape, -1, dtype=np.int64)
        before = 0
        for row, (item, values) in enumerate(zip(items, ids, strict=True)):
            sizes = getattr(item, f"{name}spans")
            table[row, : len(values)] = values
            mask[row, : len(values)] = 1
            spans[row, : len(values)] = before + np.repeat(np.arange(len(sizes)), sizes)
            before += len(sizes)
        return {
            f"{name}input_ids": table,
            f"{name}attention_mask": mask,
            f"{name}spans": spans,
        }
