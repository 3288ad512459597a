"""A student that cuts the text otherwise than its teacher: spans, masks, terms, a training."""

import json
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_helpers import corpus, stage_run, write_model, write_student
from transformers import AutoModelForMaskedLM, AutoTokenizer
from vocabulary_helpers import DATA

from eliquare import masking, stage
from eliquare.corpus import counts, paired
from eliquare.distillation import paired as distillation
from eliquare.distillation.paired_objective import PairedDistillation, pool
from eliquare.distillation.terms import terms
from eliquare.masking import Masking
from eliquare.pairs import Carrier, Pair, common_spans
from eliquare.stage import InputError
from eliquare.training.paired_order import PairedBatch, PairedMasks, PairedOrder
from eliquare.training.run import sequences_in
from eliquare.vocabulary import amplify

lengths = st.lists(st.integers(1, 4), min_size=1, max_size=8)


@given(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_spans_end_where_both_sides_do(units):
    """Against the definition, on texts whose pieces have these lengths on the two sides."""
    columns, expected = [], []
    for side in (0, 1):
        starts, ends, numbers = [], [], []
        for number, unit in enumerate(units):
            total = min(sum(unit[0]), sum(unit[1]))
            cut = sorted({0, total, *(end for end in accumulate(unit[side]) if end < total)})
            starts += cut[:-1]
            ends += cut[1:]
            numbers += [number] * (len(cut) - 1)
        columns.append([np.array(column) for column in (starts, ends, numbers)])
    found = common_spans(*zip(*columns, strict=True))
    places = [set(places_of(column)) for column in columns]
    both = sorted(places[0] & places[1])
    for column in columns:
        begins = [both.index(pair) if pair in both else None for pair in places_of(column)]
        last, numbers = -1, []
        for begin in begins:
            last = last if begin is None else begin
            numbers.append(last)
        expected.append(numbers)
    assert [side.tolist() for side in found] == expected


def places_of(column):
    """(unit, character) at which each piece begins."""
    return list(zip(column[2], column[0], strict=True))


def test_pieces_that_share_a_character_are_in_one_span():
    """Byte-level pieces: é is two bytes, cut apart on one side alone."""
    starts = [np.array([0, 1, 1, 2]), np.array([0, 1, 2])]
    ends = [np.array([1, 2, 2, 3]), np.array([1, 2, 3])]
    units = [np.zeros(4, dtype=int), np.zeros(3, dtype=int)]
    mine, theirs = common_spans(starts, ends, units)
    assert (mine.tolist(), theirs.tolist()) == ([0, 1, 1, 2], [0, 1, 2])


def test_masks_are_on_both_sides_or_on_none():
    carrier = Carrier(np.array([0, 1, 2, 3, 4, -1, -1]), mask_id=4, teacher_mask_id=9)
    pair = Pair(
        input_ids=np.array([0, 5, 3, 6, 2, 1]),
        teacher_input_ids=np.array([0, 7, 8, 3, 7, 2, 2, 1]),
        spans=np.array([1, 1, 1, 2, 1]),
        teacher_spans=np.array([1, 2, 1, 3, 1]),
    )
    # The mask on the new sub-word, a random one on 3, nothing visible on the second of a span of 2.
    masked = np.array([0, 4, 1, 6, 2, 1])
    labels = np.array([-100, 5, 3, -100, 2, -100])
    found = carrier.carry(pair, masked, labels)
    assert found.input_ids.tolist() == [0, 4, 1, 6, 2, 1]
    assert found.teacher_input_ids.tolist() == [0, 9, 9, 1, 7, 2, 2, 1]
    assert found.labels.tolist() == [-100, 5, 3, 6, 2, -100]
    assert found.same.tolist() == [True, False, True, False, True]
    mask_first = carrier.carry(
        pair, np.array([0, 5, 3, 4, 1, 1]), np.array([-100] * 3 + [6, 2, -100])
    )
    assert mask_first.input_ids.tolist() == [0, 5, 3, 4, 4, 1]
    assert mask_first.teacher_input_ids.tolist() == [0, 7, 8, 3, 9, 9, 9, 1]


@pytest.fixture(scope="module", params=["wordpiece", "unigram"])
def world(request, tmp_path_factory):
    """A teacher, the same with new sub-words, a student, and all data of a training."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}")
    folder = tmp_path_factory.mktemp(request.param)
    made = corpus(folder, request.param)
    kind = "bert" if request.param == "wordpiece" else "xlm-roberta"
    made.teacher = write_model(made.tokenizer, folder / "teacher", kind)
    made.amplified = stage_run(
        amplify,
        model=made.teacher,
        documents=made.documents,
        add=200,
        least=3,
        output=folder / "amplified",
    )
    made.student = write_student(made.amplified, folder / "student")
    made.pairs = stage_run(
        paired,
        documents=made.documents,
        tokenizer=made.amplified,
        teacher_tokenizer=made.teacher,
        language="uk",
        max_length=48,
        output=folder / "pairs",
    )
    made.pair_counts = stage_run(
        counts, sequences=made.pairs, tokenizer=made.amplified, output=folder / "pair_counts"
    )
    made.pair_masking = stage_run(
        masking,
        sequences=made.pairs,
        counts=made.pair_counts,
        tokenizer=made.amplified,
        max_validation=24,
        output=folder / "pair_masking",
    )
    return made


@pytest.fixture(scope="module")
def order(world):
    tokenizer = AutoTokenizer.from_pretrained(world.amplified)
    return PairedOrder(
        sequences_in(world.pairs / "train.arrow"),
        Masking.load(world.pair_masking, world.amplified, seed=1),
        Carrier.load(world.pairs, tokenizer.mask_token_id),
        8,
        1,
    )


def test_both_sides_hold_the_same_text(world):
    student = AutoTokenizer.from_pretrained(world.amplified)
    teacher = AutoTokenizer.from_pretrained(world.teacher)
    rows = sequences_in(world.pairs / "train.arrow")
    assert max(map(len, rows["teacher_input_ids"])) <= 48
    shorter = 0
    for row in rows:
        assert sum(row["spans"]) == len(row["input_ids"]) == row["length"]
        assert sum(row["teacher_spans"]) == len(row["teacher_input_ids"])
        assert len(row["spans"]) == len(row["teacher_spans"])
        shorter += len(row["input_ids"]) < len(row["teacher_input_ids"])
        ends = [list(accumulate(row[name])) for name in ("spans", "teacher_spans")]
        begin = [0, 0]
        for end in zip(*ends, strict=True):
            texts = [
                words.decode(row[name][low:high]).replace("##", "").replace(" ", "")
                for words, name, low, high in zip(
                    (student, teacher), ("input_ids", "teacher_input_ids"), begin, end, strict=True
                )
            ]
            assert texts[0] == texts[1]
            begin = end
    assert shorter > len(rows) / 3
    report = stage.read_json(world.pairs / "report.json")
    plain = stage.read_json(world.sequences / "report.json")
    assert report["teacher"]["tokens"] == sum(plain[s]["tokens"] for s in ("train", "validation"))
    for side in ("train", "validation"):
        assert report[side]["documents"] == plain[side]["documents"]


def test_the_masks_hang_on_seed_epoch_and_sequence_alone(order):
    one = order[5]
    together = order.__getitems__([3, 4, 5])[2]
    assert all((a == b).all() for a, b in zip(one, together, strict=True))
    next_epoch = [
        item.labels for item in order.__getitems__(range(order.per_epoch, order.per_epoch + 8))
    ]
    assert any((labels != -100).any() for labels in next_epoch)
    drawn = sum((item.labels != -100).sum() for item in order.__getitems__(range(64)))
    tokens = sum(len(item.labels) for item in order.__getitems__(range(64)))
    assert 0.12 < drawn / tokens < 0.17


def test_validation_masks_are_whole_spans(world):
    tokenizer = AutoTokenizer.from_pretrained(world.amplified)
    teacher = AutoTokenizer.from_pretrained(world.teacher)
    items = PairedMasks(sequences_in(world.pair_masking / "validation.arrow"))
    masks = 0
    for item in items.__getitems__(list(range(len(items)))):
        mine, theirs = (np.repeat(np.arange(len(s)), s) for s in (item.spans, item.teacher_spans))
        masked = set(mine[item.input_ids == tokenizer.mask_token_id])
        assert masked == set(theirs[item.teacher_input_ids == teacher.mask_token_id])
        masks += len(masked)
        asked = set(mine[item.labels != -100])
        assert masked <= asked and not asked & set(mine[item.labels == -100])
    assert masks > 20


def test_the_terms_against_a_plain_calculation(world, order):
    student, teacher = map(AutoModelForMaskedLM.from_pretrained, (world.student, world.teacher))
    items = order.__getitems__(range(4))
    batch = PairedBatch(
        *(AutoTokenizer.from_pretrained(f).pad_token_id for f in (world.student, world.teacher))
    )(items)
    to_teacher = order.carrier.to_teacher
    objective = PairedDistillation(student, teacher, terms({}), to_teacher)
    found = objective(student.eval(), batch).terms
    kl, cosine, mlm, number = 0.0, 0.0, 0.0, {"kl": 0, "cosine": 0, "mlm": 0}
    shared = np.flatnonzero(to_teacher >= 0)
    for item in items:
        mine, theirs = (
            model.eval()(torch.from_numpy(ids)[None], output_hidden_states=True)
            for model, ids in ((student, item.input_ids), (teacher, item.teacher_input_ids))
        )
        logits, teacher_logits = mine.logits[0].detach(), theirs.logits[0].detach()
        hidden, teacher_hidden = (o.hidden_states[-1][0].detach() for o in (mine, theirs))
        place = teacher_place = 0
        for size, teacher_size, same in zip(item.spans, item.teacher_spans, item.same, strict=True):
            if same:
                p = F.log_softmax(teacher_logits[teacher_place, to_teacher[shared]] / 2, -1)
                q = F.log_softmax(logits[place, shared] / 2, -1)
                kl += 4 * float((p.exp() * (p - q)).sum())
                number["kl"] += 1
            pools = (
                hidden[place : place + size].mean(0),
                teacher_hidden[teacher_place : teacher_place + teacher_size].mean(0),
            )
            cosine += 1 - float(F.cosine_similarity(*pools, dim=0))
            number["cosine"] += 1
            place, teacher_place = place + size, teacher_place + teacher_size
        asked = torch.from_numpy(item.labels)
        mlm += float(F.cross_entropy(logits, asked, reduction="sum"))
        number["mlm"] += int((asked != -100).sum())
    for name, expected in (("kl", kl), ("cosine", cosine), ("mlm", mlm)):
        total, count = found[name]
        assert int(count) == number[name]
        assert float(total.detach()) == pytest.approx(expected, rel=1e-4)
    only = PairedDistillation(student, teacher, terms({"positions": "masked"}), to_teacher)
    total, count = only(student, batch).terms["kl"]
    assert 0 < int(count) == len(batch["same_masked"]) < number["kl"]


def test_with_one_tokenizer_the_terms_are_those_of_plain_distillation(world):
    """The same model on both sides: each piece is its own span, and nothing differs."""
    ids = np.arange(10, 30)
    ones = np.ones(20, dtype=np.int64)
    teacher = AutoModelForMaskedLM.from_pretrained(world.teacher)
    size = teacher.config.vocab_size
    pair = Pair(ids, ids, ones, ones)
    item = Carrier(np.arange(size), 4, 4).carry(pair, ids, np.full(20, -100))
    objective = PairedDistillation(teacher, teacher, terms({"mlm": 0}), np.arange(size))
    found = objective(teacher, PairedBatch(0, 0)([item])).terms
    for name in ("kl", "cosine"):
        assert int(found[name][1]) == 20
        assert float(found[name][0]) == pytest.approx(0, abs=1e-3)


def test_pooling_is_a_mean_over_each_span():
    hidden = torch.arange(12.0).reshape(2, 3, 2)
    spans = torch.tensor([[0, 0, 1], [2, -1, -1]])
    assert pool(hidden, spans).tolist() == [[1.0, 2.0], [4.0, 5.0], [6.0, 7.0]]


def train(world, output: Path, **more) -> Path:
    return stage_run(
        distillation,
        teacher=world.teacher,
        student=world.student,
        sequences=world.pairs,
        masking=world.pair_masking,
        steps=6,
        batch_size=4,
        validations=3,
        threads=1,
        output=output,
        **more,
    )


def test_a_stopped_training_goes_on_to_the_same_bytes(world, tmp_path):
    whole = train(world, tmp_path / "whole")
    with pytest.raises(stage.StoppedEarly):
        train(world, tmp_path / "stopped", max_minutes=1e-9)
    resumed = train(world, tmp_path / "stopped")
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    history = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    assert {"kl", "cosine", "mlm"} <= set(history[0])
    start = load_file(world.student / "model.safetensors")
    assert any(not torch.equal(start[name], one[name]) for name in one)
    assert len(AutoTokenizer.from_pretrained(whole)) == len(
        AutoTokenizer.from_pretrained(world.amplified)
    )


def test_what_does_not_fit_is_told_in_one_line(world, tmp_path):
    with pytest.raises(InputError, match="make it with eliquare"):
        stage_run(
            distillation,
            teacher=world.teacher,
            student=world.teacher,
            sequences=world.sequences,
            masking=world.masking,
            steps=2,
            output=tmp_path / "out",
        )
    with pytest.raises(InputError, match="make the sequences with this teacher"):
        stage_run(
            distillation,
            teacher=world.amplified,
            student=world.student,
            sequences=world.pairs,
            masking=world.pair_masking,
            steps=2,
            output=tmp_path / "out",
        )
