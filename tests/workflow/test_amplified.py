"""The workflow with new sub-words: a recipe like any other, and one more row of the tables."""

import csv
import json

from conftest import tiny
from transformers import pipeline


def test_an_amplified_student_is_one_more_row(project):
    config = tiny("amplified")
    config["amplifications"] = {"more": {"rule": "sentences", "add": 60, "least": 3}}
    config["students"]["longer"] = {
        "like": "pre",
        "vocabulary": "amplified",
        "rule": None,
        "amplification": "more",
    }
    config["experiment"] |= {"systems": ["pre", "longer"], "release": ["longer"]}
    path = project.configure(config)
    project.make(path)
    results = project.folder / "results"

    table = results / "amplified" / "tables" / "vocabulary_comparison.csv"
    with table.open(newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert list(rows) == config["experiment"]["systems"]
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
