"""The terms of a distillation: on logits (with their gradient), hidden states and attention.

Each is a sum over positions; the objective divides it by the count of the whole step. To add a
term: its settings in ``eliquare/config/objective.py``, its sum here, its use and its count in
``objective.py``.

Terms on logits are called as `chunked_loss.LogitTerm` says; sums over the vocabulary run over the
last dimension; several teachers share a term, each with its share of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from eliquare.training.outputs import AttentionInputs

TeacherShares = Sequence[tuple[torch.Tensor, float]]


@dataclass(frozen=True)
class KL:
    """KL(teacher || student) of outputs softened by a temperature, times its square.

    ``direction`` "forward": Hinton et al. 2015, as DistilBERT's training script takes it;
    electronics2023, equations 4 and 5, up to the teacher's entropy, which has no gradient (as
    printed, equation 5 divides exp(f) by the temperature, which would cancel). "reverse":
    KL(student || teacher), as cruz2024 writes it. "jsd": the Jensen-Shannon divergence, the mean
    of the KL of each to the mean of both.
    """

    direction: Literal["forward", "reverse", "jsd"] = "forward"
    temperature: float = 2.0

    def __call__(
        self,
        student_logits: torch.Tensor,
        teacher_logits: TeacherShares,
        labels: torch.Tensor,
        gradient: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Return the sum over ``student_logits[positions, vocabulary]``."""
        divergence = {"forward": _forward, "reverse": _reverse, "jsd": _jsd}[self.direction]
        log_q = F.log_softmax(student_logits / self.temperature, dim=-1)
        q = log_q.exp()
        total = student_logits.new_zeros(())
        for logits, share in teacher_logits:
            log_p = F.log_softmax(logits / self.temperature, dim=-1)
            loss, slope = divergence(log_q, q, log_p)
            total += share * self.temperature**2 * loss
            if gradient is not None:
                gradient.add_(slope, alpha=share * scale * self.temperature)
        return total


# Each takes log_q, q and log_p, all [positions, vocabulary], may overwrite log_p, and returns the
# sum of the divergence (a scalar) and its gradient by the softened logits [positions, vocabulary].


def _forward(
    log_q: torch.Tensor, q: torch.Tensor, log_p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    p = log_p.exp()
    loss = torch.dot(p.flatten(), log_p.sub_(log_q).flatten())
    return loss, torch.sub(q, p, out=p)


def _reverse(
    log_q: torch.Tensor, q: torch.Tensor, log_p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    difference = torch.sub(log_q, log_p, out=log_p)
    loss = torch.linalg.vecdot(q, difference).unsqueeze(-1)
    return loss.sum(), difference.sub_(loss).mul_(q)


def _jsd(
    log_q: torch.Tensor, q: torch.Tensor, log_p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    p = log_p.exp()
    # Where both probabilities underflow, their terms are 0, which the logarithm of 0 would spoil.
    mean = p.add(q).div_(2).clamp_min_(torch.finfo(p.dtype).tiny)
    log_mean = mean.log_()
    to_mean = log_q - log_mean
    loss = torch.linalg.vecdot(q, to_mean).unsqueeze(-1)
    from_teacher = torch.dot(p.flatten(), (log_p - log_mean).flatten())
    return (loss.sum() + from_teacher) / 2, to_mean.sub_(loss).mul_(q).div_(2)


@dataclass(frozen=True)
class MSE:
    """Mean over the vocabulary of the squared difference of the logits.

    Gurgurov et al. 2025; Kim et al. 2021 compare it with the KL.
    """

    def __call__(
        self,
        student_logits: torch.Tensor,
        teacher_logits: TeacherShares,
        labels: torch.Tensor,
        gradient: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Return the sum over ``student_logits[positions, vocabulary]``."""
        total = student_logits.new_zeros(())
        for logits, share in teacher_logits:
            difference = student_logits - logits
            total += share * difference.square().mean(-1).sum()
            if gradient is not None:
                gradient.add_(difference, alpha=2 * share * scale / student_logits.shape[-1])
        return total


@dataclass(frozen=True)
class MaskedCrossEntropy:
    """Cross-entropy of the masked tokens.

    Devlin et al. 2019; electronics2023, equation 7, with the minus sign it leaves out.
    """

    def __call__(
        self,
        student_logits: torch.Tensor,
        teacher_logits: TeacherShares,
        labels: torch.Tensor,
        gradient: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Return the sum over ``student_logits[positions, vocabulary]``, each with a label."""
        log_q = F.log_softmax(student_logits, dim=-1)
        index = labels.unsqueeze(-1)
        loss = -log_q.gather(-1, index).sum()
        if gradient is not None:
            slope = log_q.exp_()
            slope.scatter_add_(-1, index, torch.full_like(index, -1, dtype=slope.dtype))
            gradient.add_(slope, alpha=scale)
        return loss


def cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the sum of 1 - cosine of hidden states, both ``[positions, width]``.

    electronics2023, equation 6, on hidden states as in DistilBERT's training script (the papers
    write it on the outputs).
    """
    return (1 - F.cosine_similarity(_exact(student), _exact(teacher), dim=-1)).sum()


def hidden(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the sum of the mean squared difference of hidden states, ``[positions, width]``.

    Jiao et al. 2020, equations 8 and 9, at real positions alone (their code counts padding too).
    """
    return (_exact(student) - _exact(teacher)).square().mean(-1).sum()


def squared_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the sum of the squared distances of embeddings, both ``[texts, width]``.

    Reimers & Gurevych 2020, equation 1, with the sum over the width in place of its mean, so that
    embeddings of length 1 are at most 4 apart.
    """
    return (_exact(student) - _exact(teacher)).square().sum()


def similarity(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of the cosines of each text to each other one, their sum.

    Both are ``[texts, width]``, of any width; the texts are those of a micro-batch (Tung & Mori
    2019, on embeddings of texts).
    """
    directions = [F.normalize(_exact(each), dim=-1) for each in (student, teacher)]
    of_student, of_teacher = (_products(each, each) for each in directions)
    return (of_student - of_teacher).square().sum()


def attention(
    student: AttentionInputs, teacher: AttentionInputs, mask: torch.Tensor, of: str
) -> torch.Tensor:
    """Return the squared difference of attention maps, mean over heads, sum over position pairs.

    ``mask[batch, length]`` is true at real positions. ``of`` "scores" compares before the softmax
    (Jiao et al. 2020, equation 7), "probabilities" after it.
    """
    maps = []  # [batch, heads, length, length] of the student and of the teacher
    for inputs in (student, teacher):
        scores = _products(inputs.query, inputs.key) * inputs.scaling
        if of == "probabilities":
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        maps.append(scores)
    real = mask[:, None, :, None] & mask[:, None, None, :]
    # Not a product with ``real``: what is at padding may be infinite.
    difference = torch.where(real, maps[0] - maps[1], 0)
    return difference.square().sum() / maps[0].shape[1]


def relations(
    student: AttentionInputs, teacher: AttentionInputs, mask: torch.Tensor, heads: int
) -> torch.Tensor:
    """Return KL(teacher || student) of the relations among queries, among keys and among values.

    Each is split anew into ``heads`` relation heads, and the softmax of the scaled products of
    each position with all others is its relation. Wang et al. 2021 (MiniLMv2), equations 4 to 7:
    a mean over relation heads, a sum over positions and the three kinds. ``mask[batch, length]`` is
    true at real positions.
    """
    total: torch.Tensor = student.query.new_zeros((), dtype=_exact(student.query).dtype)
    for of_student, of_teacher in zip(student[:3], teacher[:3], strict=True):
        log_q, log_p = (_relation(vectors, mask, heads) for vectors in (of_student, of_teacher))
        # Where a key is padding both are minus infinity, and their difference is not a number.
        divergence = torch.where(mask[:, None, None], log_p.exp() * (log_p - log_q), 0)
        total += torch.where(mask[:, None, :, None], divergence, 0).sum() / heads
    return total


def _relation(vectors: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the log relations ``[batch, heads, length, length]`` of an attention input."""
    batch, _, length, _ = vectors.shape
    split = vectors.transpose(1, 2).reshape(batch, length, heads, -1).transpose(1, 2)
    scaling: float = split.shape[-1] ** -0.5
    scores = _products(split, split) * scaling
    # A finite number, as the gradient of minus infinity times zero is not a number.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask[:, None, None], lowest).log_softmax(-1)


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the dot products of all rows, in float32 at least; autocast would make them bf16."""
    with torch.autocast(left.device.type, enabled=False):
        return _exact(left) @ _exact(right).mT


def _exact(values: torch.Tensor) -> torch.Tensor:
    """Return the values in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
