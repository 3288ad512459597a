r"""Distil a teacher into a student that segments the text differently, as one with new tokens does.

    python -m eliquare extension distill --teachers T --start-from S --num-hidden-layers 6 \
        --sequences D --masking M --max-steps 20000 --output O

``S`` is the teacher with its tokenizer extended. The lines of ``eliquare/distillation/train.py``,
on sequences of ``extension tokenize`` and ``extension mask``, with another objective:

- **kl**: at the places where both have one and the same token over the same characters (special
  tokens too), the distributions over the tokens that both have, renormalised on both sides;
- **cosine**: over each common span, the smallest stretch of characters that begins and ends between
  two tokens on both sides, the mean of the student's last hidden states with the teacher's;
- **mlm**: every masked token of the student, over its full vocabulary.
"""

from collections.abc import Mapping

import numpy as np
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from eliquare.cli import version
from eliquare.config import objective as settings
from eliquare.distillation import losses
from eliquare.distillation.chunked_loss import LazyLogits, WeightedTerm, chunked_losses
from eliquare.distillation.objective import (
    add_projections,
    logit_term,
    projected,
    remove_projections,
    warn_of_collapse,
)
from eliquare.distillation.train import DistillOptions, card, freeze
from eliquare.extension.alignment import Ints
from eliquare.extension.data import load_data
from eliquare.io import InputError
from eliquare.models.loading import load_masked_lm, load_tokenizer
from eliquare.models.student import new_student
from eliquare.training.options import begin
from eliquare.training.outputs import Batch, outputs_at, projection_of, unwrapped
from eliquare.training.trainer import Losses, MaskedTrainer


def distill(options: DistillOptions) -> None:
    """Distil a teacher into a student that segments the text differently."""
    if len(options.teachers) > 1:
        raise InputError("--teachers: a student with another tokenizer has one teacher")
    if options.start_from is None:
        raise InputError("--start-from: missing; give the teacher with its tokenizer extended")
    begin(options)
    origin = options.provenance(options.inputs(), version("extension", "distill"))

    # Models and data, in two tokenizers
    start, tokenizer = load_masked_lm(options.start_from), load_tokenizer(options.start_from)
    student = new_student(start, options, options.seed)
    (folder,) = options.teachers
    teacher, teacher_tokenizer = load_masked_lm(folder), load_tokenizer(folder)
    data, to_teacher = load_data(options, student, tokenizer, teacher, teacher_tokenizer)

    # Objective: a projection is a new parameter, whose seed shall not depend on what was loaded
    transformers.set_seed(options.seed)
    objective = AlignedDistillation(student, teacher, options.objective, to_teacher)
    freeze(student, options.freeze)

    trainer = MaskedTrainer(student, objective, data, options)
    warn_of_collapse(teacher, teacher_side(trainer.first_validation_batch()))
    if trainer.fit(origin):
        trainer.load_best()
        remove_projections(student)
        trainer.save(tokenizer, origin, card(options, trainer.state.global_step))


class AlignedDistillation:
    """The objective of a student beside a teacher with another tokenizer; see the module's head.

    Args:
        student: the model to train.
        teacher: the model to learn from, neither trained nor saved.
        objective: the terms.
        to_teacher: for each student id the teacher's id of the same token, or -1.

    Raises:
        InputError: a term cannot compare different segmentations.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        objective: settings.Objective,
        to_teacher: Ints,
    ):
        self.terms = objective.terms()
        self.weights = {name: term.weight for name, term in self.terms.items()}
        self.best_by = "kl" if "kl" in self.terms else "loss"
        kl = self.terms.get("kl")
        masked = isinstance(kl, settings.KL) and kl.positions == "masked"
        self.same = "same_masked" if masked else "same"
        if impossible := self.terms.keys() - set(settings.EXTENSION_TERMS):
            raise InputError(
                f"{', '.join(sorted(impossible))}: student and teacher segment the text "
                f"differently; use {', '.join(settings.EXTENSION_TERMS)}"
            )
        self.teacher = teacher.eval().requires_grad_(False)
        for model in (student, teacher):
            projection_of(model)
        self.shared = torch.from_numpy(np.flatnonzero(to_teacher >= 0))
        self.teacher_shared = torch.from_numpy(to_teacher[to_teacher >= 0])
        if "cosine" in self.terms:
            add_projections(student, {"cosine": teacher.config.hidden_size})

    def to(self, device: torch.device) -> None:
        """Move the teacher, and which tokens both have, to the device."""
        self.teacher.to(device)
        self.shared, self.teacher_shared = self.shared.to(device), self.teacher_shared.to(device)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return over how many tokens or spans each term sums."""
        counted = {"kl": self.same, "mlm": "masked", "cosine": "span_sizes"}
        return {name: len(batch[counted[name]]) for name in self.terms}

    def __call__(self, model: nn.Module, batch: Batch, scales: Mapping[str, float]) -> Losses:
        """Return the loss of a batch, each term's sum multiplied by its scale, and the sums.

        ``batch`` is one of ``data.collate``.
        """
        counts = self.counts(batch)
        masked, same = batch["masked"][: counts.get("mlm", 0)], batch["same"][: counts.get("kl", 0)]
        student = outputs_at(model, batch, torch.cat([masked, same]))
        loss, sums = student.zero, dict[str, torch.Tensor]()
        if self.terms.keys() != {"mlm"}:
            with torch.no_grad():
                places = batch["teacher_same"][: len(same)]
                teacher = outputs_at(self.teacher, teacher_side(batch), places)
        plain = unwrapped(model)
        if "kl" in self.terms:
            own = LazyLogits.of(student.head[len(masked) :], projection_of(plain))
            goal = LazyLogits.of(teacher.head, projection_of(self.teacher))
            term = WeightedTerm(logit_term(self.terms["kl"]), len(same), scales["kl"])
            goals = [(goal.of_tokens(self.teacher_shared), 1.0)]
            # A KL reads no labels: any numbers stand for them.
            part, of_term = chunked_losses(own.of_tokens(self.shared), goals, same, {"kl": term})
            loss, sums = loss + part, sums | of_term
        if "mlm" in self.terms:
            own = LazyLogits.of(student.head[: len(masked)], projection_of(plain))
            term = WeightedTerm(logit_term(self.terms["mlm"]), len(masked), scales["mlm"])
            labels = batch["labels"].flatten()[masked]
            part, of_term = chunked_losses(own, [], labels, {"mlm": term})
            loss, sums = loss + part, sums | of_term
        if "cosine" in self.terms:
            pooled = pool(student.last_hidden, batch["spans"], batch["span_sizes"])
            goal_states = pool(
                teacher.last_hidden, batch["teacher_spans"], batch["teacher_span_sizes"]
            )
            sums["cosine"] = losses.cosine(projected(plain, "cosine", pooled), goal_states)
            loss = loss + scales["cosine"] * sums["cosine"]
        return Losses(loss, {name: sums[name] for name in self.terms})


def teacher_side(batch: Batch) -> Batch:
    """Return what the teacher reads of a batch."""
    return {name: batch[f"teacher_{name}"] for name in ("input_ids", "attention_mask")}


def pool(hidden: torch.Tensor, spans: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``hidden[batch, length, width]`` over each span, ``[spans, width]``.

    ``spans[batch, length]`` is the number of each token's span, -1 for padding; ``sizes[spans]``
    are the tokens of each span.
    """
    # Padding goes to a span of its own behind the others, so that no device is asked where it is.
    numbers = torch.where(spans < 0, len(sizes), spans).flatten()
    sums = hidden.new_zeros(len(sizes) + 1, hidden.shape[-1], dtype=torch.float32)
    sums = sums.index_add(0, numbers, hidden.flatten(0, 1).float())
    return sums[:-1] / sizes.unsqueeze(1)
