"""Masks of masked language modelling; those of the validation set are fixed for good.

The weights follow Singh, De Clercq and Lefever (2023), after DistilBERT's training scripts: a token
is chosen in proportion to ``max(count, 1) ** -smoothing``, so that rare tokens are masked more
often than frequent ones; smoothing 0 masks all alike, as BERT does. Those scripts draw the
positions of a batch together; here each sequence is drawn by itself, keyed by (seed, epoch,
sequence), so that its mask does not depend on the batch, the number of workers or GPUs, or a
resume.
"""

import hashlib
import heapq
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, Field

from eliquare.cli import Options
from eliquare.config import corpus
from eliquare.corpus.counts import read_counts
from eliquare.corpus.sequences import batches, column, list_column, record_batch
from eliquare.corpus.tokenization import CorpusTokenizer, integer_type, require_same
from eliquare.faults import refused
from eliquare.io import InputError, atomic_dir, existing, read_as, write_json

IGNORE_INDEX = -100
SHARES = ("mlm_probability", "mask_replace_prob", "random_replace_prob")
VALIDATION_EPOCH = 2**64 - 1
Int64 = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class MaskOptions(Options, corpus.Masking):
    """Options of ``corpus mask``."""

    sequences: Path = Field(description="Sequences folder.")
    counts: Path = Field(description="Counts folder of the same corpus.")
    tokenizer: Path = Field(description="Model folder that tokenized the sequences.")
    output: Path = Field(description="Masking folder to write.")


def mask(options: MaskOptions) -> None:
    """Write the masking weights, and a validation set whose masks are fixed."""
    tokenizer = CorpusTokenizer.load(options.tokenizer)
    masking = Masking.from_counts(options, tokenizer)
    path = options.sequences / "validation.arrow"
    numbers, rows = zip(*sample_sequences(path, options.max_validation_sequences), strict=True)
    masked, labels = masking.draw_batch(rows, VALIDATION_EPOCH, numbers)
    kind = integer_type(len(tokenizer.tokens))
    columns = {
        "input_ids": rows_column(masked, kind),
        "labels": rows_column(labels, np.int32),
        "length": column(np.array([len(row) for row in rows], dtype=np.uint16)),
    }
    with atomic_dir(options.output) as folder:
        masking.save(folder, columns)
    drawn = sum(int(np.count_nonzero(row != IGNORE_INDEX)) for row in labels)
    logger.info("%s: %d validation sequences, %d masked tokens", options.output, len(rows), drawn)


def sample_sequences(path: Path, size: int) -> list[tuple[int, npt.NDArray[Any]]]:
    """Return at most ``size`` sequences and their numbers, in the order of a hash of their ids."""

    def keyed() -> Iterator[tuple[bytes, int, npt.NDArray[Any]]]:
        for number, row in enumerate(input_ids(path)):
            yield hashlib.blake2b(row.data, digest_size=16).digest(), number, row

    chosen = heapq.nsmallest(size, keyed(), key=lambda item: item[:2])
    return [(number, row) for _, number, row in chosen]


def input_ids(path: Path) -> Iterator[npt.NDArray[Any]]:
    """Yield the input_ids of a file of sequences, row by row."""
    for batch in batches(path):
        column_of_lists = batch["input_ids"]
        ids = np.from_dlpack(column_of_lists.values)
        for begin, end in itertools.pairwise(np.from_dlpack(column_of_lists.offsets).tolist()):
            # A copy, since a view would keep its complete batch in memory.
            yield ids[begin:end].copy()


def rows_column(rows: Sequence[npt.NDArray[Any]], kind: npt.DTypeLike) -> pa.Array:
    """Return rows as an Arrow array of lists of this type of integer."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return list_column(np.concatenate(rows).astype(kind), offsets)


def token_weights(
    counts: npt.ArrayLike, smoothing: float, special: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Return ``weights[tokens]``: max(count, 1) ** -smoothing, 0 for special tokens."""
    weights = np.maximum(counts, 1.0) ** -smoothing
    weights[list(special)] = 0
    return weights.astype(np.float32)


class Shares(BaseModel):
    """The content of settings.json: shares of the tokens."""

    mlm_probability: float = Field(gt=0, lt=1)
    mask_replace_prob: float = Field(ge=0, le=1)
    random_replace_prob: float = Field(ge=0, le=1)


def read_array(path: Path, kind: type, what: str) -> npt.NDArray[Any]:
    """Return a saved array of one dimension and a kind of numbers; InputError where it is none."""
    with refused(f"{path}: not a {what}", "; make it again"):
        found: npt.NDArray[Any] = np.load(existing(path, what), allow_pickle=False)
    if found.ndim != 1 or not np.issubdtype(found.dtype, kind):
        raise InputError(f"{path}: not a {what}; make it again")
    return found


@dataclass(frozen=True)
class Masking:
    """How masks are drawn.

    Attributes:
        weights: ``weights[tokens]``, float64; 0 for those never masked.
        mask_id: Id of the mask token.
        random_ids: Ids that may replace a token.
        mlm_probability: Share of the positions of weight above 0 that are drawn.
        mask_replace_prob: Share of the drawn positions that become ``mask_id``.
        random_replace_prob: Share of them that become a random id; the rest stay.
        seed: Seed of the draws.
    """

    weights: npt.NDArray[np.float64]
    mask_id: int
    random_ids: Int64
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    seed: int = 1

    @classmethod
    def from_counts(cls, options: MaskOptions, tokenizer: CorpusTokenizer) -> "Masking":
        """Return the masking of sequences with these counts; InputError if they do not fit."""
        require_same(options.sequences, len(tokenizer.tokens), options.tokenizer)
        occurrences = read_counts(options.counts, tokenizer.tokens).occurrences
        weights = token_weights(occurrences, options.smoothing, tokenizer.special_ids)
        shares = {name: getattr(options, name) for name in SHARES}
        return cls.of(weights, tokenizer, options.tokenizer, shares, options.masking_seed)

    @classmethod
    def load(cls, folder: str | Path, tokenizer_folder: str | Path, seed: int = 1) -> "Masking":
        """Load the masking of a masking folder, for the tokenizer that it was made with."""
        weights = read_array(Path(folder) / "weights.npy", np.floating, "file of masking weights")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise InputError(f"{folder}/weights.npy: weights of 0 and more expected; make it again")
        shares = read_as(Path(folder) / "settings.json", Shares).model_dump()
        tokenizer = CorpusTokenizer.load(tokenizer_folder)
        return cls.of(weights, tokenizer, tokenizer_folder, shares, seed)

    @classmethod
    def of(
        cls,
        weights: npt.NDArray[np.float32],
        tokenizer: CorpusTokenizer,
        name: str | Path,
        shares: Mapping[str, float],
        seed: int,
    ) -> "Masking":
        """Return the masking with these weights; InputError where the tokenizer forbids it."""
        size = len(tokenizer.tokens)
        if tokenizer.mask_id is None:
            raise InputError(f"{name}: the tokenizer has no mask token")
        if size != len(weights):
            raise InputError(
                f"{name}: {size} tokens, but {len(weights)} masking weights; expected the same "
                "tokenizer"
            )
        usable = np.array([bool(token) for token in tokenizer.tokens])
        usable[tokenizer.special_ids] = False
        return cls(
            weights=np.asarray(weights, dtype=np.float64),
            mask_id=tokenizer.mask_id,
            random_ids=np.flatnonzero(usable),
            seed=seed,
            **shares,
        )

    def save(self, folder: Path, columns: Mapping[str, pa.Array]) -> None:
        """Write weights.npy, settings.json and, of these columns, validation.arrow."""
        np.save(folder / "weights.npy", self.weights.astype(np.float32))
        write_json(folder / "settings.json", {name: getattr(self, name) for name in SHARES})
        batch = record_batch(columns)
        with pa.ipc.new_stream(str(folder / "validation.arrow"), batch.schema) as writer:
            writer.write_batch(batch)

    def draw_batch(
        self, rows: Sequence[npt.NDArray[Any]], epoch: int, sequences: Sequence[int]
    ) -> tuple[list[Int64], list[Int64]]:
        """Mask ``rows``, the sequences with these numbers, for one epoch.

        Returns for each row its masked ids and its labels, both ``[length]``; labels are
        IGNORE_INDEX where nothing was drawn. No row depends on the others.

        The number of drawn positions is the probability times the positions of weight above 0,
        rounded up or down at random so that its expectation is exact. They are drawn without
        replacement in proportion to their weights, by an exponential race: position i arrives at
        an exponential time of rate w_i, and the first ones to arrive are taken (Efraimidis and
        Spirakis, 2006).
        """
        lengths = np.array([len(row) for row in rows])
        width = int(lengths.max())
        inside = np.arange(width) < lengths[:, None]
        ids = np.zeros((len(rows), width), dtype=np.int64)
        ids[inside] = np.concatenate(rows)
        weights = self.weights[ids] * inside

        # One number for rounding, then two per position: when it arrives, what it becomes.
        uniform = np.zeros((len(rows), 1 + 2 * width))
        self._fill(uniform, lengths, epoch, sequences)
        rounding, arrival, action = uniform[:, 0], uniform[:, 1::2], uniform[:, 2::2]

        expected = self.mlm_probability * np.count_nonzero(weights, axis=1)
        number = np.floor(expected).astype(np.int64)
        number += rounding < expected - number
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(weights > 0, -np.log1p(-arrival) / weights, np.inf)
        last = np.take_along_axis(np.sort(times, axis=1), np.maximum(number - 1, 0)[:, None], 1)
        drawn = (times <= last) & (number > 0)[:, None]

        labels = np.where(drawn, ids, IGNORE_INDEX)
        ids[drawn & (action < self.mask_replace_prob)] = self.mask_id
        replaced = drawn & (action >= self.mask_replace_prob)
        replaced &= action < self.mask_replace_prob + self.random_replace_prob
        if self.random_replace_prob:
            # Below both shares the number is uniform again, so it also says which id.
            place = (action[replaced] - self.mask_replace_prob) / self.random_replace_prob
            choice = (place * len(self.random_ids)).astype(np.int64)
            ids[replaced] = self.random_ids[np.minimum(choice, len(self.random_ids) - 1)]
        return (
            [row[:length] for row, length in zip(ids, lengths, strict=True)],
            [row[:length] for row, length in zip(labels, lengths, strict=True)],
        )

    def _fill(
        self, uniform: npt.NDArray[np.float64], lengths: Int64, epoch: int, sequences: Sequence[int]
    ) -> None:
        """Fill the start of each row with the numbers of its (seed, epoch, sequence)."""
        source = np.random.Philox(key=np.array([self.seed, epoch], dtype=np.uint64))
        generator = np.random.Generator(source)
        state: Any = source.state
        counter = state["state"]["counter"]
        for row, length, sequence in zip(uniform, lengths.tolist(), sequences, strict=True):
            # The low words of the counter run inside a sequence; the highest says which one.
            counter[:] = 0, 0, 0, sequence
            source.state = state
            generator.random(out=row[: 1 + 2 * length])
