"""Terms of the loss on hidden states and attention: each a sum, and over how many.

Layers count from 1; layer 0 of the hidden states is the embeddings. A term over several pairs of
layers is the sum over the pairs of each pair's mean, as TinyBERT has it.
"""

import torch
import torch.nn.functional as F

from eliquare.training.attention import AttentionInputs

Sum = tuple[torch.Tensor, int]


def cosine(student: torch.Tensor, teacher: torch.Tensor) -> Sum:
    """1 - cosine of the last hidden states, shape (positions, hidden).

    electronics2023, equation 6, on hidden states as in DistilBERT's training script (the papers
    write it on the outputs).
    """
    return (1 - F.cosine_similarity(_exact(student), _exact(teacher), dim=-1)).sum(), len(student)


def hidden(student: torch.Tensor, teacher: torch.Tensor) -> Sum:
    """Mean over the width of the squared difference, shape (positions, hidden).

    Jiao et al. 2020, equations 8 and 9, at real positions alone (their code counts padding too).
    """
    difference = _exact(student) - _exact(teacher)
    return difference.square().mean(-1).sum(), len(student)


def attention(
    student: AttentionInputs, teacher: AttentionInputs, mask: torch.Tensor, of: str
) -> Sum:
    """Squared difference of the attention maps, head by head, over pairs of real positions.

    ``mask`` is boolean, (batch, length). ``of`` "scores" compares before the softmax (Jiao et al.
    2020, equation 7), "probabilities" after it.
    """
    maps = []
    for inputs in (student, teacher):
        scores = _exact(inputs.query) @ _exact(inputs.key).mT * inputs.scaling
        if of == "probabilities":
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        maps.append(scores)
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    # Not a product with the pairs: what stands at padding may be infinite.
    difference = torch.where(pairs, maps[0] - maps[1], 0)
    return difference.square().sum() / maps[0].shape[1], pairs.sum()


def relations(
    student: AttentionInputs, teacher: AttentionInputs, mask: torch.Tensor, heads: int
) -> Sum:
    """KL(teacher || student) of the relations among queries, among keys and among values.

    Each is split anew into ``heads`` relation heads, and the softmax of the scaled products of
    each position with all others is its relation. Wang et al. 2021 (MiniLMv2), equations 4 to 7:
    a mean over relation heads and positions, summed over the three. ``mask`` is boolean,
    (batch, length).
    """
    total = student.query.new_zeros((), dtype=_exact(student.query).dtype)
    for mine, theirs in zip(student[:3], teacher[:3], strict=True):
        log_q, log_p = (_relation(vectors, mask, heads) for vectors in (mine, theirs))
        # Where a key is padding both are minus infinity, and their difference is not a number.
        terms = torch.where(mask[:, None, None], log_p.exp() * (log_p - log_q), 0)
        total = total + torch.where(mask[:, None, :, None], terms, 0).sum() / heads
    return total, mask.sum()


def _relation(vectors: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    batch, _, length, _ = vectors.shape
    split = _exact(vectors).transpose(1, 2).reshape(batch, length, heads, -1).transpose(1, 2)
    scores = split @ split.mT * split.shape[-1] ** -0.5
    # A finite number, as the gradient of minus infinity times zero is not a number.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask[:, None, None], lowest).log_softmax(-1)


def _exact(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
