"""What happens to single jobs, on a real cluster: it ends right, and little is done twice."""

import json
import re
import signal

import pytest
from conftest import INTERVAL, STUDENT, ClusterProject, ended, resumed_at, under_way, until, weights

pytestmark = pytest.mark.timeout(2400)


def break_once(project: ClusterProject, command: str) -> None:
    """Let the first command of a job be another one, once."""
    with (project.folder / "workflow/rules/common.smk").open("a") as rules:
        rules.write(f'\nshell.prefix("[ -e broken ] || {{{{ touch broken; {command}; }}}}; ")\n')


def test_a_job_that_fails_once_is_submitted_again(project, undisturbed):
    break_once(project, "echo the disk is tired >&2; exit 1")
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    assert project.states() == ["FAILED", "COMPLETED"]
    assert "status is: 'FAILED'" in printed
    asked = project.cluster.jobs(project.folder, "reqmem", "timelimitraw")
    (memory, minutes), (more_memory, more_minutes) = [
        (int(memory.removesuffix("M")), int(minutes)) for memory, minutes in asked
    ]
    assert more_memory == pytest.approx(2 * memory, abs=1)
    assert more_minutes == 2 * minutes
    assert weights(project) == undisturbed


def test_a_users_mistake_is_found_once_and_mended_by_the_next_call(project, undisturbed):
    tokenizer = project.folder / "results/students/pre/qaa/initial/tokenizer.json"
    whole = tokenizer.read_text()
    tokenizer.write_text(whole.replace('"[MASK]"', '"[COVER]"'))
    status, printed = project.finish(STUDENT)
    assert status != 0
    assert project.states() == ["FAILED"] * 3
    assert len(re.findall("error: .* have different sub-words", printed)) == 3, printed
    told = project.folder / "results/costs/students/pre/qaa/distilled.jsonl"
    # One attempt at work, with its begin and its end.
    assert len(told.read_text().splitlines()) == 2
    tokenizer.write_text(whole)
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    assert weights(project) == undisturbed


def test_a_job_over_its_time_limit_is_submitted_again(project, undisturbed):
    break_once(project, "sleep 300")
    process = project.submit(STUDENT)
    until((project.folder / "broken").exists, "the job")
    project.cluster("expire", project.cluster.queue(project.folder)[0])
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["TIMEOUT", "COMPLETED"]
    assert "status is: 'TIMEOUT'" in printed
    assert weights(project) == undisturbed


def test_a_job_cancelled_by_hand_goes_on_where_it_was(project, undisturbed):
    process = project.submit(STUDENT)
    project.cluster("exec", "scancel", under_way(project))
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["CANCELLED", "COMPLETED"]
    assert "status is: 'CANCELLED'" in printed
    assert resumed_at(project) >= INTERVAL
    assert weights(project) == undisturbed


def test_a_preempted_job_goes_on_when_there_is_room(project, undisturbed):
    process = project.submit(STUDENT)
    under_way(project)
    project.cluster("exec", "sbatch", "-p", "gpu-hi", "--gpus=4", "--wrap", "sleep 3")
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["PREEMPTED", "COMPLETED"]
    assert resumed_at(project) >= INTERVAL
    assert weights(project) == undisturbed


def test_a_training_longer_than_its_job_goes_on_in_the_next(project, undisturbed):
    stopping = project.folder / "workflow/eliquare/training/stopping.py"
    text = stopping.read_text()
    assert text.count("time.monotonic()") == 2
    # A clock on which each step takes two seconds, whatever the machine: 270 steps fit in a job.
    text = text.replace("import time\n", "import itertools\n\nSECONDS = itertools.count(0, 2)\n")
    stopping.write_text(text.replace("time.monotonic()", "next(SECONDS)"))
    project.edit_profile("set-resources", "distilled_student", runtime=12)
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    assert len(project.states()) == 3
    assert project.states()[-1] == "COMPLETED"
    history = (project.folder / STUDENT / "history.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, history) if "learning_rate" in line]
    assert steps == sorted(set(steps))
    assert weights(project) == undisturbed


def test_snakemake_killed_with_a_job_running(project, undisturbed):
    process = project.submit(STUDENT)
    job = under_way(project)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    assert f"Still running, of an earlier run: {job}." in printed
    assert "An earlier run was killed; its lock is removed." in printed
    assert project.states() == ["COMPLETED"]
    assert weights(project) == undisturbed
