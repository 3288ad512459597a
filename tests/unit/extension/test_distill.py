"""Distillation into a student with another tokenizer: data, terms, a training."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from eliquare.config.model import StudentShape
from eliquare.config.objective import Objective
from eliquare.corpus import masking
from eliquare.corpus.masking import IGNORE_INDEX, Masking
from eliquare.corpus.sequences import open_sequences
from eliquare.distillation.train import DistillOptions
from eliquare.extension.alignment import AlignedSequence, MaskAligner
from eliquare.extension.data import AlignedDataset, AlignedValidation, collate
from eliquare.extension.distill import AlignedDistillation, distill, pool
from eliquare.io import InputError, Interrupted, read_json_lines
from eliquare.models.student import new_student

STEP = 8


@pytest.fixture(scope="module")
def dataset(world):
    masking = Masking.load(world.masking, world.extended, seed=1)
    return AlignedDataset(
        open_sequences(world.sequences / "train.arrow"),
        MaskAligner.load(world.sequences, masking),
        STEP,
        1,
    )


def collator(world):
    pads = (AutoTokenizer.from_pretrained(f).pad_token_id for f in (world.extended, world.teacher))
    return partial(collate, *pads)


def ones(terms):
    return dict.fromkeys(terms, 1.0)


def test_masks_depend_on_seed_epoch_and_sequence_alone(dataset):
    alone, among = dataset[5], dataset.__getitems__([3, 4, 5])[2]
    assert all((a == b).all() for a, b in zip(alone, among, strict=True))
    items = dataset.__getitems__(range(64))
    drawn = sum((item.labels != IGNORE_INDEX).sum() for item in items)
    assert 0.12 < drawn / sum(len(item.labels) for item in items) < 0.2
    epochs = [{}, {}]
    for epoch, found in enumerate(epochs):
        first = epoch * dataset.per_epoch
        for item in dataset.__getitems__(range(first, first + dataset.per_epoch)):
            ids = np.where(item.labels == IGNORE_INDEX, item.input_ids, item.labels)
            found[ids.tobytes()] = item.labels
    both = epochs[0].keys() & epochs[1].keys()
    assert sum((epochs[0][key] != epochs[1][key]).any() for key in both) > len(both) / 2


def test_random_tokens_are_those_that_both_have(dataset):
    to_teacher = dataset.aligner.to_teacher
    assert (to_teacher[dataset.masking.random_ids] >= 0).all()
    assert len(dataset.masking.random_ids) < len(to_teacher)


def test_a_batch_says_where_both_sides_are_the_same(world):
    items = AlignedValidation(open_sequences(world.masking / "validation.arrow"))
    batch = collator(world)(items.__getitems__(list(range(6))))
    to_teacher = np.load(world.sequences / "shared.npy")
    labels = batch["labels"].flatten()
    ids = torch.where(labels == IGNORE_INDEX, batch["input_ids"].flatten(), labels)
    teacher_ids = batch["teacher_input_ids"].flatten()
    same, teacher_same = batch["same"], batch["teacher_same"]
    unmasked = labels[same] == IGNORE_INDEX
    shared = to_teacher[ids[same]]
    assert (shared >= 0).all()
    assert (shared[unmasked] == teacher_ids[teacher_same][unmasked].numpy()).all()
    # Those with a label first.
    count = len(batch["same_masked"])
    assert not unmasked[:count].any()
    assert unmasked[count:].all()
    for side in ("", "teacher_"):
        spans, sizes = batch[f"{side}spans"], batch[f"{side}span_sizes"]
        assert torch.bincount(spans[spans >= 0]).tolist() == sizes.tolist()
        assert torch.equal(spans >= 0, batch[f"{side}attention_mask"] == 1)


def test_the_terms_against_a_plain_calculation(world, dataset):
    extended, teacher = (
        AutoModelForMaskedLM.from_pretrained(folder).eval()
        for folder in (world.extended, world.teacher)
    )
    shape = StudentShape(num_hidden_layers=1, initialization="first")
    student = new_student(extended, shape, seed=1).eval()
    items = dataset.__getitems__(range(4))
    batch = collator(world)(items)
    to_teacher = dataset.aligner.to_teacher
    objective = AlignedDistillation(student, teacher, Objective(), to_teacher)
    found, counts = objective(student, batch, ones(objective.terms)), objective.counts(batch)
    expected, number = dict.fromkeys(counts, 0.0), dict.fromkeys(counts, 0)
    shared = np.flatnonzero(to_teacher >= 0)
    for item in items:
        own, goal = (
            model(torch.from_numpy(ids)[None], output_hidden_states=True)
            for model, ids in ((student, item.input_ids), (teacher, item.teacher_input_ids))
        )
        logits, teacher_logits = own.logits[0].detach(), goal.logits[0].detach()
        hidden, teacher_hidden = (out.hidden_states[-1][0].detach() for out in (own, goal))
        place = teacher_place = 0
        for size, teacher_size, same in zip(item.spans, item.teacher_spans, item.same, strict=True):
            if same:
                p = F.log_softmax(teacher_logits[teacher_place, to_teacher[shared]] / 2, -1)
                q = F.log_softmax(logits[place, shared] / 2, -1)
                expected["kl"] += 4 * float((p.exp() * (p - q)).sum())
                number["kl"] += 1
            pools = (
                hidden[place : place + size].mean(0),
                teacher_hidden[teacher_place : teacher_place + teacher_size].mean(0),
            )
            expected["cosine"] += 1 - float(F.cosine_similarity(*pools, dim=0))
            number["cosine"] += 1
            place, teacher_place = place + size, teacher_place + teacher_size
        labels = torch.from_numpy(item.labels)
        expected["mlm"] += float(F.cross_entropy(logits, labels, reduction="sum"))
        number["mlm"] += int((labels != IGNORE_INDEX).sum())
    assert counts == number
    for name, value in expected.items():
        assert float(found.sums[name].detach()) == pytest.approx(value, rel=1e-4)
    assert float(found.loss.detach()) == pytest.approx(sum(expected.values()), rel=1e-4)
    masked = Objective(preset="none", kl={"weight": 1, "positions": "masked"})
    only = AlignedDistillation(student, teacher, masked, to_teacher)
    assert 0 < only.counts(batch)["kl"] == len(batch["same_masked"]) < number["kl"]
    assert float(only(student, batch, ones(["kl"])).loss.detach()) < expected["kl"]


def test_with_one_tokenizer_and_one_model_nothing_differs(world):
    ids, each = np.arange(10, 30), np.ones(20, dtype=np.int64)
    teacher = AutoModelForMaskedLM.from_pretrained(world.teacher).eval()
    size = teacher.config.vocab_size
    sequence = AlignedSequence(ids, ids, each, each)
    aligner = MaskAligner(Masking(np.ones(size), 4, np.arange(size)), np.arange(size), 4)
    item = aligner.align(sequence, ids, np.full(20, IGNORE_INDEX))
    terms = Objective(preset="none", kl=1, cosine=1)
    objective = AlignedDistillation(teacher, teacher, terms, np.arange(size))
    batch = collate(0, 0, [item])
    assert objective.counts(batch) == {"kl": 20, "cosine": 20}
    for total in objective(teacher, batch, ones(objective.terms)).sums.values():
        assert float(total) == pytest.approx(0, abs=1e-3)


def test_pooling_is_a_mean_over_each_span():
    hidden = torch.arange(12.0).reshape(2, 3, 2)
    spans = torch.tensor([[0, 0, 1], [2, -1, -1]])
    means = pool(hidden, spans, torch.tensor([2, 1, 1]))
    assert means.tolist() == [[1.0, 2.0], [4.0, 5.0], [6.0, 7.0]]


def mask_of_one_side(world):
    """Return a masking folder of ``corpus mask`` of the same sequences."""
    folder = world.masking.with_name("one-side")
    if not folder.exists():
        inputs = {
            "sequences": world.sequences,
            "counts": world.sequences.with_name("counts"),
            "tokenizer": world.extended,
        }
        masking.mask(masking.MaskOptions(**inputs, output=folder))
    return folder


def options(world, output, **more):
    values = {
        "teachers": [world.teacher],
        "start_from": world.extended,
        "num_hidden_layers": 1,
        "initialization": "first",
        "sequences": world.sequences,
        "masking": world.masking,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "num_evals": 2,
        "threads": 1,
        "output": output,
    }
    return DistillOptions(**(values | more))


def test_an_interrupted_training_resumes_to_the_same_bytes(world, tmp_path):
    distill(options(world, tmp_path / "once"))
    with pytest.raises(Interrupted):
        distill(options(world, tmp_path / "resumed", max_minutes=1e-9))
    distill(options(world, tmp_path / "resumed"))
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "resumed"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    start = load_file(world.extended / "model.safetensors")
    assert a.keys() < start.keys()
    assert any(not torch.equal(start[name], a[name]) for name in a)
    history = read_json_lines(tmp_path / "once" / "history.jsonl")
    assert {"eval_kl", "eval_cosine", "eval_mlm"} <= set(history[-1]) | set(history[-2])
    tokenizers = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "once", world.extended))
    assert len({len(tokenizer) for tokenizer in tokenizers}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda world: {"teachers": [world.extended]}, "make the sequences with this teacher"),
        (lambda world: {"teachers": [world.teacher] * 2}, "one teacher"),
        (lambda world: {"start_from": world.teacher}, "expected the same tokenizer"),
        (lambda world: {"objective": Objective(hidden=1)}, "hidden"),
        (lambda world: {"masking": mask_of_one_side(world)}, "has no column 'same'"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, world, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        distill(options(world, tmp_path / "out", **change(world)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
