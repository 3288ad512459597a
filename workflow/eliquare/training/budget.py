"""The options that every masked training shares, and what follows from them."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from eliquare import stage
from eliquare.training.optimizer import Schedule


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add data, budget, optimizer and machine options to a stage's parser."""
    data = parser.add_argument_group("data")
    data.add_argument("--sequences", required=True, help="sequences folder of the language")
    data.add_argument("--masking", required=True, help="masking folder made from these sequences")
    data.add_argument(
        "--fraction", type=float, default=1.0, help="share of the training documents to use"
    )
    budget = parser.add_argument_group("budget")
    budget.add_argument("--steps", type=int, help="optimizer steps (or --epochs)")
    budget.add_argument("--epochs", type=float, help="passes over the training sequences")
    budget.add_argument("--batch-size", type=int, default=8, help="sequences a process and pass")
    budget.add_argument("--accumulation", type=int, default=1, help="passes a step")
    budget.add_argument("--validations", type=int, default=10, help="validations in the training")
    budget.add_argument("--logs", type=int, default=100, help="logged steps in the training")
    optimizer = parser.add_argument_group("optimizer")
    optimizer.add_argument("--learning-rate", type=float, default=5e-4, help="peak, AdamW")
    optimizer.add_argument("--warmup-share", type=float, default=0.05, help="share of the steps")
    optimizer.add_argument("--weight-decay", type=float, default=0.0, help="AdamW's")
    optimizer.add_argument("--adam-epsilon", type=float, default=1e-6, help="AdamW's")
    optimizer.add_argument("--clip", type=float, default=5.0, help="largest gradient norm")
    optimizer.add_argument("--seed", type=int, default=1, help="of order, masks and dropout")
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--precision", choices=["auto", "float32", "bf16"], default="auto", help="auto: bf16 on GPU"
    )
    machine.add_argument("--threads", type=int, help="threads of the processor")
    machine.add_argument(
        "--max-minutes", type=float, help="save and stop (exit 75) before so long has passed"
    )
    machine.add_argument(
        "--checkpoint-minutes", type=float, default=15.0, help="at most so long is done twice"
    )
    machine.add_argument("--checkpoint-steps", type=int, help="the same in optimizer steps")
    machine.add_argument("--checkpoints", help="where the state is saved; default: beside output")
    parser.add_argument("--output", required=True, help="folder to make")


MACHINE_OPTIONS = (
    "threads",
    "max_minutes",
    "checkpoint_minutes",
    "checkpoint_steps",
    "checkpoints",
    "beside",
    "output",
)
AT_LEAST_ONE = (
    "steps",
    "batch_size",
    "accumulation",
    "validations",
    "logs",
    "threads",
    "checkpoint_steps",
)
ABOVE_ZERO = (
    "fraction",
    "epochs",
    "learning_rate",
    "adam_epsilon",
    "clip",
    "max_minutes",
    "checkpoint_minutes",
)
FROM_ZERO = ("warmup_share", "weight_decay", "seed")


def check(arguments: argparse.Namespace) -> None:
    """Raise InputError where an option has a value that no training can have."""
    for names, fits, expected in (
        (AT_LEAST_ONE, lambda value: value >= 1, "1 or more"),
        (ABOVE_ZERO, lambda value: value > 0, "a number above 0"),
        (FROM_ZERO, lambda value: value >= 0, "0 or more"),
        (("fraction", "warmup_share"), lambda value: value <= 1, "at most 1"),
    ):
        for name in names:
            value = getattr(arguments, name)
            if value is not None and not fits(value):
                option = name.replace("_", "-")
                raise stage.InputError(f"--{option}: expected {expected}, found {value}")
    if (arguments.steps is None) == (arguments.epochs is None):
        raise stage.InputError("give either --steps or --epochs, and not both")


def processes() -> int:
    """How many processes train together (torchrun says so)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def settings_of(arguments: argparse.Namespace, inputs: Iterable[str]) -> dict:
    """The settings that decide the result: no machine options, and no paths.

    ``inputs`` are the options that name a file or folder; what these hold is what decides.
    """
    left_out = {*MACHINE_OPTIONS, *inputs}
    settings = {
        name: value
        for name, value in sorted(vars(arguments).items())
        if name not in left_out and value is not None
    }
    settings["precision"] = "bf16" if use_bf16(arguments.precision) else "float32"
    return settings | {"processes": processes()}


def checkpoints_of(arguments: argparse.Namespace) -> Path:
    """The folder of the training state: not an output, so that no workflow deletes it."""
    output = Path(arguments.output)
    return Path(arguments.checkpoints or output.with_name(f"{output.name}-checkpoints"))


def sequences_a_step(arguments: argparse.Namespace) -> int:
    """Sequences behind one optimizer step, over all passes and processes."""
    return arguments.batch_size * arguments.accumulation * processes()


def steps_of(arguments: argparse.Namespace, sequences: int) -> int:
    """Optimizer steps of the whole training, from --steps or --epochs."""
    if arguments.steps is not None:
        return arguments.steps
    return max(1, round(arguments.epochs * sequences / sequences_a_step(arguments)))


def use_bf16(precision: str) -> bool:
    """Whether to train under bf16 autocast; "auto" means where a GPU is built for it."""
    if precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def schedule_of(arguments: argparse.Namespace, sequences: int) -> Schedule:
    """The schedule of a training on so many sequences an epoch.

    Steps between validations are a multiple of those between log lines.
    """
    steps = steps_of(arguments, sequences)
    between_logs = max(1, steps // arguments.logs)
    return Schedule(
        steps=steps,
        between_logs=between_logs,
        between_validations=max(1, steps // arguments.validations // between_logs) * between_logs,
        warmup_steps=round(arguments.warmup_share * steps),
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        adam_epsilon=arguments.adam_epsilon,
        clip=arguments.clip,
    )
