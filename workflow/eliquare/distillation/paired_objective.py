"""The objective of a student that cuts the text otherwise than its teacher.

What is compared with what:

- **KL**: at the places where both have one and the same sub-word over the same characters (special
  tokens too), the distributions over the sub-words that both have, renormalised on both sides.
- **cosine**: over each common span, the smallest stretch of characters that begins and ends between
  two pieces on both sides, the mean of the student's last hidden states with the mean of the
  teacher's.
- **MLM**: every masked sub-word of the student, over its whole vocabulary.
"""

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from eliquare.distillation.collapse import warn_of_collapse
from eliquare.distillation.logit_terms import MaskedWords
from eliquare.distillation.objective import logit_term
from eliquare.distillation.projected import Projection, Use, projected_losses
from eliquare.distillation.projections import add_projections, projected
from eliquare.distillation.state_terms import cosine
from eliquare.distillation.terms import Term, changing, check_paired, weights_at
from eliquare.training.outputs import outputs_at, projection_of, unwrapped
from eliquare.training.positions import positions_of
from eliquare.training.terms import Batch, Losses, mean


class PairedDistillation:
    """The objective of a student beside a teacher with another tokenizer, on paired sequences.

    ``to_teacher`` has for each of the student's ids the teacher's id of the same sub-word, or -1.
    The teacher is not part of the trained module, so it is neither saved nor updated.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        terms: dict[str, Term],
        to_teacher: np.ndarray,
    ):
        check_paired(terms)
        self.terms = terms
        self.teacher = teacher.eval().requires_grad_(False)
        self.shared = torch.from_numpy(np.flatnonzero(to_teacher >= 0))
        self.teacher_shared = torch.from_numpy(to_teacher[to_teacher >= 0])
        if "cosine" in terms:
            add_projections(student, {"cosine": teacher.config.hidden_size})

    def look(self, batch: Batch) -> None:
        """Warn of a teacher that has nothing to teach."""
        warn_of_collapse(self.teacher.name_or_path, self.teacher, teacher_side(batch))

    def __call__(self, model: nn.Module, batch: Batch, progress: float = 0.0) -> Losses:
        """The loss of a batch and the sum of each term."""
        device = batch["labels"].device
        masked = positions_of(batch).masked
        same, teacher_same = batch["same"], batch["teacher_same"]
        if "kl" in self.terms and self.terms["kl"].settings["positions"] == "masked":
            same = batch["same_masked"]
            teacher_same = teacher_same[: len(same)]
        mine = outputs_at(model, batch, torch.cat([masked, same]))
        self.teacher.to(device)
        with torch.no_grad():
            theirs = outputs_at(self.teacher, teacher_side(batch), teacher_same)
        student = unwrapped(model)
        weights = weights_at(self.terms, progress)
        loss, found = mine.nothing, {}
        if "kl" in self.terms:
            own = Projection.of(mine.rows[len(masked) :], projection_of(student))
            goal = Projection.of(theirs.rows, projection_of(self.teacher))
            use = Use(logit_term(self.terms["kl"]), len(same), weights["kl"] / max(len(same), 1))
            part, sums = projected_losses(
                own.to(self.shared.to(device)),
                [(goal.to(self.teacher_shared.to(device)), 1.0)],
                same,
                {"kl": use},
            )
            loss, found["kl"] = loss + part, (sums["kl"], len(same))
        if "mlm" in self.terms:
            own = Projection.of(mine.rows[: len(masked)], projection_of(student))
            use = Use(MaskedWords(), len(masked), weights["mlm"] / max(len(masked), 1))
            labels = batch["labels"].flatten()[masked]
            part, sums = projected_losses(own, [], labels, {"mlm": use})
            loss, found["mlm"] = loss + part, (sums["mlm"], len(masked))
        if "cosine" in self.terms:
            pooled = projected(student, "cosine", pool(mine.last_hidden, batch["spans"]))
            goal = pool(theirs.last_hidden, batch["teacher_spans"])
            total, count = found["cosine"] = cosine(pooled, goal)
            loss = loss + weights["cosine"] * mean(total, count)
        return Losses(
            loss, {name: found[name] for name in self.terms}, changing(self.terms, weights)
        )


def teacher_side(batch: Batch) -> Batch:
    """What the teacher reads of a batch of pairs."""
    return {name: batch[f"teacher_{name}"] for name in ("input_ids", "attention_mask")}


def pool(hidden: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """The mean of the hidden states (batch, length, hidden) over each span, (spans, hidden).

    ``spans`` has the number of each position's span, -1 for padding; each span has a position.
    """
    real = spans >= 0
    numbers = spans[real]
    number = int(numbers.max()) + 1
    values = hidden[real].float()
    sums = values.new_zeros(number, values.shape[1]).index_add(0, numbers, values)
    sizes = torch.bincount(numbers, minlength=number).unsqueeze(1)
    return sums / sizes
