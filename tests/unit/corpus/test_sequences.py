"""Sequences hold each document's tokens, all of them and in order; the split is by text alone."""

import itertools
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import worlds
from eliquare.corpus import sequences
from eliquare.corpus.sequences import (
    SIDES,
    TokenizeOptions,
    document_number,
    validation_threshold,
)
from eliquare.corpus.tokenization import CorpusTokenizer
from eliquare.io import InputError, checksum, read_json

TEXTS = worlds.texts("qab", 60)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    kinds = ("wordpiece", "unigram")
    return {kind: worlds.write_tokenizer(kind, folder / kind, TEXTS) for kind in kinds}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return worlds.write_documents(tmp_path_factory.mktemp("corpus") / "documents", TEXTS)


def run(documents, folder, output, **options):
    sequences.tokenize(
        TokenizeOptions(
            documents=documents,
            tokenizer=folder,
            language="uk",
            output=output,
            counts=output.with_name("counts"),
            **options,
        )
    )
    return output


def rows(folder, side):
    return sequences.open_sequences(folder / f"{side}.arrow").to_list()


def texts_of(folder, sides=SIDES, around=1):
    """The running tokens of each document, by its number."""
    documents = {}
    for side in sides:
        for row in rows(folder, side):
            documents.setdefault(row["document"], []).extend(row["input_ids"][around:-around])
    return documents


@pytest.mark.parametrize("max_length", [128, 17])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_sequences_are_the_documents(documents, folders, tmp_path, kind, max_length):
    output = run(documents, folders[kind], tmp_path / "sequences", max_length=max_length)
    tokenizer = CorpusTokenizer.load(folders[kind])
    (begin,), (end,) = tokenizer.around.prefix, tokenizer.around.suffix
    found = texts_of(output)
    for number, text in enumerate(TEXTS):
        ids = tokenizer.backend.encode(text.strip(), add_special_tokens=False).ids
        assert found.get(number, []) == ids
    report = read_json(output / "report.json")
    for side in SIDES:
        side_rows = rows(output, side)
        numbers = [row["document"] for row in side_rows]
        assert numbers == sorted(numbers)
        for row, after in itertools.pairwise(side_rows):
            if row["document"] == after["document"]:
                assert row["length"] == max_length
        for row in side_rows:
            assert row["length"] == len(row["input_ids"]) <= max_length
            assert (row["input_ids"][0], row["input_ids"][-1]) == (begin, end)
            assert all(0 < start < row["length"] - 1 for start in row["sentence_starts"])
        real = sum(row["length"] - 2 for row in side_rows)
        starts = sum(len(row["sentence_starts"]) for row in side_rows)
        assert report[side]["sequences"] == len(side_rows)
        assert report[side]["tokens"] == real
        assert report[side]["special_tokens"] == 2 * len(side_rows)
        assert report[side]["sentences"] == starts
        assert report[side]["documents"] == len(set(numbers))
        unknown = sum(row["input_ids"].count(tokenizer.unk_id) for row in side_rows)
        assert report[side]["unknown_share"] == unknown / real


def test_datasets_reads_small_integers(documents, folders, tmp_path):
    output = run(documents, folders["unigram"], tmp_path / "sequences")
    data = sequences.open_sequences(output / "train.arrow")
    small = datasets.List(datasets.Value("uint16"))
    assert data.features["input_ids"] == data.features["sentence_starts"] == small
    assert data.data.column("input_ids").chunk(0).values.to_numpy().dtype == np.uint16
    assert data.with_format("numpy", dtype=np.uint16)[0]["input_ids"].dtype == np.uint16


def test_the_schema_is_the_one_of_datasets():
    lengths = sequences.column(np.array([2, 1], dtype=np.uint32))
    ids = sequences.list_column(np.arange(3, dtype=np.uint16), np.array([0, 2, 3]))
    ours = sequences.record_batch({"input_ids": ids, "length": lengths}).schema
    theirs = datasets.Features(
        {"input_ids": datasets.List(datasets.Value("uint16")), "length": datasets.Value("uint32")}
    )
    assert datasets.Features.from_arrow_schema(ours) == theirs
    assert ours.equals(theirs.arrow_schema)


@given(st.lists(st.lists(st.integers(0, 2**16 - 1)), min_size=1), st.data())
def test_arrow_columns_hold_their_values(lists, data):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in lists])])
    values = np.array(list(itertools.chain(*lists)), dtype=np.uint16)
    array = sequences.list_column(values, offsets)
    assert array.to_pylist() == lists


def test_same_bytes_for_any_number_of_threads(documents, folders, tmp_path):
    for threads in (1, 3):
        command = ["--documents", documents, "--tokenizer", folders["unigram"], "--threads"]
        subprocess.run(
            [
                *(sys.executable, "-m", "eliquare", "corpus", "tokenize"),
                *map(str, [*command, threads, "--output", tmp_path / f"{threads}/sequences"]),
                *("--counts", str(tmp_path / f"{threads}/counts")),
            ],
            check=True,
            env=os.environ
            | {"PYTHONHASHSEED": str(threads)}
            | (worlds.BARE if threads > 1 else {}),
            umask=0o022 if threads == 1 else 0o077,
        )
    assert checksum(tmp_path / "1") == checksum(tmp_path / "3")


def test_small_batches_give_the_same_rows(documents, folders, tmp_path, monkeypatch):
    whole = run(documents, folders["wordpiece"], tmp_path / "whole")
    monkeypatch.setattr(sequences, "BATCH_CHARACTERS", 5000)
    parts = run(documents, folders["wordpiece"], tmp_path / "parts")
    for side in SIDES:
        assert rows(whole, side) == rows(parts, side)
    assert read_json(whole / "report.json") == read_json(parts / "report.json")


def test_the_split_is_by_text(folders, tmp_path):
    def sides(order, name):
        folder = worlds.write_documents(tmp_path / name / "documents", order)
        output = run(folder, folders["wordpiece"], tmp_path / name / "out")
        return [{order[number] for number in texts_of(output, [side])} for side in SIDES]

    train, validation = sides(TEXTS, "forwards")
    assert not train & validation
    assert [train, validation] == sides(TEXTS[::-1], "backwards")


@given(st.sets(st.text(min_size=1), min_size=2), st.floats(0.001, 0.999))
def test_both_sides_hold_a_document(texts, fraction):
    numbers = [document_number(text) for text in sorted(texts)]
    threshold = validation_threshold(numbers, fraction)
    assert {number < threshold for number in numbers} == {True, False}
    # The rule: the share, moved just so far that both sides hold one of all documents.
    moved = max(int(fraction * 2**64), min(numbers) + 1)
    assert threshold == min(moved, max(numbers))


def test_the_split_has_its_share_and_reads_no_more_than_it_needs():
    numbers = (document_number(str(n)) for n in itertools.count())
    threshold = validation_threshold(numbers, 0.1)
    validation = sum(document_number(str(n)) < threshold for n in range(20_000))
    assert abs(validation - 2000) < 200


@given(st.lists(st.integers(3, 40), min_size=1), st.integers(1, 8))
def test_fill_is_that_of_sorted_batches(lengths, batch):
    ordered = sorted(lengths, reverse=True)
    groups = [ordered[n : n + batch] for n in range(0, len(ordered), batch)]
    positions = sum(max(group) * len(group) for group in groups)
    by_length = np.bincount(lengths, minlength=41)
    assert sequences.fill(by_length, batch) == pytest.approx(sum(lengths) / positions)


@pytest.mark.parametrize(
    ("few", "options", "words"),
    [
        ([], {}, "0 documents"),
        (["One text."], {}, "two different documents"),
        (["One text.", "One text."], {}, "two different documents"),
        (["One.", "Two."], {"max_length": 513}, "--max-length"),
    ],
)
def test_what_cannot_be_used_is_refused(folders, tmp_path, few, options, words):
    documents = worlds.write_documents(tmp_path / "documents", few)
    with pytest.raises(InputError, match=words) as error:
        run(documents, folders["wordpiece"], tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents"]


@pytest.mark.parametrize("option", [{"validation_fraction": 1}, {"max_length": 2}, {"threads": 0}])
def test_settings_out_of_range_are_refused(documents, folders, tmp_path, option):
    with pytest.raises(ValidationError):
        run(documents, folders["wordpiece"], tmp_path / "out", **option)


def test_a_file_cut_short_is_refused(documents, folders, tmp_path):
    whole = run(documents, folders["wordpiece"], tmp_path / "sequences") / "train.arrow"
    cut = tmp_path / "cut.arrow"
    for size in (1, 1000, whole.stat().st_size // 2):
        cut.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(InputError, match=r"cut\.arrow: not a complete Arrow stream"):
            list(sequences.batches(cut))
        with pytest.raises(InputError, match=r"cut\.arrow: not a complete Arrow stream"):
            sequences.open_sequences(cut)
    with pytest.raises(InputError, match="no such file of sequences"):
        sequences.open_sequences(tmp_path / "none.arrow")


# Whether the tokenizer knows the language


@pytest.mark.parametrize("kind", worlds.KINDS)
def test_a_tokenizer_knows_the_language_that_it_was_learnt_from(documents, tmp_path, kind):
    tokenizer = worlds.write_tokenizer(kind, tmp_path / kind, TEXTS)
    report = read_json(run(documents, tokenizer, tmp_path / "sequences") / "report.json")
    assert 1 < report["fertility"] < 3
    assert report["missing_scripts"] == report["warnings"] == []


@pytest.mark.parametrize("kind", worlds.KINDS)
def test_a_tokenizer_that_lacks_the_script_is_told(documents, tmp_path, kind, caplog):
    latin = worlds.write_tokenizer(kind, tmp_path / kind, worlds.texts("qaa", 60))
    report = read_json(run(documents, latin, tmp_path / "sequences") / "report.json")
    assert report["missing_scripts"] == ["Cyrillic"]
    (warning,) = report["warnings"]
    assert "script Cyrillic" in warning
    assert ("unknown tokens" in warning) == (kind != "bytes")
    assert ("tokens per word" in warning) == (kind == "bytes")
    assert f"warning: {latin}: {warning}" in [record.getMessage() for record in caplog.records]


def test_a_tokenizer_that_spells_the_words_is_told(documents, tmp_path):
    spells = worlds.write_tokenizer("bytes", tmp_path / "bytes", ["а б в г д"])
    report = read_json(run(documents, spells, tmp_path / "sequences") / "report.json")
    assert report["fertility"] > 4
    assert "tokens per word (more than 4)" in report["warnings"][0]
