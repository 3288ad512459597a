"""The loss of a step is a mean over all its positions, however the step is split."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import trainings
from eliquare.distillation.objective import Distillation, Teacher
from eliquare.models.loading import load_masked_lm, load_tokenizer
from eliquare.training.data import load_data
from eliquare.training.trainer import MaskedTrainer

TOGETHER = 16


@pytest.fixture(scope="module")
def still(world, tmp_path_factory):
    """A student without dropout."""
    folder = tmp_path_factory.mktemp("still") / "student"
    return trainings.write_model(world.tokenizer, folder, seed=2, num_hidden_layers=2, dropout=0)


def trainer_of(world, student_folder, output, objective, **split):
    """Return a trainer in float64, about to take its first step."""
    options = world.options(output, student=student_folder, objective=objective, **split)
    student = load_masked_lm(student_folder)
    teachers = [Teacher(load_masked_lm(world.teacher).double())]
    data = load_data(options, student, load_tokenizer(student_folder))
    torch.manual_seed(1)
    distillation = Distillation(student, teachers, options.objective)
    return MaskedTrainer(student.double(), distillation, data, options)


def gradients_of(trainer):
    """Return the gradients of the first step, as the Trainer's loop computes them."""
    loader = iter(trainer.get_train_dataloader())
    micro_batches = trainer.args.gradient_accumulation_steps
    batches, counts = trainer.get_batch_samples(loader, micro_batches, trainer.args.device)
    assert len(batches) == micro_batches
    for batch in batches:
        trainer.training_step(trainer.plain_model, batch, counts)
    assert {len(batch["input_ids"]) for batch in batches} == {TOGETHER // micro_batches}
    return {name: each.grad for name, each in trainer.plain_model.named_parameters()}


EVERY_TERM = {
    "preset": "none",
    "kl": 5.0,
    "mse": {"weight": 0.5, "positions": "masked"},
    "mlm": 2.0,
    "cosine": 1.0,
    "hidden": 1.0,
    "attention": 1.0,
    "relations": {"weight": 1.0, "heads": 4},
}


def test_micro_batches_have_the_gradients_of_one_batch(world, still, tmp_path):
    """16 x 1 as 8 x 2 and as 2 x 8, whose micro-batches differ in length and masked positions."""
    found = []
    for micro_batches in (1, 2, 8):
        split = {
            "per_device_train_batch_size": TOGETHER // micro_batches,
            "gradient_accumulation_steps": micro_batches,
        }
        output = tmp_path / str(micro_batches)
        trainer = trainer_of(world, still, output, EVERY_TERM, **split)
        counts = [
            {name: trainer.objective.counts(batch)[name] for name in ("kl", "mlm")}
            for batch in itertools.islice(trainer.get_train_dataloader(), micro_batches)
        ]
        assert micro_batches == 1 or any(counts[0] != other for other in counts)
        found.append(gradients_of(trainer))
    for other in found[1:]:
        for name, expected in found[0].items():
            torch.testing.assert_close(other[name], expected, rtol=1e-9, atol=1e-12)


def plain_distilbert_loss(student, teacher, batch, temperature=2.0):
    """Return the loss of DistilBERT's training script, 5 KL + 2 MLM + 1 cosine, all logits kept."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    outputs = student(**inputs, output_hidden_states=True)
    with torch.no_grad():
        taught = teacher(**inputs, output_hidden_states=True)
    real = batch["attention_mask"].bool()
    log_q = F.log_softmax(outputs.logits[real] / temperature, dim=-1)
    p = F.softmax(taught.logits[real] / temperature, dim=-1)
    kl = F.kl_div(log_q, p, reduction="batchmean") * temperature**2
    mlm = F.cross_entropy(
        outputs.logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100
    )
    states, goals = outputs.hidden_states[-1][real], taught.hidden_states[-1][real]
    cosine = F.cosine_embedding_loss(states, goals, states.new_ones(len(states)))
    return 5 * kl + 2 * mlm + cosine


def test_a_step_has_the_gradients_of_distilberts(world, still, tmp_path):
    """The plain step on all 16 sequences at once, ours in four micro-batches; float64."""
    split = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    trainer = trainer_of(world, still, tmp_path / "out", {}, **split)
    found = gradients_of(trainer)
    student = load_masked_lm(still).double()
    items = trainer.data.train.__getitems__(range(TOGETHER))
    batch = trainer.data.collate(items)
    teacher = trainer.objective.teachers[0].model
    plain_distilbert_loss(student, teacher, batch).backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)
