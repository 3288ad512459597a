"""One masked training from start to the finished folder, resumed where it was stopped."""

import argparse
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from pyarrow import ArrowInvalid
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eliquare import stage
from eliquare.corpus.tokenizer import require_same
from eliquare.masking import Masking
from eliquare.models.loading import longest_sequence
from eliquare.training import budget, checkpoints, lock
from eliquare.training.loop import Data, SaveEvery
from eliquare.training.loop import train as train_side_by_side
from eliquare.training.optimizer import Schedule
from eliquare.training.order import FixedMasks, PaddedBatch, TrainingOrder
from eliquare.training.processes import Processes
from eliquare.training.stopping import StopInTime
from eliquare.training.terms import Batch, Objective
from eliquare.training.trainer import Trainer

PATHS = ("teacher", "student", "model", "tokenizer", "sequences", "masking")
SECONDS_BETWEEN_TRIES = 5


@dataclass(frozen=True)
class Task:
    """A model to be trained: what it is trained for, and how it is saved.

    ``weights`` gives each term its weight; the weights with the lowest ``best_by`` on the
    validation set are kept. ``inputs`` are the files and folders whose content decides the result,
    by the name of their option; ``version`` is the stage's. ``read`` gives the data where they are
    other than sequences with masks; ``look`` sees the first batch of the validation set, before the
    training begins.
    """

    arguments: argparse.Namespace
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    weights: dict[str, float]
    best_by: str
    inputs: dict[str, str | Path]
    version: int
    card: Callable[[list[dict]], str]
    before_save: Callable[[nn.Module], None] = lambda model: None
    read: Callable[["Task"], Data] | None = None
    look: Callable[[Batch], None] = lambda batch: None

    @property
    def folder(self) -> Path:
        """Where the state of this training is kept."""
        return budget.checkpoints_of(self.arguments)

    def provenance(self) -> dict:
        """What decides the result, and the machine."""
        settings = budget.settings_of(self.arguments, PATHS) | {"version": self.version}
        return stage.provenance(settings, self.inputs)


def start(arguments: argparse.Namespace) -> None:
    """Check the options, set threads and seeds; call it before any model is made."""
    budget.check(arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    stage.use_one_gpu()
    transformers.set_seed(arguments.seed)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def train(own: Task, beside: list[Task] | None = None) -> None:
    """Train the model of ``own`` and write its output folder, with history, provenance and card.

    Those ``beside`` it, which share its data, train on the same batches as far as its steps reach,
    into their own checkpoints; each writes its output when it is itself trained as ``own``. Raises
    StoppedEarly with the state saved when the deadline or SIGTERM came first, and Failure when the
    loss is not a number or the disk is full.
    """
    arguments, output = own.arguments, Path(own.arguments.output)
    data = (own.read or data_of)(own)
    provenance = own.provenance()
    stop = StopInTime(arguments.max_minutes)
    processes = Processes()
    with disk_full_in_words(output.parent), contextlib.ExitStack() as locks:
        wait_for_lock(own.folder, locks, processes, stop)
        trainer = trainer_of(own, data, provenance, processes)
        others = [] if trainer.done else trainers_beside(beside or [], data, locks, processes)
        if processes.first:
            stage.say(in_words(trainer.schedule, data, processes, len(others)))
            if not trainer.done:
                own.look(next(data.validating(processes.device)))
        save_every = SaveEvery(arguments.checkpoint_minutes, arguments.checkpoint_steps)
        finished = train_side_by_side(trainer, others, data, processes, stop, save_every)
        processes.end()
        if not finished:
            raise stage.StoppedEarly(
                f"the state is saved in {own.folder}; the same command goes on"
            )
        if processes.first:
            write(own, trainer, provenance)
            shutil.rmtree(own.folder)


def data_of(task: Task) -> Data:
    """The data of a training, in its order; raises InputError where it does not fit the model."""
    arguments, tokenizer = task.arguments, task.tokenizer
    require_same(Path(arguments.sequences), len(tokenizer), tokenizer.name_or_path)
    order = TrainingOrder(
        sequences_in(Path(arguments.sequences) / "train.arrow"),
        Masking.load(arguments.masking, tokenizer.name_or_path, seed=arguments.seed),
        budget.sequences_a_step(arguments),
        arguments.seed,
        arguments.fraction,
    )
    validation = FixedMasks(sequences_in(Path(arguments.masking) / "validation.arrow"))
    check_lengths(task.model, order, validation)
    return Data(
        order,
        validation,
        arguments.batch_size,
        arguments.accumulation,
        PaddedBatch(tokenizer.pad_token_id),
    )


def trainer_of(task: Task, data: Data, provenance: dict, processes: Processes) -> Trainer:
    """The trainer of a task, at its last whole checkpoint if there is one for these settings."""
    settings = {name: provenance[name] for name in ("settings", "inputs")}
    checkpoint = None
    if processes.first:
        checkpoint = next(iter(checkpoints.open_folder(task.folder, settings)), None)
    checkpoint = processes.of_the_first(checkpoint)
    trainer = Trainer(
        task.model,
        task.objective,
        task.weights,
        task.best_by,
        budget.schedule_of(task.arguments, data.order.per_epoch),
        task.arguments.seed,
        budget.use_bf16(task.arguments.precision),
        task.folder,
        processes,
    )
    if checkpoint:
        trainer.restore(checkpoint)
        if processes.first:
            stage.say(f"going on from {checkpoint}")
    trainer.history.begin()
    return trainer


def trainers_beside(
    tasks: list[Task], data: Data, locks: contextlib.ExitStack, processes: Processes
) -> list[Trainer]:
    """The trainers of those tasks that are neither done nor being trained by another process."""
    trainers = []
    for task in tasks:
        provenance = task.provenance()
        is_done = made_with(Path(task.arguments.output), provenance)
        free = not is_done and (not processes.first or lock.take(task.folder, locks))
        if not processes.of_the_first(free):
            continue
        try:
            check_lengths(task.model, data.order, data.validation)
        except stage.InputError as error:
            stage.warn(f"going on without {task.arguments.output}: {error}")
            continue
        trainer = trainer_of(task, data, provenance, processes)
        trainer.history.name = f"{Path(task.arguments.output)}: "
        if not trainer.done:
            trainers.append(trainer)
    return trainers


def made_with(output: Path, provenance: dict) -> bool:
    """Whether an output folder was made with these settings from these inputs."""
    path = output / "provenance.json"
    if not path.exists():
        return False
    found = stage.read_json(path)
    return all(found.get(name) == provenance[name] for name in ("settings", "inputs"))


def wait_for_lock(
    folder: Path, locks: contextlib.ExitStack, processes: Processes, stop: StopInTime
) -> None:
    """Wait until no other process trains this model; raises StoppedEarly at the deadline."""
    said = False
    while processes.first and not lock.take(folder, locks):
        if stop.due():
            raise stage.StoppedEarly(f"{folder}: another process trained this model all the time")
        if not said:
            stage.say(f"{folder}: another process trains this model; waiting for it")
            said = True
        time.sleep(SECONDS_BETWEEN_TRIES)
    processes.of_the_first(None)


def write(task: Task, trainer: Trainer, provenance: dict) -> None:
    """Write the model with its best weights as a whole folder."""
    model = trainer.load_best()
    task.before_save(model)
    with stage.whole_folder(task.arguments.output) as partial:
        model.save_pretrained(partial)
        task.tokenizer.save_pretrained(partial)
        shutil.copy(trainer.history.path, partial / "history.jsonl")
        stage.write_json(partial / "provenance.json", provenance)
        (partial / "README.md").write_text(task.card(trainer.history.lines), encoding="utf-8")


def in_words(schedule: Schedule, data: Data, processes: Processes, beside: int) -> str:
    """What is about to be done, and how much of it is validation."""
    steps, order = schedule.steps, data.order
    times = -(-steps // schedule.between_validations)
    others = f", {beside} more beside it" if beside else ""
    return (
        f"{steps:,} steps of {order.step_size:,} sequences, "
        f"{steps * order.step_size / order.per_epoch:.2f} times through {order.per_epoch:,}; "
        f"validation {times:,} times on {len(data.validation):,}{others}"
    )


def sequences_in(path: Path) -> Dataset:
    """A file of sequences, mapped into memory; raises InputError where it is missing or cut."""
    try:
        return Dataset.from_file(str(stage.existing(path, "file of sequences")))
    except (ArrowInvalid, OSError) as error:
        raise stage.InputError(
            f"{path}: not a whole Arrow stream ({str(error).splitlines()[0]}); make it again"
        ) from None


def check_lengths(model: PreTrainedModel, order: TrainingOrder, validation: FixedMasks) -> None:
    """Raise InputError where a sequence is longer than the model has positions."""
    longest, positions = max(int(order.lengths.max()), validation.longest), longest_sequence(model)
    if longest > positions:
        raise stage.InputError(
            f"sequences: the longest has {longest} sub-words, and the model takes {positions}; "
            "make the sequences again with a smaller max_length"
        )


@contextlib.contextmanager
def disk_full_in_words(folder: Path) -> Iterator[None]:
    """Turn a full disk (or quota) into a Failure that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in checkpoints.DISK_FULL:
            raise
        raise stage.Failure(
            f"{error.filename or folder}: {error.strerror}; what was whole is kept. Make room, "
            "then start the same command again"
        ) from error
