"""Experiments that would overwrite each other's results are told apart from those that share."""

import copy
import json
from itertools import combinations
from pathlib import Path

import pytest

from eliquare import settings
from eliquare.settings_shared import check_shared, differences
from eliquare.stage import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    # YAML's anchors are one object; what a test changes must be one entry.
    return json.loads(json.dumps(settings.load("config/demo.yaml")))


@pytest.fixture
def results(tmp_path, config):
    """A results folder in which the experiment has run."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "settings.json").write_text(json.dumps(config))
    return tmp_path


def refused(config, results) -> str:
    with pytest.raises(InputError) as error:
        check_shared(config, "new.yaml", results)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("where", "key", "value", "named"),
    [
        (("sequences",), "max_length", 16, "sequences"),
        (("masking",), "smoothing", 0.1, "masking"),
        (("students", "pre", "objective"), "temperature", 9.0, "students.pre"),
        (("tasks", "qaa-upos", "finetuning"), "epochs", 1, "tasks.qaa-upos"),
        (("languages", "qaa", "corpus"), "date", "20250101", "languages.qaa"),
        (("vocabularies", "sentences"), "share_of_sentences", 0.1, "vocabularies.sentences"),
    ],
)
def test_other_settings_under_the_same_name_are_refused(config, results, where, key, value, named):
    other = copy.deepcopy(config) | {"name": "another"}
    part = other
    for name in where:
        part = part[name]
    part[key] = value
    message = refused(other, results)
    assert message.startswith(f"new.yaml: {named}: the experiment demo has made results")
    # The experiment itself may change: what it changes is made again.
    check_shared(other | {"name": "demo"}, "new.yaml", results)


def test_what_people_and_machines_read_alone_is_no_difference(config, results):
    other = copy.deepcopy(config) | {"name": "another", "title": "Another"}
    other["students"]["pre"]["label"] = "Another"
    other["students"]["pre"]["training"]["threads"] = 9
    other["experiment"]["seeds"] = [7]
    check_shared(other, "new.yaml", results)


def test_the_same_recipe_on_other_languages_is_no_difference(config, results):
    other = copy.deepcopy(config) | {"name": "another", "mixtures": {}, "tasks": {}}
    other["languages"] = {"sl": {"name": "Slovene", "corpus": {"source": "dump"}}}
    other["teachers"] = {}
    other["sequences"]["max_length"] = 16
    other["students"]["pre"]["layers"] = 1
    check_shared(other, "new.yaml", results)


def test_a_key_that_is_new_in_the_schema_is_no_difference(config, results):
    older = copy.deepcopy(config)
    del older["students"]["pre"]["training"]["clip"]
    del older["sequences"]["validation_share"]
    (results / "demo" / "settings.json").write_text(json.dumps(older))
    check_shared(config | {"name": "another"}, "new.yaml", results)


def test_a_file_that_is_no_configuration_is_left_alone(config, results):
    (results / "demo" / "settings.json").write_text('{"name": "dem')
    check_shared(config | {"name": "another"}, "new.yaml", results)


def test_the_experiments_of_the_papers_share_one_clone(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = (
        "config.yaml",
        *(f"experiments/{n}.yaml" for n in ("coling2022", "electronics2023", "cruz2024")),
    )
    papers = [settings.load(f"config/{name}") for name in names]
    assert [list(differences(*pair)) for pair in combinations(papers, 2)] == [[]] * 6


def test_a_real_run_may_follow_the_demo(monkeypatch):
    monkeypatch.chdir(ROOT)
    pair = [settings.load(f"config/{name}.yaml") for name in ("demo", "real")]
    assert list(differences(*pair)) == []


def test_teachers_cut_to_different_languages_may_share_a_name(config):
    other = copy.deepcopy(config)
    for each, rule in ((config, "sentences"), (other, "another")):
        each["systems"] = {"cut-only": {"teacher": "teacher", "rule": rule}}
    assert list(differences(config, other)) == ["systems.cut-only"]
    other["languages"] = {"sl": other["languages"]["qaa"]}
    other["mixtures"] = {}
    assert list(differences(config, other)) == []
