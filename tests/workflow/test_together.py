"""Students on one pass of their teacher: trained in one job, the same bytes, nothing made again."""

import shutil
from pathlib import Path

import pytest
from conftest import Project, tiny

STUDENTS = ("full", "hotter", "masked")


def outputs(*students: str) -> list[str]:
    return [f"results/students/{name}/qaa/distilled" for name in students]


def configured(project: Project, share: bool, *more: str) -> Path:
    """One language, and a teacher of it alone: few steps before the distillations."""
    config = tiny("together")
    config["mixtures"] = {}
    config["teachers"]["teacher"]["corpus"] = "qaa"
    students = {"full": config["students"]["pre"] | {"vocabulary": "full", "rule": None}}
    students["hotter"] = {"like": "full", "objective": {"temperature": 4.0}}
    students["masked"] = {"like": "full", "objective": {"positions": "masked"}}
    students["later"] = {"like": "full", "objective": {"temperature": 8.0}}
    config["students"] = students
    config["experiment"]["release"] = []
    config["experiment"] |= {"systems": [*STUDENTS, *more], "share_teacher": share}
    return project.configure(config, f"share-{share}-{len(more)}.yaml")


def logs(project: Project) -> dict[str, str]:
    folder = project.folder / "logs/distilled_student"
    return {path.name.partition("-")[0]: path.read_text() for path in folder.iterdir()}


def weights(project: Project) -> dict[str, bytes]:
    folders = zip(STUDENTS, outputs(*STUDENTS), strict=True)
    return {
        name: (project.folder / folder / "model.safetensors").read_bytes()
        for name, folder in folders
    }


@pytest.fixture(scope="module")
def alone(project: Project) -> tuple[Project, dict[str, bytes]]:
    """Every student trained by itself."""
    project.make(configured(project, False), *outputs(*STUDENTS))
    assert all("beside" not in log for log in logs(project).values())
    return project, weights(project)


def test_the_key_makes_nothing_again(alone):
    project, _ = alone
    assert project.planned(configured(project, True), "--", *outputs(*STUDENTS)) == {}


def test_one_job_trains_them_all_to_the_same_bytes(alone):
    project, expected = alone
    for output in outputs(*STUDENTS):
        shutil.rmtree(project.folder / output)
    # A student at its start is an input of its own job alone, and still none is left behind.
    shutil.rmtree(project.folder / "results/students/masked/qaa/initial")
    config = configured(project, True)
    planned = project.planned(config, "--", *outputs(*STUDENTS))
    assert planned == {"initial_student": 1, "distilled_student": 3}
    project.make(config, *outputs(*STUDENTS))
    said = logs(project)
    trained = [name for name in STUDENTS if "2 more beside it" in said[name]]
    assert len(trained) == 1, said
    for name in STUDENTS:
        assert ("going on from" in said[name]) == (name not in trained), said[name]
    assert weights(project) == expected
    assert not list(project.folder.glob("results/students/*/qaa/*-checkpoints"))
    assert project.planned(configured(project, False), "--", *outputs(*STUDENTS)) == {}


def test_one_more_student_trains_no_other(alone):
    project, expected = alone
    config = configured(project, True, "later")
    wanted = outputs(*STUDENTS, "later")
    assert project.planned(config, "--", *wanted) == {"initial_student": 1, "distilled_student": 1}
    project.make(config, *wanted)
    assert "beside" not in logs(project)["later"]
    assert weights(project) == expected
    assert project.planned(config, "--", *wanted) == {}
