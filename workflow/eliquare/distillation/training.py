"""Distil a teacher into a student: the one expensive stage.

    python -m eliquare.distillation.training --teacher T --student S --sequences D --masking M \\
        --steps 20000 --output O

Start it again after a kill and it goes on; on several GPUs, start it with torchrun. The objective
is ``Distillation`` in objective.py, the order of the data ``TrainingOrder`` in
eliquare/training/order.py, the step ``take_step`` in eliquare/training/loop.py, beside the loop.
"""

import argparse
from typing import Any

import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eliquare import stage
from eliquare.distillation.objective import Distillation
from eliquare.distillation.paired_objective import PairedDistillation
from eliquare.distillation.presets import DEFAULT, PRESETS
from eliquare.distillation.projections import remove_projections
from eliquare.distillation.teacher import Teacher
from eliquare.distillation.terms import SETTINGS, Term, in_words, option, terms
from eliquare.distillation.together import tasks_beside
from eliquare.models.loading import load_masked_model, load_tokenizer
from eliquare.training import budget
from eliquare.training import run as training

VERSION = 4


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--teacher",
        required=True,
        action="append",
        help="model folder of the teacher; several times for several teachers of one vocabulary",
    )
    parser.add_argument(
        "--teacher-weight",
        type=float,
        action="append",
        default=[],
        help="one for each teacher, in their order: its share of the terms; default: the same",
    )
    parser.add_argument("--student", required=True, help="model folder of the student at its start")
    add_terms(parser)
    parser.add_argument(
        "--freeze",
        action="append",
        default=[],
        choices=["embeddings", "positions"],
        help="parts of the student that stay as they are",
    )
    parser.add_argument(
        "--beside",
        metavar="OPTIONS",
        action="append",
        default=[],
        help="another student of the same teacher, sequences and batches, by the other options of "
        "its own command; trained side by side into its checkpoints, which that command then finds",
    )
    budget.add_options(parser)
    return parser


def add_terms(parser: argparse.ArgumentParser) -> None:
    """The options of the objective."""
    group = parser.add_argument_group(
        "objective",
        "Each term takes a weight, or its weight and settings as JSON, as --kl "
        '\'{"weight": 5, "direction": "reverse"}\'; 0 leaves it out.',
    )
    group.add_argument("--preset", choices=sorted(PRESETS), default=DEFAULT, help="begins with")
    for name, settings in SETTINGS.items():
        known = f" ({', '.join(settings)})" if settings else ""
        group.add_argument(f"--{name}", metavar="WEIGHT", help=f"weight and settings{known}")
    group.add_argument("--temperature", type=float, help="of the KL term")
    group.add_argument("--positions", choices=["all", "masked"], help="of the KL term")


def run(arguments: argparse.Namespace) -> None:
    """Train the student; raises InputError where student and teacher do not fit."""
    teachers: dict[str, Teacher] = {}
    own = prepare(arguments, teachers)
    training.train(own, tasks_beside(arguments, parser(), prepare, teachers))


def prepare(arguments: argparse.Namespace, teachers: dict[str, Teacher]) -> training.Task:
    """The training of one student; ``teachers`` are those loaded before, by their folders."""
    training.start(arguments)
    asked = terms_of(arguments)
    student = load_masked_model(arguments.student)
    tokenizer = load_tokenizer(arguments.student)
    weights = teacher_weights(arguments)
    for folder in arguments.teacher:
        if folder not in teachers:
            teachers[folder] = Teacher(load_masked_model(folder))
        check_subwords(folder, teachers[folder], arguments.student, student, tokenizer)
    # Loading a teacher draws random numbers, and may have been done before: what is new in the
    # student shall not depend on it.
    transformers.set_seed(arguments.seed)
    mine = [teachers[folder] for folder in arguments.teacher]
    distillation = Distillation(student, list(zip(mine, weights, strict=True)), asked)
    freeze(student, arguments.freeze)
    return task_of(arguments, student, tokenizer, distillation, VERSION)


def task_of(
    arguments: argparse.Namespace,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: Distillation | PairedDistillation,
    version: int,
    **more: Any,
) -> training.Task:
    """The training of a student for an objective of its teachers; ``more`` is passed on."""
    return training.Task(
        arguments,
        student,
        tokenizer,
        objective,
        {name: term.weight.mean for name, term in objective.terms.items()},
        best_by="kl" if "kl" in objective.terms else "loss",
        inputs=inputs_of(arguments),
        version=version,
        card=lambda history: card(arguments, history),
        before_save=remove_projections,
        look=objective.look,
        **more,
    )


def terms_of(arguments: argparse.Namespace) -> dict[str, Term]:
    """The terms that the options ask for."""
    objective = {name: getattr(arguments, name) for name in ("preset", "temperature", "positions")}
    for name in SETTINGS:
        if getattr(arguments, name) is not None:
            objective[name] = option(getattr(arguments, name), f"--{name}")
    return terms(objective, "--")


def teacher_weights(arguments: argparse.Namespace) -> list[float]:
    """The weight of each teacher; raises InputError where their numbers do not fit."""
    weights = arguments.teacher_weight or [1.0] * len(arguments.teacher)
    if len(weights) != len(arguments.teacher):
        raise stage.InputError(
            f"--teacher-weight: {len(weights)} given for {len(arguments.teacher)} teachers; give "
            "one for each, in their order, or none"
        )
    if not all(0 < weight < float("inf") for weight in weights):
        raise stage.InputError(f"--teacher-weight: expected numbers above 0, found {weights}")
    return weights


def check_subwords(folder: str, teacher: Teacher, student_folder: str, student, tokenizer) -> None:
    """Raise InputError where the sub-words of a teacher are not those of the student."""
    theirs = teacher.model.config.vocab_size
    if student.config.vocab_size != theirs:
        raise stage.InputError(
            f"{student_folder} has {student.config.vocab_size:,} sub-words and {folder} "
            f"{theirs:,}: a student and all its teachers have one vocabulary; "
            "make the student from this teacher"
        )
    if tokenizer.get_vocab() != load_tokenizer(folder).get_vocab():
        raise stage.InputError(
            f"{student_folder} and {folder} have different sub-words: a student and all its "
            "teachers have one vocabulary; make the student from this teacher"
        )


def inputs_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The folders whose content decides the result, by name."""
    first, *others = arguments.teacher
    more = {f"teacher-{number}": folder for number, folder in enumerate(others, 2)}
    own = {name: getattr(arguments, name) for name in ("student", "sequences", "masking")}
    return {"teacher": first} | more | own


def freeze(student, parts: list[str]) -> None:
    """Keep sub-word embeddings (and what is tied to them) or position embeddings as they are."""
    if "embeddings" in parts:
        student.get_input_embeddings().weight.requires_grad_(False)
    if "positions" in parts:
        frozen = [
            parameter.requires_grad_(False)
            for name, parameter in student.named_parameters()
            if "position_embeddings" in name
        ]
        if not frozen:
            raise stage.InputError("freeze: this student has no position embeddings to freeze")


def card(arguments: argparse.Namespace, history: list[dict]) -> str:
    """A short model card; the released model's card has the scores as well."""
    steps = max(line["step"] for line in history)
    return (
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\n---\n\n# A distilled student\n\n"
        f"Distilled in {steps:,} steps for {in_words(terms_of(arguments))}. "
        "`provenance.json` holds every setting, `history.jsonl` every loss.\n"
    )


if __name__ == "__main__":
    stage.main(parser(), run)
