"""What happens to jobs, nodes, controllers and Snakemake, on a real cluster.

It ends right, with the same bytes as if nothing had happened, and little is done twice.
"""

import signal
import time

import pytest

from slurm_project import (
    STUDENT,
    ClusterProject,
    ended,
    forget_log,
    goes_on,
    resumed_at,
    under_way,
    until,
    weights,
)

pytestmark = pytest.mark.timeout(2400)

# The first command of a job fails, that of the next one hangs.
BREAKING = (
    "n=$(cat broken 2>/dev/null || echo 0); echo $((n + 1)) > broken;"
    " if [ $n = 0 ]; then echo the disk is tired >&2; exit 1; fi;"
    " if [ $n = 1 ]; then sleep 300; fi; "
)


# Steps that take time without a processor: long enough for what is done to their job meanwhile.
SLOW = """

_end = Clock.on_step_end


def _slow_end(self, *arguments, **keywords):
    time.sleep(0.1 if os.path.exists("slow") else 0)
    return _end(self, *arguments, **keywords)


Clock.on_step_end = _slow_end
"""


def slow_down(project: ClusterProject) -> None:
    """Make the steps of a training slow, as long as there is a file ``slow``."""
    with (project.folder / "workflow/eliquare/training/progress.py").open("a") as source:
        source.write(SLOW)
    (project.folder / "slow").touch()


def test_failed_and_timed_out_jobs_are_submitted_again_with_more(project, undisturbed):
    with (project.folder / "workflow/rules/common.smk").open("a") as rules:
        rules.write(f"\nshell.prefix({BREAKING!r})\n")
    process = project.submit("--", STUDENT)
    broken = project.folder / "broken"
    until(lambda: broken.exists() and broken.read_text().strip() == "2", "the second job")
    project.cluster("expire", project.cluster.queue(project.folder)[0])
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["FAILED", "TIMEOUT", "COMPLETED"]
    assert "status is: 'TIMEOUT'" in printed
    asked = project.cluster.jobs(project.folder, "reqmem", "timelimitraw")
    memory = [int(row[0].removesuffix("M")) for row in asked]
    minutes = [int(row[1]) for row in asked]
    assert memory == pytest.approx([memory[0], 2 * memory[0], 3 * memory[0]], abs=2)
    # That of the second one was cut to let it run out.
    assert minutes[2] == 3 * minutes[0]
    assert weights(project) == undisturbed


def test_a_training_outlives_a_cancelled_job_a_preemption_and_a_lost_node(project, undisturbed):
    slow_down(project)
    process = project.submit("--", STUDENT)
    job = under_way(project)
    forget_log(project)
    project.cluster("exec", "scancel", job)
    until(lambda: goes_on(project), "a job after the cancelled one")
    forget_log(project)
    project.cluster("exec", "sbatch", "-p", "gpu-hi", "--gpus=4", "--wrap", "sleep 3")
    until(lambda: goes_on(project), "the preempted job again")
    project.cluster("kill-node", "g1")
    try:
        until(lambda: "down" in project.cluster("exec", "sinfo", "-h", "-n", "g1"), "node down")
    finally:
        project.cluster("start-node", "g1")
    (project.folder / "slow").unlink()
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["CANCELLED", "PREEMPTED", "NODE_FAIL", "COMPLETED"]
    assert "status is: 'CANCELLED'" in printed
    assert resumed_at(project)
    assert weights(project) == undisturbed


def test_the_controller_killed_and_then_snakemake_with_a_job_running(project, undisturbed):
    slow_down(project)
    process = project.submit("--", STUDENT)
    job = under_way(project)
    project.cluster("kill-controller")
    time.sleep(5)
    project.cluster("start-controller")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (project.folder / "slow").unlink()
    status, printed = project.finish("--", STUDENT)
    assert status == 0, printed
    assert f"Still running, left by an earlier run: {job}." in printed
    # The job was waited for, and what it made was taken over.
    assert "Nothing to be done" in printed
    assert project.states() == ["COMPLETED"]
    assert weights(project) == undisturbed
