"""The order of the training sequences, their masks, and the batches made of them.

The order is fixed by the seed, the epoch and the sequences of a step; the masks by (seed, epoch,
sequence). How a step is split into micro-batches and processes, how many workers read it, and a
resume in the middle change neither.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eliquare.corpus.masking import IGNORE_INDEX, Masking
from eliquare.corpus.sequences import open_sequences
from eliquare.corpus.tokenization import require_same
from eliquare.io import InputError
from eliquare.models.loading import max_sequence_length
from eliquare.training.options import TrainingOptions
from eliquare.training.outputs import Batch
from eliquare.vocabulary.tokenizer import require_rows

STEPS_PER_POOL = 64
# Texts on which a narrower student is fitted to its teacher, as it starts.
SAMPLED_TEXTS = 128
_FRACTION_SALT = 0x9E3779B97F4A7C15

Ids = NDArray[np.int64]
Masked = tuple[Ids, Ids]


class Collator(Protocol):
    """Makes a batch of items of a dataset."""

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Return the batch."""


@dataclass(frozen=True)
class PromptInserter:
    """Puts a prompt into each sequence, after its first token: one of several, in turn.

    Attributes:
        ids: the tokens of each prompt, which may be none.
        longest: tokens that the model takes; with its prompt, a sequence is cut to it.
    """

    ids: Sequence[Sequence[int]]
    longest: int

    def put(self, number: int, sequence: Masked) -> Masked:
        """Return the ids and labels of a sequence with prompt ``number``, which has no labels."""
        prompt = np.asarray(self.ids[number % len(self.ids)], dtype=np.int64)
        ids, labels = sequence
        return self._inserted(ids, prompt), self._inserted(
            labels, np.full_like(prompt, IGNORE_INDEX)
        )

    def _inserted(self, values: Ids, prompt: Ids) -> Ids:
        whole = np.concatenate([values[:1], prompt, values[1:]])
        if len(whole) <= self.longest:
            return whole
        return np.append(whole[: self.longest - 1], whole[-1])


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained and validated on, and how items become batches."""

    train: "MaskedDataset"
    validation: "ValidationDataset"
    collate: Collator


def subset_by_document(documents: NDArray[np.integer[Any]], fraction: float) -> NDArray[np.uint32]:
    """Return the rows of the first ``fraction`` of the documents, in a fixed random order.

    The choice is nested: the documents of 0.5 are among those of 0.8 (cruz2024, Table 3, takes
    parts of its corpus like this).

    Args:
        documents: document number of each sequence, ``[sequences]``.
        fraction: share of the documents.
    """
    if fraction >= 1.0:
        return np.arange(len(documents), dtype=np.uint32)
    mixed = documents.astype(np.uint64) + np.uint64(_FRACTION_SALT)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.flatnonzero(mixed < np.uint64(fraction * (2**64 - 1))).astype(np.uint32)


def length_grouped_order(
    lengths: NDArray[np.integer[Any]], step_size: int, seed: int, epoch: int
) -> NDArray[np.uint32]:
    """Return the sequences of one epoch in the order of training, ``[full steps * step_size]``.

    The sequences are shuffled, sorted by length within pools of 64 steps, cut into steps of like
    length, and the steps of each pool shuffled. Sequences that fill no full step wait for another
    epoch, in which others do. Depends on nothing but the arguments.

    Args:
        lengths: tokens of each sequence, ``[sequences]``.
        step_size: sequences of a step, over all micro-batches and processes.
        seed: seed of the training.
        epoch: number of the epoch, from 0.
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


class MaskedDataset(torch.utils.data.Dataset[Any]):
    """The sequences of a training, epoch after epoch, masked: item i is the i-th one trained.

    Step s takes the items from ``s * step_size`` on; each epoch is shuffled anew.

    Args:
        sequences: columns ``input_ids``, ``length`` and ``document``.
        masking: how masks are drawn.
        step_size: sequences of a step, over all micro-batches and processes.
        seed: seed of the order.
        data_fraction: share of the documents to train on.
        prompts: what stands before the texts; a text has each in turn, epoch after epoch.

    Raises:
        InputError: no sequence is left to train on.
    """

    def __init__(
        self,
        sequences: datasets.Dataset,
        masking: Masking,
        step_size: int,
        seed: int,
        data_fraction: float = 1.0,
        prompts: PromptInserter | None = None,
    ):
        self.sequences = sequences.select_columns("input_ids").with_format("numpy")
        columns = sequences.with_format("numpy")
        self.rows = subset_by_document(np.asarray(columns["document"][:]), data_fraction)
        self.lengths = np.asarray(columns["length"][:])[self.rows]
        if not len(self.lengths):
            raise InputError(
                f"data_fraction: {data_fraction} of the documents holds no sequence of the "
                f"{len(sequences):,} in all; take more of the corpus"
            )
        self.longest = int(self.lengths.max())
        self.masking = masking
        self.prompts = prompts
        self.step_size = step_size
        self.seed = seed
        self.per_epoch = len(self.lengths)
        if self.per_epoch > step_size:
            self.per_epoch -= self.per_epoch % step_size
        self._order = lru_cache(maxsize=2)(self._order_of_epoch)

    def _order_of_epoch(self, epoch: int) -> NDArray[np.uint32]:
        return length_grouped_order(self.lengths, self.step_size, self.seed, epoch)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items: masked ``input_ids[length]`` and ``labels[length]`` of each."""
        epochs = [divmod(index, self.per_epoch) for index in indices]
        items: list[Any] = []
        for epoch, positions in itertools.groupby(epochs, key=lambda pair: pair[0]):
            order = self._order(epoch)
            rows = [int(self.rows[order[position]]) for _, position in positions]
            items += self.masked(epoch, rows)
        return items

    def masked(self, epoch: int, rows: Sequence[int]) -> list[Any]:
        """Return these sequences with their masks of one epoch."""
        ids = self.sequences[list(rows)]["input_ids"]
        masked = list(zip(*self.masking.draw_batch(ids, epoch, rows), strict=True))
        if self.prompts is None:
            return masked
        return [self.prompts.put(epoch + row, each) for row, each in zip(rows, masked, strict=True)]


class ValidationDataset(torch.utils.data.Dataset[Any]):
    """The validation sequences with masks and prompts that are fixed, the longest first."""

    COLUMNS: tuple[str, ...] = ("input_ids", "labels")

    def __init__(self, validation: datasets.Dataset, prompts: PromptInserter | None = None):
        lengths = np.asarray(validation.with_format("numpy")["length"][:])
        self.rows = np.argsort(-lengths.astype(np.int64), kind="stable")
        self.longest = int(lengths.max(initial=0))
        self.validation = validation.select_columns(list(self.COLUMNS)).with_format("numpy")
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items: for each the values of ``COLUMNS``."""
        numbers = self.rows[indices].tolist()
        rows = self.validation[numbers]
        items: list[Any] = list(zip(*(rows[name] for name in self.COLUMNS), strict=True))
        if self.prompts is None:
            return items
        return [self.prompts.put(number, each) for number, each in zip(numbers, items, strict=True)]


class MicroBatchSampler(torch.utils.data.Sampler[list[int]]):
    """The items of each micro-batch of one process, from the first step to the last.

    A step has ``accumulation * processes * batch_size`` items. Batch k of a step is micro-batch
    ``k // processes`` of process ``k % processes``, so that one process with four micro-batches and
    four processes with one see the same batches.
    """

    def __init__(
        self, steps: int, batch_size: int, accumulation: int, rank: int = 0, processes: int = 1
    ):
        self.steps = steps
        self.batch_size = batch_size
        self.step_size = accumulation * processes * batch_size
        self.own = range(rank, accumulation * processes, processes)

    def __len__(self) -> int:
        return self.steps * len(self.own)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            for batch in self.own:
                start = step * self.step_size + batch * self.batch_size
                yield list(range(start, start + self.batch_size))


class MaskedCollator:
    """Collates (input_ids, labels) pairs: padded to the longest, with an attention mask.

    Each row holds one sequence, of one document.

    Args:
        pad_id: id of the padding token.
    """

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, items: Sequence[Masked]) -> Batch:
        """Return ``input_ids``, ``attention_mask`` and ``labels``, int64 ``[batch, length]``.

        Beside them ``masked`` and ``unmasked``: positions with a label, and the other real ones, as
        indices into the flattened ``[batch * length]``, so that no device is asked for them.
        """
        ids, targets = zip(*items, strict=True)
        input_ids, labels = padded(ids, self.pad_id), padded(targets, IGNORE_INDEX)
        attention_mask = padded([np.ones_like(each) for each in ids], 0)
        masked = labels != IGNORE_INDEX
        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "masked": np.flatnonzero(masked),
            "unmasked": np.flatnonzero(~masked & (attention_mask == 1)),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def padded(rows: Sequence[NDArray[np.integer[Any]]], value: int) -> NDArray[np.int64]:
    """Return the rows as one table ``[batch, length]``, filled up with ``value``."""
    table = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def load_data(
    options: TrainingOptions,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] = (),
) -> TrainingData:
    """Return the sequences of a training with their masks, and a prompt before each if given.

    Raises:
        InputError: a folder is missing or damaged, was made with another tokenizer, or has a
            sequence that is longer than the model takes; a prompt leaves no room for text.
    """
    require_same(options.sequences, len(tokenizer), tokenizer.name_or_path)
    require_rows(tokenizer.name_or_path, len(tokenizer), model.config.vocab_size)
    before = tokens_of(prompts, tokenizer, max_sequence_length(model)) if any(prompts) else None
    train = MaskedDataset(
        open_sequences(options.sequences / "train.arrow", ("length", "input_ids")),
        Masking.load(options.masking, tokenizer.name_or_path, seed=options.seed),
        options.step_size,
        options.seed,
        options.data_fraction,
        before,
    )
    validation = ValidationDataset(
        open_sequences(
            options.masking / "validation.arrow", ("length", *ValidationDataset.COLUMNS)
        ),
        before,
    )
    check_lengths(model, train, validation)
    return TrainingData(train, validation, MaskedCollator(tokenizer.pad_token_id))


def tokens_of(
    prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase, longest: int
) -> PromptInserter:
    """Return the tokens of prompts; raise InputError for those that leave no room for text."""
    ids = [_before_text(prompt, tokenizer) for prompt in prompts]
    if long := [
        f"{prompt!r} has {len(each):,} tokens"
        for prompt, each in zip(prompts, ids, strict=True)
        if len(each) > longest // 2
    ]:
        raise InputError(
            f"prompts: {', '.join(long)}, and the model takes {longest:,}; give shorter ones"
        )
    return PromptInserter(ids, longest)


def _before_text(prompt: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of a prompt to put before those of a text.

    A tokenizer that puts a space before every text has the one at the end of the prompt in the
    text's first token; of others it is a token of the prompt.
    """
    encode: Callable[[str], list[int]] = partial(tokenizer.encode, add_special_tokens=False)
    without = encode(prompt.rstrip())
    return without if encode(f"{prompt}a") == without + encode("a") else encode(prompt)


def sample_of_text(
    options: TrainingOptions, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, torch.Tensor]]:
    """Return the first training sequences in small batches, without masks.

    ``input_ids`` and ``attention_mask`` ``[texts, tokens]`` of each batch.
    """
    sequences = open_sequences(options.sequences / "train.arrow").with_format("numpy")
    rows = [row.tolist() for row in sequences[:SAMPLED_TEXTS]["input_ids"]]
    return [
        dict(tokenizer.pad({"input_ids": rows[start : start + 4]}, return_tensors="pt"))
        for start in range(0, len(rows), 4)
    ]


def check_lengths(
    model: PreTrainedModel, train: MaskedDataset, validation: ValidationDataset
) -> None:
    """Raise InputError where a sequence is longer than the model has positions."""
    longest, limit = max(train.longest, validation.longest), max_sequence_length(model)
    if longest > limit:
        raise InputError(
            f"sequences: the longest has {longest} tokens, and the model takes {limit}; "
            "tokenize again with a smaller max_length"
        )
