"""Sequences in two tokenizers: the order of ``eliquare.training.data``, masks on both sides."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eliquare.corpus.masking import IGNORE_INDEX, Masking
from eliquare.corpus.sequences import open_sequences
from eliquare.corpus.tokenization import require_same
from eliquare.extension.alignment import (
    AlignedSequence,
    Ints,
    MaskAligner,
    MaskedSequence,
    aligned_columns,
)
from eliquare.io import InputError, read_json
from eliquare.models.loading import max_sequence_length
from eliquare.training.data import (
    MaskedDataset,
    TrainingData,
    ValidationDataset,
    check_lengths,
    padded,
)
from eliquare.training.options import TrainingOptions
from eliquare.training.outputs import Batch


def load_data(
    options: TrainingOptions,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    teacher: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerBase,
) -> tuple[TrainingData, Ints]:
    """Return the sequences of a training, and for each student id the teacher's id, or -1.

    Raises:
        InputError: a folder is missing or damaged, was made with other tokenizers, or has a
            sequence that is longer than a model takes.
    """
    folder = tokenizer.name_or_path
    require_same(options.sequences, len(tokenizer), folder)
    masking = Masking.load(options.masking, folder, seed=options.seed)
    aligner = MaskAligner.load(options.sequences, masking)
    report = read_json(options.sequences / "report.json")
    if report["teacher"]["vocabulary"] != len(teacher_tokenizer):
        raise InputError(
            f"{teacher_tokenizer.name_or_path}: {len(teacher_tokenizer):,} tokens, but "
            f"{options.sequences} was made for a teacher of {report['teacher']['vocabulary']:,}; "
            "make the sequences with this teacher's tokenizer"
        )
    train = AlignedDataset(
        open_sequences(
            options.sequences / "train.arrow", ("length", "document", *AlignedSequence._fields)
        ),
        aligner,
        options.step_size,
        options.seed,
        options.data_fraction,
    )
    validation = AlignedValidation(
        open_sequences(options.masking / "validation.arrow", ("length", *AlignedValidation.COLUMNS))
    )
    check_lengths(student, train, validation)
    if report["max_length"] > max_sequence_length(teacher):
        raise InputError(
            f"{options.sequences}: sequences of up to {report['max_length']} tokens, and the "
            f"teacher takes {max_sequence_length(teacher)}; make them again with a smaller "
            "max_length"
        )
    pads = tokenizer.pad_token_id, teacher_tokenizer.pad_token_id
    return TrainingData(train, validation, partial(collate, *pads)), aligner.to_teacher


class AlignedDataset(MaskedDataset):
    """The student's sequences in MaskedDataset's order with its masks, the teacher's beside.

    Takes an aligner, and ``order``, which MaskedDataset takes after its masking. A random token
    that takes a place is one that both have.
    """

    def __init__(self, sequences: datasets.Dataset, aligner: MaskAligner, *order: Any):
        super().__init__(sequences, aligner.masking, *order)
        self.aligned = aligned_columns(sequences)
        self.aligner = aligner

    def masked(self, epoch: int, rows: Sequence[int]) -> list[Any]:
        """Return these sequences with their masks of one epoch, each a MaskedSequence."""
        return self.aligner.draw_batch(self.aligned[list(rows)], epoch, rows)


class AlignedValidation(ValidationDataset):
    """The validation sequences with the masks that ``extension mask`` fixed on both sides."""

    COLUMNS = MaskedSequence._fields


def collate(pad_id: int, teacher_pad_id: int, items: Sequence[Any]) -> Batch:
    """Return a batch of both sides, all int64, from items in the order of MaskedSequence.

    - ``input_ids``, ``attention_mask``, ``labels``, ``spans``: ``[batch, length]``; ``spans``
      is the number of each token's span, counted through the batch, -1 for padding.
    - ``span_sizes``: ``[spans]``, the tokens of each span.
    - ``masked``: the tokens with a label; ``same``: those that are one and the same on both
      sides, the ones with a label first, which are ``same_masked``. All are indices into the
      flattened ``[batch * length]``.

    Those of the teacher are named ``teacher_…``, but for ``labels`` and what follows from them.
    """
    columns = dict(zip(MaskedSequence._fields, zip(*items, strict=True), strict=True))
    batch = side(columns["input_ids"], columns["spans"], pad_id)
    teacher = side(columns["teacher_input_ids"], columns["teacher_spans"], teacher_pad_id)
    labels = padded(columns["labels"], IGNORE_INDEX)
    has_label = labels.ravel() != IGNORE_INDEX
    same = np.concatenate(columns["same"]).astype(bool)
    places, teacher_places = (
        np.flatnonzero((numbers >= 0) & same[numbers])
        for numbers in (batch["spans"].ravel(), teacher["spans"].ravel())
    )
    order = np.argsort(~has_label[places], kind="stable")
    arrays = batch | {f"teacher_{name}": array for name, array in teacher.items()}
    arrays |= {
        "labels": labels,
        "masked": np.flatnonzero(has_label),
        "same": places[order],
        "teacher_same": teacher_places[order],
        "same_masked": places[has_label[places]],
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def side(ids: Sequence[Ints], sizes: Sequence[Ints], pad_id: int) -> dict[str, Ints]:
    """Return the ids, attention mask, spans and sizes of spans of one side."""
    span_sizes = np.concatenate(sizes).astype(np.int64)
    numbers = np.repeat(np.arange(len(span_sizes)), span_sizes)
    spans = padded(np.split(numbers, np.cumsum([len(row) for row in ids])[:-1]), -1)
    return {
        "input_ids": padded(ids, pad_id),
        "attention_mask": (spans >= 0).astype(np.int64),
        "spans": spans,
        "span_sizes": span_sizes,
    }
