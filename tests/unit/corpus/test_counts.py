"""Counts equal those of a plain, slow count over the same text."""

import csv
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import worlds
from eliquare.corpus import counts, sequences
from eliquare.corpus.counts import Counts, read_counts
from eliquare.corpus.tokenization import CorpusTokenizer, EncodedDocuments, split_sentences
from eliquare.io import InputError, read_json

TEXTS = worlds.texts("qab", 30)
HEAD = "id,token,occurrences,sentences,documents\r\n"


def make(folder, texts, tokenizer):
    sequences.tokenize(
        sequences.TokenizeOptions(
            documents=worlds.write_documents(folder / "documents", texts),
            tokenizer=tokenizer,
            max_length=20,
            language="uk",
            output=folder / "sequences",
            counts=folder / "counts",
        )
    )
    return folder / "counts"


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    texts = [*TEXTS, '"', ","]
    return worlds.write_tokenizer("wordpiece", tmp_path_factory.mktemp("wordpiece"), texts)


@pytest.mark.parametrize("batch_characters", [10_000, 1_000_000])
def test_counts_equal_a_slow_count(tmp_path, wordpiece, monkeypatch, batch_characters):
    monkeypatch.setattr(sequences, "BATCH_CHARACTERS", batch_characters)
    output = make(tmp_path, TEXTS, wordpiece)
    backend = CorpusTokenizer.load(wordpiece).backend
    occurrences, by_sentence, by_document = Counter(), Counter(), Counter()
    sentences = 0
    for text in TEXTS:
        ids = backend.encode(text, add_special_tokens=False).ids
        occurrences.update(ids)
        by_document.update(set(ids))
        for sentence in split_sentences(text, "uk"):
            held = set(backend.encode(sentence, add_special_tokens=False).ids)
            by_sentence.update(held)
            sentences += bool(held)
    read = read_counts(output)
    for column, expected in [
        (read.occurrences, occurrences),
        (read.sentences, by_sentence),
        (read.documents, by_document),
    ]:
        assert dict(enumerate(column.tolist())) == {n: expected[n] for n in range(len(column))}
    assert (read.all_sentences, read.all_documents) == (sentences, len(TEXTS))
    assert read_json(output / "totals.json") == {
        "tokens": occurrences.total(),
        "sentences": sentences,
        "documents": len(TEXTS),
    }


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_a_group_counts_a_token_once(tokens):
    ids = np.array([index for index, _ in tokens])
    is_start = np.array([True, *(start for _, start in tokens[1:])])
    groups = np.split(ids, np.flatnonzero(is_start)[1:])
    expected = [sum(n in group for group in groups) for n in range(6)]
    assert counts.holders(ids, np.cumsum(is_start), 6).tolist() == expected


def test_the_table_has_every_token_in_id_order(tmp_path, wordpiece):
    output = make(tmp_path, ['Один "два", три; чотири.', "П'ять, шість."], wordpiece)
    with (output / "counts.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    tokens = CorpusTokenizer.load(wordpiece).tokens
    assert [int(row["id"]) for row in table] == list(range(len(tokens)))
    assert [row["token"] for row in table] == tokens
    by_name = {row["token"]: row for row in table}
    assert by_name['"']["occurrences"] == "2"
    assert by_name[","]["documents"] == "2"
    assert by_name["[CLS]"]["occurrences"] == by_name["[SEP]"]["occurrences"] == "0"


ODD = ["", "a", "nan", "null", "\n", "\r", "\r\n", '"', ",", '",', " ", "é", "1"]


def test_what_is_written_is_read(tmp_path):
    counts = Counts.none(ODD)
    ids = np.arange(len(ODD))
    for step in (3, 2):
        counts.add(EncodedDocuments(ids, ids % step == 0, np.array([0, len(ids)])))
    counts.save(tmp_path)
    read = read_counts(tmp_path, ODD)
    assert read.tokens == ODD
    assert read.occurrences.tolist() == read.sentences.tolist() == [2] * len(ODD)
    assert read.documents.tolist() == [2] * len(ODD)
    assert (read.all_sentences, read.all_documents) == (12, 2)


@pytest.mark.parametrize("other", [[*ODD, "more"], ODD[:-1], [*ODD[:-1], "other"]])
def test_counts_of_other_tokens_are_refused(tmp_path, other):
    Counts.none(ODD).save(tmp_path)
    with pytest.raises(InputError, match=r"line 1[45]: counts other tokens"):
        read_counts(tmp_path, other)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "Empty CSV"),
        ("id,token\r\n", "line 1"),
        (HEAD + "0,a,1,1,1\r\n2,b,1,1,1\r\n", "line 3"),
        (HEAD + "0,a,1,x,1\r\n", "Row #2"),
        (HEAD + "0,a,1,1\r\n", "Row #2"),
        (HEAD + "0,a,1,1,\r\n", "Row #2"),
        (HEAD + "0,a,-1,1,1\r\n", "not the counts of 0 tokens"),
        (HEAD + "0,a,1,1,1\r\n", "not the counts of 0 tokens"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, content, where):
    (tmp_path / "counts.csv").write_text(content, encoding="utf-8", newline="")
    (tmp_path / "totals.json").write_text('{"tokens": 0, "sentences": 0, "documents": 0}')
    with pytest.raises(InputError, match=where):
        read_counts(tmp_path)
