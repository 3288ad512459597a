"""What stages write down of their cost, and what the report makes of it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import results_tree

from eliquare import cost
from eliquare.reporting import costs, results

STAGE = """
import argparse, sys
from eliquare import stage
parser = argparse.ArgumentParser()
parser.add_argument("--output")
def run(arguments):
    sum(range(3_000_000))
    {what}
stage.main(parser, run)
"""


def start(folder, what="pass", **environment) -> subprocess.Popen:
    """Run a stage in a folder, as a module of its own."""
    (folder / "a_stage.py").write_text(STAGE.format(what=what))
    command = [sys.executable, "-m", "a_stage", "--output", "results/students/a/sl/distilled"]
    search = os.pathsep.join([str(folder), *sys.path])
    environment = {cost.FOLDER: "costs", "PYTHONPATH": search} | environment
    return subprocess.Popen(command, cwd=folder, env=os.environ | environment)


def lines(folder, name="students/a/sl/distilled.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / "costs" / name).read_text().splitlines()]


def test_an_attempt_says_what_it_took(tmp_path):
    assert start(tmp_path, SLURM_JOB_ID="7").wait() == 0
    begun, ended = lines(tmp_path)
    assert begun["attempt"] == ended["attempt"]
    assert "seconds" not in begun
    assert ended["stage"] == "a_stage"
    assert ended["job"] == "7"
    assert ended["done"]
    assert ended["gpus"] == 0
    assert 0 < ended["cpu_seconds"] <= 2 * ended["seconds"] + 1


def test_children_count(tmp_path):
    work = "import subprocess; subprocess.run([sys.executable, '-c', 'sum(range(60_000_000))'])"
    assert start(tmp_path, work).wait() == 0
    alone = tmp_path / "alone"
    alone.mkdir()
    assert start(alone).wait() == 0
    assert lines(tmp_path)[1]["cpu_seconds"] > lines(alone)[1]["cpu_seconds"]


@pytest.mark.parametrize(
    ("what", "code"),
    [("raise stage.InputError('no')", 2), ("raise stage.StoppedEarly('later')", 75), ("1 / 0", 1)],
)
def test_a_failed_attempt_is_told_too(tmp_path, what, code):
    assert start(tmp_path, what).wait() == code
    assert not lines(tmp_path)[-1]["done"]
    assert lines(tmp_path)[-1]["seconds"] > 0


def test_what_a_run_refused_is_refused_again_without_work(tmp_path, capfd):
    work = "open('worked', 'a').write('.'); raise stage.InputError('words.txt: no words')"

    def attempts(run: str, what=work) -> tuple[int, int]:
        """The exit code, and how often the stage has worked by now."""
        status = start(tmp_path, what, **{cost.RUN: run}).wait()
        return status, len((tmp_path / "worked").read_text())

    assert [attempts("one") for _ in range(3)] == [(2, 1)] * 3
    assert capfd.readouterr().err == "error: words.txt: no words\n" * 3
    # Not counted as attempts: they cost nothing.
    assert len(lines(tmp_path)) == 2
    # The next call tries it anew.
    assert attempts("another") == (2, 2)
    assert attempts("third", "open('worked', 'a').write('.')") == (0, 3)
    # A failure of another kind is tried again in full.
    assert attempts("fourth", "open('worked', 'a').write('.'); 1 / 0") == (1, 4)
    assert attempts("fourth", "open('worked', 'a').write('.')") == (0, 5)
    # By hand there is no run.
    assert [attempts(""), attempts("")] == [(2, 6), (2, 7)]


def test_nothing_is_written_unasked_or_outside_the_project(tmp_path):
    assert start(tmp_path, **{cost.FOLDER: ""}).wait() == 0
    assert not (tmp_path / "costs").exists()
    os.environ[cost.FOLDER] = "costs"
    try:
        assert cost.file_of("/somewhere/else") is None
    finally:
        del os.environ[cost.FOLDER]


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path):
    (tmp_path / "costs").write_text("a file is in the way")
    assert start(tmp_path).wait() == 0


def test_a_killed_attempt_has_begun_and_not_ended(tmp_path):
    process = start(tmp_path, "import time; time.sleep(60)")
    while not list(tmp_path.glob("costs/**/*.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (only,) = lines(tmp_path)
    assert "seconds" not in only


def test_gpus_are_those_that_were_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")
    assert cost.gpus_given() == 3
    monkeypatch.setenv("RANK", "2")
    assert cost.gpus_given() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cost.gpus_given() == 0


# The report


def attempt(number: int, stage: str, *, done=True, hours=1.0, gpus=0, job=None) -> list[str]:
    began = {"attempt": str(number), "stage": stage, "job": job}
    spent = {"done": done, "seconds": 3600 * hours, "cpu_seconds": 1800 * hours, "gpus": gpus}
    return [json.dumps(began), json.dumps(began | spent)]


DISTILLATION = "eliquare.distillation.training"


@pytest.fixture
def experiment(tmp_path):
    return results.read(results_tree.make(tmp_path), tmp_path)


def tell(experiment, name: str, told: list[str]) -> None:
    file = experiment.layout.results / "costs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(told) + "\n")


def test_costs_are_added_by_step_and_by_system(experiment):
    tell(experiment, "corpora/sl/documents.jsonl", attempt(1, "eliquare.corpus.articles", hours=3))
    stopped = attempt(2, DISTILLATION, done=False, hours=5, gpus=4)
    distilled = "students/full/sl/distilled"
    tell(experiment, f"{distilled}.jsonl", stopped + attempt(3, DISTILLATION, hours=2, gpus=4))
    tell(experiment, f"{distilled}.process-1.jsonl", attempt(4, DISTILLATION, hours=2, gpus=1))
    tell(
        experiment,
        "finetuned/sl-ner/pre/seed-1.jsonl",
        attempt(5, "eliquare.tasks.finetune", gpus=1),
    )
    # Of other experiments.
    tell(experiment, "finetuned/sl-ner/pre/seed-99.jsonl", attempt(6, "eliquare.tasks.finetune"))
    tell(experiment, "corpora/xx/documents.jsonl", attempt(7, "eliquare.corpus.articles"))
    made = costs.read(experiment)
    assert {step: spent.gpu_seconds / 3600 for step, spent in made.by_step.items()} == {
        "Documents": 0,
        "Distillation": 7 * 4 + 2,
        "Fine-tuning": 1,
    }
    assert {name: spent.seconds / 3600 for name, spent in made.by_system.items()} == {
        costs.SHARED: 3,
        "full": 9,
        "pre": 1,
    }
    assert made.total.cpu_seconds == 13 * 1800
    by_step, _ = costs.tables(experiment)
    assert by_step.header[3:] == ["Hours", "CPU-hours", "GPU-hours"]
    assert [cell.text for cell in by_step.rows[-1][3:]] == ["13.00", "6.50", "31.00"]


def test_a_short_run_is_told_in_minutes(experiment):
    tell(experiment, "students/pre/sl/distilled.jsonl", attempt(1, DISTILLATION, hours=0.5, gpus=2))
    by_step, _ = costs.tables(experiment)
    assert by_step.header[3:] == ["Minutes", "CPU-minutes", "GPU-minutes"]
    assert [cell.text for cell in by_step.rows[-1][3:]] == ["30.0", "15.0", "60.0"]


def test_what_was_made_again_costs_its_last_making(experiment):
    first = attempt(1, DISTILLATION, hours=100)
    again = attempt(2, DISTILLATION, done=False, hours=1) + attempt(3, DISTILLATION, hours=2)
    unfinished = attempt(4, DISTILLATION, done=False, hours=50)
    tell(experiment, "students/pre/sl/distilled.jsonl", first + again + unfinished)
    assert costs.read(experiment).total.seconds == 3 * 3600


def test_a_killed_attempt_is_named(experiment):
    begun = attempt(1, DISTILLATION)[:1]
    tell(experiment, "students/pre/sl/distilled.jsonl", begun + attempt(2, DISTILLATION))
    by_step, by_system = costs.tables(experiment)
    assert by_step.rows[-1][2].value == 2
    assert "Not counted: 1 attempts" in by_system.notes[0]


def test_nothing_written_down_is_no_table(experiment):
    assert costs.tables(experiment) == []


def test_energy_is_shared_out_among_the_attempts_of_a_job(experiment, tmp_path, monkeypatch):
    """Energy comes from an answer written by hand: the cluster of these tests measures none
    (AcctGatherEnergyType is acct_gather_energy/none), and its sacct says 0 for every step, as here
    for job 14. So no figure of a real cluster is tested."""
    programs = tmp_path / "programs"
    programs.mkdir()
    sacct = programs / "sacct"
    told = ["12|", "12.batch|3600000", "12.0|7200000", "13.batch|18446744073709551614"]
    told += ["14|0", "14.batch|0", "14.0|0"]
    sacct.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in told))
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    tell(experiment, "students/pre/sl/distilled.jsonl", attempt(1, DISTILLATION, job="12"))
    finetuned = attempt(2, "eliquare.tasks.finetune", hours=3, job="12")
    tell(experiment, "finetuned/sl-ner/pre/seed-1.jsonl", finetuned)
    tell(experiment, "students/pre/sw/distilled.jsonl", attempt(3, DISTILLATION, job="13"))
    tell(experiment, "students/full/sl/distilled.jsonl", attempt(4, DISTILLATION, job="14"))
    by_step, _ = costs.tables(experiment)
    energy = {row[0].text: row[-1].value for row in by_step.rows}
    assert energy == {"Distillation": 0.5, "Fine-tuning": 1.5, "Total": 2.0}
