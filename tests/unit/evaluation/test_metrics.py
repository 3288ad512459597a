"""Scores are what their names say."""

import pytest

from eliquare.evaluation import trainer as metrics
from eliquare.evaluation.data import MAIN_METRIC

GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]


def test_entities_count_whole_and_over_all_types():
    # Of three entities one is found whole, one half, one not; one more is invented.
    predicted = [["B-PER", "I-PER", "O", "O"], ["B-ORG", "I-ORG"]]
    scores = metrics.score("ner", GOLD, predicted)
    assert scores["entity_precision"] == pytest.approx(1 / 2)
    assert scores["entity_recall"] == pytest.approx(1 / 3)
    assert scores["entity_f1"] == pytest.approx(2 / 5)


def test_an_entity_that_does_not_begin_is_none():
    predicted = [["I-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    scores = metrics.score("ner", GOLD, predicted)
    assert scores["entity_precision"] == 1
    assert scores["entity_recall"] == pytest.approx(2 / 3)


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


@pytest.mark.parametrize("kind", MAIN_METRIC)
def test_the_main_metric_is_among_the_scores(kind):
    gold = [["O", "B-X"]] if kind == "ner" else [["NOUN"]] if kind == "upos" else ["a"]
    assert metrics.score(kind, gold, gold)[MAIN_METRIC[kind]] == 1
