"""Experiments that would make each other's results again are told from those that share them."""

import copy
import json
from itertools import combinations
from pathlib import Path

import pytest

from eliquare.config.load import complete, dump, load
from eliquare.config.shared import check_shared, made_by
from eliquare.io import InputError
from eliquare.paths import FULL, Paths

ROOT = Path(__file__).parents[3]


@pytest.fixture
def raw(small) -> dict:
    small["teachers"]["there"] = {"source": "folder", "model": "m"}
    small["systems"] = {"only": {"teacher": "big", "vocabulary": "sentences"}}
    small["extensions"] = {"longer": {"vocabulary": "sentences"}}
    small["experiment"]["systems"].append("only")
    return small


def make(results: Path, raw: dict, *made: Path) -> None:
    """Write the settings of an experiment, and results at some of its paths."""
    settings = complete(raw)
    file = Paths(settings, results).settings_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(dump(settings)))
    for path in made:
        path.mkdir(parents=True, exist_ok=True)


def test_the_first_run_and_a_language_alone_make_other_students():
    """What has no name of its own, as `benchmark`, they cannot have both in one clone."""
    first = made_by(load(ROOT / "config/config.yaml"), "results")
    alone = made_by(complete({"language": "sw"}), "results")
    shared = {name for path in first.keys() & alone.keys() for name in first[path]}
    assert "languages.sw" in shared
    assert not [name for name in shared if name.startswith("students.")]


def changed(raw: dict, path: str, value) -> dict:
    other = copy.deepcopy(raw) | {"name": "another"}
    *parents, last = path.split("/")
    place = other
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return other


def test_a_student_and_a_teacher_of_one_name_are_told_apart(raw, tmp_path):
    make(tmp_path, raw, tmp_path / "benchmarks" / "sl" / "there.json")
    other = changed(raw, "students/there", {"extends": "full"})
    del other["teachers"]["there"]
    assert refused(other, tmp_path).startswith("new.yaml: students.there: ")


def refused(raw: dict, results: Path) -> str:
    with pytest.raises(InputError) as error:
        check_shared(complete(raw), "new.yaml", results)
    return str(error.value)


def test_where_a_dump_comes_from_decides_no_result(raw, tmp_path, monkeypatch):
    make(tmp_path, raw, tmp_path / "corpora/sw/documents")
    monkeypatch.setenv("ELIQUARE_DUMPS", "https://dumps.example.org")
    check_shared(complete(raw | {"name": "another"}), "new.yaml", tmp_path)


def test_a_taught_student_leaves_what_is_measured_of_the_student(raw, tmp_path):
    make(tmp_path, raw, tmp_path / "benchmarks/sl/full.json", tmp_path / "finetuned/names/taught")
    how = {"student": "full", "task_distillation": {"teacher": "big"}}
    other = changed(raw, "systems/taught", how)
    other["experiment"]["systems"].append("taught")
    check_shared(complete(other), "new.yaml", tmp_path)
    make(tmp_path, other)
    third = changed(other, "systems/taught", how | {"task_distillation": {"teacher": "there"}})
    third["name"] = "third"
    assert refused(third, tmp_path).startswith("new.yaml: systems.taught: ")


# What is changed, the name that is refused, and a result of that name.
CHANGES = {
    "sequences": ("sequences/max_length", 16, "sequences", "sl/big/full/sequences"),
    "masking": ("masking/smoothing", 0.1, "masking", "sl/big/sentences/masking"),
    "corpus": ("languages/sl/corpus/min_characters", 9, "languages.sl", "sl/documents"),
    "vocabulary": (
        "vocabularies/sentences/min_sentence_fraction",
        0.1,
        "vocabularies.sentences",
        "sl/big/sentences/vocabulary.csv",
    ),
    "languages of a vocabulary": (
        "vocabularies/sentences/languages",
        ["sw"],
        "vocabularies.sentences",
        "sl/big/sentences/model",
    ),
    "extension": (
        "extensions/longer/num_tokens",
        5,
        "extensions.longer",
        "sl/big/longer/model",
    ),
    "objective": (
        "students/full/objective",
        {"kl": {"temperature": 9.0}},
        "students.full",
        "../students/full/sl/model",
    ),
    "gpus of a student": (
        "students/full/training/gpus",
        4,
        "students.full",
        "../students/full/sl/model",
    ),
    "gpus of a teacher": (
        "teachers/big/training/gpus",
        4,
        "teachers.big",
        "../teachers/big/model",
    ),
    "system": (
        "systems/only/teacher",
        "there",
        "systems.only",
        "../benchmarks/sl/only.json",
    ),
    "task": ("tasks/names/train", "b", "tasks.names", "../finetuned/names/pre/seed-1"),
    "fine-tuning": ("finetuning/max_length", 9, "tasks.names", "../finetuned/names/big/seed-1"),
    "benchmark": ("benchmark/threads", 2, "benchmark", "../benchmarks/sl/pre.json"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_under_a_name_with_results_are_refused(raw, tmp_path, name):
    path, value, key, result = CHANGES[name]
    other = changed(raw, path, value)
    make(tmp_path, raw)
    # An experiment that has made nothing refuses nobody.
    check_shared(complete(other), "new.yaml", tmp_path)
    make(tmp_path, raw, tmp_path / "corpora" / "x", (tmp_path / "corpora" / result).resolve())
    lines = refused(other, tmp_path).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["new.yaml", key]]
    assert str(tmp_path / "small" / "settings.json") in lines[0]
    # The experiment itself may change: what it changes is made again.
    check_shared(complete(other | {"name": "small"}), "new.yaml", tmp_path)


@pytest.fixture
def results(tmp_path, raw) -> Path:
    """A results folder in which an experiment has made everything."""
    make(tmp_path, raw, *made_by(complete(raw), tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", "Another"),
        ("students/full/label", "Another"),
        ("students/full/languages", ["sl"]),
        ("students/full/training/threads", 9),
        ("students/full/training/checkpoint_minutes", 1),
        ("students/full/training/report_to", ["tensorboard"]),
        ("students/full/objective", {"preset": "distilbert", "kl": {"weight": 5}}),
        ("students/full/seeds", [1, 2]),
        ("languages/sl/name", "Slovene"),
        ("experiment/seeds", [7]),
    ],
)
def test_settings_that_decide_no_result_are_no_difference(raw, results, path, value):
    check_shared(complete(changed(raw, path, value)), "new.yaml", results)


def test_the_same_recipe_on_other_languages_is_no_difference(raw, results):
    other = copy.deepcopy(raw) | {"name": "another", "mixtures": {}, "tasks": {}}
    other["languages"] = {"uk": {"corpus": {"source": "dump"}}}
    other["teachers"] = {"far": {"source": "folder", "model": "m"}}
    other["systems"]["only"]["teacher"] = other["students"]["full"]["teacher"] = "far"
    other["sequences"] = {"max_length": 16}
    other["students"]["full"]["num_hidden_layers"] = 1
    other["experiment"]["systems"][0] = "far"
    check_shared(complete(other), "new.yaml", results)


def test_a_key_that_is_new_since_then_is_no_difference(raw, results):
    file = results / "small" / "settings.json"
    older = json.loads(file.read_text())
    del older["students"]["full"]["training"]["max_grad_norm"]
    del older["sequences"]["validation_fraction"]
    file.write_text(json.dumps(older))
    check_shared(complete(raw | {"name": "another"}), "new.yaml", results)


@pytest.mark.parametrize("content", ['{"name": "dem', "[]", '{"name": "small"}'])
def test_a_file_that_is_no_configuration_is_left_alone(raw, results, content):
    (results / "small" / "settings.json").write_text(content)
    check_shared(complete(changed(raw, "sequences/max_length", 16)), "new.yaml", results)


def test_a_smoke_run_shares_with_smoke_runs_alone(raw, results):
    other = changed(raw, "sequences/max_length", 16)
    refused(other, results)
    check_shared(complete(other | {"smoke": True}), "new.yaml", results)


def test_every_shared_folder_of_an_experiment_belongs_to_a_name(raw):
    """No result can be overwritten without a name that is compared."""
    settings = complete(raw)
    paths = Paths(settings)
    made = made_by(settings, "results")
    wanted = [paths.model(system, language) for language, system in paths.pairs()]
    wanted += [paths.benchmark(*pair) for pair in paths.pairs()]
    runs = [(task, name) for code, name in paths.evaluations() for task in paths.tasks([code])]
    wanted += [paths.store / task / name for task, name in runs]
    wanted += [paths.prepared("sl", "big", FULL) / part for part in ("sequences", "masking")]
    wanted += [paths.documents(corpus) for corpus in ("sl", "sw", "both")]
    assert all(path in made or path.parent in made for path in wanted)


def test_the_shipped_experiments_share_one_clone(monkeypatch):
    monkeypatch.chdir(ROOT)
    papers = (
        "config",
        *(f"experiments/{n}" for n in ("coling2022", "electronics2023", "cruz2024")),
    )
    for group in (papers, ("demo", "real")):
        made = [made_by(load(f"config/{name}.yaml"), "results") for name in group]
        for ours, theirs in combinations(made, 2):
            for path in ours.keys() & theirs.keys():
                assert ours[path] == theirs[path], path
