"""Task data that the workflow fetches: planned without a network, and missing ones all named."""

import json
import os
from pathlib import Path

import pytest

from eliquare.config.load import complete
from eliquare.paths import Paths
from hosts import Hosts
from stub_project import Stubs
from tiny_project import Project, tiny

ADDRESS = "https://example.org/set"
SOURCES = {
    "upos": {"ud": {"treebank": "UD_Qaa-Demo", "release": "2.17", "prefix": "qaa_demo"}},
    "ner": {"hub": {"dataset": "lab/names", "configuration": "qaa"}},
    "classification": {"url": {"train": f"{ADDRESS}/train.tsv", "test": f"{ADDRESS}/test.tsv"}},
}


def fetched(config):
    """Let the tasks of a configuration be three that are fetched, and one that is shared."""
    config["tasks"] = {
        f"qaa-{kind}": {"language": "qaa", "kind": kind} | source
        for kind, source in SOURCES.items()
    }
    config["tasks"]["again"] = config["tasks"]["qaa-upos"]
    config["experiment"]["tasks"] = list(config["tasks"])


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return Stubs(tmp_path_factory.mktemp("stubs"))


def test_sources_are_planned_without_files_or_a_network(stubs):
    before = stubs.planned(stubs.path)
    planned = stubs.changed(fetched)
    # Two tasks of one source are fetched once.
    assert planned["fetch_task"] == 3
    assert planned["finetune"] < before["finetune"]
    assert planned["distill"] == before["distill"]


def test_another_licence_text_or_prefix_fetches_to_the_same_place(stubs):
    def changed(config):
        fetched(config)
        config["tasks"]["again"] = config["tasks"]["again"] | {"label": "again"}
        config["tasks"]["qaa-ner"]["hub"] |= {"licence": "CC0"}

    assert stubs.changed(changed)["fetch_task"] == 3


def test_what_is_fetched_is_not_fetched_again(tmp_path):
    project, config = Project(tmp_path / "project"), tiny("fetched")
    (tmp_path / "hosts/files").mkdir(parents=True)
    rows = "".join(f"text {n},{n % 2}\n" for n in range(40))
    (tmp_path / "hosts/files/train.csv").write_text(f"text,label\n{rows}")
    with Hosts(tmp_path / "hosts") as hosts:
        url = {"train": f"{hosts.root}/files/train.csv"}
        config["tasks"] = {"topic": {"language": "qaa", "kind": "classification", "url": url}}
        config["experiment"]["tasks"] = ["topic"]
        path = project.configure(config)
        folder = Path(complete(config).tasks["topic"].train).parent
        project.make(path, target=str(folder))
    assert (project.folder / folder / "source.json").exists()
    assert project.planned(path, "--", str(folder)) == {}


def test_what_is_not_at_its_source_says_why_and_the_run_goes_on(tmp_path):
    project, config = Project(tmp_path / "project"), tiny("cells")
    (tmp_path / "hosts").mkdir()
    scores = "results/cells/scores/qaa/lost.json"
    model = "results/systems/lost/model"
    with Hosts(tmp_path / "hosts") as hosts:
        url = {"train": f"{hosts.root}/files/none.csv"}
        task = {"language": "qaa", "kind": "classification", "optional": True, "url": url}
        config["tasks"]["qaa-gone"] = task
        config["systems"] = {"lost": {"model": "resources/models/lost"}}
        config["experiment"] |= {"systems": ["pre", "lost"], "tasks": ["qaa-upos", "qaa-gone"]}
        path = project.configure(config)
        project.make(path, target=scores)
    report = json.loads((project.folder / scores).read_text())
    assert report["unavailable"].startswith("resources/models/lost: there is no such folder")
    (gone,) = (project.folder / "resources/tasks").glob("*/unavailable.json")
    assert "no such file on the host (404)" in gone.read_text()
    assert project.planned(path, "--", scores) == {}
    again = {"fetch_system": 1, "finetune": 1}
    assert project.planned(path, "--forcerun", model, "--", scores) == again


def test_a_model_folder_that_is_put_in_place_is_taken(tmp_path):
    project = Stubs(tmp_path)
    project.config["systems"] = {"lost": {"model": "resources/models/lost"}}
    path, made = project.configure(project.config), "results/systems/lost/model"
    project.make(path, target=made)
    assert project.planned(path, "--", made) == {}
    (tmp_path / "resources/models/lost").mkdir(parents=True)
    (tmp_path / "resources/models/lost/config.json").write_text("{}")
    assert project.planned(path, "--", made) == {"fetch_system": 1}


def test_whether_a_task_is_optional_fetches_nothing_again(tmp_path):
    project = Stubs(tmp_path)
    task = {"language": "qaa", "kind": "upos", "optional": True, **SOURCES["upos"]}
    project.config["tasks"]["qaa-upos"] = task
    folder = f"resources/tasks/{next(iter(Paths(complete(project.config)).fetched_tasks()))}"
    project.make(project.configure(project.config), target=folder)
    task["optional"] = False
    assert project.planned(project.configure(project.config), "--", folder) == {}


def test_a_paper_is_planned_without_a_file_in_place(tmp_path):
    """The other two papers, and which models are distilled, are in unit/config/test_papers.py."""
    planned = Project(tmp_path).planned(Path("config/experiments/electronics2023.yaml"))
    languages, tasks, upper_bounds = 6, 12, 6
    assert planned["download_dump"] == languages
    assert planned["fetch_optional_task"] == tasks
    assert planned["fetch_teacher"] == 2
    assert planned["fetch_system"] == upper_bounds + 1
    assert planned["distill"] == 34
    # DistilmBERT, both teachers, the upper bound and 3 or 11 students with their reductions.
    assert planned["finetune"] == 64


def test_all_that_cannot_be_fetched_is_listed_at_the_end(tmp_path):
    project, config = Project(tmp_path), tiny("unreachable")
    config["tasks"] = {}
    for treebank in ("UD_One-A", "UD_Two-B"):
        source = {"treebank": treebank, "release": "2.17", "prefix": "qaa_x"}
        config["tasks"][treebank[3:].lower()] = {"language": "qaa", "kind": "upos", "ud": source}
    config["experiment"]["tasks"] = None
    paths = Paths(complete(config))
    folders = [f"resources/tasks/{name}" for name in paths.fetched_tasks()]
    offline = os.environ | {"ELIQUARE_RAW": "http://127.0.0.1:9"}
    options = ("--cores", "2", "--configfile", str(project.configure(config)), "--", *folders)
    done = project.run(*options, environment=offline)
    assert done.returncode == 1
    listed = done.stdout.rpartition("Not fetched:\n")[2]
    for folder, treebank in zip(folders, ("UD_One-A", "UD_Two-B"), strict=True):
        assert f"/{treebank}/r2.17/qaa_x-ud-train.conllu: cannot be reached" in listed
        for part in ("train", "dev", "test"):
            assert f"{folder}.raw/qaa_x-ud-{part}.conllu" in listed
