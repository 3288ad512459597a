"""Objectives of whole models against plain ones; outputs at positions against the whole."""

import pytest
import torch
import torch.nn.functional as F
from objective_models import CONFIGS, VOCABULARY, make, make_batch

from eliquare.distillation.objective import Distillation
from eliquare.distillation.projections import NAME, remove_projections
from eliquare.distillation.terms import terms
from eliquare.stage import InputError
from eliquare.training.mlm import MaskedLanguageModelling
from eliquare.training.outputs import outputs_at, projection_of


def distillation(student, *teachers, **objective):
    """The objective of a student; teachers with their weights, or alone."""
    weighted = [each if isinstance(each, tuple) else (each, 1.0) for each in teachers]
    return Distillation(student, weighted, terms(objective))


def means(losses):
    return {name: total / max(int(count), 1) for name, (total, count) in losses.terms.items()}


def inputs_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_at_positions_are_those_of_the_whole_forward(kind):
    model, batch = make(kind), make_batch()
    whole = model(**inputs_of(batch), output_hidden_states=True)
    for positions in (batch["labels"] != -100, batch["attention_mask"].bool()):
        found = outputs_at(model, batch, positions.flatten().nonzero().squeeze(-1), layers=True)
        logits = projection_of(model)(found.rows)
        torch.testing.assert_close(logits, whole.logits[positions])
        real = batch["attention_mask"].bool()
        for layer, expected in zip(found.layers, whole.hidden_states, strict=True):
            torch.testing.assert_close(layer[real], expected[real])
        torch.testing.assert_close(found.last_hidden[real], whole.hidden_states[-1][real])
    nowhere = outputs_at(model, batch, torch.zeros(0, dtype=torch.int64))
    assert projection_of(model)(nowhere.rows).shape == (0, VOCABULARY)
    assert not model.base_model._forward_hooks and not projection_of(model)._forward_pre_hooks


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("positions", ["all", "masked"])
def test_the_terms_and_their_gradients_are_those_of_plain_models(kind, positions):
    student, teacher, batch = make(kind, seed=1), make(kind, seed=2), make_batch()
    found = distillation(student, teacher, positions=positions, mse=0.5)(student, batch)

    mine = student(**inputs_of(batch), output_hidden_states=True)
    theirs = teacher(**inputs_of(batch), output_hidden_states=True)
    real, masked = batch["attention_mask"].bool(), batch["labels"] != -100
    chosen = real if positions == "all" else masked
    expected = {
        "kl": 4
        * F.kl_div(
            F.log_softmax(mine.logits[chosen] / 2, -1),
            F.softmax(theirs.logits[chosen] / 2, -1),
            reduction="batchmean",
        ),
        "mse": F.mse_loss(mine.logits[real], theirs.logits[real]),
        "mlm": F.cross_entropy(mine.logits[masked], batch["labels"][masked]),
        "cosine": F.cosine_embedding_loss(
            mine.hidden_states[-1][real],
            theirs.hidden_states[-1][real],
            torch.ones(int(real.sum())),
        ),
    }
    assert list(found.terms) == list(expected)
    torch.testing.assert_close(means(found), expected)
    loss = 5 * expected["kl"] + 0.5 * expected["mse"] + 2 * expected["mlm"] + expected["cosine"]
    torch.testing.assert_close(found.loss, loss)
    parameters = [each for each in student.parameters() if each.requires_grad]
    one, other = (
        torch.autograd.grad(each, parameters, allow_unused=True) for each in (found.loss, loss)
    )
    for mine, reference in zip(one, other, strict=True):
        reference = torch.zeros_like(mine) if reference is None else reference
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("kind", CONFIGS)
def test_more_padding_changes_nothing(kind):
    student, teacher = make(kind, seed=1), make(kind, seed=2)
    every = {"hidden": 1.0}
    if kind != "deberta-v2":
        every |= {"attention": {"of": "probabilities"}, "relations": {"heads": 4}}
    objective = distillation(student, teacher, **every)
    narrow, wide = (
        means(objective(student, make_batch())),
        means(objective(student, make_batch(width=20))),
    )
    torch.testing.assert_close(narrow, wide)


@pytest.mark.parametrize("positions", ["all", "masked"])
def test_a_batch_without_a_masked_position(positions):
    student = make(seed=1)
    batch = make_batch(masked=((), (), ()))
    losses = distillation(student, make(seed=2), positions=positions)(student, batch)
    losses.loss.backward()
    assert losses.terms["mlm"] == (0, 0)
    assert torch.isfinite(losses.loss)
    assert all(parameter.grad.isfinite().all() for parameter in student.parameters())


EACH = {
    "kl": 1.0,
    "mse": 1.0,
    "mlm": 1.0,
    "cosine": 1.0,
    "hidden": {"layers": {"1": 1}},
    "attention": 1.0,
    "relations": {"layers": {"1": 2}},
}
NONE = {"kl": 0, "cosine": 0, "mlm": 0}


@pytest.mark.parametrize("name", EACH)
def test_a_term_alone_reaches_every_parameter(name):
    """Processes that train together wait for the gradient of every parameter."""
    student, batch = make(seed=1), make_batch()
    objective = distillation(student, make(seed=2), **NONE | {name: EACH[name]})
    losses = objective(student, batch)
    assert list(losses.terms) == [name]
    losses.loss.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    torch.testing.assert_close(losses.loss, means(losses)[name])
    if name == "mlm":
        assert not objective.teachers
        plain = MaskedLanguageModelling()(student, batch).loss
        torch.testing.assert_close(plain.double(), losses.loss, rtol=1e-5, atol=1e-6)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it():
    teacher = make(seed=1)
    before = {name: weights.clone() for name, weights in teacher.state_dict().items()}
    student = make(seed=1)
    losses = distillation(student, teacher, hidden=1.0, attention=1.0, relations=1.0, mse=1.0)(
        student, make_batch()
    )
    for name, mean in means(losses).items():
        assert name == "mlm" or abs(float(mean.detach())) < 1e-9
    losses.loss.backward()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training
    assert all(torch.equal(before[name], now) for name, now in teacher.state_dict().items())


def test_a_narrower_student_is_projected_for_its_states_alone():
    teacher, student = make(seed=2), make(seed=1, hidden_size=8)
    own = set(student.state_dict())
    objective = distillation(student, teacher, hidden=1.0, relations={"heads": 4})
    objective(student, make_batch()).loss.backward()
    maps = getattr(student, NAME)
    assert set(maps) == {"cosine-0", "hidden-0-0", "hidden-0-1", "hidden-0-2"}
    assert all(each.weight.shape == (16, 8) and each.weight.grad.any() for each in maps.values())
    remove_projections(student)
    assert set(student.state_dict()) == own


def test_several_teachers_share_the_terms():
    """Each term is the mean of what it is beside each teacher, by the teachers' weights."""
    one, other, batch = make(seed=2), make(seed=3), make_batch()
    asked = {"mse": 1.0, "hidden": 1.0, "attention": 1.0, "relations": 1.0}
    gradients, found = [], []
    for teachers in ([(one, 3.0), (other, 1.0)], [one], [other]):
        student = make(seed=1)
        losses = distillation(student, *teachers, **asked)(student, batch)
        losses.loss.backward()
        found.append(means(losses))
        gradients.append([parameter.grad for parameter in student.parameters()])
    for name in found[0]:
        expected = 0.75 * found[1][name] + 0.25 * found[2][name]
        torch.testing.assert_close(found[0][name], expected)
    for both, first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(both, 0.75 * first + 0.25 * second)


def test_weights_follow_their_schedule():
    student, batch = make(seed=1), make_batch()
    objective = distillation(student, make(seed=2), kl={"weight": {"from": 4, "to": 0}}, cosine=0)
    losses = objective(student, batch, progress=0.25)
    assert losses.weights == {"kl": 3.0}
    mean = means(losses)
    torch.testing.assert_close(losses.loss, 3 * mean["kl"] + 2 * mean["mlm"])


@pytest.mark.parametrize(
    ("changes", "objective", "message"),
    [
        ({"num_attention_heads": 4}, {"attention": 1.0}, "give the student 2 heads, or use rel"),
        ({"hidden_size": 12}, {"relations": {"heads": 8}}, "width of 12 .* write heads: 4"),
        ({}, {"hidden": {"layers": {"3": 1}}}, "layer 3 of the student, whose layers are 0 to 2"),
        ({}, {"attention": {"layers": {"1": 0}}}, "layer 0 of the teacher, whose layers are 1 to"),
    ],
)
def test_terms_that_these_models_cannot_have(changes, objective, message):
    with pytest.raises(InputError, match=message):
        distillation(make(seed=1, **changes), make(seed=2), **objective)


def test_an_attention_of_its_own_is_said():
    with pytest.raises(InputError, match=r"attention: .*DebertaV2ForMaskedLM cannot be read"):
        distillation(make("deberta-v2"), make("deberta-v2"), attention=1.0)


def test_an_mlm_head_without_a_projection_of_its_own_is_said():
    with pytest.raises(InputError, match="does not end in a projection"):
        distillation(make("deberta-v2", legacy=False), make())
