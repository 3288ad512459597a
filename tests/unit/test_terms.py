"""Each term against a plain, slow reference in float64; its weights, schedules and settings."""

import itertools
import math

import pytest
import torch

from eliquare.distillation import projected, state_terms
from eliquare.distillation.logit_terms import KL, MSE, MaskedWords
from eliquare.distillation.presets import PRESETS
from eliquare.distillation.projected import Projection, Use, projected_losses
from eliquare.distillation.schedule import schedule
from eliquare.distillation.terms import SETTINGS, in_words, terms
from eliquare.stage import InputError
from eliquare.training.attention import AttentionInputs


def softmax(row):
    return torch.exp(row) / torch.exp(row).sum()


def kl_of_row(p, q):
    return sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))


def reference(name, student, teacher, label, temperature):
    """A term at one position, from its definition."""
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


LOGIT_TERMS = {
    "forward": lambda temperature: KL("forward", temperature),
    "reverse": lambda temperature: KL("reverse", temperature),
    "jsd": lambda temperature: KL("jsd", temperature),
    "mse": lambda temperature: MSE(),
    "mlm": lambda temperature: MaskedWords(),
}


def inputs(seed, positions=7, width=5, vocabulary=9, bias=True, dtype=torch.float64):
    """A student's and two teachers' rows, weights and biases, and labels."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return (1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    made = [
        Projection(
            draw(positions, width), draw(vocabulary, width), draw(vocabulary) if bias else None
        )
        for _ in range(3)
    ]
    labels = torch.randint(0, vocabulary, (positions,), generator=generator)
    return made, labels


def logits_of(projection):
    logits = projection.rows @ projection.weight.t()
    return logits if projection.bias is None else logits + projection.bias


@pytest.mark.parametrize("name", LOGIT_TERMS)
@pytest.mark.parametrize(("temperature", "seed"), [(1.0, 0), (2.0, 1), (4.0, 2), (0.5, 3)])
@pytest.mark.parametrize("at_once", [9, 27, 2**20])
def test_terms_on_logits(monkeypatch, name, temperature, seed, at_once):
    """One term at some positions, another at all, two teachers: values and gradients."""
    monkeypatch.setattr(projected, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(projected, "LOGITS_OF_TERMS", at_once // 2)
    (student, *teachers), labels = inputs(seed, bias=seed % 2 == 0)
    wanted = [each.requires_grad_() for each in student if each is not None]
    uses = {
        name: Use(LOGIT_TERMS[name](temperature), 4, 0.7),
        "everywhere": Use(KL("forward", 2.0), 7, 0.3),
    }
    shared = list(zip(teachers, (0.75, 0.25), strict=True))
    loss, sums = projected_losses(student, shared, labels, uses)
    found = torch.autograd.grad(3 * loss, wanted)

    expected = {}
    for key, use, temperature_of in (
        (name, uses[name], temperature),
        ("everywhere", uses["everywhere"], 2.0),
    ):
        kind = "forward" if key == "everywhere" else key
        mine = logits_of(student)
        expected[key] = sum(
            share * reference(kind, mine[row], logits_of(teacher)[row], labels[row], temperature_of)
            for row in range(use.positions)
            for teacher, share in shared
        )
    whole = 0.7 * expected[name] + 0.3 * expected["everywhere"]
    for key in uses:
        torch.testing.assert_close(sums[key], expected[key].detach())
    torch.testing.assert_close(loss, whole)
    for one, other in zip(found, torch.autograd.grad(3 * whole, wanted), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", LOGIT_TERMS)
def test_terms_on_logits_in_float32_and_bf16(name):
    """bf16 under autocast costs what its rounding costs, float32 next to nothing."""
    (student, teacher, _), labels = inputs(5, positions=60, width=16, vocabulary=200)
    use = {name: Use(LOGIT_TERMS[name](2.0), 60, 1 / 60)}
    exact, _ = projected_losses(student, [(teacher, 1.0)], labels, use)
    student, teacher = (Projection(*(each.float() for each in side)) for side in (student, teacher))
    student.weight.requires_grad_()
    single, _ = projected_losses(student, [(teacher, 1.0)], labels, use)
    assert float(single.detach()) == pytest.approx(float(exact), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = projected_losses(student, [(teacher, 1.0)], labels, use)
    assert float(half.detach()) == pytest.approx(float(exact), rel=2e-2)
    half.backward()
    assert student.weight.grad.dtype == torch.float32
    one, other = student.weight.grad.clone(), torch.autograd.grad(single, student.weight)[0]
    assert float((one - other).norm() / other.norm()) < 4e-2


def test_gradients_serve_one_backward_pass():
    (student, teacher, _), labels = inputs(0)
    student.rows.requires_grad_()
    loss, _ = projected_losses(student, [(teacher, 1.0)], labels, {"kl": Use(KL(), 7, 1.0)})
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_all_logits_never_exist_at_once(monkeypatch):
    """No tensor made on the way has as many numbers as positions x vocabulary."""
    monkeypatch.setattr(projected, "LOGITS_AT_ONCE", 4000)
    monkeypatch.setattr(projected, "LOGITS_OF_TERMS", 1000)
    (student, teacher, _), labels = inputs(1, positions=200, width=4, vocabulary=100)
    for each in student:
        each.requires_grad_()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            nonlocal largest
            made = function(*arguments, **(keywords or {}))
            for each in made if isinstance(made, list | tuple) else [made]:
                if torch.is_tensor(each):
                    largest = max(largest, each.numel())
            return made

    with Watch():
        uses = {"kl": Use(KL(), 200, 1.0), "mlm": Use(MaskedWords(), 30, 1.0)}
        projected_losses(student, [(teacher, 1.0)], labels, uses)[0].backward()
    # The buffers of student and teacher together.
    assert 0 < largest <= 2 * 4000 < 200 * 100


@pytest.mark.parametrize("seed", range(4))
def test_terms_on_hidden_states(seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    for term, plain in (
        (state_terms.hidden, lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 5),
        (state_terms.cosine, lambda a, b: 1 - (a @ b) / (a @ a).sqrt() / (b @ b).sqrt()),
    ):
        total, count = term(student, teacher)
        expected = sum(plain(a, b) for a, b in zip(student, teacher, strict=True))
        assert count == 6
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(
            torch.autograd.grad(total, student), torch.autograd.grad(expected, student)
        )


def attention_inputs(seed, heads, width, length=5):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, 2, heads, length, width, generator=generator, dtype=torch.float64)
    return AttentionInputs(*drawn.requires_grad_().unbind(), width**-0.5), drawn


REAL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()


def real_positions():
    for row, length in enumerate((5, 3)):
        for place in range(length):
            yield row, place, length


@pytest.mark.parametrize("of", ["scores", "probabilities"])
@pytest.mark.parametrize("seed", range(3))
def test_attention_against_loops(of, seed):
    student, leaf = attention_inputs(seed, 2, 4)
    teacher, _ = attention_inputs(seed + 10, 2, 8)
    total, count = state_terms.attention(student, teacher, REAL, of)
    expected = 0.0
    for (row, place, length), head in itertools.product(list(real_positions()), range(2)):
        rows = []
        for side in (student, teacher):
            keys = side.key[row, head, :length]
            scores = torch.stack([side.query[row, head, place] @ key for key in keys])
            rows.append(scores * side.scaling)
        if of == "probabilities":
            rows = [softmax(scores) for scores in rows]
        expected = expected + ((rows[0] - rows[1]) ** 2).sum() / 2
    assert int(count) == 5 * 5 + 3 * 3
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        torch.autograd.grad(total, leaf), torch.autograd.grad(expected, leaf)
    )


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_relations_against_loops(heads, seed):
    """Student of 2 x 4 and teacher of 3 x 8: neither their heads nor their widths are the same."""
    student, leaf = attention_inputs(seed, 2, 4)
    teacher, _ = attention_inputs(seed + 10, 3, 8)
    total, count = state_terms.relations(student, teacher, REAL, heads)
    expected = 0.0
    for kind in range(3):
        for (row, place, length), head in itertools.product(list(real_positions()), range(heads)):
            relation = []
            for side in (student, teacher):
                joined = torch.cat(list(side[kind][row]), dim=-1)
                width = joined.shape[-1] // heads
                own = joined[:, head * width : (head + 1) * width]
                scores = torch.stack([own[place] @ own[other] for other in range(length)])
                relation.append(softmax(scores / math.sqrt(width)))
            expected = expected + kl_of_row(relation[1], relation[0]) / heads
    assert int(count) == 8
    torch.testing.assert_close(total, expected)
    found = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaf))


def test_schedules():
    assert [schedule(2, "w").at(share) for share in (0, 0.3, 1)] == [2, 2, 2]
    falling = schedule({"from": 5, "to": 1}, "w")
    assert [falling.at(share) for share in (-1, 0, 0.25, 1, 2)] == [5, 5, 4, 1, 1]
    wave = schedule({"from": 5, "to": 1, "shape": "cosine"}, "w")
    for share in (0, 0.1, 0.5, 0.9, 1):
        assert wave.at(share) == pytest.approx(3 + 2 * math.cos(math.pi * share))
    bent = schedule({"points": [[0, 5], [0.5, 1], [1, 0]]}, "w")
    assert [bent.at(share) for share in (0, 0.25, 0.5, 0.75, 1)] == [5, 3, 1, 0.5, 0]
    for each in (falling, wave, bent):
        shares = [(number + 0.5) / 1000 for number in range(1000)]
        assert each.mean == pytest.approx(sum(map(each.at, shares)) / 1000, rel=1e-5)
        assert not each.constant
    wrong = [-1, True, "5", math.inf, {}, {"from": 1}, {"from": 1, "to": 2, "shape": "sine"}]
    points = [
        [],
        [[0, 1]],
        [[0, 1], [0.5, 2]],
        [[0, 1], [0, 2], [1, 3]],
        [[0, 1], [1, -1]],
        [[0], [1]],
    ]
    for value in (*wrong, *({"points": each} for each in points)):
        with pytest.raises(InputError, match="w: expected a number of 0 or more"):
            schedule(value, "w")


def test_presets_and_what_differs_from_them():
    for name, (source, found) in PRESETS.items():
        if not found:
            continue
        assert len(source) > 20 and in_words(terms({"preset": name}))
    assert in_words(terms({})) == (
        "5 kl (direction forward, temperature 2.0, positions all) + 2 mlm + 1 cosine"
    )
    assert list(terms({"preset": "cruz2024-code"})) == ["hidden", "attention"]
    cruz = terms({"preset": "cruz2024"})["kl"].settings
    assert (cruz["direction"], cruz["temperature"]) == ("reverse", 4.0)
    half = terms({"preset": "gurgurov2025"})
    assert {name: term.weight.at(0) for name, term in half.items()} == {"mse": 0.5, "mlm": 0.5}
    changed = terms({"kl": {"direction": "jsd"}, "temperature": 3, "mlm": 0, "hidden": 0.1})
    assert list(changed) == ["kl", "cosine", "hidden"]
    assert changed["kl"].settings == {"direction": "jsd", "temperature": 3, "positions": "all"}
    assert changed["kl"].weight.at(0.5) == 5
    assert terms({"kl": {"from": 5, "to": 0}})["kl"].weight.mean == 2.5


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"hiden": 1}, r"o\.hiden: there is no such term; did you mean 'hidden'"),
        ({"preset": "minilmm"}, r"o\.preset: there is no 'minilmm'; did you mean 'minilm'"),
        ({"kl": {"directon": "jsd"}}, r"o\.kl: there is no setting 'directon'; did you mean 'dir"),
        ({"kl": {"direction": "back"}}, "expected one of forward, reverse, jsd; found 'back'"),
        ({"temperature": 0}, r"o\.kl\.temperature: expected a number above 0; found 0"),
        ({"hidden": {"layers": [1, 2]}}, r"o\.hidden\.layers: expected a map of student layers"),
        ({"relations": {"heads": 0}}, r"o\.relations\.heads: expected 1 or more; found 0"),
        ({"kl": -1}, r"o\.kl\.weight: expected a number of 0 or more"),
        ({"kl": 0, "cosine": 0, "mlm": 0}, "the weights of all terms are 0: nothing to train for"),
    ],
)
def test_objectives_that_cannot_be(objective, message):
    with pytest.raises(InputError, match=message) as raised:
        terms(objective, "o.")
    assert "\n" not in str(raised.value)


def test_every_setting_has_a_default_that_fits():
    for settings in SETTINGS.values():
        for default, fits, expected in settings.values():
            assert fits(default) and expected
