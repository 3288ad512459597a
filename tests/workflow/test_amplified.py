"""The workflow with new sub-words, and with a teacher that was only cut: rows like any other."""

import csv
import json

from conftest import tiny
from transformers import pipeline

LISTED = "results/corpora/qaa/teacher/listed"


def only_cut(config):
    """A teacher cut by a rule for two languages and a script is a system; another rule is a list.

    The demo's qaa is written in Latin letters, qab in Cyrillic, qac in Devanagari.
    """
    config["vocabularies"]["together"] = {
        "top_k": 150,
        "languages": ["qab"],
        "script": ["Devanagari"],
    }
    config["vocabularies"]["listed"] = {"list": "results/corpora/qaa/teacher/together/kept.csv"}
    config["systems"] = {"cut": {"teacher": "teacher", "rule": "together"}}


def kept(results, rule):
    """The reason of each kept sub-word."""
    with (results / f"corpora/qaa/teacher/{rule}/kept.csv").open(newline="") as file:
        return {row["subword"]: row["reason"] for row in csv.DictReader(file)}


def check_only_cut(results):
    """The rules kept what was asked for, and the teacher that was only cut is a row with scores."""
    reports = {
        rule: json.loads((results / f"corpora/qaa/teacher/{rule}/vocabulary.json").read_text())
        for rule in ("together", "sentences")
    }
    scripts = {rule: report["sub_words"]["by_script"] for rule, report in reports.items()}
    assert scripts["together"]["Cyrillic"] > 50 and scripts["together"]["Devanagari"] > 10
    assert not {"Cyrillic", "Devanagari"} & set(scripts["sentences"])
    assert set(reports["together"]["verification"]["texts"]) == {"corpus", "qaa-upos"}
    together, listed = kept(results, "together"), kept(results, "listed")
    assert set(listed) == set(together) and "list" in listed.values()
    with (results / "amplified/tables/scores.csv").open(newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert float(rows["cut"]["qaa/qaa-upos accuracy"]) > 0
    size = json.loads((results / "measured/qaa/cut.json").read_text())["vocabulary_size"]
    assert size == len(together)


def test_an_amplified_student_is_one_more_row(project):
    config = tiny("amplified")
    only_cut(config)
    config["amplifications"] = {"more": {"rule": "sentences", "add": 60, "least": 3}}
    config["students"]["longer"] = {
        "like": "pre",
        "vocabulary": "amplified",
        "rule": None,
        "amplification": "more",
    }
    config["experiment"] |= {"systems": ["pre", "longer", "cut"], "release": ["longer"]}
    path = project.configure(config)
    project.make(path, "all", f"{LISTED}/model")
    results = project.folder / "results"
    check_only_cut(results)

    table = results / "amplified" / "tables" / "vocabulary_comparison.csv"
    with table.open(newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["pre", "longer"]
    words = {name: float(row["sub_words_per_word"]) for name, row in rows.items()}
    sizes = {name: int(row["sub_words"]) for name, row in rows.items()}
    assert words["longer"] < words["pre"]
    assert int(rows["longer"]["new"]) >= 60 and sizes["longer"] >= sizes["pre"] + 60
    assert all(float(row["qaa-upos accuracy"]) >= 0 for row in rows.values())

    student = results / "students" / "longer" / "qaa" / "distilled"
    history = [json.loads(line) for line in (student / "history.jsonl").open()]
    assert {"kl", "cosine", "mlm"} <= set(history[0])
    fill = pipeline("fill-mask", model=str(results / "amplified" / "models" / "longer-qaa"))
    assert len(fill(f"a {fill.tokenizer.mask_token} .")) == 5
    report = (results / "amplified" / "report.html").read_text()
    assert "with new sub-words" in report
    assert project.planned(path) == {}

    # It can be tried like any other, and is not made again for that.
    project.make(path, target="smoke")
    assert len(list((results / "smoke").glob("longer-qaa-*.json"))) == 1
    assert project.planned(path) == {}

    # Another way to start the embeddings makes the amplified student again, and nothing else.
    config["amplifications"]["more"]["initialisation"] = "similar"
    planned = project.planned(project.configure(config))
    assert planned["amplified_teacher"] == 1 == planned["amplified_student"]
    assert "distilled_student" not in planned and "pretrained_teacher" not in planned


def test_mistakes_are_told_before_anything_runs(project):
    config = tiny("mistaken")
    config["students"]["longer"] = {"like": "pre", "vocabulary": "amplified"}
    done = project.run("-n", "--configfile", str(project.configure(config)))
    assert done.returncode == 2
    assert "vocabulary amplified needs `amplification`" in done.stdout
