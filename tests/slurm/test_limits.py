"""What is too small on a real cluster: the time of a job, a disk, an account, a node.

It ends right, with the same bytes as if all had been large enough, or in one line that says why.
"""

import shutil
import subprocess

import pytest

from slurm_project import STUDENT, ClusterProject, edit, resumed_at, under_way, weights

pytestmark = pytest.mark.timeout(2400)


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
        lambda config: config["students"]["pre"]["training"].update(checkpoint_minutes=7),
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


def test_a_wrong_account_and_more_gpus_than_any_node_has(project: ClusterProject):
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
    project.submit("--", STUDENT)
    under_way(project)
    assert project.cluster.jobs(project.folder, "account")[-1] == ["lab"]


def test_a_cluster_without_accounting(prepared, without_accounting, tmp_path):
    project = ClusterProject(tmp_path, without_accounting, like=prepared)
    sacct = ["sh", "-c", "sacct > /dev/null 2>&1 || echo none"]
    assert without_accounting("exec", *sacct).strip() == "none"
    masking = project.folder / "results/corpora/qaa/teacher/full/masking"
    right = (masking / "weights.npy").read_bytes()
    shutil.rmtree(masking)
    try:
        status, printed = project.finish("--", str(masking.relative_to(project.folder)))
    finally:
        project.close()
    assert status == 0, printed
    assert (masking / "weights.npy").read_bytes() == right
