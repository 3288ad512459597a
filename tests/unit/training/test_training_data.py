"""The order of the data and its masks: fixed by the seed, however a step is split."""

import os
import signal

import numpy as np
import pytest
import torch

from eliquare.corpus.masking import Masking
from eliquare.corpus.sequences import open_sequences
from eliquare.interrupts import outlive
from eliquare.io import InputError
from eliquare.training.data import (
    MaskedCollator,
    MaskedDataset,
    MicroBatchSampler,
    ValidationDataset,
    length_grouped_order,
    subset_by_document,
)


def dataset(world, **changes):
    settings = {"step_size": 4, "seed": 1} | changes
    return MaskedDataset(
        open_sequences(world.sequences / "train.arrow"),
        Masking.load(world.masking, world.tokenizer, seed=1),
        **settings,
    )


def test_workers_outlive_a_signal():
    """All processes of a job have it, and the training still reads what its last step needs."""
    loader = torch.utils.data.DataLoader(
        range(64), batch_size=1, num_workers=2, worker_init_fn=outlive
    )
    numbers = iter(loader)
    read = [int(next(numbers)), int(next(numbers))]  # one of each worker
    for worker in numbers._workers:
        os.kill(worker.pid, signal.SIGTERM)
    assert read + [int(number) for number in numbers] == list(range(64))


def test_an_epoch_holds_each_sequence_at_most_once_and_like_lengths_together(world):
    lengths = dataset(world).lengths
    assert lengths.min() < lengths.max()
    for epoch in range(3):
        order = length_grouped_order(lengths, 32, seed=1, epoch=epoch)
        assert len(set(order.tolist())) == len(order) == len(lengths) - len(lengths) % 32
        batches = lengths[order].astype(int).reshape(-1, 32)
        assert batches.sum() / (32 * batches.max(axis=1)).sum() >= 0.95
        assert (np.diff(batches.mean(axis=1)) < 0).any(), "batches are not trained short to long"
    left_out = [
        set(range(len(lengths))) - set(length_grouped_order(lengths, 32, 1, n)) for n in range(2)
    ]
    assert left_out[0] != left_out[1]
    again = length_grouped_order(lengths, 32, seed=1, epoch=2)
    assert np.array_equal(order, again)
    assert not np.array_equal(order, length_grouped_order(lengths, 32, seed=2, epoch=2))


def test_fewer_sequences_than_a_batch_still_train(world):
    order = dataset(world, step_size=4096)
    assert sorted(length_grouped_order(order.lengths, 4096, 1, 0)) == list(
        range(len(order.lengths))
    )
    assert len(order.__getitems__(list(range(990, 1010)))) == 20


def test_masks_do_not_depend_on_the_batch_size(world):
    def masks(batch_size):
        order = dataset(world, step_size=batch_size)
        found = {}
        for epoch in range(2):
            rows = order.rows[length_grouped_order(order.lengths, batch_size, 1, epoch)]
            indices = [epoch * order.per_epoch + place for place in range(len(rows))]
            for row, (input_ids, labels) in zip(rows, order.__getitems__(indices), strict=True):
                found[epoch, int(row)] = input_ids.tobytes() + labels.tobytes()
        return found

    one, other = masks(4), masks(32)
    both = set(one) & set(other)
    assert len(both) > 0.9 * len(one)
    assert all(one[key] == other[key] for key in both)
    in_both_epochs = [row for epoch, row in one if epoch == 0 and (1, row) in one]
    same = sum(one[0, row] == one[1, row] for row in in_both_epochs)
    assert same < len(in_both_epochs) / 10, "each epoch masks anew"


def test_items_are_the_same_read_alone_or_together(world):
    order = dataset(world)
    together = order.__getitems__(list(range(order.per_epoch - 3, order.per_epoch + 3)))
    for index, item in enumerate(together, start=order.per_epoch - 3):
        alone = order[index]
        assert all(np.array_equal(*pair) for pair in zip(alone, item, strict=True))


def test_fractions_are_of_documents_and_nested(world):
    documents = np.repeat(np.arange(20_000), 3)
    kept = {share: set(subset_by_document(documents, share)) for share in (0.2, 0.5, 0.8, 1.0)}
    assert kept[0.2] < kept[0.5] < kept[0.8] < kept[1.0]
    for share, rows in kept.items():
        assert abs(len(rows) / len(documents) - share) < 0.01
        assert all(row // 3 * 3 + place in rows for row in rows for place in range(3))
    with pytest.raises(InputError, match="fraction"):
        dataset(world, data_fraction=1e-12)


def test_validation_is_padded_little(world):
    fixed = ValidationDataset(open_sequences(world.masking / "validation.arrow"))
    lengths = [len(input_ids) for input_ids, _ in fixed]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == fixed.longest
    batch = MaskedCollator(0)(fixed.__getitems__([0, len(fixed) - 1]))
    assert batch["attention_mask"].sum(dim=1).tolist() == [lengths[0], lengths[-1]]
    padding = batch["attention_mask"] == 0
    assert (batch["input_ids"][padding] == 0).all()
    assert (batch["labels"][padding] == -100).all()


# (sequences of a micro-batch, micro-batches, processes): each makes a step of 16 sequences.
SPLITS = [(16, 1, 1), (4, 4, 1), (2, 8, 1), (8, 1, 2), (4, 1, 4), (2, 2, 4), (1, 4, 4)]


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_the_split_of_a_step_changes_neither_order_nor_masks(world, split):
    batch_size, micro_batches, processes = split
    order = dataset(world, step_size=16)
    steps = order.per_epoch // 16 + 3

    def steps_of(batch_size, micro_batches, processes):
        """For each step the masked sequences of all its batches, as a set, from all processes."""
        seen = [[] for _ in range(steps)]
        for rank in range(processes):
            batches = MicroBatchSampler(steps, batch_size, micro_batches, rank, processes)
            assert len(batches) == len(list(batches)) == steps * micro_batches
            for number, indices in enumerate(batches):
                items = order.__getitems__(indices)
                seen[number // micro_batches] += [
                    ids.tobytes() + labels.tobytes() for ids, labels in items
                ]
        return [sorted(items) for items in seen]

    assert steps_of(*split) == steps_of(16, 1, 1)
    first = [
        indices
        for rank in range(processes)
        for indices in MicroBatchSampler(1, batch_size, micro_batches, rank, processes)
    ]
    assert sorted(index for indices in first for index in indices) == list(range(16))


def test_four_processes_see_the_batches_of_one_with_four_micro_batches():
    one = list(MicroBatchSampler(2, 2, 4))
    four = [list(MicroBatchSampler(2, 2, 1, rank, 4)) for rank in range(4)]
    assert one == [four[rank][step] for step in range(2) for rank in range(4)]


def test_each_epoch_is_shuffled_anew(world):
    order = dataset(world, step_size=16)
    epochs = [length_grouped_order(order.lengths, 16, 1, epoch) for epoch in range(3)]
    for one, other in ((0, 1), (1, 2)):
        assert (epochs[one][: order.per_epoch] == epochs[other][: order.per_epoch]).mean() < 0.05
    first = [order[index] for index in (0, order.per_epoch)]
    assert not np.array_equal(first[0][0], first[1][0])
