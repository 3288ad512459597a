"""Selection of tokens by each rule, and vocabulary files."""

from unicodedata import normalize

import numpy as np
import pytest
from pydantic import ValidationError

import worlds
from eliquare import cli
from eliquare.config.model import SelectionRule
from eliquare.corpus.counts import read_counts
from eliquare.corpus.documents import sample_texts
from eliquare.io import InputError
from eliquare.models.loading import load_tokenizer
from eliquare.models.sentence import Sentence, write_sentence
from eliquare.vocabulary import select as selection
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.select import SelectOptions, select_tokens
from families import make_teacher, sentences, wordpiece


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a WordPiece teacher, texts of two languages, and the counts of the first."""
    folder = tmp_path_factory.mktemp("select")
    make_teacher("bert", folder / "teacher")
    for code in ("qaa", "qab"):
        (folder / f"{code}.txt").write_text("\n".join(sentences(code)[:200]), encoding="utf-8")
    corpus = selection.count_text(folder / "qaa.txt", folder / "teacher")
    (folder / "counts").mkdir()
    corpus.counts.save(folder / "counts")
    worlds.write_documents(folder / "documents", sentences("qaa")[:200])
    return folder


@pytest.fixture(scope="module")
def corpus(world):
    return selection.count_text(world / "qaa.txt", world / "teacher")


def reasons_of(world, corpus, **rule):
    """Return the reasons by token."""
    selected = select_tokens(world / "teacher", [corpus], SelectionRule(**rule))
    assert list(selected) == sorted(selected)
    return {corpus.counts.tokens[index]: reason for index, reason in selected.items()}


def test_the_sentence_fraction_keeps_exactly_the_frequent_tokens(world, corpus):
    reasons = reasons_of(world, corpus, min_sentence_fraction=0.02)
    enough = corpus.counts.sentences >= 0.02 * 200
    frequent = {corpus.counts.tokens[index] for index in np.flatnonzero(enough)}
    chosen = {token for token, reason in reasons.items() if reason == "min_sentence_fraction"}
    assert chosen
    assert chosen <= frequent <= set(reasons)


def test_specials_and_both_forms_of_each_character_stay(world, corpus):
    reasons = reasons_of(world, corpus, top_k=20)
    vocabulary = wordpiece(True).get_vocab()
    assert all(reasons[token] == "special" for token in wordpiece(True).all_special_tokens)
    forms = {form for c in corpus.characters for form in (c, f"##{c}") if form in vocabulary}
    assert forms <= set(reasons)
    assert len(forms) > 60


def test_coverage_is_reached_by_the_fewest_tokens(corpus):
    chosen = selection.ids_by_rule(SelectionRule(coverage=0.9), corpus.counts, set())
    total = corpus.counts.occurrences.sum()
    covered = corpus.counts.occurrences[sorted(chosen)]
    assert covered.sum() >= 0.9 * total > covered.sum() - covered.min()


def test_coverage_fills_up_to_a_multiple_with_the_most_frequent_tokens_left(world, corpus):
    exact = reasons_of(world, corpus, coverage=0.9, multiple_of=1)
    filled = reasons_of(world, corpus, coverage=0.9)
    assert len(filled) == -(-len(exact) // 64) * 64 > len(exact)
    assert filled.items() >= exact.items()
    added = {token for token, reason in filled.items() if reason == "multiple_of"}
    occurrences = dict(zip(corpus.counts.tokens, corpus.counts.occurrences, strict=True))
    left = [count for token, count in occurrences.items() if token not in filled]
    assert min(occurrences[token] for token in added) >= max(left)


def test_other_rules_keep_their_number_unless_a_multiple_is_asked_for(world, corpus):
    assert len(reasons_of(world, corpus, top_k=50)) % 7
    assert len(reasons_of(world, corpus, top_k=50, multiple_of=7)) % 7 == 0


def test_a_bpe_token_that_fills_up_comes_with_its_route(tmp_path):
    teacher = make_teacher("roberta", tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n".join(sentences("qaa")[:100]), encoding="utf-8")
    counted = selection.count_text(tmp_path / "text.txt", teacher)
    rule = SelectionRule(top_k=50, multiple_of=64)
    selected = select_tokens(teacher, [counted], rule)
    assert len(selected) % 64 == 0
    description = tokenizer_json.read_description(teacher)
    assert not tokenizer_json.closing_ids(description, selected)


def test_a_corpus_with_few_tokens_is_filled_up_as_far_as_they_go(world, corpus):
    every = reasons_of(world, corpus, coverage=1.0, multiple_of=1)
    assert reasons_of(world, corpus, coverage=1.0, multiple_of=5000) == every


def test_top_k_and_min_count(corpus):
    counts = corpus.counts
    assert len(selection.ids_by_rule(SelectionRule(top_k=50), counts, set())) == 50
    often = selection.ids_by_rule(SelectionRule(min_count=20), counts, set())
    assert counts.occurrences[sorted(often)].min() >= 20
    assert len(often) == (counts.occurrences >= 20).sum()


@pytest.mark.parametrize("rule", [{}, {"top_k": 3, "coverage": 0.5}])
def test_exactly_one_rule_is_given(world, corpus, rule):
    with pytest.raises(ValidationError, match="exactly one of"):
        reasons_of(world, corpus, **rule)


def test_a_rule_that_keeps_nothing_is_refused(world, corpus):
    with pytest.raises(InputError, match=r"vocabularies.*min_count: 10\d+ .*lower"):
        reasons_of(world, corpus, min_count=10**9)


def test_composed_characters_of_normalized_text_are_kept(tmp_path):
    """The corpus writes a letter and its accent apart; the normalizer (NFKC) composes them."""
    folder = make_teacher("xlmr-other", tmp_path / "teacher")
    description = tokenizer_json.read_description(folder)
    vocabulary = tokenizer_json.model_vocabulary(description)
    assert "ä" in vocabulary
    occurring = [token for token in vocabulary if "ä" in token and len(token) > 2][:1]
    apart = list(normalize("NFD", "ä"))
    assert vocabulary["ä"] in selection.character_ids(description, apart, occurring)


def test_tokens_that_are_kept_in_any_case(world, corpus, tmp_path):
    tokens = corpus.counts.tokens
    rare = max((token for token in tokens if token.isalpha()), key=len)
    (tmp_path / "list").write_text(f"{rare}\n", encoding="utf-8")
    reasons = reasons_of(world, corpus, top_k=10, always_keep=str(tmp_path / "list"))
    assert reasons[rare] == "always_keep"
    (tmp_path / "list").write_text("qqqqq\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1.*qqqqq"):
        reasons_of(world, corpus, top_k=10, always_keep=str(tmp_path / "list"))


def test_the_rule_holds_for_each_language_by_itself(world, corpus):
    other = selection.count_text(world / "qab.txt", world / "teacher")
    rule = SelectionRule(top_k=30)
    alone = [select_tokens(world / "teacher", [each], rule) for each in (corpus, other)]
    by_rule = {index for each in alone for index, reason in each.items() if reason == "top_k"}
    assert by_rule <= select_tokens(world / "teacher", [corpus, other], rule).keys()


def test_characters_of_a_script_are_kept(world, corpus):
    letter = next(c for c in "".join(sentences("qac")) if "क" <= c <= "ह")
    assert letter not in reasons_of(world, corpus, top_k=30)
    assert letter in reasons_of(world, corpus, top_k=30, scripts=["Devanagari"])
    with pytest.raises(InputError, match="'Hebrw' is no script"):
        reasons_of(world, corpus, top_k=30, scripts=["Hebrw"])


def test_a_list_of_tokens_is_a_rule(world, corpus, tmp_path):
    listed = [token for token in corpus.counts.tokens if len(token) > 4][-5:]
    (tmp_path / "list").write_text("\n".join(listed), encoding="utf-8")
    reasons = reasons_of(world, corpus, tokens=str(tmp_path / "list"))
    assert {token for token, reason in reasons.items() if reason == "tokens"} == set(listed)


def test_counts_of_another_tokenizer_are_refused(world, tmp_path):
    make_teacher("xlmr", tmp_path / "teacher")
    options = SelectOptions(
        model=str(tmp_path / "teacher"),
        counts=[world / "counts"],
        characters=[world / "documents/characters.json"],
        top_k=10,
        output=tmp_path / "vocabulary.csv",
    )
    with pytest.raises(InputError, match="count again"):
        selection.select(options)


def test_counts_and_a_text_give_the_same_vocabulary_file(world, tmp_path):
    common = {"model": str(world / "teacher"), "coverage": 0.9}
    counts = {
        "counts": [world / "counts"],
        "characters": [world / "documents/characters.json"],
    }
    selection.select(SelectOptions(**common, **counts, output=tmp_path / "a.csv"))
    selection.select(SelectOptions(**common, text=[world / "qaa.txt"], output=tmp_path / "b.csv"))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert read_counts(world / "counts").all_sentences == 200


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--text"),
        ({"counts": ["counts"]}, "--characters"),
    ],
)
def test_a_corpus_is_needed(world, tmp_path, given, message):
    options = SelectOptions(
        model=str(world / "teacher"), top_k=5, output=tmp_path / "vocabulary.csv", **given
    )
    with pytest.raises(InputError, match=message):
        selection.select(options)


def test_a_table_is_not_a_text(capsys):
    words = ["--model", "folder", "--text", "a.txt", "b.jsonl", "--output", "c.csv", "--top-k", "9"]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["vocabulary", "select", *words])
    expected = "error: --text.1: b.jsonl is not plain text; write a sentence per line\n"
    assert capsys.readouterr().err == expected


def test_an_empty_text_is_refused(world, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match="no text in it"):
        selection.count_text(tmp_path / "empty.txt", world / "teacher")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_text_that_is_not_utf_8_is_refused(world, tmp_path, encoding):
    text = tmp_path / "text.txt"
    text.write_text("Größe und Maß\n", encoding=encoding)
    for read in (
        lambda: selection.count_text(text, world / "teacher"),
        lambda: [*sample_texts(text, 9)],
    ):
        with pytest.raises(InputError, match=r"text\.txt, line 1, byte \d+: not UTF-8"):
            read()


def test_vocabulary_files(tmp_path, caplog):
    tokens = ["[PAD]", '"', ",", "a\nb", "NA"]
    path = tmp_path / "vocabulary.csv"
    selection.write_vocabulary(path, dict.fromkeys(range(5), "character"), tokens)
    assert selection.read_vocabulary(path, tokens) == dict.fromkeys(range(5), "character")
    selection.write_vocabulary(path, {1: "character", 2: "special"}, ["", "\r", '"'])
    assert selection.read_vocabulary(path, ["", "\r", '"']) == {1: "character", 2: "special"}
    path.write_text('NA\n"\n\nNA\r\n')
    assert selection.read_vocabulary(path, tokens) == {1: "listed", 4: "listed"}
    path.write_text("id,token,reason\n4,NA,special\n4,NA,special\n")
    assert selection.read_vocabulary(path, tokens) == {4: "special"}
    assert caplog.text.count("'NA' stands in it twice") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "selects no token"),
        ("id,token,reason\n", "selects no token"),
        ("id,token,reason\n1,x,special\n", "line 2: '1,x,special' is not a token"),
        ("id,token,reason\n0,NA,special\n", "line 2.*not with this number"),
        ("id,token,reason\nx,NA,special\n", "line 2: 'x,NA,special'"),
        ("id,token,reason\n1,NA\n", "line 2: '1,NA' is not"),
        ("NA\nnope\n", "line 2.*'nope' is not"),
        ("id;token;reason\n", "line 1: 'id;token;reason' is not a token"),
    ],
)
def test_vocabulary_files_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "vocabulary.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        selection.read_vocabulary(tmp_path / "vocabulary.csv", ["[PAD]", "NA"])


def test_a_gap_in_the_ids_is_named(tmp_path):
    description = {
        "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1, "c": 3}},
        "added_tokens": [],
    }
    with pytest.raises(InputError, match=r"model: no token has the id 2;.*\[unused2\]"):
        tokenizer_json.list_tokens(description, "model")
    description["model"]["vocab"] |= {"b": 2, "again": 2}
    with pytest.raises(InputError, match=r"model: '(b|again)' is not alone at the id 2"):
        tokenizer_json.list_tokens(description, "model")


def test_an_id_that_no_token_has_is_named():
    description = {
        "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[SEP]": 1}},
        "added_tokens": [],
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[UNK]", 0]},
    }
    says = r"model: the post_processor gives '\[SEP\]' the id 102, and ids end at 1"
    with pytest.raises(InputError, match=says):
        tokenizer_json.list_tokens(description, "model")


def test_the_tokens_of_prompts_stay(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    write_sentence(folder, Sentence("mean", True, {"query": "reka: "}), 16)
    (tmp_path / "text.txt").write_text(f"{sentences('qab')[0]}\n")
    options = {"model": str(folder), "text": [tmp_path / "text.txt"], "top_k": 5}
    selection.select(SelectOptions(**options, output=tmp_path / "vocabulary.csv"))
    rows = (tmp_path / "vocabulary.csv").read_text().splitlines()
    tokens = {token: row for row in rows for token in row.split(",")[1:2]}
    wanted = load_tokenizer(folder).tokenize("reka:")
    assert all(token in tokens for token in wanted)
    assert sum(row.endswith(",prompt") for row in rows) == len({*wanted})
