"""The table of partial re-runs in config/README.md, counted in jobs.

Each stage is replaced by one that only writes its output: what is tested here is what Snakemake
makes again. Two languages, a teacher from a hub, three students, two tasks and two seeds.
"""

import copy
import os
import re
import sys
from pathlib import Path

import pytest

from tiny_project import PROJECT, Project

sys.path.insert(0, str(PROJECT / "tests" / "benchmarks"))
import plan as benchmark

STUB = """
import sys
from pathlib import Path

VERSION = {version}

if __name__ == "__main__":
    output = Path(sys.argv[sys.argv.index("--output") + 1])
    file = output if output.suffix else output / "made"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("made")
"""
# What people read, made again whenever something else is; two released models.
READ = {"tables": 1, "plots": 1, "released_model": 2, "report": 1}
ALL_READ = READ | {"settings": 1}


def configuration() -> dict:
    """A little of the benchmark's configuration."""
    config = benchmark.configuration(2)
    config["students"] = {name: config["students"][name] for name in ("pre", "full", "post")}
    config["students"]["pre"]["training"] = {"steps": 100}
    config["experiment"] = {
        "languages": list(config["languages"]),
        "systems": ["pre", "post"],
        "tasks": list(config["tasks"]),
        "seeds": [1, 2],
        "release": ["pre"],
    }
    for language in config["languages"].values():
        language["corpus"]["date"] = "20230501"
    return config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project, its configuration, and its results, all there."""
    project = Project(tmp_path_factory.mktemp("stubs"))
    for module in stages(project):
        text = module.read_text()
        version = re.search(r"^VERSION = (\d+)", text, flags=re.M)[1]
        module.write_text(STUB.format(version=version))
    config = configuration()
    (project.folder / "tasks").mkdir()
    for code in (*config["languages"], "qac"):
        (project.folder / "tasks" / f"{code}.txt").write_text(code)
    path = project.configure(config)
    project.make(path)
    assert project.planned(path) == {}
    return project, config, path


def stages(project: Project) -> list[Path]:
    """The modules that rules run."""
    rules = "".join(file.read_text() for file in (project.folder / "workflow/rules").glob("*.smk"))
    names = set(re.findall(r"(?:-m|\}) (eliquare[\w.]+)", rules)) - {"eliquare.demo.world"}
    assert len(names) > 15
    return [project.folder / "workflow" / f"{name.replace('.', '/')}.py" for name in sorted(names)]


def changed(made, change, *options: str) -> dict[str, int]:
    """The jobs planned after ``change(config)``."""
    project, config, _ = made
    other = copy.deepcopy(config)
    change(other)
    return project.planned(project.configure(other, "changed.yaml"), *options)


def test_one_hyper_parameter_of_one_student(made):
    def change(config):
        config["students"]["pre"]["objective"] = {"temperature": 4.0}
        config["students"]["full"]["objective"] = {"temperature": 2.0}

    again = {"distilled_student": 2, "finetuned": 8, "measured": 2}
    assert changed(made, change) == ALL_READ | again


def test_one_more_language(made):
    def change(config):
        config["languages"]["qac"] = config["languages"]["qab"]
        config["experiment"]["languages"].append("qac")
        for kind in ("upos", "ner"):
            task = copy.deepcopy(config["tasks"][f"qab-{kind}"])
            task |= {name: "tasks/qac.txt" for name in ("train", "validation", "test")}
            config["tasks"][f"qac-{kind}"] = task | {"language": "qac"}
            config["experiment"]["tasks"].append(f"qac-{kind}")

    new = {
        "dump": 1,
        "articles": 1,
        "sequences": 2,
        "counts": 2,
        "masking": 2,
        "kept": 1,
        "reduced_teacher": 1,
        "vocabulary_report": 1,
        "initial_student": 2,
        "distilled_student": 2,
        "reduced_student": 1,
        "verified_student": 1,
        "finetuned": 8,
        "measured": 2,
    }
    assert changed(made, change) == ALL_READ | {"released_model": 3} | new


def test_one_more_task(made):
    def change(config):
        config["tasks"]["qaa-more"] = config["tasks"]["qaa-upos"]
        config["experiment"]["tasks"].append("qaa-more")

    # The vocabulary's report counts the unknown sub-words of each task of its language; a student
    # that was cut is compared with the whole one on each.
    again = {"finetuned": 4, "vocabulary_report": 1, "verified_student": 1}
    assert changed(made, change) == ALL_READ | again


def test_one_more_seed(made):
    def change(config):
        config["experiment"]["seeds"] = [1, 2, 3]

    assert changed(made, change) == ALL_READ | {"finetuned": 8}


def test_another_dump_of_one_language(made):
    def change(config):
        config["languages"]["qab"]["corpus"]["date"] = "20260101"

    again = {
        "dump": 1,
        "articles": 1,
        "sequences": 2,
        "counts": 2,
        "masking": 2,
        "kept": 1,
        "reduced_teacher": 1,
        "vocabulary_report": 1,
        # The other begins as the whole teacher, whatever the text.
        "initial_student": 1,
        "distilled_student": 2,
        "reduced_student": 1,
        "verified_student": 1,
        "finetuned": 8,
        "measured": 2,
    }
    assert changed(made, change) == ALL_READ | again


def test_a_touched_file_with_the_same_content(made):
    project, _, path = made
    for name in ("tasks/qaa.txt", "results/corpora/qaa/teacher/sentences/kept.csv"):
        os.utime(project.folder / name)
    assert project.planned(path) == {}


def test_a_file_with_other_content(made):
    project, _, path = made
    file = project.folder / "tasks/qaa.txt"
    before = file.read_text()
    file.write_text("other words")
    try:
        planned = project.planned(path)
    finally:
        file.write_text(before)
    # The other language's model is released as it was.
    again = {"finetuned": 8, "vocabulary_report": 1, "verified_student": 1, "released_model": 1}
    assert planned == READ | again


def test_a_pulled_comment(made):
    project, _, path = made
    for file in (project.folder / "workflow").rglob("*.smk"):
        file.write_text(file.read_text() + "\n# One more comment.\n")
    for file in stages(project):
        file.write_text(file.read_text() + "\n# One more comment.\n")
    assert project.planned(path) == {}


def test_a_pulled_commit_that_raises_a_version(made):
    project, _, path = made
    source = project.folder / "workflow/eliquare/tasks/finetune.py"
    text = source.read_text()
    source.write_text(re.sub(r"(?m)^VERSION = (\d+)", r"VERSION = 1\1", text))
    try:
        planned = project.planned(path)
    finally:
        source.write_text(text)
    assert planned == READ | {"finetuned": 16}


def test_a_deleted_intermediate(made):
    project, _, path = made
    folder = project.folder / "results/corpora/qaa/teacher/sentences/masking"
    away = folder.with_name("away")
    folder.rename(away)

    def change(config):
        config["students"]["pre"]["objective"] = {"temperature": 4.0}
        config["students"]["full"]["objective"] = {"temperature": 2.0}

    try:
        assert project.planned(path) == {}
        planned = changed(made, change)
    finally:
        away.rename(folder)
    again = {"masking": 1, "distilled_student": 2, "finetuned": 8, "measured": 2}
    assert planned == ALL_READ | again


def test_other_threads_and_another_partition(made):
    def change(config):
        config["students"]["pre"]["training"]["threads"] = 7
        config["finetuning"] = {"threads": 3}

    # The settings are written down anew, with what is read; nothing is trained or scored.
    assert changed(made, change) == ALL_READ
    project, _, path = made
    other = ("--set-resources", "distilled_student:slurm_partition=other", "finetuned:mem_mb=1")
    assert project.planned(path, *other) == {}
