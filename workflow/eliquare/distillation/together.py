"""Several students on one pass of their teacher: who trains beside the one that was asked for.

Each of them is a distillation of its own, given by its options in one word of ``--beside``. It has
the teachers, the data and the threads of the one that was asked for, trains on the same batches,
and ends as it would alone: see ``Teacher`` for what is shared, and eliquare/training/loop.py for
how they take their steps.
"""

import argparse
import shlex
from collections.abc import Callable

from eliquare import stage
from eliquare.distillation.teacher import Teacher
from eliquare.training import budget
from eliquare.training.run import Task

# What decides the batches, and how the teacher reads them.
SHARED = ("batch_size", "accumulation", "seed", "fraction", "precision")
Prepare = Callable[[argparse.Namespace, dict[str, Teacher]], Task]


def tasks_beside(
    own: argparse.Namespace,
    parser: argparse.ArgumentParser,
    prepare: Prepare,
    teachers: dict[str, Teacher],
) -> list[Task]:
    """The tasks of ``--beside``; one that cannot be prepared is left out, with a warning.

    Raises InputError where one has not the batches of the student that was asked for.
    """
    tasks = []
    for words in own.beside:
        arguments = arguments_beside(own, parser, words)
        try:
            tasks.append(prepare(arguments, teachers))
        except stage.InputError as error:
            stage.warn(f"going on without {arguments.output}: {error}")
    return tasks


def arguments_beside(
    own: argparse.Namespace, parser: argparse.ArgumentParser, words: str
) -> argparse.Namespace:
    """The arguments of one word of ``--beside``, with what all have in common put in."""
    common = [word for folder in own.teacher for word in ("--teacher", folder)]
    common += [word for weight in own.teacher_weight for word in ("--teacher-weight", str(weight))]
    common += ["--sequences", own.sequences, "--masking", own.masking]
    arguments = parser.parse_args([*common, *shlex.split(words)])
    for name in SHARED:
        mine, other = getattr(own, name), getattr(arguments, name)
        if mine != other:
            raise stage.InputError(
                f"--beside {arguments.output}: --{name.replace('_', '-')} is {other}, and {mine} "
                f"for {own.output}; students side by side have the same batches"
            )
    for name in budget.MACHINE_OPTIONS:
        if name not in ("output", "checkpoints", "beside"):
            setattr(arguments, name, getattr(own, name))
    return arguments
