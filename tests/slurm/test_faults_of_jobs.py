"""What happens to single jobs, on a real cluster: it ends right, and little is done twice."""

import json
import signal

import pytest
from conftest import INTERVAL, STUDENT, ClusterProject, ended, resumed_at, under_way, until, weights

pytestmark = pytest.mark.timeout(400)


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
    rules = project.folder / "workflow/rules/resources.smk"
    text = rules.read_text()
    start = text.index("    STOP_IN_TIME = (")
    end = text.index("    GO_ON_LATER = (")
    # Seconds in place of a job's hours.
    rules.write_text(text[:start] + '    STOP_IN_TIME = " --max-minutes 0.04"\n' + text[end:])
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    states = project.states()
    assert len(states) >= 3, states
    assert states[-1] == "COMPLETED"
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
