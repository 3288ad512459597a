"""Memory and time that a job asks for, from the size of its inputs and of what it trains.

The figures were measured on the demo and on a model of mBERT's size, and are two to five times as
large. Each retry (``attempt`` 2, 3, ...) asks for as much again. A profile can replace any of them.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from eliquare.config.model import Shape, Training

MEGABYTE = 1_000_000
# Operations per second of a GPU at work: a quarter of an A100's 312 T in bf16. Only the time asked
# for depends on it; a training that needs longer saves its state and continues in the next job.
OPERATIONS_PER_SECOND = 80e12
BYTES_PER_PARAMETER = 4
LEAST_BYTES_PER_TOKEN = 2
MBERT_MEGABYTES = 700
MEGABYTES_PER_CORE = 20


def megabytes(*paths: str | Path) -> float:
    """Return the size of files and folders; raise FileNotFoundError where one is not there yet."""
    inside = [Path(path).rglob("*") if Path(path).is_dir() else [Path(path)] for path in paths]
    files = (file for found in inside for file in found if not file.is_dir())
    return sum(file.stat().st_size for file in files) / MEGABYTE


def memory(attempt: int, fixed: float, per_megabyte: float = 0, *inputs: str | Path) -> int:
    """Return megabytes of memory: a fixed part, and a part per megabyte of the inputs."""
    return round(attempt * (fixed + per_megabyte * megabytes(*inputs)))


def minutes(
    attempt: int,
    fixed: float,
    per_megabyte: float = 0,
    *inputs: str | Path,
    longest: int | None = None,
) -> int:
    """Return minutes: a fixed part, and a part per megabyte of the inputs; ``longest`` at most."""
    wanted = attempt * (fixed + per_megabyte * megabytes(*inputs))
    return round(min(wanted, longest or wanted))


def cores(most: int, *inputs: str | Path) -> int:
    """Return how many cores pay for these inputs: one, and one more for each 20 megabytes.

    A job that asks for more waits until these are free together. One, where an input is not there.
    """
    try:
        return min(1 + int(megabytes(*inputs) / MEGABYTES_PER_CORE), most)
    except FileNotFoundError:
        return 1


def training_memory(attempt: int, training: Training, *models: str | Path) -> int:
    """Return megabytes of memory of a training: where no GPU is seen, all of it is held there."""
    return training.gpus * memory(attempt, 4000, 5, *models)


def training_minutes(
    attempt: int,
    training: Training,
    sequences: str | Path,
    parameters: list[float],
    *,
    max_length: int,
    longest: int | None = None,
) -> int:
    """Return minutes of a training on sequences of ``max_length`` tokens at most.

    The models of these sizes read each token, and the last one learns from it: 2 operations per
    parameter to read, 4 more to learn.
    """
    per_step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    step = float(per_step * training.gpus * max_length)
    tokens = math.inf if training.max_steps is None else training.max_steps * step
    if training.num_train_epochs is not None:
        epoch = megabytes(sequences) * MEGABYTE / LEAST_BYTES_PER_TOKEN
        wanted = max(training.num_train_epochs * epoch, (training.min_steps or 0) * step)
        tokens = min(wanted, tokens)
    operations = tokens * (2 * sum(parameters) + 4 * parameters[-1])
    seconds = operations / OPERATIONS_PER_SECOND / training.gpus
    return minutes(attempt, 60 + 2 * seconds / 60, longest=longest)


def stored_parameters(model: str | Path) -> float:
    """Return about how many parameters a model folder holds."""
    return megabytes(model) * MEGABYTE / BYTES_PER_PARAMETER


def new_parameters(shape: Shape, vocab_size: int) -> float:
    """Return about how many parameters a new model has: embeddings, and 4 h² + 2 h i per layer."""
    hidden = shape.hidden_size
    layer = 4 * hidden**2 + 2 * hidden * shape.intermediate_size
    return vocab_size * hidden + shape.num_hidden_layers * layer


def finetuning_minutes(
    attempt: int,
    model: str | Path,
    files: Iterable[str | Path],
    epochs: int,
    seeds: int,
    longest: int | None = None,
) -> int:
    """Return minutes to fine-tune a model on the tasks in these files, with so many seeds.

    ``epochs`` are those of all learning rates together.

    Ten epochs on a megabyte with a model of mBERT's size take 20 minutes on one GPU.
    """
    share = megabytes(model) / MBERT_MEGABYTES
    one_seed = 2 * share * epochs * megabytes(*files)
    return minutes(attempt, 30 + seeds * one_seed, longest=longest)
