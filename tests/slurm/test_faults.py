"""What happens to jobs, nodes, controllers, disks and Snakemake, on a real cluster.

It ends right, with the same bytes as if nothing had happened, and little is done twice.
"""

import signal
import subprocess
import time

import pytest

from slurm_project import (
    STUDENT,
    ClusterProject,
    edit,
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
    time.sleep(0.05)
    return _end(self, *arguments, **keywords)


Clock.on_step_end = _slow_end
"""


def slow_down(project: ClusterProject) -> None:
    with (project.folder / "workflow/eliquare/training/progress.py").open("a") as source:
        source.write(SLOW)


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
    status, printed = project.finish("--", STUDENT)
    assert status == 0, printed
    assert f"Still running, left by an earlier run: {job}." in printed
    # The job was waited for, and what it made was taken over.
    assert "Nothing to be done" in printed
    assert project.states() == ["COMPLETED"]
    assert weights(project) == undisturbed


def test_a_training_longer_than_its_job_goes_on_in_the_next(project, undisturbed):
    file = project.folder / "workflow/eliquare/training/progress.py"
    text = file.read_text()
    assert text.count("time.monotonic()") > 2
    # A clock that moves by a second each time that it is looked at, on any machine.
    clock = "import itertools\n\nSECONDS = itertools.count()\n"
    file.write_text(
        text.replace("import time\n", clock, 1).replace("time.monotonic()", "next(SECONDS)")
    )
    edit(
        project.folder / "config/test.yaml",
        lambda config: config["students"]["pre"]["training"].update(checkpoint_minutes=15),
    )
    project.edit_profile("set-resources", "distill", runtime=12)
    status, printed = project.finish("--", STUDENT)
    assert status == 0, printed
    states = project.states()
    assert len(states) > 1
    assert states[-1] == "COMPLETED"
    assert resumed_at(project)
    assert weights(project) == undisturbed


def test_the_disk_of_the_results_full(project, undisturbed):
    students = project.folder / "results/students/pre"
    students.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(students)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        # One attempt is enough: the disk stays full.
        options = ("--rerun-triggers", "params", "--")
        status, printed = project.finish("--retries", "0", *options, STUDENT)
        assert status != 0
        assert "cannot be written" in printed, printed
        assert "Make room" in printed
        assert not (project.folder / STUDENT).exists()
        subprocess.run(["mount", "-o", "remount,size=50m", str(students)], check=True)
        status, printed = project.finish(*options, STUDENT)
        assert status == 0, printed
        assert weights(project) == undisturbed
        assert not list(project.folder.glob("results/**/.*.partial"))
    finally:
        subprocess.run(["umount", str(students)], check=True)


def test_a_wrong_account_and_more_gpus_than_any_node_has(project: ClusterProject, undisturbed):
    project.edit_profile("default-resources", slurm_account="nobody")
    status, printed = project.finish("--", STUDENT)
    assert status != 0
    assert "The given account nobody appears to be invalid" in printed
    assert project.states() == []
    project.edit_profile("default-resources", slurm_account="lab")
    project.edit_profile("set-resources", "distill", gpu=5)
    status, printed = project.finish("--", STUDENT)
    assert status != 0
    assert "Requested node configuration is not available" in printed
    assert not (project.folder / STUDENT).exists()
    project.edit_profile("set-resources", "distill", gpu=4)
    status, printed = project.finish("--", STUDENT)
    assert status == 0, printed
    assert project.cluster.jobs(project.folder, "account")[-1] == ["lab"]
    assert weights(project) == undisturbed
