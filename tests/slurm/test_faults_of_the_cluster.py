"""What clusters and disks do, on a real cluster: it ends right, and little is done twice."""

import subprocess
import time

import pytest
from conftest import (
    INTERVAL,
    STUDENT,
    ended,
    nothing_half_written,
    resumed_at,
    under_way,
    until,
    weights,
)

pytestmark = pytest.mark.timeout(2400)


def test_a_node_lost_in_the_middle_of_a_distillation(project, undisturbed):
    process = project.submit(STUDENT)
    under_way(project)
    project.cluster("kill-node", "g1")
    try:
        until(lambda: "down" in project.cluster("exec", "sinfo", "-h", "-n", "g1"), "node down")
    finally:
        project.cluster("start-node", "g1")
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["NODE_FAIL", "COMPLETED"]
    assert resumed_at(project) >= INTERVAL
    assert weights(project) == undisturbed


def test_the_controller_killed_and_started_again(project, undisturbed):
    process = project.submit(STUDENT)
    under_way(project)
    project.cluster("kill-controller")
    time.sleep(15)
    project.cluster("start-controller")
    status, printed = ended(process)
    assert status == 0, printed
    assert project.states() == ["COMPLETED"]
    assert weights(project) == undisturbed


def test_the_disk_of_the_results_full(project, undisturbed):
    students = project.folder / "results/students/pre"
    initial = {file: file.read_bytes() for file in (students / "qaa/initial").iterdir()}
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(students)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        (students / "qaa/initial").mkdir(parents=True)
        for file, content in initial.items():
            file.write_bytes(content)
        # One attempt is enough: the disk stays full.
        status, printed = project.finish(STUDENT, "--rerun-triggers", "params", "--retries", "0")
        assert status != 0
        assert "No space left on device" in printed or "Make room" in printed, printed
        assert not (project.folder / STUDENT).exists()
        subprocess.run(["mount", "-o", "remount,size=50m", str(students)], check=True)
        status, printed = project.finish(STUDENT, "--rerun-triggers", "params")
        assert status == 0, printed
        assert weights(project) == undisturbed
        assert nothing_half_written(project)
    finally:
        subprocess.run(["umount", str(students)], check=True)


def test_more_gpus_than_any_node_has(project, undisturbed):
    project.edit_profile("set-resources", "distilled_student", gpu=5)
    status, printed = project.finish(STUDENT)
    assert status != 0
    assert "-p gpu " in printed
    assert "Requested node configuration is not available" in printed
    assert not (project.folder / STUDENT).exists()
    project.edit_profile("set-resources", "distilled_student", gpu=4)
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    assert weights(project) == undisturbed


def test_a_wrong_account(project, undisturbed):
    profile = project.folder / "workflow/profiles/slurm/config.yaml"
    text = profile.read_text()
    profile.write_text(text.replace("# slurm_account: your-account", "slurm_account: nobody"))
    status, printed = project.finish(STUDENT)
    assert status != 0
    assert "The given account nobody appears to be invalid" in printed
    assert project.states() == []
    profile.write_text(text.replace("# slurm_account: your-account", "slurm_account: lab"))
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    assert project.cluster.jobs(project.folder, "account") == [["lab"]]
    assert weights(project) == undisturbed
