"""What comes out of a masked training."""

import pytest
import torch
from corpus_helpers import needs_data
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from training_helpers import (
    BUDGET,
    EVERY,
    STEPS,
    arguments_of,
    distil,
    history_of,
    options,
    stage_run,
    weights_of,
    write_student,
)
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
)

from eliquare import stage
from eliquare.distillation import training
from eliquare.models import mlm
from eliquare.training import run
from eliquare.training.order import Passes

pytestmark = needs_data


def test_the_history_has_every_term(world):
    lines = history_of(world.whole)
    logged = [line for line in lines if "loss" in line]
    validated = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in logged] == list(range(1, STEPS + 1))
    assert [line["step"] for line in validated] == list(range(EVERY, STEPS + 1, EVERY))
    for line in logged:
        loss = 5 * line["kl"] + line["cosine"] + 2 * line["mlm"]
        assert line["loss"] == pytest.approx(loss)
        assert line["gradient_norm"] > 0 and line["tokens_per_second"] > 0
    tokens = [line["tokens"] for line in logged]
    assert tokens == sorted(set(tokens))
    assert validated[-1]["validation_cosine"] < validated[0]["validation_cosine"]
    model = AutoModelForMaskedLM.from_pretrained(world.whole)
    fill = pipeline("fill-mask", model=model, tokenizer=AutoTokenizer.from_pretrained(world.whole))
    assert len(fill("[MASK] та")) == 5


class PlainTrainer(Trainer):
    """The Trainer of transformers, with the objective and the batches of a task of ours."""

    def __init__(self, task, settings):
        super().__init__(task.model, settings)
        self.task = task

    def get_train_dataloader(self):
        data, steps = run.data_of(self.task), self.args.max_steps
        passes = Passes(0, steps, data.batch_size, 1, 0, 1)
        return DataLoader(data.order, batch_sampler=passes, collate_fn=data.collate)

    def compute_loss(self, model, inputs, *_, **__):
        return self.task.objective(model, inputs, self.state.global_step / self.args.max_steps).loss


def test_the_loop_takes_the_steps_of_the_trainer_of_transformers(world, still, tmp_path):
    """Warm-up, a falling rate, clipping, decay and a weight that changes; no dropout."""
    ours = {"steps": 12, "validations": 1, "warmup_share": 0.25, "weight_decay": 0.1, "clip": 5.0}
    ours |= {"student": still, "kl": '{"weight": {"from": 5, "to": 1}}', "hidden": 1}
    values = arguments_of(world, tmp_path / "out", **ours)
    task = training.prepare(training.parser().parse_args(options(values)), {})
    settings = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        max_steps=12,
        warmup_steps=3,
        learning_rate=BUDGET["learning-rate"],
        weight_decay=0.1,
        adam_epsilon=1e-6,
        max_grad_norm=5.0,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    PlainTrainer(task, settings).train()
    expected = task.model.state_dict()
    found = load_file(distil(world, tmp_path / "out", **ours) / "model.safetensors")
    start = load_file(still / "model.safetensors")
    norms = [line["gradient_norm"] for line in history_of(tmp_path / "out") if "loss" in line]
    assert min(norms) < 5.0 < max(norms), "some steps are clipped, and some are not"
    assert all(torch.equal(weights, expected[name]) for name, weights in found.items())
    assert any((weights - start[name]).abs().max() > 1e-3 for name, weights in found.items())


def test_the_best_checkpoint_is_the_student(world, tmp_path):
    """A learning rate that leaves the good start: the best validation is not the last."""
    output = distil(
        world,
        tmp_path / "out",
        learning_rate=0.3,
        warmup_share=1.0,
        mlm=0,
        steps=12,
        validations=12,
    )
    lines = [line for line in history_of(output) if "validation_kl" in line]
    best = min(lines, key=lambda line: line["validation_kl"])
    assert best["step"] < 12, "this run must get worse to prove anything"
    evaluated = distil(
        world, tmp_path / "evaluated", student=output, learning_rate=1e-12, mlm=0, steps=1
    )
    found = next(line for line in history_of(evaluated) if "validation_kl" in line)
    assert found["validation_kl"] == pytest.approx(best["validation_kl"], rel=1e-4)


def test_frozen_parts_do_not_move(world, tmp_path):
    start = load_file(world.student / "model.safetensors")
    output = distil(
        world, tmp_path / "out", freeze=["embeddings", "positions"], weight_decay=0.1, steps=4
    )
    trained = load_file(output / "model.safetensors")
    for name, weights in start.items():
        frozen = name.endswith(("word_embeddings.weight", "position_embeddings.weight"))
        assert torch.equal(weights, trained[name]) == frozen or not weights.any(), name


def test_a_narrower_student_is_saved_without_its_projection(world, tmp_path):
    narrow = write_student(
        world.teacher,
        tmp_path / "narrow",
        hidden_size=24,
        intermediate_size=40,
        heads=4,
        initialisation="blank",
    )
    whole = distil(world, tmp_path / "whole", student=narrow)
    with pytest.raises(stage.StoppedEarly):
        distil(world, tmp_path / "out", student=narrow, max_minutes=1e-9)
    output = distil(world, tmp_path / "out", student=narrow)
    assert weights_of(output) == weights_of(whole)
    assert not [name for name in load_file(output / "model.safetensors") if "projection" in name]
    model, loading = AutoModelForMaskedLM.from_pretrained(output, output_loading_info=True)
    assert model.config.hidden_size == 24 and not any(loading.values())
    cosines = [
        line["validation_cosine"] for line in history_of(output) if "validation_cosine" in line
    ]
    assert cosines[-1] < cosines[0]


@pytest.mark.parametrize(
    "change", [{}, {"mlm": 0}, {"kl": 0, "mlm": 0}], ids=["all", "soft", "cosine"]
)
def test_bf16_is_close_to_float32(world, tmp_path, change):
    narrow = write_student(
        world.teacher, tmp_path / "narrow", hidden_size=24, heads=4, initialisation="blank"
    )
    settings = {"student": narrow, "steps": 4, "learning_rate": 1e-4} | change
    whole = distil(world, tmp_path / "whole", **settings)
    half = distil(world, tmp_path / "half", precision="bf16", **settings)
    for one, other in zip(history_of(whole), history_of(half), strict=True):
        name = "loss" if "loss" in one else "validation_loss"
        assert other[name] == pytest.approx(one[name], rel=0.02)
        assert other[name] != one[name]
    assert all(
        weights.dtype == torch.float32 for weights in load_file(half / "model.safetensors").values()
    )


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_pretrained_teacher_fills_masks(world, tmp_path, kind):
    output = distil(world, tmp_path / "out", mlm, kind=kind, steps=3)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.model_max_length == 48
    fill = pipeline("fill-mask", model=str(output))
    assert len(fill("та [MASK]")) == 5
    settings = world.pretraining | {"model": output}
    conditioned = stage_run(
        mlm,
        **{name: settings[name] for name in ("model", "sequences", "masking")}
        | BUDGET
        | {"steps": 2},
        output=tmp_path / "conditioned",
    )
    assert weights_of(conditioned) != weights_of(output)
