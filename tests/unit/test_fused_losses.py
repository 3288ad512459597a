"""Losses on logits against the fused ones of Liger and torch, where both can do the same.

Liger's need triton, which the environment has not; without a GPU triton's interpreter runs them:

    pip install liger-kernel triton
    TRITON_INTERPRET=1 pytest tests/unit/test_fused_losses.py

Neither can take the KL at all positions and MLM at the masked ones from the same logits, which is
why ours exist.
"""

import os

import pytest
import torch
import torch.nn.functional as F

from eliquare.distillation.logit_terms import KL, MaskedWords
from eliquare.distillation.projected import Projection, Use, projected_losses

POSITIONS, WIDTH, VOCABULARY, TEMPERATURE = 20, 16, 50, 2.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def liger():
    """Liger's kernels."""
    if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("needs a GPU or TRITON_INTERPRET=1")
    return pytest.importorskip("liger_kernel.ops")


def projection(seed: int, width: int) -> Projection:
    generator = torch.Generator().manual_seed(seed)
    shapes = (POSITIONS, width), (VOCABULARY, width), (VOCABULARY,)
    made = [torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes]
    return Projection(*(each.requires_grad_() for each in made))


def compare(loss, expected, wanted) -> None:
    torch.testing.assert_close(loss, expected.to(loss.dtype))
    for mine, other in zip(
        torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("whose", ["torch", "liger"])
def test_mlm(whose, request):
    student = projection(0, WIDTH)
    labels = torch.arange(POSITIONS, device=DEVICE) * 2
    use = Use(MaskedWords(), POSITIONS, 1 / POSITIONS)
    loss, _ = projected_losses(student, [], labels, {"mlm": use})
    rows, weight, bias = student
    if whose == "torch":
        expected = F.linear_cross_entropy(rows, weight, labels, linear_bias=bias)
    else:
        fused = request.getfixturevalue("liger").LigerFusedLinearCrossEntropyFunction
        expected = fused.apply(rows, weight, labels, bias)[0]
    compare(loss, expected, student)


@pytest.mark.parametrize(("direction", "beta"), [("forward", 0.0), ("jsd", 0.5), ("reverse", 1.0)])
def test_kl(liger, direction, beta):
    """Liger's has no bias, and does not multiply by the temperature's square."""
    student, teacher = (projection(*each)._replace(bias=None) for each in ((1, WIDTH), (2, 24)))
    use = Use(KL(direction, TEMPERATURE), POSITIONS, 1 / POSITIONS)
    labels = torch.full((POSITIONS,), -100, device=DEVICE)
    loss, _ = projected_losses(student, [(teacher, 1.0)], labels, {"kl": use})
    expected = liger.LigerFusedLinearJSDFunction.apply(
        student.rows, student.weight, teacher.rows, teacher.weight, None, beta, -100, TEMPERATURE
    )
    compare(loss, TEMPERATURE**2 * expected, student[:2])
