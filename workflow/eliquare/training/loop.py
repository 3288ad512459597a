"""The training loop: steps, validations and checkpoints of one model, or of several side by side.

``train`` is the loop, ``take_step`` the step. The order of the data is ``TrainingOrder`` in
order.py; the objective is what each ``Trainer`` was given.

A loop of our own, since several students train side by side on one pass of their teacher, each to
the byte as alone, which the Trainer of transformers cannot; a test holds its steps to that one's.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from eliquare import stage
from eliquare.training.order import FixedMasks, PaddedBatch, Passes, TrainingOrder
from eliquare.training.processes import Processes
from eliquare.training.stopping import StopInTime
from eliquare.training.terms import Batch
from eliquare.training.trainer import Trainer


@dataclass(frozen=True)
class Data:
    """What is trained on and validated on, and how a step is split into passes."""

    order: TrainingOrder
    validation: FixedMasks
    batch_size: int
    passes: int
    collate: PaddedBatch

    def loader(self, dataset, device: torch.device, **batches) -> DataLoader:
        """Batches padded and, for a GPU, prepared while it works."""
        gpu = device.type == "cuda"
        return DataLoader(
            dataset,
            collate_fn=self.collate,
            num_workers=2 if gpu else 0,
            pin_memory=gpu,
            # A generator of its own: reading data must not move the training's random numbers.
            generator=torch.Generator(),
            **batches,
        )

    def training(self, first: int, last: int, processes: Processes) -> Iterator[Batch]:
        """This process's batches from step ``first`` up to ``last``, on its device."""
        passes = Passes(first, last, self.batch_size, self.passes, processes.rank, processes.count)
        yield from on(
            processes.device, self.loader(self.order, processes.device, batch_sampler=passes)
        )

    def validating(self, device: torch.device) -> Iterator[Batch]:
        """The batches of the validation set; without gradients twice as much fits in memory."""
        yield from on(device, self.loader(self.validation, device, batch_size=2 * self.batch_size))


def on(device: torch.device, loader: DataLoader) -> Iterator[Batch]:
    """Each batch on the device, without waiting for its copy."""
    for batch in loader:
        yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def train(
    own: Trainer,
    beside: list[Trainer],
    data: Data,
    processes: Processes,
    stop: StopInTime,
    save_every: "SaveEvery",
) -> bool:
    """Train ``own`` to its last step, and those ``beside`` it as far as the same steps reach.

    Each trainer joins at the step after its last checkpoint. One beside that fails is left out; it
    fails again, and says why, when it is trained for itself. Returns False if stopped before the
    end, with all states saved.
    """
    group = Group(own, beside)
    first = min(trainer.step for trainer in group.trainers)
    batches = data.training(first, own.schedule.steps, processes)
    for step in range(first, own.schedule.steps):
        begun = time.monotonic()
        active = group.at(step)
        take_step(active, batches, data.passes, group)
        best = validate(group.left(active), data, group)
        stop.longest_step = max(stop.longest_step, time.monotonic() - begun)
        stopping, saving = processes.any(stop.due(), save_every.due(step + 1))
        begun = time.monotonic()
        for trainer in group.left(active):
            if stopping or saving or trainer in best or trainer.done:
                group.attempt(trainer, trainer.save)
        stop.longest_save = max(stop.longest_save, time.monotonic() - begun)
        if stopping and not own.done:
            return False
    for trainer in group.left(beside):
        group.attempt(trainer, trainer.save)
    return True


def take_step(active: list[Trainer], batches: Iterator[Batch], passes: int, group: "Group") -> None:
    """One optimizer step of each: the gradients of each pass add up, then the weights move."""
    for number in range(1, passes + 1):
        batch = next(batches)
        for trainer in active:
            trainer.accumulate(batch, passes, last=number == passes)
    for trainer in active:
        group.attempt(trainer, trainer.update)


def validate(trainers: list[Trainer], data: Data, group: "Group") -> list[Trainer]:
    """Validate those that are due, batch by batch together; return those never better before."""
    due = [trainer for trainer in trainers if trainer.schedule.validates_at(trainer.step)]
    for trainer in due:
        trainer.begin_validation()
    for batch in data.validating(group.own.processes.device) if due else ():
        for trainer in due:
            trainer.validate_on(batch)
    return [trainer for trainer in due if group.attempt(trainer, trainer.end_validation)]


class Group:
    """A model that is trained, and those that train beside it until they fail or are done."""

    def __init__(self, own: Trainer, beside: list[Trainer]):
        self.own = own
        self.trainers = [own, *beside]

    def at(self, step: int) -> list[Trainer]:
        """Those whose next step this is."""
        return [trainer for trainer in self.trainers if trainer.step == step and not trainer.done]

    def left(self, trainers: list[Trainer]) -> list[Trainer]:
        """Those of ``trainers`` that have not failed."""
        return [trainer for trainer in trainers if trainer in self.trainers]

    def attempt(self, trainer: Trainer, action: Callable[[], bool | None]) -> bool | None:
        """Do it; where one that trains beside the own fails, go on without it."""
        try:
            return action()
        except stage.Failure as failure:
            if trainer is self.own:
                raise
            stage.warn(f"going on without {trainer.folder}: {failure}")
            self.trainers.remove(trainer)
            return None


class SaveEvery:
    """Says when a checkpoint is due: after so many minutes, or steps."""

    def __init__(self, minutes: float, steps: int | None = None):
        self.minutes = minutes
        self.steps = steps
        self.last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save after this many steps; asked once a step."""
        if self.steps is not None and step % self.steps == 0:
            return True
        if time.monotonic() - self.last < 60 * self.minutes:
            return False
        self.last = time.monotonic()
        return True
