"""Counts equal those of a plain, slow count over the same text."""

import csv
from collections import Counter

import numpy as np
import pytest
from corpus_helpers import articles, needs_data, write_documents, write_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from eliquare import stage
from eliquare.corpus import counts, sequences
from eliquare.corpus import tokenizer as tokenizers
from eliquare.corpus.sentences import split_sentences
from eliquare.stage import InputError


def make(tmp_path, texts, folder, max_length=20):
    documents = write_documents(tmp_path / "documents", texts)
    command = ["--documents", documents, "--tokenizer", folder, "--max-length", max_length]
    command += ["--output", tmp_path / "sequences", "--language", "uk"]
    sequences.run(sequences.parser().parse_args(list(map(str, command))))
    command = ["--sequences", tmp_path / "sequences", "--tokenizer", folder]
    command += ["--output", tmp_path / "counts"]
    counts.run(counts.parser().parse_args(list(map(str, command))))
    return tmp_path / "counts"


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    return write_tokenizer("wordpiece", tmp_path_factory.mktemp("wordpiece"), [])


@needs_data
@pytest.mark.parametrize("batch_characters", [10_000, 1_000_000])
def test_counts_equal_a_slow_count(tmp_path, wordpiece, monkeypatch, batch_characters):
    texts = articles("uk", 60_000)
    monkeypatch.setattr(sequences, "BATCH_CHARACTERS", batch_characters)
    output = make(tmp_path, texts, wordpiece)
    backend = tokenizers.load(wordpiece).backend_tokenizer
    occurrences, by_sentence, by_document = Counter(), Counter(), Counter()
    sentences = 0
    for text in texts:
        ids = backend.encode(text, add_special_tokens=False).ids
        occurrences.update(ids)
        by_document.update(set(ids))
        for sentence in split_sentences(text, "uk"):
            held = set(backend.encode(sentence, add_special_tokens=False).ids)
            by_sentence.update(held)
            sentences += bool(held)
    read = counts.read(output)
    for column, expected in [
        (read.occurrences, occurrences),
        (read.sentences, by_sentence),
        (read.documents, by_document),
    ]:
        assert dict(enumerate(column.tolist())) == {n: expected[n] for n in range(len(column))}
    totals = stage.read_json(output / "totals.json")
    documents = sum(bool(text.strip()) for text in texts)
    assert totals == {
        "tokens": occurrences.total(),
        "sentences": sentences,
        "documents": documents,
    }


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 7),
)
def test_a_group_across_batches_counts_once(tokens, batch):
    ids = np.array([number for number, _ in tokens])
    is_start = np.array([True, *(start for _, start in tokens[1:])])
    holders = counts.Holders(6)
    for begin in range(0, len(ids), batch):
        holders.add(ids[begin : begin + batch], is_start[begin : begin + batch])
    holders.close()
    groups = np.split(ids, np.flatnonzero(is_start)[1:])
    assert holders.groups == len(groups)
    assert holders.counts.tolist() == [sum(n in group for group in groups) for n in range(6)]


@needs_data
def test_the_table_has_every_subword_in_id_order(tmp_path, wordpiece):
    output = make(tmp_path, ['Один "два", три; чотири.', "П'ять, шість."], wordpiece)
    with (output / "counts.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    tokenizer = tokenizers.load(wordpiece)
    assert [int(row["id"]) for row in table] == list(range(len(tokenizer)))
    assert [row["subword"] for row in table] == tokenizers.subwords(tokenizer)
    by_name = {row["subword"]: row for row in table}
    assert by_name['"']["occurrences"] == "2"
    assert by_name[","]["documents"] == "2"
    assert by_name["[CLS]"]["occurrences"] == by_name["[SEP]"]["occurrences"] == "0"


@needs_data
def test_another_tokenizer_is_refused(tmp_path, wordpiece):
    make(tmp_path, ["Один.", "Два."], wordpiece)
    other = write_tokenizer("bytes", tmp_path / "other", ["one two"])
    command = ["--sequences", tmp_path / "sequences", "--tokenizer", other]
    command += ["--output", tmp_path / "no"]
    with pytest.raises(InputError, match="same tokenizer"):
        counts.run(counts.parser().parse_args(list(map(str, command))))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("id,token\r\n", "line 1"),
        ("id,subword,occurrences,sentences,documents\r\n0,a,1,1,1\r\n2,b,1,1,1\r\n", "line 3"),
        ("id,subword,occurrences,sentences,documents\r\n0,a,1,x,1\r\n", "line 2"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, content, where):
    (tmp_path / "counts.csv").write_text(content, encoding="utf-8", newline="")
    with pytest.raises(InputError, match=where):
        counts.read(tmp_path)
