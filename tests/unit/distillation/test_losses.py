"""Terms on hidden states and attention against plain, slow references in float64."""

import itertools
import math

import pytest
import torch

from eliquare.distillation import losses
from eliquare.training.outputs import AttentionInputs


@pytest.mark.parametrize("seed", range(2))
def test_hidden_states_against_loops(seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    for term, plain in (
        (losses.hidden, lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 5),
        (losses.cosine, lambda a, b: 1 - (a @ b) / (a @ a).sqrt() / (b @ b).sqrt()),
    ):
        total = term(student, teacher)
        expected = sum(plain(a, b) for a, b in zip(student, teacher, strict=True))
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(
            torch.autograd.grad(total, student), torch.autograd.grad(expected, student)
        )


def attention_inputs(seed, heads, width, length=5):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, 2, heads, length, width, generator=generator, dtype=torch.float64)
    return AttentionInputs(*drawn.requires_grad_().unbind(), width**-0.5), drawn


REAL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
REAL_POSITIONS = [
    (row, place, length) for row, length in ((0, 5), (1, 3)) for place in range(length)
]


def softmax(row):
    return torch.exp(row) / torch.exp(row).sum()


@pytest.mark.parametrize("of", ["scores", "probabilities"])
def test_attention_against_loops(of):
    student, leaf = attention_inputs(0, 2, 4)
    teacher, _ = attention_inputs(10, 2, 8)
    total = losses.attention(student, teacher, REAL, of)
    expected = 0.0
    for (row, place, length), head in itertools.product(REAL_POSITIONS, range(2)):
        maps = []
        for side in (student, teacher):
            keys = side.key[row, head, :length]
            scores = torch.stack([side.query[row, head, place] @ key for key in keys])
            maps.append(scores * side.scaling)
        if of == "probabilities":
            maps = [softmax(scores) for scores in maps]
        expected = expected + ((maps[0] - maps[1]) ** 2).sum() / 2
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        torch.autograd.grad(total, leaf), torch.autograd.grad(expected, leaf)
    )


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_relations_against_loops(heads):
    """Student of 2 x 4 and teacher of 3 x 8: neither their heads nor their widths are the same."""
    student, leaf = attention_inputs(heads, 2, 4)
    teacher, _ = attention_inputs(heads + 10, 3, 8)
    total = losses.relations(student, teacher, REAL, heads)
    expected = 0.0
    for kind, (row, place, length), head in itertools.product(
        range(3), REAL_POSITIONS, range(heads)
    ):
        relations = []
        for side in (student, teacher):
            joined = torch.cat(list(side[kind][row]), dim=-1)
            width = joined.shape[-1] // heads
            own = joined[:, head * width : (head + 1) * width]
            scores = torch.stack([own[place] @ own[other] for other in range(length)])
            relations.append(softmax(scores / math.sqrt(width)))
        q, p = relations
        expected = expected + (p * (p.log() - q.log())).sum() / heads
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        torch.autograd.grad(total, leaf), torch.autograd.grad(expected, leaf)
    )


@pytest.mark.parametrize("term", ["similarity", "attention", "relations"])
def test_autocast_does_not_round_products(term):
    """A student near its teacher: in bf16 the difference would be that of the rounding."""
    torch.manual_seed(1)
    batch, heads, length, width = 2, 2, 5, 8
    states = torch.randn(3, batch, heads, length, width)
    near = states + 1e-3 * torch.randn_like(states)
    mask = torch.ones(batch, length, dtype=torch.bool)

    def loss():
        if term == "similarity":
            texts = [each[0].flatten(1) for each in (near, states)]
            return losses.similarity(*texts)
        inputs = [AttentionInputs(*each, width**-0.5) for each in (near, states)]
        of = "scores" if term == "attention" else heads
        return getattr(losses, term)(*inputs, mask, of)

    exact = loss()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(), exact)
