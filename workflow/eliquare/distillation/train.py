r"""Distil one teacher or several into a student: the one expensive stage.

    python -m eliquare distillation distill --teachers T --num-hidden-layers 6 --sequences D \
        --masking M --max-steps 20000 --output O

With several GPUs, ``torchrun --nproc-per-node 4 -m eliquare distillation distill …``; the workflow
runs the same command. Start it again after a kill, and it resumes from its last checkpoint; what
was made with the same settings and inputs is left as it is.

The objective is `Distillation` in ``objective.py`` (to add a term, see CONTRIBUTING.md), the
training step `MaskedTrainer.compute_loss` in ``eliquare/training/trainer.py``, the order of the
data `MaskedDataset` in ``eliquare/training/data.py``.
"""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import transformers
from pydantic import Field
from transformers import PreTrainedModel

from eliquare.cli import version
from eliquare.config.model import StudentShape
from eliquare.config.objective import Objective
from eliquare.distillation.objective import (
    Distillation,
    Teacher,
    remove_projections,
    warn_of_sameness,
)
from eliquare.io import InputError
from eliquare.models.loading import load_config, load_masked_lm, load_tokenizer, load_with_head
from eliquare.models.sentence import Sentence, read_sentence
from eliquare.models.student import new_student
from eliquare.training.data import load_data, sample_of_text
from eliquare.training.options import TrainingOptions, begin
from eliquare.training.trainer import MaskedTrainer

# Library and task of a masked language model, for its card.
CARD = ("transformers", "fill-mask")


class DistillOptions(TrainingOptions, StudentShape):
    """Options of a distillation, beside those of every training: teachers and student."""

    teachers: list[Path] = Field(min_length=1, description="Model folders, of one vocabulary.")
    teacher_weights: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        [], description="Weight of each teacher in the terms, in their order; equal by default."
    )
    start_from: Path | None = Field(
        None, description="Model folder that the student starts from; the first teacher by default."
    )
    objective: Objective = Field(Objective())
    """A preset, and terms that differ from it, as {"preset": "electronics2023", "mlm": 1.0}."""
    freeze: list[Literal["embeddings", "positions"]] = Field(
        [], description="Parts of the student that stay as they are."
    )

    @property
    def start(self) -> Path:
        """The model folder that the student starts from."""
        return self.start_from or self.teachers[0]

    def inputs(self) -> dict[str, Path]:
        """Return the folders whose content decides the result, by name."""
        names = ["teacher", *(f"teacher-{number}" for number in range(2, len(self.teachers) + 1))]
        inputs = dict(zip(names, self.teachers, strict=True))
        if self.start_from:
            inputs["start_from"] = self.start_from
        return inputs | {"sequences": self.sequences, "masking": self.masking}


def distill(options: DistillOptions) -> None:
    """Distil one teacher or several into a student."""
    begin(options)
    origin = options.provenance(options.inputs(), version("distillation", "distill"))

    # Models and data: one tokenizer for all
    sentence = read_sentence(options.start)
    teachers = load_teachers(options, sentence)
    start = load_one(options.start, sentence)[0] if options.start_from else teachers[0].model
    tokenizer = load_tokenizer(options.start)
    sample = functools.partial(sample_of_text, options, tokenizer)
    student = new_student(start, options, options.seed, sample)
    data = load_data(options, student, tokenizer, sentence.training_prompts if sentence else ())

    # Objective: projections are new parameters, whose seed shall not depend on what was loaded
    transformers.set_seed(options.seed)
    objective = Distillation(student, teachers, options.objective, sentence)
    freeze(student, options.freeze)

    trainer = MaskedTrainer(student, objective, data, options)
    for teacher in objective.teachers:
        warn_of_sameness(teacher, trainer.first_validation_batch(), sentence)
    if trainer.fit(origin):
        trainer.load_best()
        remove_projections(student)
        # The head of an encoder's student is worth something if it was trained.
        bare = sentence is not None and "mlm" not in objective.terms
        saved: Any = student.base_model if bare else student
        text = card(options, trainer.state.global_step, bare)
        trainer.save(tokenizer, origin, text, saved, sentence)


def load_teachers(options: DistillOptions, sentence: Sentence | None) -> list[Teacher]:
    """Load the teachers with their weights; an encoder that says how to pool needs no head.

    Raises:
        InputError: a teacher has other tokens than the student, or other rows for them, or the
            weights do not fit.
    """
    weights = options.teacher_weights or [1.0] * len(options.teachers)
    if len(weights) != len(options.teachers):
        raise InputError(
            f"--teacher-weights: {len(weights)} given for {len(options.teachers)} teachers; give "
            "one for each, in their order, or none"
        )
    vocabulary = load_tokenizer(options.start).get_vocab()
    for folder in options.teachers:
        if folder != options.start and load_tokenizer(folder).get_vocab() != vocabulary:
            raise InputError(
                f"{options.start} and {folder} have different tokens: a student and all its "
                "teachers have one vocabulary"
            )
    teachers = []
    rows = load_config(options.start).vocab_size
    for folder, weight in zip(options.teachers, weights, strict=True):
        model, new = load_one(folder, sentence)
        if model.config.vocab_size != rows:
            raise InputError(
                f"{folder}: {model.config.vocab_size:,} rows for its tokens, and {options.start} "
                f"has {rows:,}; pad or cut the embeddings of all of them alike"
            )
        teachers.append(Teacher(model, weight, predicts=not new))
    return teachers


def load_one(folder: Path, sentence: Sentence | None) -> tuple[PreTrainedModel, bool]:
    """Return a model, and whether its head is new; only a sentence encoder may lack one."""
    return load_with_head(folder) if sentence else (load_masked_lm(folder), False)


def freeze(student: PreTrainedModel, parts: list[Literal["embeddings", "positions"]]) -> None:
    """Keep token embeddings (and what is tied to them) or position embeddings as they are."""
    if "embeddings" in parts:
        student.get_input_embeddings().weight.requires_grad_(False)
    if "positions" in parts:
        frozen = [
            parameter.requires_grad_(False)
            for name, parameter in student.named_parameters()
            if "position_embeddings" in name
        ]
        if not frozen:
            raise InputError("freeze: this student has no position embeddings to freeze")


def card(options: DistillOptions, steps: int, bare: bool = False) -> str:
    """Return a short model card; the released model's card has the scores as well."""
    library, use = ("sentence-transformers", "sentence-similarity") if bare else CARD
    return (
        f"---\nlibrary_name: {library}\npipeline_tag: {use}\n---\n\n# A distilled student\n\n"
        f"Distilled in {steps:,} steps for {options.objective.in_words()}. "
        "`provenance.json` holds every setting, `history.jsonl` every loss.\n"
    )
