"""Reduced teachers of three families go through distillation and fine-tuning: the whole flow.

Random teachers in local folders, shaped as XLM-R (Unigram), mmBERT (ModernBERT, BPE with every
split as a merge) and mBERT (WordPiece, special tokens in mid-vocabulary). Beside the students
stands a teacher whose vocabulary was only cut.
"""

import json
import sys

import pytest
from conftest import DATA, PROJECT, Project

sys.path.insert(0, str(PROJECT / "tests" / "unit"))

from vocabulary_helpers import make_teacher, swahili_news

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not DATA.exists(), reason=f"no real data at {DATA}; set ELIQUARE_DATA to its folder"
    ),
]

TEACHERS = {"xlmr": "xlmr", "mmbert": "mmbert", "mbert": "bert-padded"}


def families(project: Project) -> dict:
    """One language from text, three teachers with a student each, and one teacher only cut."""
    text = project.folder / "news.txt"
    text.write_text("\n".join(swahili_news(600)), encoding="utf-8")
    few = {"steps": 4, "batch_size": 8, "validations": 1, "threads": 1}
    config = {
        "name": "families",
        "languages": {
            "sw": {
                "name": "Swahili",
                "corpus": {
                    "source": "text",
                    "files": [str(text)],
                    "min_characters": 20,
                },
            }
        },
        "sequences": {"max_length": 48, "validation_sequences": 20},
        "teachers": {},
        "vocabularies": {"often": {"top_k": 700}},
        "students": {},
        "systems": {},
        "tasks": {
            "sw-ner": {
                "language": "sw",
                "kind": "ner",
                "train": str(DATA / "tasks/sw/ner/train.txt"),
                "validation": str(DATA / "tasks/sw/ner/dev.txt"),
                "test": str(DATA / "tasks/sw/ner/test.txt"),
            }
        },
        "finetuning": {"epochs": 1, "max_length": 64, "max_train": 20},
        "measuring": {"batch_sizes": [1], "length": 16, "repeats": 3},
    }
    for name, family in TEACHERS.items():
        folder = make_teacher(family, project.folder / "models" / name)
        config["teachers"][name] = {"source": "folder", "model": str(folder)}
        config["students"][f"{name}-student"] = {
            "teacher": name,
            "vocabulary": "pre",
            "rule": "often",
            "layers": 1,
            "training": few,
        }
    config["systems"]["mmbert-cut"] = {"teacher": "mmbert", "rule": "often"}
    systems = [*config["students"], *config["systems"]]
    config["experiment"] = {"systems": systems, "seeds": [1], "release": ["mmbert-student"]}
    return config


@pytest.fixture(scope="module")
def results(project: Project):
    """The results folder of the finished run."""
    config = families(project)
    reports = [f"results/corpora/sw/{name}/often/vocabulary.json" for name in TEACHERS]
    scored = [f"results/finetuned/sw-ner/{s}/seed-1" for s in config["experiment"]["systems"]]
    project.make(project.configure(config), *reports, *scored)
    return project.folder / "results"


@pytest.mark.parametrize("name", TEACHERS)
def test_teacher_student_and_fine_tuned_student_have_the_cut_vocabulary(name, results):
    cut = results / f"corpora/sw/{name}/often"
    distilled = results / f"students/{name}-student/sw/distilled"
    sizes = [json.loads((p / "config.json").read_text()) for p in (cut / "model", distilled)]
    kept = (cut / "kept.csv").read_text(encoding="utf-8").count("\n") - 1
    assert [config["vocab_size"] for config in sizes] == [kept, kept]
    assert kept < 2500
    history = [json.loads(line) for line in (distilled / "history.jsonl").open()]
    assert any(line.get("kl", 0) > 0 for line in history)
    finetuned = results / f"finetuned/sw-ner/{name}-student/seed-1"
    metrics = json.loads((finetuned / "metrics.json").read_text())
    assert metrics["metric"] == "entity_f1" and metrics["unknown_share"]["test"] < 0.05


@pytest.mark.parametrize("name", TEACHERS)
def test_the_cut_is_proved_on_the_corpus_and_on_the_task(name, results):
    report = json.loads((results / f"corpora/sw/{name}/often/vocabulary.json").read_text())
    proof = report["verification"]
    assert set(proof["texts"]) == {"corpus", "sw-ner"}
    assert all(text["sentences_run"] > 5 for text in proof["texts"].values())
    assert proof["largest_relative_logit_difference"] < 1e-5


def test_a_teacher_that_was_only_cut_is_a_system(results):
    metrics = results / "finetuned/sw-ner/mmbert-cut/seed-1/metrics.json"
    assert json.loads(metrics.read_text())["system"] == "mmbert-cut"
