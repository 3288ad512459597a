"""The workflow on real input: a dump over HTTP, a language from text, real tasks. A short cut."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import pipeline

from real_data import DATA, needs_data
from tiny_project import PROJECT, Project

pytestmark = [needs_data, pytest.mark.timeout(1200)]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    """The address of a local server on the copy of the dumps' host."""
    handler = partial(Quiet, directory=str(DATA / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/dumps.wikimedia.org"
        server.shutdown()


def short_cut(mirror: str) -> dict[str, Any]:
    """Return config/real.yaml with one dump and one text language, and few steps."""
    text = (PROJECT / "config" / "real.yaml").read_text()
    text = text.replace("../shared/data", str(DATA))
    config = yaml.safe_load(text.replace("http://127.0.0.1:8765/dumps.wikimedia.org", mirror))
    config["name"] = "short"
    config["languages"] = {code: config["languages"][code] for code in ("mr", "sw")}
    config["mixtures"] = {"four": ["mr", "sw"]}
    few = {"max_steps": 20, "per_device_train_batch_size": 8, "num_evals": 2, "threads": 1}
    config["teachers"]["small"] |= {
        "vocab_size": 4000,
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "training": few,
    }
    config["students"] = {
        "pre": config["students"]["pre"] | {"num_hidden_layers": 1, "training": few}
    }
    config["tasks"] = {name: config["tasks"][name] for name in ("mr-upos", "sw-ner")}
    config["finetuning"] = {"num_train_epochs": 1, "max_length": 128, "max_train_samples": 100}
    config["benchmark"] = {"batch_sizes": [1], "sequence_length": 32, "repeats": 3}
    config["experiment"] = {"systems": ["pre"], "seeds": [1]}
    return config


@pytest.fixture(scope="module")
def results(mirror: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of the finished run."""
    project = Project(tmp_path_factory.mktemp("real"))
    project.make(project.configure(short_cut(mirror)))
    return project.folder / "results"


def test_the_dump_is_the_one_the_host_published(results):
    name = "mrwiki-20230501-pages-articles.xml.bz2"
    fetched = (results.parent / "resources/dumps" / name).read_bytes()
    assert fetched == next(DATA.glob(f"mirror/*/mrwiki/*/{name}")).read_bytes()
    report = json.loads((results / "corpora/mr/documents/report.json").read_text())
    assert report["documents"] + sum(report["dropped"].values()) == report["pages"] == 1820


def test_the_students_load_with_transformers_alone(results):
    for language, text in (("mr", "मराठी ही एक [MASK] आहे."), ("sw", "Habari ya [MASK] leo.")):
        fill = pipeline("fill-mask", model=str(results / f"short/models/pre-{language}"))
        assert len(fill(text)) == 5


def test_every_score_is_in_the_table(results):
    table = (results / "short/tables/scores.md").read_text()
    assert "accuracy" in table
    assert "entity F1" in table
    assert (results / "short/report.html").stat().st_size > 50_000
