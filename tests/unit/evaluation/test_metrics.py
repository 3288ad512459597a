"""Scores are what their names say."""

import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2
from sklearn.metrics import f1_score

from eliquare.config.sources import EMBEDDED
from eliquare.evaluation import trainer as metrics
from eliquare.evaluation.data import MAIN_METRIC
from eliquare.evaluation.readers import to_iob2

GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]


def test_entities_count_whole_and_over_all_types():
    # Of three entities one is found whole, one half, one not; one more is invented.
    predicted = [["B-PER", "I-PER", "O", "O"], ["B-ORG", "I-ORG"]]
    scores = metrics.score("ner", GOLD, predicted)
    assert scores["entity_precision"] == pytest.approx(1 / 2)
    assert scores["entity_recall"] == pytest.approx(1 / 3)
    assert scores["entity_f1"] == pytest.approx(2 / 5)


def test_an_entity_that_begins_with_i_counts_by_conlleval_and_not_in_strict_iob2():
    predicted = [["I-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    scores = metrics.score("ner", GOLD, predicted)
    assert scores["entity_f1"] == 1
    assert scores["entity_precision_strict"] == 1
    assert scores["entity_recall_strict"] == pytest.approx(2 / 3)
    assert scores["entity_f1_strict"] == pytest.approx(4 / 5)


TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=4))
def test_entity_scores_are_those_that_run_ner_prints_and_the_strict_ones(sentences):
    gold = [to_iob2([right for right, _ in sentence]) for sentence in sentences]
    predicted = [[answer for _, answer in sentence] for sentence in sentences]
    scores = metrics.score("ner", gold, predicted)
    # run_ner.py: evaluate.load("seqeval") with its defaults.
    assert scores["entity_f1"] == seqeval.metrics.f1_score(gold, predicted, zero_division=0)
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    assert scores["entity_f1_strict"] == seqeval.metrics.f1_score(gold, predicted, **strict)


def test_a_label_that_is_never_predicted_weighs_as_every_other():
    gold, predicted = ["a", "a", "b", "new"], ["a", "b", "b", "b"]
    # a: F1 2/3; b: precision 1/3, recall 1, F1 1/2; new: 0.
    expected = (2 / 3 + 1 / 2 + 0) / 3
    assert metrics.score("classification", gold, predicted)["macro_f1"] == pytest.approx(expected)
    assert f1_score(gold, predicted, average="macro") == pytest.approx(expected)
    tags = metrics.score("upos", [gold], [predicted])
    assert tags == {"accuracy": 0.5, "macro_f1": pytest.approx(expected)}
    unseen = [["B-PER", "O", "B-NEW", "I-NEW"]]
    scores = metrics.score("ner", unseen, [["B-PER", "O", "O", "O"]])
    assert (scores["entity_precision"], scores["entity_recall"]) == (1, 1 / 2)


def test_no_entity_at_all_scores_nothing():
    nothing = [["O"] * len(tags) for tags in GOLD]
    assert set(metrics.score("ner", GOLD, nothing).values()) == {0.0}


def test_tags_are_scored_as_single_words():
    gold = [["NOUN", "NOUN", "VERB"], ["NOUN"]]
    predicted = [["NOUN", "NOUN", "NOUN"], ["NOUN"]]
    scores = metrics.score("upos", gold, predicted)
    # NOUN: precision 3/4, recall 1, F1 6/7; VERB: 0.
    assert scores == {"accuracy": 0.75, "macro_f1": pytest.approx((6 / 7 + 0) / 2)}


@pytest.mark.parametrize("kind", ["classification", "pair"])
def test_every_class_weighs_the_same(kind):
    gold, predicted = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    # a: F1 4/5; b: F1 2/3.
    scores = metrics.score(kind, gold, predicted)
    assert scores == {"accuracy": 0.75, "macro_f1": pytest.approx((4 / 5 + 2 / 3) / 2)}


@pytest.mark.parametrize("kind", [kind for kind in MAIN_METRIC if kind not in EMBEDDED])
def test_the_main_metric_is_among_the_scores(kind):
    gold = [["O", "B-X"]] if kind == "ner" else [["NOUN"]] if kind == "upos" else ["a"]
    assert metrics.score(kind, gold, gold)[MAIN_METRIC[kind]] == 1
