"""The workflow on real input: a dump over HTTP, a language from text, real tasks. A short cut."""

import http.server
import json
import threading
from functools import partial

import pytest
import yaml
from conftest import DATA, PROJECT, Project

pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason=f"no real data at {DATA}; set ELIQUARE_DATA to its folder"
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def mirror():
    """The address of a local server on the copy of the dumps' host."""
    handler = partial(Quiet, directory=str(DATA / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/dumps.wikimedia.org"
        server.shutdown()


def short_cut(mirror: str) -> dict:
    """config/real.yaml with one dump and one text language, two tasks, one seed and few steps."""
    text = (PROJECT / "config" / "real.yaml").read_text()
    text = text.replace("../shared/data", str(DATA))
    text = text.replace("http://127.0.0.1:8765/dumps.wikimedia.org", mirror)
    config = yaml.safe_load(text)
    config["name"] = "short"
    config["languages"] = {code: config["languages"][code] for code in ("mr", "sw")}
    config["mixtures"] = {"four": ["mr", "sw"]}
    few = {"steps": 20, "batch_size": 8, "validations": 2, "threads": 1}
    config["teachers"]["small"] |= {
        "vocabulary_size": 4000,
        "layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "training": few,
    }
    config["students"]["pre"] |= {"layers": 1, "training": few}
    config["tasks"] = {name: config["tasks"][name] for name in ("mr-upos", "sw-ner")}
    config["finetuning"] = {"epochs": 1, "max_length": 128, "max_train": 100}
    config["measuring"] = {"batch_sizes": [1], "length": 32, "repeats": 3}
    config["experiment"] |= {"seeds": [1], "systems": ["pre", "post", "scratch"], "baseline": None}
    return config


@pytest.fixture(scope="module")
def results(project: Project, mirror: str):
    """The results folder of the finished run."""
    project.make(project.configure(short_cut(mirror)))
    return project.folder / "results"


def test_the_dump_is_the_one_the_host_published(project, results):
    name = "mrwiki-20230501-pages-articles.xml.bz2"
    fetched = (project.folder / "resources/dumps" / name).read_bytes()
    assert fetched == next(DATA.glob(f"mirror/*/mrwiki/*/{name}")).read_bytes()


def test_what_was_dropped_adds_up(results):
    report = json.loads((results / "corpora/mr/documents/report.json").read_text())
    assert report["documents"] + sum(report["dropped"].values()) == report["pages"] == 1820


def test_the_students_load_with_transformers_alone(results):
    from transformers import pipeline

    for language, text in (("mr", "मराठी ही एक [MASK] आहे."), ("sw", "Habari ya [MASK] leo.")):
        fill = pipeline("fill-mask", model=str(results / f"short/models/pre-{language}"))
        assert len(fill(text)) == 5


def test_cut_before_and_cut_after_have_the_same_vocabulary(results):
    for language in ("mr", "sw"):
        sizes = [
            json.loads((results / f"students/{path}/config.json").read_text())["vocab_size"]
            for path in (f"pre/{language}/distilled", f"post/{language}/reduced")
        ]
        assert sizes[0] == sizes[1] < 4000


def test_the_cut_after_the_training_is_proved_on_the_corpus_and_on_the_task(results):
    for language, task in (("mr", "mr-upos"), ("sw", "sw-ner")):
        proof = json.loads((results / f"students/post/{language}/verification.json").read_text())
        assert set(proof["texts"]) == {"corpus", task}
        assert all(text["sentences_run"] > 5 for text in proof["texts"].values())


def test_every_score_stands_in_the_table(results):
    table = (results / "short/tables/scores.md").read_text()
    assert table.count("\n| ") == 5  # head, rule and three systems
    assert "accuracy" in table
    assert "entity F1" in table
    assert (results / "short/report.html").stat().st_size > 50_000
