"""One text in two tokenizers: spans, masks, sequences."""

from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import worlds
from eliquare.corpus import sequences
from eliquare.corpus.masking import IGNORE_INDEX, Masking, MaskOptions
from eliquare.corpus.sequences import open_sequences
from eliquare.extension import alignment
from eliquare.extension.alignment import (
    STRIDE,
    AlignedSequence,
    Encoded,
    MaskAligner,
    common_spans,
)
from eliquare.io import InputError, read_json

lengths = st.lists(st.integers(1, 4), min_size=1, max_size=8)


@given(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_spans_end_where_both_sides_do(texts):
    """Against the definition, on texts whose tokens have these lengths on the two sides."""
    sides = []
    for side in (0, 1):
        starts, ends, numbers = [], [], []
        for number, text in enumerate(texts):
            total = min(sum(text[0]), sum(text[1]))
            cuts = sorted({0, total, *(end for end in accumulate(text[side]) if end < total)})
            starts += [number * STRIDE + cut for cut in cuts[:-1]]
            ends += [number * STRIDE + cut for cut in cuts[1:]]
            numbers += [number] * (len(cuts) - 1)
        sides.append(Encoded(*map(np.array, (starts, starts, ends, numbers))))
    places = [list(zip(side.texts, side.starts, strict=True)) for side in sides]
    both = sorted(set(places[0]) & set(places[1]))
    expected = [list(accumulate(int(p in both) for p in each)) for each in places]
    spans = common_spans(*sides)
    assert [(each + 1).tolist() for each in spans] == expected


def test_tokens_that_share_a_character_are_in_one_span():
    """Byte-level tokens: é is two bytes, which only one side separates."""
    student = Encoded(*map(np.array, ([0] * 4, [0, 1, 1, 2], [1, 2, 2, 3], [0] * 4)))
    teacher = Encoded(*map(np.array, ([0] * 3, [0, 1, 2], [1, 2, 3], [0] * 3)))
    spans, teacher_spans = common_spans(student, teacher)
    assert (spans.tolist(), teacher_spans.tolist()) == ([0, 1, 1, 2], [0, 1, 2])


def test_masks_are_on_both_sides_or_on_none():
    masking = Masking(np.ones(7), mask_id=4, random_ids=np.arange(5))
    aligner = MaskAligner(masking, np.array([0, 1, 2, 3, 4, -1, -1]), teacher_mask_id=9)
    sequence = AlignedSequence(
        input_ids=np.array([0, 5, 3, 6, 2, 1]),
        teacher_input_ids=np.array([0, 7, 8, 3, 7, 2, 2, 1]),
        spans=np.array([1, 1, 1, 2, 1]),
        teacher_spans=np.array([1, 2, 1, 3, 1]),
    )
    # The mask on the new token, a random one on 3, nothing visible on the second of a span of 2.
    masked = np.array([0, 4, 1, 6, 2, 1])
    labels = np.array([-100, 5, 3, -100, 2, -100])
    result = aligner.align(sequence, masked, labels)
    assert result.input_ids.tolist() == [0, 4, 1, 6, 2, 1]
    assert result.teacher_input_ids.tolist() == [0, 9, 9, 1, 7, 2, 2, 1]
    assert result.labels.tolist() == [-100, 5, 3, 6, 2, -100]
    assert result.same.tolist() == [True, False, True, False, True]
    masked, labels = np.array([0, 5, 3, 4, 1, 1]), np.array([-100] * 3 + [6, 2, -100])
    mask_first = aligner.align(sequence, masked, labels)
    assert mask_first.input_ids.tolist() == [0, 5, 3, 4, 4, 1]
    assert mask_first.teacher_input_ids.tolist() == [0, 7, 8, 3, 9, 9, 9, 1]


@pytest.fixture(scope="module", params=worlds.KINDS)
def world(request, tmp_path_factory):
    """Documents as sequences of a tokenizer of their language and of one of another language."""
    folder = tmp_path_factory.mktemp(request.param)
    documents = worlds.write_documents(folder / "documents", worlds.texts("qab")[:40])
    student = worlds.write_tokenizer(request.param, folder / "student", worlds.texts("qab"))
    both = [*worlds.texts("qaa"), *worlds.texts("qab")[:3]]
    teacher = worlds.write_tokenizer(request.param, folder / "teacher", both)
    made = SimpleNamespace(student=student, teacher=teacher, documents=documents)
    made.sequences, made.counts = folder / "sequences", folder / "counts"
    common = {"documents": documents, "language": "uk", "max_length": 48}
    alignment.tokenize(
        alignment.TokenizeOptions(
            tokenizer=student,
            teacher_tokenizer=teacher,
            output=made.sequences,
            counts=made.counts,
            **common,
        )
    )
    made.plain = folder / "plain"
    sequences.tokenize(
        sequences.TokenizeOptions(
            tokenizer=teacher, output=made.plain, counts=folder / "plain-counts", **common
        )
    )
    made.masking = folder / "masking"
    made.mask_options = MaskOptions(
        sequences=made.sequences,
        counts=made.counts,
        tokenizer=student,
        max_validation_sequences=24,
        output=made.masking,
    )
    alignment.mask(made.mask_options)
    return made


def test_both_sides_hold_the_same_text(world):
    student, teacher = map(AutoTokenizer.from_pretrained, (world.student, world.teacher))
    rows = open_sequences(world.sequences / "train.arrow")
    assert max(map(len, rows["teacher_input_ids"])) <= 48
    differ = 0
    for row in rows:
        assert sum(row["spans"]) == len(row["input_ids"]) == row["length"]
        assert sum(row["teacher_spans"]) == len(row["teacher_input_ids"])
        assert len(row["spans"]) == len(row["teacher_spans"])
        differ += row["input_ids"] != row["teacher_input_ids"]
        ends = [list(accumulate(row[name])) for name in ("spans", "teacher_spans")]
        begin = (0, 0)
        for end in zip(*ends, strict=True):
            texts = [
                tokenizer.decode(row[name][low:high]).replace("##", "").replace(" ", "")
                for tokenizer, name, low, high in zip(
                    (student, teacher), ("input_ids", "teacher_input_ids"), begin, end, strict=True
                )
            ]
            if not any("[UNK]" in text or "<unk>" in text for text in texts):
                assert texts[0] == texts[1]
            begin = end
    assert differ > len(rows) / 3


def test_no_text_is_lost(world):
    report, plain = (read_json(f / "report.json") for f in (world.sequences, world.plain))
    assert report["teacher"]["tokens"] == sum(plain[s]["tokens"] for s in sequences.SIDES)
    assert 0 < report["spans"]["same_share"] < 1
    for side in sequences.SIDES:
        for key in ("documents", "sentences"):
            assert report[side][key] == plain[side][key]
    totals = read_json(world.counts / "totals.json")
    for key in ("tokens", "sentences", "documents"):
        assert totals[key] == sum(report[side][key] for side in sequences.SIDES)


def test_validation_masks_are_full_spans(world):
    student, teacher = map(AutoTokenizer.from_pretrained, (world.student, world.teacher))
    rows = open_sequences(world.masking / "validation.arrow").with_format("numpy")
    masks = 0
    for item in rows:
        spans, teacher_spans = (
            np.repeat(np.arange(len(item[name])), item[name]) for name in ("spans", "teacher_spans")
        )
        masked = set(spans[item["input_ids"] == student.mask_token_id])
        of_teacher = set(teacher_spans[item["teacher_input_ids"] == teacher.mask_token_id])
        assert masked == of_teacher
        predicted = set(spans[item["labels"] != IGNORE_INDEX])
        assert masked <= predicted
        assert not predicted & set(spans[item["labels"] == IGNORE_INDEX])
        masks += len(masked)
    assert masks > 20


def test_the_same_masks_are_written_again(world, tmp_path):
    again = world.mask_options.model_copy(update={"output": tmp_path / "again"})
    alignment.mask(again)
    for name in ("validation.arrow", "weights.npy", "settings.json"):
        assert (tmp_path / "again" / name).read_bytes() == (world.masking / name).read_bytes()


def test_sequences_in_one_tokenizer_are_refused(world):
    with pytest.raises(InputError, match="extension tokenize"):
        MaskAligner.load(world.plain, Masking.load(world.masking, world.student))


def test_a_tokenizer_of_another_kind_is_refused(world, tmp_path):
    folder = worlds.write_tokenizer("wordpiece", tmp_path / "teacher", worlds.texts("qaa"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.backend_tokenizer.save(str(Path(folder) / "tokenizer.json"))
    with pytest.raises(InputError, match="special tokens"):
        alignment.tokenize(
            alignment.TokenizeOptions(
                documents=world.documents,
                tokenizer=world.student,
                teacher_tokenizer=folder,
                output=tmp_path / "out",
                counts=tmp_path / "counts",
            )
        )
