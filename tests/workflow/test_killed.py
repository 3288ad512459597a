"""The whole flow killed with SIGKILL in the middle of its expensive stages, and started again."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import Project, tiny

# Rule, and what appears while the rule is at work.
STATE = "-checkpoints/checkpoint-*/state.json"
EXPENSIVE = {
    "articles": "results/corpora/*/.documents.partial",
    "sequences": "results/corpora/*/teacher/*/.sequences.partial",
    "pretrained_teacher": f"results/teachers/teacher/model{STATE}",
    "distilled_student": f"results/students/*/qaa/distilled{STATE}",
    "finetuned": "results/finetuned/qaa-upos/*/.seed-1.partial",
}


def longer(name: str) -> dict:
    """Trainings long enough to be caught between two checkpoints."""
    config = tiny(name)
    budget = {"steps": 40, "batch_size": 4, "validations": 8, "threads": 1}
    config["teachers"]["teacher"]["training"] = budget
    config["students"]["pre"]["training"] = budget
    config["finetuning"] |= {"epochs": 60}
    config["experiment"]["systems"] = ["pre", "scratch"]
    return config


def kill_when(project: Project, options: tuple[str, ...], pattern: str) -> str | None:
    """Start snakemake, and kill it with all its children once it has made or changed a file.

    Returns None, or what it printed if it ended before. What an earlier killed run left does not
    count.
    """

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in project.folder.glob(pattern)}

    before = times()
    process = project.start(*options, start_new_session=True)
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if times().items() - before.items():
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return None
        time.sleep(0.01)
    return process.communicate()[0]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Models, predictions, metrics and tables below results, without what holds a time."""
    timed = ("tables.json", "speed.csv", "speed.md", "speed.tex", "history.jsonl")
    wanted = ("*.safetensors", "metrics.json", "predictions.jsonl", "tables/*", "*.arrow", "*.zst")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for pattern in wanted
        for file in sorted((folder / "results").rglob(pattern))
        if file.name not in timed
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """What a run gives that nobody kills."""
    project = Project(tmp_path_factory.mktemp("undisturbed"))
    project.make(project.configure(longer("killed")))
    return bytes_of(project.folder)


def test_a_run_killed_in_each_expensive_stage_gives_the_same_bytes(undisturbed, tmp_path):
    project = Project(tmp_path)
    path = project.configure(longer("killed"))
    options = ("--cores", "2", "--configfile", str(path), "--nolock")
    for rule, pattern in EXPENSIVE.items():
        ended = kill_when(project, options, pattern)
        assert ended is None, f"{rule} was not caught at work:\n{ended[-3000:]}"
    project.make(path, "--nolock")
    assert len(undisturbed) > 20
    assert bytes_of(tmp_path) == undisturbed
    assert not [*tmp_path.glob("results/**/.*.partial"), *tmp_path.glob("results/**/*-checkpoints")]
