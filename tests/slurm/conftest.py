"""A real Slurm cluster on this machine, and a project whose distillation is ready to be submitted.

Each worker of pytest has a cluster of its own. Without Slurm, or without root, which slurmd needs,
these tests are skipped, and say so.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tiny_project import Project, tiny

SCRIPT = Path(__file__).with_name("slurm-cluster")
DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "munged")
STUDENT = "results/students/pre/qaa/distilled"
CHECKPOINTS = Path(f"{STUDENT}-checkpoints")
INTERVAL = 80  # steps between two checkpoints
# Polled often: what takes minutes on a real cluster takes seconds here.
QUICK = (
    "--slurm-init-seconds-before-status-checks=1",
    "--max-status-checks-per-second=1",
    "--latency-wait=5",
)


def missing() -> str | None:
    """Why there can be no cluster here, in words; None if there can."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    absent = [name for name in DAEMONS if not shutil.which(name, path=path)]
    if absent:
        return (
            f"no Slurm here ({', '.join(absent)} missing): "
            "`tests/slurm/slurm-cluster install` installs it on Debian, as root"
        )
    if os.geteuid() != 0:
        return "Slurm is installed, but its slurmd needs root: run these tests as root"
    return None


class Cluster:
    """The cluster of one folder, by the script that makes it."""

    def __init__(self, folder: Path, worker: int):
        port = str(26817 + 40 * worker)
        self.environment = os.environ | {"SLURMLAB_DIR": str(folder), "SLURMLAB_PORT": port}

    def __call__(self, *words: str) -> str:
        """Run a verb of the script; returns what it prints."""
        done = subprocess.run(
            [str(SCRIPT), *words],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def environment_of_user(self) -> dict[str, str]:
        """What a user's shell has that works with this cluster."""
        words = self("exec", "env", "-0").split("\0")
        return dict(word.split("=", 1) for word in words if "=" in word)

    def jobs(self, folder: Path, *columns: str) -> list[list[str]]:
        """Chosen columns of sacct for each job that was submitted from a folder, and each time that
        it was begun again."""
        rows = self(
            "exec", "sacct", "-X", "-D", "-n", "-P", "-o", ",".join(["workdir", *columns])
        ).splitlines()
        return [row.split("|")[1:] for row in rows if row.split("|")[0] == str(folder)]

    def queue(self, folder: Path) -> list[str]:
        """Numbers of the jobs of a folder that run or wait."""
        rows = self("exec", "squeue", "-h", "-o", "%i|%Z").splitlines()
        return [row.split("|")[0] for row in rows if row.split("|")[1] == str(folder)]


@pytest.fixture(scope="session")
def cluster(worker_id: str) -> Iterator[Cluster]:
    """A cluster for the tests of one worker."""
    if reason := missing():
        pytest.skip(reason)
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "cluster"
        cluster = Cluster(folder, number)
        try:
            cluster("up")
            yield cluster
        finally:
            cluster("down")


class ClusterProject(Project):
    """A project whose snakemake submits to the cluster."""

    def __init__(self, folder: Path, cluster: Cluster, like: Project | None = None):
        self.cluster = cluster
        self.environment = cluster.environment_of_user()
        self.started = []
        if like is None:
            super().__init__(folder)
        else:
            shutil.copytree(like.folder, folder, symlinks=True, dirs_exist_ok=True)
            self.folder = folder

    def submit(self, *options: str, **keywords) -> subprocess.Popen:
        """Start `snakemake --profile slurm` with the test's configuration."""
        words = ("--profile", "slurm", *QUICK, *options, "--configfile", "config/test.yaml")
        process = self.start(*words, environment=self.environment, **keywords)
        self.started.append(process)
        return process

    def edit_profile(self, *section: str, **values) -> None:
        """Set values in a section of the profile, as a user does. On the command line, one
        --set-resources would take the place of all that the profile sets."""
        path = self.folder / "workflow/profiles/slurm/config.yaml"
        profile = yaml.safe_load(path.read_text())
        place = profile
        for key in section:
            place = place[key]
        place.update(values)
        path.write_text(yaml.safe_dump(profile))

    def finish(self, *options: str, timeout: float = 900) -> tuple[int, str]:
        """Run it to its end; returns its exit status and what it printed."""
        return ended(self.submit(*options), timeout)

    def close(self) -> None:
        """End what a failed test left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
        if jobs := self.cluster.queue(self.folder):
            self.cluster("exec", "scancel", *jobs)

    def states(self) -> list[str]:
        """The state of each job of this project, in the order of their starts."""
        return [state.split()[0] for (state,) in self.cluster.jobs(self.folder, "state")]


def ended(process: subprocess.Popen, timeout: float = 900) -> tuple[int, str]:
    """Wait for a process; its exit status and what it printed. It is ended if it hangs."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        pytest.fail(f"no end after {timeout} s:\n{output[-6000:]}")
    return process.returncode, output


def under_way(project: ClusterProject) -> str:
    """Wait until the distillation has saved a checkpoint; the number of its job."""

    def saved():
        return list((project.folder / CHECKPOINTS).glob("checkpoint-*/state.json"))

    until(saved, "a checkpoint")
    return project.cluster.queue(project.folder)[0]


def weights(project: ClusterProject) -> bytes:
    return (project.folder / STUDENT / "model.safetensors").read_bytes()


def resumed_at(project: ClusterProject) -> int:
    """The step at which the last job of the distillation went on, from its log."""
    log = (project.folder / "logs/distilled_student/pre-qaa.log").read_text()
    found = re.search(r"going on from \S*checkpoint-(\d+)", log)
    assert found, log
    return int(found[1])


def nothing_half_written(project: ClusterProject) -> bool:
    return not list(project.folder.glob("results/**/.*.partial"))


def until(condition: Callable[[], object], what: str, seconds: float = 300) -> object:
    """What ``condition`` gives once it is true; fails after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail(f"not within {seconds} s: {what}")


def one_language(name: str) -> dict:
    """One language whose own teacher is distilled for some twenty seconds."""
    config = tiny(name)
    config["languages"] = {"qaa": config["languages"]["qaa"]}
    del config["mixtures"]
    config["teachers"]["teacher"]["corpus"] = "qaa"
    config["students"] = {
        "pre": {
            "teacher": "teacher",
            "layers": 1,
            "training": {"steps": 800, "batch_size": 8, "validations": 10, "threads": 1},
        }
    }
    config["tasks"] = {"qaa-upos": config["tasks"]["qaa-upos"]}
    config["experiment"]["systems"] = ["pre"]
    config["experiment"].pop("baseline", None)
    return config


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Project:
    """A project in which everything but the distillation is made."""
    project = Project(tmp_path_factory.mktemp("prepared"))
    path = project.configure(one_language("faults"))
    project.make(
        path, "results/students/pre/qaa/initial", "results/corpora/qaa/teacher/full/masking"
    )
    return project


@pytest.fixture(scope="session")
def undisturbed(prepared, tmp_path_factory) -> bytes:
    """The weights of the student that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared.folder, folder, symlinks=True, dirs_exist_ok=True)
    project = Project.__new__(Project)
    project.folder = folder
    project.make(folder / "config/test.yaml", STUDENT)
    return (folder / STUDENT / "model.safetensors").read_bytes()


@pytest.fixture
def project(prepared, cluster, tmp_path) -> Iterator[ClusterProject]:
    """A project of the test's own, ready to distil on the cluster."""
    project = ClusterProject(tmp_path, cluster, like=prepared)
    yield project
    project.close()
