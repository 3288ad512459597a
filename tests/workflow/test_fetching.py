"""Task data that the workflow fetches: planned without a network, and missing ones all named."""

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
