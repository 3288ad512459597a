"""Terms on logits, chunk by chunk, against plain references in float64 and fused kernels.

Liger's kernels need triton, which the environment has not; without a GPU triton's interpreter runs
them:

    pip install liger-kernel triton
    TRITON_INTERPRET=1 pytest tests/unit/distillation/test_chunked_loss.py

Neither Liger nor torch can take the KL at all positions and MLM at the masked ones from the same
logits, which is why ours exist.
"""

import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eliquare.distillation import chunked_loss
from eliquare.distillation.chunked_loss import LazyLogits, WeightedTerm, chunked_losses
from eliquare.distillation.losses import KL, MSE, MaskedCrossEntropy


def softmax(row):
    return torch.exp(row) / torch.exp(row).sum()


def kl_of_row(p, q):
    return sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))


def reference(name, student, teacher, label, temperature):
    """Return a term at one position, from its definition."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    if name == "forward":
        return temperature**2 * kl_of_row(p, q)
    if name == "reverse":
        return temperature**2 * kl_of_row(q, p)
    if name == "jsd":
        middle = (p + q) / 2
        return temperature**2 * (kl_of_row(p, middle) + kl_of_row(q, middle)) / 2
    if name == "mse":
        return sum((a - b) ** 2 for a, b in zip(student, teacher, strict=True)) / len(student)
    return -softmax(student)[label].log()


TERMS = {
    "forward": lambda temperature: KL("forward", temperature),
    "reverse": lambda temperature: KL("reverse", temperature),
    "jsd": lambda temperature: KL("jsd", temperature),
    "mse": lambda temperature: MSE(),
    "mlm": lambda temperature: MaskedCrossEntropy(),
}


def inputs(seed, positions=7, width=5, vocabulary=9, bias=True):
    """Return the lazy logits of a student and two teachers, float64, and labels."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)

    logits = [
        LazyLogits(
            draw(positions, width), draw(vocabulary, width), draw(vocabulary) if bias else None
        )
        for _ in range(3)
    ]
    return logits, torch.randint(0, vocabulary, (positions,), generator=generator)


def computed(lazy):
    logits = lazy.hidden @ lazy.weight.t()
    return logits if lazy.bias is None else logits + lazy.bias


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("temperature", "seed"), [(2.0, 1), (0.5, 2)])
@pytest.mark.parametrize("at_once", [9, 27, 2**20])
def test_sums_and_gradients_are_those_of_full_logits(monkeypatch, name, temperature, seed, at_once):
    """One term at some positions, another at all, two teachers."""
    monkeypatch.setattr(chunked_loss, "CHUNK_LOGITS", at_once)
    monkeypatch.setattr(chunked_loss, "BLOCK_LOGITS", at_once // 2)
    (student, *teachers), labels = inputs(seed, bias=seed % 2 == 0)
    wanted = [each.requires_grad_() for each in student if each is not None]
    terms = {
        name: WeightedTerm(TERMS[name](temperature), 4, 0.7),
        "everywhere": WeightedTerm(KL("forward", 2.0), 7, 0.3),
    }
    shared = list(zip(teachers, (0.75, 0.25), strict=True))
    loss, sums = chunked_losses(student, shared, labels, terms)
    gradients = torch.autograd.grad(3 * loss, wanted)

    expected = {}
    for key, kind, own in ((name, name, temperature), ("everywhere", "forward", 2.0)):
        logits = computed(student)
        expected[key] = sum(
            share * reference(kind, logits[row], computed(teacher)[row], labels[row], own)
            for row in range(terms[key].positions)
            for teacher, share in shared
        )
    full = 0.7 * expected[name] + 0.3 * expected["everywhere"]
    for key, found in sums.items():
        torch.testing.assert_close(found, expected[key].detach())
    torch.testing.assert_close(loss, full)
    for gradient, other in zip(gradients, torch.autograd.grad(3 * full, wanted), strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("name", TERMS)
def test_float32_and_bf16(name):
    """Under autocast bf16 costs what its rounding costs, float32 next to nothing."""
    (student, teacher, _), labels = inputs(5, positions=60, width=16, vocabulary=200)
    term = {name: WeightedTerm(TERMS[name](2.0), 60, 1 / 60)}
    exact, _ = chunked_losses(student, [(teacher, 1.0)], labels, term)
    student, teacher = (LazyLogits(*(each.float() for each in side)) for side in (student, teacher))
    student.weight.requires_grad_()
    single, _ = chunked_losses(student, [(teacher, 1.0)], labels, term)
    assert float(single.detach()) == pytest.approx(float(exact), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = chunked_losses(student, [(teacher, 1.0)], labels, term)
    assert float(half.detach()) == pytest.approx(float(exact), rel=2e-2)
    half.backward()
    assert student.weight.grad.dtype == torch.float32
    other = torch.autograd.grad(single, student.weight)[0]
    assert float((student.weight.grad - other).norm() / other.norm()) < 4e-2


@settings(deadline=None, max_examples=40)
@given(
    direction=st.sampled_from(["forward", "reverse", "jsd"]),
    logits=st.lists(st.floats(-100, 100, width=32), min_size=8, max_size=8),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
)
@example(direction="jsd", logits=[100, -100, -100, 0, 100, -100, -100, 99], temperature=0.5)
@example(direction="jsd", logits=[100, -100, -100, 0, -100, 100, -100, 0], temperature=0.5)
def test_logits_that_are_far_apart_have_the_loss_of_float64(direction, logits, temperature):
    """Probabilities underflow in float32 where logits / temperature are 104 apart."""
    found = []
    for dtype in (torch.float32, torch.float64):
        student, teacher = torch.tensor(logits, dtype=dtype).reshape(2, 1, 4)
        gradient = torch.zeros_like(student)
        term = KL(direction, temperature)
        loss = term(student, [(teacher, 1.0)], torch.zeros(1, dtype=torch.long), gradient, 1.0)
        found.append((loss.double(), gradient.double()))
    assert all(torch.isfinite(each).all() for each in found[0])
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-3)


def test_gradients_serve_one_backward_pass():
    (student, teacher, _), labels = inputs(0)
    student.hidden.requires_grad_()
    loss, _ = chunked_losses(student, [(teacher, 1.0)], labels, {"kl": WeightedTerm(KL(), 7, 1.0)})
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_all_logits_never_exist_at_once(monkeypatch):
    """No tensor made on the way has as many numbers as positions x vocabulary."""
    monkeypatch.setattr(chunked_loss, "CHUNK_LOGITS", 4000)
    monkeypatch.setattr(chunked_loss, "BLOCK_LOGITS", 1000)
    (student, teacher, _), labels = inputs(1, positions=200, width=4, vocabulary=100)
    for each in student:
        each.requires_grad_()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            nonlocal largest
            result = function(*arguments, **(keywords or {}))
            for each in result if isinstance(result, list | tuple) else [result]:
                if torch.is_tensor(each):
                    largest = max(largest, each.numel())
            return result

    with Watch():
        terms = {
            "kl": WeightedTerm(KL(), 200, 1.0),
            "mlm": WeightedTerm(MaskedCrossEntropy(), 30, 1.0),
        }
        chunked_losses(student, [(teacher, 1.0)], labels, terms)[0].backward()
    # The buffers of student and teacher together.
    assert 0 < largest <= 2 * 4000 < 200 * 100


# Fused kernels, where they can do the same

POSITIONS, WIDTH, VOCABULARY, TEMPERATURE = 20, 16, 50, 2.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def liger():
    """Liger's kernels."""
    if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("needs a GPU or TRITON_INTERPRET=1")
    return pytest.importorskip("liger_kernel.ops")


def lazy_logits(seed, width):
    generator = torch.Generator().manual_seed(seed)
    shapes = (POSITIONS, width), (VOCABULARY, width), (VOCABULARY,)
    drawn = [torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes]
    return LazyLogits(*(each.requires_grad_() for each in drawn))


def compare(loss, expected, wanted):
    torch.testing.assert_close(loss, expected.to(loss.dtype))
    for gradient, other in zip(
        torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("whose", ["torch", "liger"])
def test_mlm_is_that_of_fused_kernels(whose, request):
    student = lazy_logits(0, WIDTH)
    labels = torch.arange(POSITIONS, device=DEVICE) * 2
    term = WeightedTerm(MaskedCrossEntropy(), POSITIONS, 1 / POSITIONS)
    loss, _ = chunked_losses(student, [], labels, {"mlm": term})
    hidden, weight, bias = student
    if whose == "torch":
        expected = F.linear_cross_entropy(hidden, weight, labels, linear_bias=bias)
    else:
        fused = request.getfixturevalue("liger").LigerFusedLinearCrossEntropyFunction
        expected = fused.apply(hidden, weight, labels, bias)[0]
    compare(loss, expected, student)


@pytest.mark.parametrize(("direction", "beta"), [("forward", 0.0), ("jsd", 0.5), ("reverse", 1.0)])
def test_kl_is_that_of_fused_kernels(liger, direction, beta):
    """Liger's has no bias, and does not multiply by the temperature's square."""
    student, teacher = (lazy_logits(*each)._replace(bias=None) for each in ((1, WIDTH), (2, 24)))
    term = WeightedTerm(KL(direction, TEMPERATURE), POSITIONS, 1 / POSITIONS)
    labels = torch.full((POSITIONS,), -100, device=DEVICE)
    loss, _ = chunked_losses(student, [(teacher, 1.0)], labels, {"kl": term})
    expected = liger.LigerFusedLinearJSDFunction.apply(
        student.hidden,
        student.weight,
        teacher.hidden,
        teacher.weight,
        None,
        beta,
        -100,
        TEMPERATURE,
    )
    compare(loss, TEMPERATURE**2 * expected, student[:2])
