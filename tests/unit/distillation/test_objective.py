"""Objectives of whole models against plain ones; outputs at positions against the whole."""

import pytest
import torch
import torch.nn.functional as F

from eliquare.config.objective import Objective
from eliquare.distillation.objective import (
    PROJECTIONS,
    Distillation,
    Teacher,
    prediction_mutual_information,
    remove_projections,
)
from eliquare.io import InputError
from eliquare.models.pretrain import MaskedLanguageModelling
from eliquare.training.outputs import outputs_at, projection_of
from objective_models import CONFIGS, VOCABULARY, make, make_batch


def distillation(student, *teachers, **objective):
    """Return the objective of a student; teachers with their weights, or alone."""
    weighted = [each if isinstance(each, Teacher) else Teacher(each) for each in teachers]
    return Distillation(student, weighted, Objective.model_validate(objective))


def computed(objective, model, batch):
    """Return the loss of a batch, each term a mean over its positions, and these means."""
    counts = objective.counts(batch)
    weights = {name: weight.at(0) for name, weight in objective.weights.items()}
    scales = {name: weights[name] / max(counts[name], 1) for name in counts}
    losses = objective(model, batch, scales)
    assert list(losses.sums) == list(counts) == list(weights)
    return losses.loss, {name: total / max(counts[name], 1) for name, total in losses.sums.items()}


def inputs_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_at_positions_are_those_of_the_whole_forward(kind):
    model, batch = make(kind), make_batch()
    whole = model(**inputs_of(batch), output_hidden_states=True)
    for positions in (batch["labels"] != -100, batch["attention_mask"].bool()):
        found = outputs_at(model, batch, positions.flatten().nonzero().squeeze(-1), layers=True)
        logits = projection_of(model)(found.head)
        torch.testing.assert_close(logits, whole.logits[positions])
        real = batch["attention_mask"].bool()
        for layer, expected in zip(found.layers, whole.hidden_states, strict=True):
            torch.testing.assert_close(layer[real], expected[real])
        torch.testing.assert_close(found.last_hidden[real], whole.hidden_states[-1][real])
    nowhere = outputs_at(model, batch, torch.zeros(0, dtype=torch.int64))
    assert projection_of(model)(nowhere.head).shape == (0, VOCABULARY)
    assert not model.base_model._forward_hooks
    assert not projection_of(model)._forward_pre_hooks


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("positions", ["all", "masked"])
def test_the_terms_and_their_gradients_are_those_of_plain_models(kind, positions):
    student, teacher, batch = make(kind, seed=1), make(kind, seed=2), make_batch()
    objective = distillation(student, teacher, kl={"positions": positions}, mse=0.5)
    loss, means = computed(objective, student, batch)

    plain = student(**inputs_of(batch), output_hidden_states=True)
    taught = teacher(**inputs_of(batch), output_hidden_states=True)
    real, masked = batch["attention_mask"].bool(), batch["labels"] != -100
    chosen = real if positions == "all" else masked
    expected = {
        "kl": 4
        * F.kl_div(
            F.log_softmax(plain.logits[chosen] / 2, -1),
            F.softmax(taught.logits[chosen] / 2, -1),
            reduction="batchmean",
        ),
        "mse": F.mse_loss(plain.logits[real], taught.logits[real]),
        "mlm": F.cross_entropy(plain.logits[masked], batch["labels"][masked]),
        "cosine": F.cosine_embedding_loss(
            plain.hidden_states[-1][real],
            taught.hidden_states[-1][real],
            torch.ones(int(real.sum())),
        ),
    }
    torch.testing.assert_close(means, expected)
    reference = 5 * expected["kl"] + 0.5 * expected["mse"] + 2 * expected["mlm"]
    reference = reference + expected["cosine"]
    torch.testing.assert_close(loss, reference)
    parameters = [each for each in student.parameters() if each.requires_grad]
    gradients, expected = (
        torch.autograd.grad(each, parameters, allow_unused=True) for each in (loss, reference)
    )
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if other is None else other)


@pytest.mark.parametrize("kind", CONFIGS)
def test_more_padding_changes_nothing(kind):
    student, teacher = make(kind, seed=1), make(kind, seed=2)
    every = {"hidden": 1.0}
    if kind != "deberta-v2":
        every |= {
            "attention": {"weight": 1.0, "of": "probabilities"},
            "relations": {"weight": 1.0, "heads": 4},
        }
    objective = distillation(student, teacher, **every)
    narrow, wide = (
        computed(objective, student, make_batch())[1],
        computed(objective, student, make_batch(width=20))[1],
    )
    torch.testing.assert_close(narrow, wide)


@pytest.mark.parametrize("positions", ["all", "masked"])
def test_a_batch_without_a_masked_position(positions):
    student = make(seed=1)
    batch = make_batch(masked=((), (), ()))
    objective = distillation(student, make(seed=2), kl={"positions": positions})
    loss, means = computed(objective, student, batch)
    loss.backward()
    assert objective.counts(batch)["mlm"] == means["mlm"] == 0
    assert torch.isfinite(loss)
    assert all(parameter.grad.isfinite().all() for parameter in student.parameters())


EACH = {
    "kl": 1.0,
    "mse": 1.0,
    "mlm": 1.0,
    "cosine": 1.0,
    "hidden": {"weight": 1.0, "layers": {"1": 1}},
    "attention": 1.0,
    "relations": {"weight": 1.0, "layers": {"1": 2}},
}
NONE = {"kl": 0, "cosine": 0, "mlm": 0}


@pytest.mark.parametrize("name", EACH)
def test_a_term_alone_reaches_every_parameter(name):
    """Processes that train together wait for the gradient of every parameter."""
    student, batch = make(seed=1), make_batch()
    objective = distillation(student, make(seed=2), **NONE | {name: EACH[name]})
    loss, means = computed(objective, student, batch)
    loss.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    torch.testing.assert_close(loss, means[name])
    if name == "mlm":
        assert not objective.teachers
        plain, _ = computed(MaskedLanguageModelling(), student, batch)
        torch.testing.assert_close(plain.double(), loss, rtol=1e-5, atol=1e-6)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it():
    teacher = make(seed=1)
    before = {name: weights.clone() for name, weights in teacher.state_dict().items()}
    student = make(seed=1)
    objective = distillation(student, teacher, hidden=1.0, attention=1.0, relations=1.0, mse=1.0)
    loss, means = computed(objective, student, make_batch())
    for name, mean in means.items():
        assert name == "mlm" or abs(float(mean.detach())) < 1e-9
    loss.backward()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training
    assert all(torch.equal(before[name], now) for name, now in teacher.state_dict().items())


def test_a_narrower_student_is_projected_for_its_states_alone():
    teacher, student = make(seed=2), make(seed=1, hidden_size=8)
    own = set(student.state_dict())
    objective = distillation(student, teacher, hidden=1.0, relations={"weight": 1.0, "heads": 4})
    computed(objective, student, make_batch())[0].backward()
    maps = getattr(student, PROJECTIONS)
    assert set(maps) == {"cosine-0", "hidden-0-0", "hidden-0-1", "hidden-0-2"}
    assert all(each.weight.shape == (16, 8) and each.weight.grad.any() for each in maps.values())
    remove_projections(student)
    assert set(student.state_dict()) == own


def test_several_teachers_share_the_terms():
    """Each term is the mean of what it is beside each teacher, by the teachers' weights."""
    one, other, batch = make(seed=2), make(seed=3), make_batch()
    asked = {"mse": 1.0, "hidden": 1.0, "attention": 1.0, "relations": 1.0}
    gradients, found = [], []
    for teachers in ([Teacher(one, 3.0), Teacher(other, 1.0)], [one], [other]):
        student = make(seed=1)
        loss, means = computed(distillation(student, *teachers, **asked), student, batch)
        loss.backward()
        found.append(means)
        gradients.append([parameter.grad for parameter in student.parameters()])
    for name in found[0]:
        expected = 0.75 * found[1][name] + 0.25 * found[2][name]
        torch.testing.assert_close(found[0][name], expected)
    for both, first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(both, 0.75 * first + 0.25 * second)


def test_a_collapsed_teacher_has_no_information():
    """Planted: the last layer is silenced, so that the head reads the same at every position."""
    model, batch = make(), make_batch()
    assert prediction_mutual_information(model, batch) > 0.1
    torch.nn.init.zeros_(model.bert.encoder.layer[-1].output.LayerNorm.weight)
    assert prediction_mutual_information(model, batch) < 1e-6


@pytest.mark.parametrize(
    ("changes", "objective", "message"),
    [
        ({"num_attention_heads": 4}, {"attention": 1.0}, "give the student 2 heads, or use rel"),
        (
            {"hidden_size": 12},
            {"relations": {"weight": 1.0, "heads": 8}},
            "width of 12 .* write heads: 4",
        ),
        (
            {},
            {"hidden": {"weight": 1.0, "layers": {"3": 1}}},
            "layer 3 of the student, whose layers are 0 to 2",
        ),
        (
            {},
            {"attention": {"weight": 1.0, "layers": {"1": 0}}},
            "layer 0 of the teacher, whose layers are 1 to",
        ),
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
