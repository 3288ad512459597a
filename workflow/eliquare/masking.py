"""Draw the masks of masked language modelling; keep the validation masks for good.

The weights follow Singh, De Clercq and Lefever (2023), after DistilBERT's training scripts: a
sub-word is chosen in proportion to ``max(count, 1) ** -smoothing``, so that rare sub-words are
masked more often than frequent ones; smoothing 0 masks all alike, as BERT does. Those scripts draw
the positions of a whole batch together; here each sequence is drawn by itself, keyed by
(seed, epoch, sequence), so that its mask does not depend on the batch, the number of workers or
GPUs, or a resume.
"""

import argparse
import hashlib
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eliquare import pairs, stage
from eliquare.corpus import arrow
from eliquare.corpus import counts as counting
from eliquare.corpus import tokenizer as tokenizers
from eliquare.stage import InputError

VERSION = 1

IGNORED = -100
SHARES = ("probability", "mask_share", "random_share")
VALIDATION_EPOCH = 2**64 - 1


@dataclass(frozen=True)
class Masking:
    """How masks are drawn.

    ``weights`` (float64) has a weight for each id, 0 for those never masked; ``random_ids`` are
    the ids that may replace a token; of the drawn positions, ``mask_share`` become ``mask_id``,
    ``random_share`` a random id, and the rest stay.
    """

    weights: np.ndarray
    mask_id: int
    random_ids: np.ndarray
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    seed: int = 1

    @classmethod
    def load(cls, folder: str | Path, tokenizer_folder: str | Path, seed: int = 1) -> "Masking":
        """The masking of a masking folder, for the tokenizer that it was made with."""
        path = stage.existing(Path(folder) / "weights.npy", "file of masking weights")
        shares = stage.read_json(Path(folder) / "settings.json")
        return cls.of(np.load(path), tokenizers.load(tokenizer_folder), seed=seed, **shares)

    @classmethod
    def of(
        cls,
        weights: np.ndarray,
        tokenizer: Any,
        probability: float,
        mask_share: float,
        random_share: float,
        seed: int,
    ) -> "Masking":
        """The masking with these weights; raises InputError where tokenizer or shares forbid it."""
        if not 0 < probability <= 1:
            raise InputError("--probability: expected a share above 0 and at most 1")
        if min(mask_share, random_share) < 0 or mask_share + random_share > 1:
            raise InputError("--mask-share and --random-share: expected shares with a sum up to 1")
        if not 0 <= seed < 2**64:
            raise InputError("--seed: expected a number from 0 to 2**64 - 1")
        if tokenizer.mask_token_id is None:
            raise InputError(f"{tokenizer.name_or_path}: the tokenizer has no mask token")
        names = tokenizers.subwords(tokenizer)
        if len(names) != len(weights):
            raise InputError(
                f"{tokenizer.name_or_path}: {len(names)} sub-words, but {len(weights)} masking "
                "weights; expected the same tokenizer"
            )
        unused = [number for number, name in enumerate(names) if not name]
        special = [*tokenizers.special_ids(tokenizer), *unused]
        return cls(
            weights=np.asarray(weights, dtype=np.float64),
            mask_id=tokenizer.mask_token_id,
            random_ids=np.setdiff1d(np.arange(len(names)), special),
            probability=probability,
            mask_share=mask_share,
            random_share=random_share,
            seed=seed,
        )

    def draw(
        self, input_ids: np.ndarray, epoch: int, sequence: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask one sequence, the one with number ``sequence``, for one epoch.

        Returns the masked ids and the labels (int64, -100 where nothing was drawn), both (length,).
        """
        masked, labels = self.draw_batch([input_ids], epoch, [sequence])
        return masked[0], labels[0]

    def draw_batch(
        self, rows: Sequence[np.ndarray], epoch: int, sequences: Sequence[int]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Mask several sequences: for each, exactly what ``draw`` gives for it.

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

        # One number for rounding, then two for each position: when it arrives, what it becomes.
        uniform = np.zeros((len(rows), 1 + 2 * width))
        self._fill(uniform, lengths, epoch, sequences)
        rounding, arrival, action = uniform[:, 0], uniform[:, 1::2], uniform[:, 2::2]

        expected = self.probability * np.count_nonzero(weights, axis=1)
        number = np.floor(expected).astype(np.int64)
        number += rounding < expected - number
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(weights > 0, -np.log1p(-arrival) / weights, np.inf)
        last = np.take_along_axis(np.sort(times, axis=1), np.maximum(number - 1, 0)[:, None], 1)
        drawn = (times <= last) & (number > 0)[:, None]

        labels = np.where(drawn, ids, IGNORED)
        ids[drawn & (action < self.mask_share)] = self.mask_id
        replaced = drawn & (action >= self.mask_share)
        replaced &= action < self.mask_share + self.random_share
        if self.random_share:
            # Below both shares the number is uniform again, so it also says which id.
            place = (action[replaced] - self.mask_share) / self.random_share
            choice = (place * len(self.random_ids)).astype(np.int64)
            ids[replaced] = self.random_ids[np.minimum(choice, len(self.random_ids) - 1)]
        return (
            [row[:length] for row, length in zip(ids, lengths, strict=True)],
            [row[:length] for row, length in zip(labels, lengths, strict=True)],
        )

    def _fill(
        self, uniform: np.ndarray, lengths: np.ndarray, epoch: int, sequences: Sequence[int]
    ) -> None:
        """Fill the start of each row with the numbers of its (seed, epoch, sequence)."""
        source = np.random.Philox(key=np.array([self.seed, epoch], dtype=np.uint64))
        generator = np.random.Generator(source)
        state = source.state
        counter = state["state"]["counter"]
        for row, length, sequence in zip(uniform, lengths.tolist(), sequences, strict=True):
            # The low words of the counter run inside a sequence; the highest says which one.
            counter[:] = 0, 0, 0, sequence
            source.state = state
            generator.random(out=row[: 1 + 2 * length])


def weights(counts: np.ndarray, smoothing: float, special: Sequence[int]) -> np.ndarray:
    """The masking weight of each id (float32): max(count, 1) ** -smoothing, 0 for specials."""
    result = np.maximum(counts, 1.0) ** -smoothing
    result[special] = 0
    return result.astype(np.float32)


def rows_of(path: Path) -> Iterator[np.ndarray]:
    """The input_ids of a sequences file, row by row."""
    for batch in arrow.batches(path):
        ids = batch["input_ids"].flatten().to_numpy()
        for begin, end in itertools.pairwise(batch["input_ids"].offsets.to_pylist()):
            # A copy, since a view would keep its whole batch in memory.
            yield ids[begin:end].copy()


def spread_sample(path: Path, size: int) -> list[tuple[int, np.ndarray]]:
    """At most ``size`` rows with their numbers, in the order of a hash of what they hold."""

    def keyed() -> Iterator[tuple[bytes, int, np.ndarray]]:
        for number, row in enumerate(rows_of(path)):
            yield hashlib.blake2b(row, digest_size=16).digest(), number, row

    chosen = heapq.nsmallest(size, keyed(), key=lambda item: item[:2])
    return [(number, row) for _, number, row in chosen]


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--sequences", required=True, type=Path, help="sequences folder")
    options.add_argument("--counts", required=True, type=Path, help="counts folder of the same")
    options.add_argument(
        "--tokenizer", required=True, type=Path, help="model folder that tokenized the sequences"
    )
    options.add_argument(
        "--smoothing", type=float, default=0.7, help="0 masks all sub-words alike; more, rare ones"
    )
    options.add_argument(
        "--probability", type=float, default=0.15, help="share of the tokens that are drawn"
    )
    options.add_argument(
        "--mask-share", type=float, default=0.8, help="share of those that become the mask token"
    )
    options.add_argument(
        "--random-share", type=float, default=0.1, help="share of those that become another token"
    )
    options.add_argument("--seed", type=int, default=1, help="seed of the validation masks")
    options.add_argument(
        "--max-validation", type=int, default=2000, help="validation sequences to keep at most"
    )
    options.add_argument("--output", required=True, type=Path, help="masking folder to write")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write weights.npy and validation.arrow."""
    if arguments.smoothing < 0:
        raise InputError("--smoothing: expected 0 or more")
    if arguments.max_validation < 1:
        raise InputError("--max-validation: expected at least 1")
    tokenizer = tokenizers.load(arguments.tokenizer)
    size = len(tokenizers.subwords(tokenizer))
    tokenizers.require_same(arguments.sequences, size, arguments.tokenizer)
    occurrences = counting.read(arguments.counts).occurrences
    table = weights(occurrences, arguments.smoothing, tokenizers.special_ids(tokenizer))
    masking = Masking.of(
        table,
        tokenizer,
        arguments.probability,
        arguments.mask_share,
        arguments.random_share,
        arguments.seed,
    )
    sample = spread_sample(arguments.sequences / "validation.arrow", arguments.max_validation)
    numbers, rows = zip(*sample, strict=True)
    kind = tokenizers.integer_type(size).name
    kinds = {"input_ids": [kind], "labels": ["int32"], "length": "uint16"}
    if pairs.is_paired(arguments.sequences):
        carrier = pairs.Carrier.load(arguments.sequences, masking.mask_id)
        masking = replace(masking, random_ids=carrier.shared(masking.random_ids))
    masked, labels = masking.draw_batch(rows, VALIDATION_EPOCH, numbers)
    table_columns = {
        "input_ids": masked,
        "labels": labels,
        "length": [len(row) for row in rows],
    }
    if pairs.is_paired(arguments.sequences):
        carried = [
            carrier.carry(pair, *drawn)
            for pair, *drawn in zip(
                pairs.rows(arguments.sequences / "validation.arrow", numbers),
                masked,
                labels,
                strict=True,
            )
        ]
        for name in pairs.MaskedPair._fields:
            table_columns[name] = [getattr(one, name) for one in carried]
            kinds.setdefault(name, ["uint32" if "ids" in name else "uint16"])
        labels = [one.labels for one in carried]
    columns = arrow.schema(kinds)
    with stage.whole_folder(arguments.output) as folder:
        np.save(folder / "weights.npy", table)
        shares = {name: getattr(arguments, name) for name in SHARES}
        stage.write_json(folder / "settings.json", shares)
        with pa.ipc.new_stream(str(folder / "validation.arrow"), columns) as writer:
            writer.write_table(pa.table(table_columns, schema=columns))
    drawn = sum(int(np.count_nonzero(row != IGNORED)) for row in labels)
    stage.say(f"{len(rows):,} validation sequences, {drawn:,} masked tokens, in {arguments.output}")


if __name__ == "__main__":
    stage.main(parser(), run)
