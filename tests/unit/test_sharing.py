"""Which students share a pass of their teacher: those whose batches and teacher are the same."""

import copy
from pathlib import Path

import pytest

from eliquare import settings, sharing
from eliquare.layout import Layout

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(PROJECT)
    raw = settings.read_yaml("config/demo.yaml")
    raw["students"] |= {
        "hotter": {"like": "pre", "objective": {"temperature": 4.0}},
        "shallow": {"like": "pre", "layers": 1, "training": {"steps": 50, "learning_rate": 1.0e-3}},
        "wider": {"like": "pre", "training": {"batch_size": 16}},
        "seeded": {"like": "pre", "training": {"seed": 2}},
        "less": {"like": "pre", "data_fraction": 0.5},
    }
    raw["experiment"]["systems"] += ["hotter", "shallow", "wider", "seeded", "less", "full"]
    raw["experiment"] |= {"share_teacher": True, "baseline": None, "release": []}
    return raw


def groups(raw) -> list[list[tuple[str, str]]]:
    complete = settings.complete(copy.deepcopy(raw))
    return sharing.groups(complete, Layout(complete))


def test_those_with_the_same_batches_share_and_others_do_not(config):
    assert groups(config) == [
        [("pre", code), ("hotter", code), ("shallow", code)] for code in ("qaa", "qab")
    ]


def test_without_the_key_nobody_shares(config):
    config["experiment"]["share_teacher"] = False
    assert groups(config) == []


def test_a_student_that_is_cut_afterwards_shares_as_the_one_it_is_cut_from(config):
    """`full` is distilled once for itself and for `post`, and is no partner of its own."""
    config["experiment"]["systems"] = ["post", "full", "pre"]
    assert groups(config) == []
    config["students"]["hot"] = {"like": "full", "objective": {"temperature": 4.0}}
    config["experiment"]["systems"].append("hot")
    assert groups(config) == [[("full", code), ("hot", code)] for code in ("qaa", "qab")]


def test_one_corpus_of_several_languages_is_one_group(config):
    config["students"]["hot"] = {"like": "multilingual", "objective": {"temperature": 4.0}}
    config["experiment"]["systems"] = ["multilingual", "hot"]
    assert groups(config) == [[("multilingual", "world"), ("hot", "world")]]
