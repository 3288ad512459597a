"""What a change makes again: exactly what depends on it, counted in jobs."""

import copy
import json
import re
import shutil

import pytest
from conftest import Project, tiny

# A change of the experiment renews its settings and everything that people read.
READ = {"settings": 1, "tables": 1, "plots": 1, "released_model": 1, "report": 1}


@pytest.fixture(scope="module")
def done(project: Project):
    """The tiny configuration, made once."""
    config = tiny("reruns")
    path = project.configure(config)
    project.make(path)
    return project, config, path


def changed(done, change) -> dict[str, int]:
    """The jobs planned after ``change(config)``, without doing them."""
    project, config, _ = done
    other = copy.deepcopy(config)
    change(other)
    return project.planned(project.configure(other, "changed.yaml"))


def test_nothing_is_made_twice(done):
    project, _, path = done
    assert project.planned(path) == {}


def test_the_report_says_what_the_run_cost(done):
    project, _, _ = done
    page = (project.folder / "results/reruns/report.html").read_text()
    section = page.partition("What this run cost")[2]
    for step in ("Documents", "Training of teachers", "Distillation", "Fine-tuning"):
        assert f'<th scope="row">{step}</th>' in section
    told = project.folder / "results/costs/students/pre/qaa/distilled.jsonl"
    assert json.loads(told.read_text().splitlines()[-1])["done"]


def test_the_order_of_keys_and_a_new_title_are_nothing_to_the_models(done):
    def change(config):
        config["title"] = "Another title"
        config["students"]["pre"] = dict(reversed(config["students"]["pre"].items()))

    assert changed(done, change) == READ


def test_one_more_seed(done):
    def change(config):
        config["experiment"]["seeds"] = [1, 2]

    assert changed(done, change) == READ | {"finetuned": 3}


def test_one_more_task(done):
    def change(config):
        config["experiment"]["tasks"] = ["qaa-upos", "qaa-topic"]

    # The vocabulary report counts the unknown sub-words of each task.
    assert changed(done, change) == READ | {
        "finetuned": 3,
        "vocabulary_report": 1,
        "verified_student": 1,
    }


def test_one_more_student(done):
    def change(config):
        config["students"]["hotter"] = {"like": "pre", "objective": {"temperature": 4.0}}
        config["experiment"]["systems"] = ["pre", "post", "scratch", "hotter"]

    new = {"initial_student": 1, "distilled_student": 1, "finetuned": 1, "measured": 1}
    assert changed(done, change) == READ | new


def test_one_more_language(done):
    def change(config):
        config["experiment"]["languages"] = ["qaa", "qab"]
        config["experiment"]["tasks"] = ["qaa-upos", "qab-ner"]

    new = {
        # The teacher, its corpus and the dump of qab (part of the mixture) are there already.
        "sequences": 2,
        "counts": 2,
        "masking": 2,
        "kept": 1,
        "reduced_teacher": 1,
        "vocabulary_report": 1,
        "initial_student": 3,
        "distilled_student": 2,
        "reduced_student": 1,
        "verified_student": 1,
        "finetuned": 3,
        "measured": 3,
    }
    assert changed(done, change) == READ | {"released_model": 2} | new


def test_one_hyper_parameter_of_one_student(done):
    def change(config):
        config["students"]["pre"]["objective"] = {"temperature": 4.0}
        # full and scratch are like pre; they keep what they had.
        for student in ("full", "scratch"):
            config["students"][student]["objective"] = {"temperature": 2.0}

    again = {"distilled_student": 1, "finetuned": 1, "measured": 1}
    assert changed(done, change) == READ | again


def test_threads_change_nothing_but_the_settings(done):
    def change(config):
        config["teachers"]["teacher"]["training"]["threads"] = 2

    assert changed(done, change) == READ


def test_a_comment_makes_nothing_again(done):
    project, _, path = done
    for file in ("workflow/eliquare/distillation/training.py", "workflow/rules/distillation.smk"):
        with (project.folder / file).open("a") as source:
            source.write("\n# One more comment.\n")
    assert project.planned(path) == {}


def test_a_raised_version_makes_its_stage_again(done):
    project, _, path = done
    source = project.folder / "workflow/eliquare/models/student.py"
    text = source.read_text()
    source.write_text(
        re.sub(r"^VERSION = (\d+)", lambda m: f"VERSION = {int(m[1]) + 1}", text, flags=re.M)
    )
    try:
        planned = project.planned(path)
    finally:
        source.write_text(text)
    again = {"initial_student": 3, "distilled_student": 2, "reduced_student": 1}
    again |= {"verified_student": 1, "finetuned": 3, "measured": 3}
    # The settings are the same as before.
    assert planned == {rule: count for rule, count in READ.items() if rule != "settings"} | again


def test_a_touched_task_file_with_the_same_content(done):
    project, _, path = done
    file = project.folder / "resources/demo/tasks/qaa/upos/test.conllu"
    content = file.read_bytes()
    file.write_bytes(content)
    assert project.planned(path) == {}


def test_two_experiments_share_a_student(done):
    def change(config):
        config["name"] = "another"

    assert changed(done, change) == READ


def test_a_deleted_intermediate_is_made_only_where_something_needs_it(done):
    project, _, path = done
    kept = project.folder / "kept"
    folder = project.folder / "results/corpora/qaa/teacher/sentences/masking"
    shutil.move(folder, kept)

    def change(config):
        config["students"]["hotter"] = {"like": "pre", "objective": {"temperature": 4.0}}
        config["experiment"]["systems"] = ["pre", "post", "scratch", "hotter"]

    try:
        assert project.planned(path) == {}
        planned = changed(done, change)
    finally:
        shutil.move(kept, folder)
    assert planned["masking"] == 1
    assert "sequences" not in planned


@pytest.fixture
def every_recipe_is_tried(done):
    """The same project, in which every training counts as long enough to be tried first."""
    project, _, _ = done
    rules = project.folder / "workflow/eliquare/trials.py"
    text = rules.read_text()
    assert "\nLONG = 1_000_000\n" in text
    rules.write_text(text.replace("\nLONG = 1_000_000\n", "\nLONG = 1\n"))
    yield project
    rules.write_text(text)


def hotter(config):
    config["students"]["hotter"] = {"like": "pre", "objective": {"temperature": 4.0}}
    config["experiment"]["systems"] = ["pre", "post", "scratch", "hotter"]


def test_what_was_trained_untried_is_not_made_again(done, every_recipe_is_tried):
    _, _, path = done
    assert every_recipe_is_tried.planned(path) == {}


def test_a_changed_recipe_is_tried_first(done, every_recipe_is_tried):
    def change(config):
        config["students"]["pre"]["objective"] = {"temperature": 4.0}
        for student in ("full", "scratch"):
            config["students"][student]["objective"] = {"temperature": 2.0}

    again = {"smoke_student": 1, "distilled_student": 1, "finetuned": 1, "measured": 1}
    assert changed(done, change) == READ | again


def test_a_changed_teacher_is_tried_first(done, every_recipe_is_tried):
    def change(config):
        config["teachers"]["teacher"]["training"]["steps"] = 5

    planned = changed(done, change)
    assert planned["smoke_teacher"] == planned["pretrained_teacher"] == 1
    # The students are trained again as they were: without a trial.
    assert "smoke_student" not in planned


def test_a_tried_student_does_not_need_its_smoke_result_again(done, every_recipe_is_tried):
    project, config, _ = done
    other = copy.deepcopy(config)
    hotter(other)
    path = project.configure(other, "tried.yaml")
    student = "results/students/hotter/qaa/distilled"
    assert project.planned(path, "--", student) == {
        "smoke_student": 1,
        "initial_student": 1,
        "distilled_student": 1,
    }
    project.make(path, target=student)
    assert project.planned(path, "--", student) == {}
    (smoked,) = (project.folder / "results/smoke").glob("hotter-qaa-*.json")
    smoked.unlink()
    assert project.planned(path, "--", student) == {}
