"""Sequences in two tokenizers: the order of ``eliquare.training.data``, masks on both sides."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray

from eliquare.corpus.masking import IGNORE_INDEX, Masking
from eliquare.extension.alignment import MaskAligner, MaskedSequence, aligned_columns
from eliquare.training.data import MaskedDataset, ValidationDataset
from eliquare.training.outputs import Batch


class AlignedDataset(MaskedDataset):
    """The student's sequences in MaskedDataset's order with its masks, the teacher's beside.

    A random token that takes a place is one that both have.
    """

    def __init__(
        self,
        sequences: datasets.Dataset,
        masking: Masking,
        aligner: MaskAligner,
        step_size: int,
        seed: int,
        data_fraction: float = 1.0,
    ):
        super().__init__(sequences, aligner.masking(masking), step_size, seed, data_fraction)
        self.aligned = aligned_columns(sequences)
        self.aligner = aligner

    def masked(self, epoch: int, rows: Sequence[int]) -> list[Any]:
        """Return these sequences with their masks of one epoch, each a MaskedSequence."""
        numbers = list(rows)
        return list(self.aligner.draw_batch(self.masking, self.aligned[numbers], epoch, numbers))


class AlignedValidation(ValidationDataset):
    """The validation sequences with the masks that ``extension mask`` fixed on both sides."""

    COLUMNS = MaskedSequence._fields


class AlignedCollator:
    """Collates masked sequences: both sides padded to their longest, and the spans of all tokens."""

    def __init__(self, pad_id: int, teacher_pad_id: int):
        self.pad_id = pad_id
        self.teacher_pad_id = teacher_pad_id

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Return the tensors of both sides, int64, from items in the order of MaskedSequence.

        ``input_ids``, ``attention_mask``, ``labels`` and ``spans`` are ``[batch, length]``, and
        ``teacher_input_ids``, ``teacher_attention_mask`` and ``teacher_spans`` the same of the
        teacher. ``spans`` says of each token which span it belongs to, counted through the batch;
        of padding it says -1. ``same`` and ``teacher_same`` are the places of the tokens that are
        one and the same on both sides, as indices into the flattened ``[batch * length]``, those
        with a label first; ``same_masked`` holds those with a label alone.
        """
        masked = [MaskedSequence(*item) for item in items]
        spans = [each.spans for each in masked]
        teacher_spans = [each.teacher_spans for each in masked]
        batch = side([each.input_ids for each in masked], spans, self.pad_id)
        teacher = side([each.teacher_input_ids for each in masked], teacher_spans, self.teacher_pad_id)
        labels = padded([each.labels for each in masked], IGNORE_INDEX)
        same = np.concatenate([each.same for each in masked]).astype(bool)
        places, teacher_places = (
            np.flatnonzero((each >= 0) & same[each])
            for each in (batch["spans"].ravel(), teacher["spans"].ravel())
        )
        has_label = labels.ravel()[places] != IGNORE_INDEX
        order = np.argsort(~has_label, kind="stable")
        arrays = batch | {f"teacher_{name}": array for name, array in teacher.items()}
        arrays |= {
            "labels": labels,
            "same": places[order],
            "teacher_same": teacher_places[order],
            "same_masked": places[has_label],
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def side(
    ids: Sequence[NDArray[Any]], sizes: Sequence[NDArray[Any]], pad_id: int
) -> dict[str, NDArray[np.int64]]:
    """Return ids, attention mask and spans of one side, each ``[batch, length]``."""
    first = np.cumsum([0, *map(len, sizes)])
    spans = [
        begin + np.repeat(np.arange(len(each)), each)
        for begin, each in zip(first, sizes, strict=False)
    ]
    numbers = padded(spans, -1)
    attention_mask = (numbers >= 0).astype(np.int64)
    return {"input_ids": padded(ids, pad_id), "attention_mask": attention_mask, "spans": numbers}


def padded(rows: Sequence[NDArray[Any]], value: int) -> NDArray[np.int64]:
    """Return the rows as one table ``[batch, length]``, filled up with ``value``."""
    table = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table
