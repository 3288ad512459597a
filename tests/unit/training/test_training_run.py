"""What comes out of a training: history, best weights, plain model folders, provenance."""

import functools
import json
import logging
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
)
from transformers.integrations import integration_utils

from eliquare.config.model import Training
from eliquare.io import InputError
from eliquare.training import options as training_options
from trainings import EVERY, STEPS, history_of, provenance_of, write_model

SHORT = {"max_steps": 2, "num_evals": 1}


def trained_lines(history):
    return [line for line in history if "loss" in line]


def evaluated_lines(history):
    return [line for line in history if "eval_loss" in line]


def test_the_history_has_every_term(trained):
    history = history_of(trained)
    lines, evaluated = trained_lines(history), evaluated_lines(history)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["step"] for line in evaluated] == list(range(EVERY, STEPS + 1, EVERY))
    for line in lines:
        loss = 5 * line["kl"] + line["cosine"] + 2 * line["mlm"]
        assert line["loss"] == pytest.approx(loss)
        assert line["grad_norm"] > 0
        assert line["tokens_per_second"] > 0
        assert 0.5 < line["real_token_share"] <= 1
    tokens = [line["tokens"] for line in lines]
    assert tokens == sorted(set(tokens))
    assert evaluated[-1]["eval_cosine"] < evaluated[0]["eval_cosine"]


def test_the_output_is_a_plain_model(trained):
    model, loading = AutoModelForMaskedLM.from_pretrained(trained, output_loading_info=True)
    assert not any(loading.values())
    assert model.config.use_cache, "the Trainer's setting is not saved"
    fill = pipeline("fill-mask", model=model, tokenizer=AutoTokenizer.from_pretrained(trained))
    assert len(fill("[MASK]")) == 5
    assert {file.name for file in trained.iterdir()} == {
        "README.md", "config.json", "history.jsonl", "model.safetensors", "provenance.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert not list(trained.parent.glob(".trained.checkpoints")), "the state is gone"


def test_the_best_weights_are_kept(world, tmp_path):
    """A learning rate that leaves the good start: the best evaluation is not the last."""
    output = world.distill(
        tmp_path / "out",
        learning_rate=0.3,
        warmup_ratio=1.0,
        objective={"mlm": 0},
        max_steps=8,
        num_evals=8,
    )
    best = min(evaluated_lines(history_of(output)), key=lambda line: line["eval_kl"])
    assert best["step"] < 8, "this run must get worse to prove anything"
    again = world.distill(
        tmp_path / "evaluated",
        student=output,
        learning_rate=1e-12,
        objective={"mlm": 0},
        max_steps=1,
    )
    (found,) = evaluated_lines(history_of(again))
    assert found["eval_kl"] == pytest.approx(best["eval_kl"], rel=1e-4)


def test_trackers_are_told_everything(world, tmp_path, monkeypatch):
    """By a tracker of this test, named in ``report_to`` as those of transformers are."""
    told = []

    class Spy(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **keywords):
            told.append({"step": state.global_step, **logs})

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "spy", Spy)
    monkeypatch.setattr(training_options, "get_available_reporting_integrations", lambda: ["spy"])
    output = world.distill(tmp_path / "out", report_to=["spy"], **SHORT)
    assert told == history_of(output)
    with pytest.raises(InputError, match="--report-to trackio"):
        world.distill(tmp_path / "other", report_to=["trackio"], **SHORT)


def test_no_steps_leave_the_student_as_it_starts(world, tmp_path):
    output = world.distill(tmp_path / "out", max_steps=0)
    weights = load_file(output / "model.safetensors")
    for name, expected in load_file(world.student / "model.safetensors").items():
        assert torch.equal(weights[name], expected)
    assert history_of(output) == []


def test_without_dropout_a_student_trains_as_one_that_has_none(world, tmp_path):
    """Past an evaluation, which sets the model's mode; its configuration stays as it is."""
    steps = {"max_steps": 4, "num_evals": 2}
    still = shutil.copytree(world.student, tmp_path / "still")
    config = json.loads((still / "config.json").read_text())
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    assert all(config[key] == 0.1 for key in none)
    (still / "config.json").write_text(json.dumps(config | none))
    off = world.distill(tmp_path / "off", disable_dropout=True, **steps)
    on = world.distill(tmp_path / "on", **steps)
    expected = world.distill(tmp_path / "none", student=still, **steps)
    weights = {each: (each / "model.safetensors").read_bytes() for each in (off, on, expected)}
    assert weights[off] == weights[expected] != weights[on]
    assert json.loads((off / "config.json").read_text())["hidden_dropout_prob"] == 0.1


def test_frozen_parts_do_not_move(world, tmp_path):
    start = load_file(world.student / "model.safetensors")
    output = world.distill(
        tmp_path / "out", freeze=["embeddings", "positions"], weight_decay=0.1, max_steps=4
    )
    weights = load_file(output / "model.safetensors")
    for name, before in start.items():
        frozen = name.endswith(("word_embeddings.weight", "position_embeddings.weight"))
        assert torch.equal(before, weights[name]) == frozen or not before.any(), name


def test_projections_are_trained_resumed_and_not_saved(world, tmp_path):
    """A narrower student, stopped after its first step; all the same as without a stop."""
    narrow = write_model(
        world.tokenizer, tmp_path / "narrow", seed=3, num_hidden_layers=2, hidden_size=16
    )
    settings = {"student": narrow, "objective": {"hidden": 1.0}, "max_steps": 3, "num_evals": 1}
    straight = world.distill(tmp_path / "straight", **settings)
    with pytest.raises(Exception, match="the same command resumes"):
        world.distill(tmp_path / "out", max_minutes=1e-9, **settings)
    output = world.distill(tmp_path / "out", **settings)
    weights = load_file(output / "model.safetensors")
    assert set(weights) == set(load_file(narrow / "model.safetensors"))
    for name, expected in load_file(straight / "model.safetensors").items():
        assert torch.equal(weights[name], expected)


@pytest.mark.parametrize(
    ("objective", "logged"),
    [
        ({"preset": "cruz2024"}, {"kl", "mlm"}),
        ({"preset": "tinybert"}, {"hidden", "attention"}),
        ({"preset": "minilm", "relations": {"heads": 4}}, {"relations"}),
        ({"preset": "gurgurov2025"}, {"mse", "mlm"}),
    ],
)
def test_every_term_is_logged_and_those_of_the_teacher_go_down(world, tmp_path, objective, logged):
    output = world.distill(tmp_path / "out", objective=objective, max_steps=8, num_evals=2)
    history = history_of(output)
    terms = {"kl", "mse", "mlm", "cosine", "hidden", "attention", "relations"}
    assert {name for name in trained_lines(history)[0] if name in terms} == logged
    first, last = evaluated_lines(history)
    for name in logged - {"mlm"}:
        assert last[f"eval_{name}"] < first[f"eval_{name}"]


def test_a_weight_that_falls_is_logged(world, tmp_path):
    """The loss of each step is the terms' under the weights of that step."""
    falling = {"kl": {"from": 4, "to": 0}}
    output = world.distill(tmp_path / "out", objective=falling, max_steps=4, num_evals=1)
    for step, line in enumerate(trained_lines(history_of(output))):
        assert line["weight_kl"] == 4 - step
        assert "weight_mlm" not in line
        expected = line["weight_kl"] * line["kl"] + 2 * line["mlm"] + line["cosine"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)


def test_bf16_is_close_to_float32(world, tmp_path):
    settings = {"max_steps": 4, "num_evals": 1, "learning_rate": 1e-4}
    single = world.distill(tmp_path / "single", **settings)
    half = world.distill(tmp_path / "half", precision="bf16", **settings)
    for line, other in zip(history_of(single), history_of(half), strict=True):
        name = "loss" if "loss" in line else "eval_loss"
        assert other[name] == pytest.approx(line[name], rel=0.02)
        assert other[name] != line[name]
    weights = load_file(half / "model.safetensors").values()
    assert {each.dtype for each in weights} == {torch.float32}
    assert provenance_of(half)["settings"]["precision"] == "bf16"


def test_a_compiled_student_trains_alike(world, tmp_path, monkeypatch):
    """By the compiler's front end alone: the same graph op by op; C++ draws other dropout."""
    student = write_model(world.tokenizer, tmp_path / "student", seed=2, num_hidden_layers=1)
    settings = {"student": student, "max_steps": 2, "num_evals": 1}
    settings |= {"objective": {"preset": "none", "mlm": 1.0, "relations": {"heads": 4}}}
    plain = world.distill(tmp_path / "plain", **settings)
    eager = functools.partial(TrainingArguments, torch_compile_backend="eager")
    monkeypatch.setattr(training_options, "TrainingArguments", eager)
    compiled = world.distill(tmp_path / "compiled", torch_compile=True, **settings)
    for line, other in zip(history_of(plain), history_of(compiled), strict=True):
        name = "loss" if "loss" in line else "eval_loss"
        assert other[name] == pytest.approx(line[name], rel=1e-4)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_a_teacher_is_pretrained_and_adapted(world, tmp_path, model_type):
    output = world.pretrain(
        tmp_path / "out", model_type=model_type, max_position_embeddings=48, **SHORT
    )
    assert AutoTokenizer.from_pretrained(output).model_max_length == 48
    assert len(pipeline("fill-mask", model=str(output))("[MASK]")) == 5
    adapted = world.pretrain(tmp_path / "adapted", model=output, **SHORT)
    before, after = (load_file(each / "model.safetensors") for each in (output, adapted))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert set(provenance_of(adapted)["inputs"]) == {"model", "sequences", "masking"}
    assert set(provenance_of(output)["inputs"]) == {"tokenizer", "sequences", "masking"}


def test_two_teachers(world, tmp_path):
    other = write_model(world.tokenizer, tmp_path / "other", seed=7)
    one = world.distill(tmp_path / "one", **SHORT)
    two = world.distill(
        tmp_path / "two", teachers=[world.teacher, other], teacher_weights=[1, 3], **SHORT
    )
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {"teacher", "teacher-2"} <= set(provenance_of(two)["inputs"])


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_collapsed_teacher_is_reported(world, tmp_path, caplog, collapsed):
    teacher = AutoModelForMaskedLM.from_pretrained(world.teacher)
    if collapsed:
        torch.nn.init.zeros_(teacher.bert.encoder.layer[-1].output.LayerNorm.weight)
    shutil.copytree(world.teacher, tmp_path / "teacher")
    teacher.save_pretrained(tmp_path / "teacher")
    world.distill(tmp_path / "out", teachers=[tmp_path / "teacher"], max_steps=1)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    named = [record for record in warnings if str(tmp_path / "teacher") in record.getMessage()]
    assert len(named) == collapsed


# Settings and inputs that no training can have


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size"),
        ({"data_fraction": 1.5}, "data_fraction"),
        ({"max_steps": None}, "num_train_epochs or max_steps"),
        ({"gpus": 2}, "torchrun --nproc-per-node 2"),
        ({"objective": {"kl": {"temperature": 0}}}, "temperature"),
        ({"teacher_weights": [-1]}, "teacher_weights"),
    ],
)
def test_options_that_are_refused(world, tmp_path, change, key):
    with pytest.raises(ValueError, match=key):
        world.options(tmp_path / "out", **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": "nowhere"}, "nowhere"),
        ({"teachers": ["nowhere"]}, "nowhere"),
        ({"teacher_weights": [1, 2]}, "2 given for 1"),
        ({"objective": {"hidden": {"weight": 1, "layers": {"9": 1}}}}, "hidden.layers: layer 9"),
        ({"objective": {"preset": "minilm"}}, "heads: 32"),
    ],
)
def test_inputs_that_are_refused(world, tmp_path, change, message):
    with pytest.raises(InputError, match=message) as raised:
        world.distill(tmp_path / "out", **change)
    assert "\n" not in str(raised.value)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_models_that_do_not_fit_are_refused(world, tmp_path):
    short = write_model(world.tokenizer, tmp_path / "short", max_position_embeddings=20)
    with pytest.raises(InputError, match="longest has 48 tokens, and the model takes 20"):
        world.distill(tmp_path / "out", student=short, teachers=[short])
    tokenizer = AutoTokenizer.from_pretrained(world.student)
    vocabulary = tokenizer.get_vocab()
    tokenizer.backend_tokenizer.model = type(tokenizer.backend_tokenizer.model)(
        {token: len(vocabulary) - 1 - index for token, index in vocabulary.items()},
        unk_token=tokenizer.unk_token,
    )
    shutil.copytree(world.student, tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="different tokens"):
        world.distill(tmp_path / "out", student=tmp_path / "other")


def with_rows(world, folder, change):
    """Return a copy of the teacher with more rows than it has tokens, or fewer."""
    shutil.copytree(world.teacher, folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    model.resize_token_embeddings(model.config.vocab_size + change)
    model.save_pretrained(folder)
    return folder


def test_teachers_with_other_rows_are_refused(world, tmp_path):
    padded, cut = (with_rows(world, tmp_path / str(n), n) for n in (8, -8))
    with pytest.raises(InputError, match=r"8: [\d,]+ rows for its tokens"):
        world.distill(tmp_path / "out", teachers=[world.teacher, padded])
    with pytest.raises(InputError, match="tokens in the tokenizer, and only"):
        world.distill(tmp_path / "out", teachers=[cut], student=cut)


def test_more_processes_than_gpus_are_refused(world, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="gpus: 2 asked for, and this machine has 1"):
        world.distill(tmp_path / "out")


def test_epochs_become_steps(world, tmp_path):
    options = world.options(
        tmp_path / "out", max_steps=None, num_train_epochs=2.5, gradient_accumulation_steps=2
    )
    assert options.step_size == 8
    assert options.steps(epoch=80 / options.step_size) == 25
    assert options.steps(epoch=1 / options.step_size) == 1


# The budget


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ({"num_train_epochs": 2}, 20),
        ({"num_train_epochs": 2, "min_steps": 50}, 50),
        ({"num_train_epochs": 2, "max_steps": 5}, 5),
        ({"num_train_epochs": 2, "min_steps": 5, "max_steps": 50}, 20),
        ({"num_train_epochs": 2, "max_steps": 0}, 0),
        ({"num_train_epochs": 0.01}, 1),
        ({"max_steps": 7}, 7),
    ],
)
def test_epochs_give_the_steps_within_their_bounds(budget, steps):
    assert Training(**budget).steps(epoch=10) == steps


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"max_steps": 1}, "only 1 step of 4 sequences.*never seen: raise max_steps.*1,000 steps"),
        ({"max_steps": 400}, "only 400 steps of 4 sequences.*1,000 steps"),
        ({"max_steps": 1000}, None),
        ({"max_steps": 0}, None),
    ],
)
def test_a_small_budget_is_warned_of_in_one_line(world, tmp_path, budget, said):
    warnings = world.options(tmp_path / "out", **budget).warnings()
    assert len(warnings) == (said is not None)
    assert all(re.search(said, line) for line in warnings)


def test_a_warning_is_logged_and_stays_in_the_provenance(world, tmp_path, caplog):
    world.distill(tmp_path / "out", **SHORT)
    (kept,) = json.loads((tmp_path / "out/provenance.json").read_text())["warnings"]
    assert f"warning: {kept}" in [record.getMessage() for record in caplog.records]
