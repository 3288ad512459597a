"""Whole trainings by other objectives: what is logged, what is saved, what is refused."""

import json
import shutil

import pytest
import torch
from corpus_data import needs_data
from safetensors.torch import load_file
from training_helpers import distil, history_of, in_processes, write_model, write_student
from transformers import AutoModelForMaskedLM

from eliquare.stage import InputError

pytestmark = needs_data
SHORT = {"steps": 3, "validations": 1}


@pytest.mark.parametrize(
    ("asked", "logged"),
    [
        ({"preset": "cruz2024"}, {"kl", "mlm"}),
        ({"preset": "tinybert"}, {"hidden", "attention"}),
        ({"preset": "minilm", "relations": '{"heads": 4}'}, {"relations"}),
        ({"preset": "gurgurov2025"}, {"mse", "mlm"}),
        (
            {"preset": "none", "kl": '{"direction": "jsd", "weight": {"from": 5, "to": 1}}'},
            {"kl"},
        ),
    ],
)
def test_every_term_is_logged_and_those_of_the_teacher_go_down(world, tmp_path, asked, logged):
    # One that starts as its teacher's layers has little to learn of it.
    blank = write_student(world.teacher, tmp_path / "blank", initialisation="blank")
    budget = {"steps": 12, "validations": 4}
    history = history_of(distil(world, tmp_path / "out", student=blank, **budget, **asked))
    terms = {"kl", "mse", "mlm", "cosine", "hidden", "attention", "relations"}
    lines = [line for line in history if "loss" in line]
    assert {name for name in lines[0] if name in terms} == logged
    validated = [line for line in history if "validation_loss" in line]
    assert {f"validation_{name}" for name in logged} <= set(validated[0])
    for name in logged - {"mlm"}:
        assert validated[-1][f"validation_{name}"] < validated[0][f"validation_{name}"]


def test_a_weight_that_falls_to_nothing(world, tmp_path):
    """The loss of each step is the terms' under the weights of that step, which are logged."""
    falling = '{"from": 4, "to": 0}'
    output = distil(world, tmp_path / "out", steps=4, validations=1, logs=4, kl=falling)
    lines = [line for line in history_of(output) if "loss" in line]
    for step, line in enumerate(lines):
        assert line["weight_kl"] == 4 - step and "weight_mlm" not in line
        expected = line["weight_kl"] * line["kl"] + 2 * line["mlm"] + line["cosine"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_collapsed_teacher_is_told(world, tmp_path, capsys, collapsed):
    """Planted: the last layer is silenced, so that the head reads the same at every position."""
    teacher = AutoModelForMaskedLM.from_pretrained(world.teacher)
    if collapsed:
        torch.nn.init.zeros_(teacher.bert.encoder.layer[-1].output.LayerNorm.weight)
    shutil.copytree(world.teacher, tmp_path / "teacher")
    teacher.save_pretrained(tmp_path / "teacher")
    distil(world, tmp_path / "out", teacher=tmp_path / "teacher", **SHORT)
    said = capsys.readouterr().err.splitlines()
    warnings = [line for line in said if line.startswith("warning: ")]
    assert len(warnings) == collapsed
    if collapsed:
        assert warnings[0].startswith(f"warning: {tmp_path / 'teacher'}: this teacher predicts")


def test_projections_are_trained_and_not_saved(world, tmp_path):
    narrow = write_student(
        world.teacher, tmp_path / "narrow", hidden_size=16, initialisation="blank"
    )
    output = distil(world, tmp_path / "out", student=narrow, hidden=1, **SHORT)
    saved = load_file(output / "model.safetensors")
    assert set(saved) == set(load_file(narrow / "model.safetensors"))


def test_two_teachers_and_what_they_cannot_be(world, tmp_path):
    other = write_model(world.tokenizer, tmp_path / "other", seed=7)
    both = [world.teacher, other]
    one = distil(world, tmp_path / "one", **SHORT)
    two = distil(world, tmp_path / "two", teacher=both, **{"teacher-weight": [1, 3]}, **SHORT)
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    inputs = json.loads((two / "provenance.json").read_text())["inputs"]
    assert {"teacher", "teacher-2"} <= set(inputs)
    with pytest.raises(InputError, match="1 given for 2 teachers"):
        distil(world, tmp_path / "out", teacher=both, **{"teacher-weight": 1}, **SHORT)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kl": '{"directon": "jsd"}'}, "--kl: there is no setting 'directon'; did you mean"),
        ({"kl": "much"}, "--kl: expected a number or JSON"),
        ({"preset": "minilm"}, "does not split into 48 relation heads; write heads: 32"),
        ({"hidden": '{"layers": {"9": 1}}'}, "hidden.layers: layer 9 of the student"),
    ],
)
def test_objectives_that_are_refused(world, tmp_path, asked, message):
    with pytest.raises(InputError, match=message) as raised:
        distil(world, tmp_path / "out", **asked, **SHORT)
    assert "\n" not in str(raised.value)


def test_processes_agree_where_the_last_layer_is_not_reached(world, tmp_path):
    """Two processes wait for the gradient of every parameter, reached or not."""
    asked = {"preset": "none", "hidden": '{"layers": {"0": 0}}', "batch_size": 2, **SHORT}
    assert in_processes(world, tmp_path / "two", 2, **asked) == [0, 0]
