"""Sequences hold each document's sub-words, whole and in order; the split is by text alone."""

import itertools
import os
import shutil
import subprocess
import sys

import datasets
import numpy as np
import pytest
from corpus_helpers import (
    KINDS,
    LANGUAGES,
    articles,
    needs_data,
    write_documents,
    write_tokenizer,
)
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from eliquare import stage
from eliquare.corpus import arrow, sequences, split
from eliquare.corpus import tokenizer as tokenizers
from eliquare.corpus.sentences import encode, split_sentences
from eliquare.stage import InputError


@pytest.fixture(scope="module")
def texts():
    return {language: articles(language, 60_000) for language in LANGUAGES}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("tokenizers")
    together = list(itertools.chain(*texts.values()))
    return {kind: write_tokenizer(kind, folder / kind, together) for kind in KINDS}


@pytest.fixture(scope="module")
def documents(tmp_path_factory, texts):
    return write_documents(tmp_path_factory.mktemp("corpus") / "documents", texts["mr"])


def run(documents, folder, output, **options):
    arguments = [
        *("--documents", documents, "--tokenizer", folder, "--output", output, "--language", "mr")
    ]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", value]
    sequences.run(sequences.parser().parse_args([str(argument) for argument in arguments]))
    return output


def rows(folder, side):
    return datasets.Dataset.from_file(str(folder / f"{side}.arrow")).to_list()


def texts_of(folder, sides=("train", "validation"), frame=1):
    """The running sub-words of each document, by its number."""
    documents = {}
    for side in sides:
        for row in rows(folder, side):
            documents.setdefault(row["document"], []).extend(row["input_ids"][frame:-frame])
    return documents


@needs_data
@pytest.mark.parametrize("language", [*LANGUAGES, "qaa", ""])
def test_sentences_joined_are_the_text(texts, language):
    for text in itertools.chain(*texts.values()):
        sentences = split_sentences(text, language)
        assert "".join(sentences) == text.strip()
        assert all(sentence.strip() and not sentence[-1].isspace() for sentence in sentences)


@given(st.text(alphabet="aБ. \n\t\r!?。”\"'(A\u3000\u2028"))
def test_no_text_is_lost(text):
    assert "".join(split_sentences(text, "uk")) == text.strip()


def test_sentences_end_where_they_should():
    text = "Заголовок\nПерше речення. Друге, т. зв. складне, речення!  Третє?\n\nАбзац."
    assert split_sentences(text, "uk") == [
        "Заголовок",
        "\nПерше речення.",
        " Друге, т. зв. складне, речення!",
        "  Третє?",
        "\n\nАбзац.",
    ]


@needs_data
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_sentence_by_sentence_gives_the_subwords_of_the_text(texts, folders, kind, language):
    tokenizer = tokenizers.load(folders[kind])
    sentences = [split_sentences(text, language) for text in texts[language]]
    ids, is_start, lengths = encode(tokenizer, sentences)
    whole = tokenizer.backend_tokenizer.encode_batch(
        [text.strip() for text in texts[language]], add_special_tokens=False
    )
    assert ids.tolist() == list(itertools.chain(*(encoding.ids for encoding in whole)))
    assert lengths.tolist() == [len(encoding.ids) for encoding in whole]
    # A sentence has no start of its own where one sub-word holds its beginning and the end before.
    total = sum(map(len, sentences))
    assert 0.97 * total <= is_start.sum() <= total


@needs_data
@pytest.mark.parametrize("family", [None, "bert", "xlm-roberta", "modernbert", "camembert"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_is_the_one_that_autotokenizer_loads(folders, tmp_path, kind, family):
    shutil.copytree(folders[kind], tmp_path / "model")
    if family:
        stage.write_json(tmp_path / "model/config.json", {"model_type": family})
    found = tokenizers.tokenizer_class(tmp_path / "model").from_pretrained(tmp_path / "model")
    expected = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert type(found) is type(expected)
    assert found.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    assert found.special_tokens_map == expected.special_tokens_map
    assert found.model_max_length == expected.model_max_length


@needs_data
def test_a_tokenizer_is_loaded_without_torch(folders):
    lines = [
        "import sys",
        "from eliquare import masking",
        "from eliquare.corpus import counts, sequences, tokenizer",
        "tokenizer.load(sys.argv[1])",
        "sys.exit('torch' in sys.modules)",
    ]
    for kind in ("wordpiece", "unigram"):
        assert not subprocess.call([sys.executable, "-c", "\n".join(lines), folders[kind]])


@needs_data
def test_special_tokens_in_text_are_text(folders):
    tokenizer = tokenizers.load(folders["bytes"])
    ids, _, _ = encode(tokenizer, [["a <s> tag and a <mask> here"]])
    assert not np.isin(ids, tokenizers.special_ids(tokenizer)).any()


@needs_data
@pytest.mark.parametrize("max_length", [128, 17])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_sequences_are_the_documents_cut(documents, texts, folders, tmp_path, kind, max_length):
    output = run(documents, folders[kind], tmp_path / "sequences", max_length=max_length)
    tokenizer = tokenizers.load(folders[kind])
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    found = texts_of(output)
    for number, text in enumerate(texts["mr"]):
        ids = tokenizer.backend_tokenizer.encode(text.strip(), add_special_tokens=False).ids
        assert found.get(number, []) == ids
    report = stage.read_json(output / "report.json")
    for side in sequences.SIDES:
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
        unknown = sum(row["input_ids"].count(tokenizer.unk_token_id) for row in side_rows)
        assert report[side]["unknown_share"] == unknown / real


@needs_data
def test_datasets_reads_small_integers(documents, folders, tmp_path):
    output = run(documents, folders["unigram"], tmp_path / "sequences")
    data = datasets.Dataset.from_file(str(output / "train.arrow"))
    small = datasets.List(datasets.Value("uint16"))
    assert data.features["input_ids"] == data.features["sentence_starts"] == small
    assert data.data.column("input_ids").chunk(0).values.to_numpy().dtype == np.uint16
    assert data.with_format("numpy", dtype=np.uint16)[0]["input_ids"].dtype == np.uint16
    large = run(documents, folders["wordpiece"], tmp_path / "large")
    data = datasets.Dataset.from_file(str(large / "train.arrow"))
    assert data.features["input_ids"] == datasets.List(datasets.Value("uint32"))


def test_the_schema_is_the_one_of_datasets():
    ours = arrow.schema({"input_ids": ["uint16"], "length": "uint32"})
    theirs = datasets.Features(
        {"input_ids": datasets.List(datasets.Value("uint16")), "length": datasets.Value("uint32")}
    )
    assert datasets.Features.from_arrow_schema(ours) == theirs
    assert ours.equals(theirs.arrow_schema)


@needs_data
def test_same_bytes_for_any_number_of_threads_and_batches(documents, folders, tmp_path):
    for threads in (1, 3):
        command = ["--documents", documents, "--tokenizer", folders["unigram"], "--threads"]
        subprocess.run(
            [
                *(sys.executable, "-m", "eliquare.corpus.sequences"),
                *map(str, [*command, threads, "--output", tmp_path / str(threads)]),
            ],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(threads)},
        )
    assert stage.checksum(tmp_path / "1") == stage.checksum(tmp_path / "3")


@needs_data
def test_small_batches_give_the_same_rows(documents, folders, tmp_path, monkeypatch):
    whole = run(documents, folders["wordpiece"], tmp_path / "whole")
    monkeypatch.setattr(sequences, "BATCH_CHARACTERS", 5000)
    parts = run(documents, folders["wordpiece"], tmp_path / "parts")
    for side in sequences.SIDES:
        assert rows(whole, side) == rows(parts, side)
    assert stage.read_json(whole / "report.json") == stage.read_json(parts / "report.json")


@needs_data
def test_the_split_is_by_text(texts, folders, tmp_path):
    def sides(order, name):
        folder = write_documents(tmp_path / name / "documents", order)
        output = run(folder, folders["wordpiece"], tmp_path / name / "out")
        return [{order[number] for number in texts_of(output, [side])} for side in sequences.SIDES]

    train, validation = sides(texts["mr"], "forwards")
    assert not train & validation
    assert [train, validation] == sides(texts["mr"][::-1], "backwards")


@given(st.sets(st.text(min_size=1), min_size=2), st.floats(0.001, 0.999))
def test_both_sides_hold_a_document(texts, share):
    numbers = [split.document_number(text) for text in sorted(texts)]
    chosen = [split.Split.fit(numbers, share).side(text) for text in texts]
    assert set(chosen) == {"train", "validation"}


def test_the_split_has_its_share():
    numbers = [split.document_number(str(n)) for n in range(20_000)]
    fitted = split.Split.fit(numbers, 0.1)
    sides = [fitted.side(str(n)) for n in range(20_000)]
    assert abs(sides.count("validation") - 2000) < 200


@given(st.lists(st.integers(3, 40), min_size=1), st.integers(1, 8))
def test_fill_is_that_of_sorted_batches(lengths, batch):
    ordered = sorted(lengths, reverse=True)
    groups = [ordered[n : n + batch] for n in range(0, len(ordered), batch)]
    positions = sum(max(group) * len(group) for group in groups)
    by_length = np.bincount(lengths, minlength=41)
    assert sequences.fill(by_length, batch) == pytest.approx(sum(lengths) / positions)


@needs_data
@pytest.mark.parametrize(
    ("few", "options", "words"),
    [
        ([], {}, "0 documents"),
        (["One text."], {}, "two different documents"),
        (["One text.", "One text."], {}, "two different documents"),
        (["One.", "Two."], {"max_length": 2}, "--max-length"),
        (["One.", "Two."], {"max_length": 513}, "--max-length"),
        (["One.", "Two."], {"validation_share": 1}, "--validation-share"),
    ],
)
def test_what_cannot_be_used_is_refused(folders, tmp_path, few, options, words):
    documents = write_documents(tmp_path / "documents", few)
    with pytest.raises(InputError, match=words) as error:
        run(documents, folders["wordpiece"], tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents"]


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        tokenizers.load(tmp_path)


@needs_data
def test_a_file_cut_short_is_refused(documents, folders, tmp_path):
    whole = run(documents, folders["wordpiece"], tmp_path / "sequences") / "train.arrow"
    for size in (1, 1000, whole.stat().st_size // 2):
        (tmp_path / "cut.arrow").write_bytes(whole.read_bytes()[:size])
        with pytest.raises(InputError, match=r"cut\.arrow: not a whole Arrow stream"):
            list(arrow.batches(tmp_path / "cut.arrow"))
