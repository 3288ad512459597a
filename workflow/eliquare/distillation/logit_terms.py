"""Terms of the loss on logits: each a sum over positions, with its gradient.

Each is called as ``projected.LogitTerm`` says. Sums over the vocabulary are taken over its last
dimension; several teachers share a term, each with its share of it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class KL:
    """KL(teacher || student) of outputs softened by a temperature, times its square.

    ``direction`` "forward": Hinton et al. 2015, as DistilBERT's training script takes it;
    electronics2023, equations 4 and 5, up to the teacher's entropy, which has no gradient (as
    printed, equation 5 divides exp(f) by the temperature, which would cancel). "reverse":
    KL(student || teacher), as cruz2024 writes it. "jsd": the Jensen-Shannon divergence, the mean
    of the KL of each to the mean of both.
    """

    direction: str = "forward"
    temperature: float = 2.0

    def __call__(self, student, teachers, labels, gradient, scale):
        temperature = self.temperature
        log_q = F.log_softmax(student / temperature, dim=-1)
        q = log_q.exp()
        total = student.new_zeros(())
        for teacher, share in teachers:
            log_p = F.log_softmax(teacher / temperature, dim=-1)
            loss, slope = getattr(self, f"_{self.direction}")(log_q, q, log_p)
            total += share * temperature**2 * loss
            if gradient is not None:
                gradient.add_(slope, alpha=share * scale * temperature)
        return total

    @staticmethod
    def _forward(log_q, q, log_p):
        p = log_p.exp()
        loss = torch.dot(p.flatten(), log_p.sub_(log_q).flatten())
        return loss, torch.sub(q, p, out=p)

    @staticmethod
    def _reverse(log_q, q, log_p):
        difference = torch.sub(log_q, log_p, out=log_p)
        loss = _inner(q, difference)
        return loss.sum(), difference.sub_(loss).mul_(q)

    @staticmethod
    def _jsd(log_q, q, log_p):
        p = log_p.exp()
        log_mean = torch.log((p + q) / 2)
        to_mean = log_q - log_mean
        loss = _inner(q, to_mean)
        from_teacher = torch.dot(p.flatten(), (log_p - log_mean).flatten())
        return (loss.sum() + from_teacher) / 2, to_mean.sub_(loss).mul_(q).div_(2)


@dataclass(frozen=True)
class MSE:
    """Mean over the vocabulary of the squared difference of the logits.

    Gurgurov et al. 2025; Kim et al. 2021 compare it with the KL.
    """

    def __call__(self, student, teachers, labels, gradient, scale):
        total = student.new_zeros(())
        for teacher, share in teachers:
            difference = student - teacher
            total += share * difference.square().mean(-1).sum()
            if gradient is not None:
                gradient.add_(difference, alpha=2 * share * scale / student.shape[-1])
        return total


@dataclass(frozen=True)
class MaskedWords:
    """Cross-entropy of the masked sub-words.

    Devlin et al. 2019; electronics2023, equation 7, with the minus sign it leaves out.
    """

    def __call__(self, student, teachers, labels, gradient, scale):
        log_q = F.log_softmax(student, dim=-1)
        places = labels.unsqueeze(-1)
        loss = -log_q.gather(-1, places).sum()
        if gradient is not None:
            slope = log_q.exp_()
            slope.scatter_add_(-1, places, torch.full_like(places, -1, dtype=slope.dtype))
            gradient.add_(slope, alpha=scale)
        return loss


def _inner(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The inner product of each row, (positions, 1)."""
    return torch.linalg.vecdot(one, other).unsqueeze(-1)
