"""A real Slurm cluster on this machine, and projects whose snakemake submits to it."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tiny_project import Project, tiny

SCRIPT = Path(__file__).parent / "slurm" / "slurm-cluster"
DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "munged")
STUDENT = "results/students/pre/qaa/model"
LOG = "logs/distill/pre-qaa.log"
CHECKPOINTS = Path("results/students/pre/qaa/.model.checkpoints")
QUICK = ("--slurm-init-seconds-before-status-checks=1", "--latency-wait=5")
# The plugin waits ten seconds longer each time that it looks at its jobs; those here take seconds.
POLLED_OFTEN = """
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda _: 1, lambda *_: None)
"""


def missing() -> str | None:
    """Return why there can be no cluster here, in words; None if there can."""
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
    """The cluster of one folder, by the script that makes it; with sacct, or without."""

    def __init__(self, folder: Path, worker: int, accounting: bool = True):
        port = str(26817 + 40 * worker)
        self.environment = os.environ | {
            "SLURMLAB_DIR": str(folder),
            "SLURMLAB_PORT": port,
            "SLURMLAB_ACCOUNTING": str(int(accounting)),
        }

    def __call__(self, *words: str) -> str:
        """Run a verb of the script; return what it prints."""
        done = subprocess.run(
            [str(SCRIPT), *words],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def environment_of_user(self) -> dict[str, str]:
        """Return what a user's shell has that works with this cluster."""
        words = self("exec", "env", "-0").split("\0")
        return dict(word.split("=", 1) for word in words if "=" in word)

    def jobs(self, folder: Path, *columns: str) -> list[list[str]]:
        """Return columns of sacct for each job of a folder and each time it was begun again."""
        rows = self(
            "exec", "sacct", "-X", "-D", "-n", "-P", "-o", ",".join(["workdir", *columns])
        ).splitlines()
        return [row.split("|")[1:] for row in rows if row.split("|")[0] == str(folder)]

    def queue(self, folder: Path) -> list[str]:
        """Return the numbers of the jobs of a folder that run or wait."""
        rows = self("exec", "squeue", "-h", "-o", "%i|%Z").splitlines()
        return [row.split("|")[0] for row in rows if row.split("|")[1] == str(folder)]


class ClusterProject(Project):
    """A project whose snakemake submits to the cluster."""

    def __init__(self, folder: Path, cluster: Cluster, like: Project | None = None):
        super().__init__(folder, like)
        self.cluster = cluster
        self.environment = cluster.environment_of_user()
        self.started: list[subprocess.Popen[str]] = []
        with (self.folder / "workflow/rules/common.smk").open("a") as rules:
            rules.write(POLLED_OFTEN)

    def submit(self, *options: str, **keywords) -> subprocess.Popen:
        """Start `snakemake --profile slurm` with the test's configuration."""
        words = ("--profile", "slurm", *QUICK, "--configfile", "config/test.yaml", *options)
        process = self.start(*words, environment=self.environment, **keywords)
        self.started.append(process)
        return process

    def edit_profile(self, *section: str, **values) -> None:
        """Set values in a section of the profile, as a user does.

        On the command line, one --set-resources would take the place of all that the profile sets.
        """
        path = self.folder / "workflow/profiles/slurm/config.yaml"
        edit(path, lambda profile: place_in(profile, section).update(values))

    def finish(self, *options: str, timeout: float = 900) -> tuple[int, str]:
        """Run it to its end; return its exit status and what it printed."""
        return ended(self.submit(*options), timeout)

    def close(self) -> None:
        """End what a failed test left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
        if jobs := self.cluster.queue(self.folder):
            self.cluster("exec", "scancel", *jobs)

    def states(self) -> list[str]:
        """Return the state of each job of this project, in the order of their starts."""
        return [state.split()[0] for (state,) in self.cluster.jobs(self.folder, "state")]


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change the content of a YAML file."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def place_in(content: dict, keys: Sequence[str]) -> dict:
    """Return the mapping below some keys."""
    for key in keys:
        content = content[key]
    return content


def ended(process: "subprocess.Popen[str]", timeout: float = 900) -> tuple[int, str]:
    """Wait for a process; return its exit status and what it printed. It is ended if it hangs."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        pytest.fail(f"no end after {timeout} s:\n{output[-6000:]}")
    return process.returncode, output


def checkpoints(project: Project) -> list[int]:
    """Return the steps of the distillation's complete checkpoints."""
    manifests = (project.folder / CHECKPOINTS).glob("checkpoint-*/manifest.json")
    return sorted(int(file.parent.name.rpartition("-")[2]) for file in manifests)


def under_way(project: ClusterProject) -> str:
    """Wait until the distillation has a checkpoint; return the number of its job."""
    until(lambda: checkpoints(project), "a checkpoint")
    return project.cluster.queue(project.folder)[0]


def weights(project: Project) -> bytes:
    return (project.folder / STUDENT / "model.safetensors").read_bytes()


def forget_log(project: Project) -> None:
    """Remove the log of the distillation, so that the next one is that of another job."""
    (project.folder / LOG).unlink()


def resumed_at(project: Project) -> int | None:
    """Return the step of the checkpoint that the last job began at, by its log."""
    log = project.folder / LOG
    found = re.search(r"resuming from \S*checkpoint-(\d+)", log.read_text() if log.exists() else "")
    return int(found[1]) if found else None


def goes_on(project: Project) -> bool:
    """Return whether the last job has come further than the checkpoint it began at."""
    begin = resumed_at(project)
    return begin is not None and max(checkpoints(project), default=0) > begin


def until(condition: Callable[[], object], what: str, seconds: float = 300) -> object:
    """Return what ``condition`` gives once it is true; fail after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail(f"not within {seconds} s: {what}")


def one_language(name: str) -> dict:
    """Return one language whose own teacher is distilled for some seconds."""
    config = tiny(name)
    config["languages"] = {"qaa": config["languages"]["qaa"]}
    del config["mixtures"]
    config["teachers"]["teacher"]["corpus"] = "qaa"
    config["students"] = {
        "pre": {
            "teacher": "teacher",
            "num_hidden_layers": 1,
            "training": {
                "max_steps": 300,
                "per_device_train_batch_size": 4,
                "num_evals": 4,
                "checkpoint_minutes": 0.02,
                "threads": 1,
            },
        }
    }
    config["experiment"] |= {"systems": ["pre"]}
    return config
