"""A project of its own for each test: the workflow, tiny settings, its results in a new folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ELIQUARE_DATA", PROJECT.parent / "shared" / "data")).resolve()


class Project:
    """A folder in which `snakemake` runs this project's workflow, as in a clone."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "workflow", "config", "envs", "resources/published.csv"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Copies, so that a test can edit what a user would edit.
            if (PROJECT / name).is_dir():
                shutil.copytree(
                    PROJECT / name,
                    target,
                    ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
                )
            else:
                shutil.copy(PROJECT / name, target)
        # Without the first, Snakemake does not find what the profiles set for every run.
        for name in ("profiles", "slurm"):
            (folder / name).symlink_to((PROJECT / name).readlink())

    def configure(self, config: dict, name: str = "test.yaml") -> Path:
        """Write a configuration and return its path."""
        path = self.folder / "config" / name
        path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return path

    def start(
        self, *options: str, environment: Mapping[str, str] = os.environ, **keywords
    ) -> subprocess.Popen:
        """Start snakemake here, with the package of this folder."""
        environment = dict(environment) | {
            "PYTHONPATH": str(self.folder / "workflow"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        command = [str(Path(sys.executable).parent / "snakemake"), *options]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **keywords,
        )

    def run(self, *options: str, timeout: float = 900) -> subprocess.CompletedProcess:
        """Run snakemake to its end; its output is in ``stdout``."""
        process = self.start(*options)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def make(self, config: Path, *options: str, target: str | None = None) -> None:
        """Run the whole configuration, or one target; fails with what was printed."""
        wanted = ["--", target] if target else []
        done = self.run(*options, "--cores", "2", "--configfile", str(config), *wanted)
        assert done.returncode == 0, done.stdout[-6000:]

    def planned(self, config: Path, *options: str) -> dict[str, int]:
        """How often each rule would run now."""
        done = self.run("--cores", "1", "--dry-run", "--configfile", str(config), *options)
        assert done.returncode == 0, done.stdout[-6000:]
        if "Nothing to be done" in done.stdout:
            return {}
        return {step: run for step, (run, _, _) in table(done.stdout).items() if run}


def table(printed: str) -> dict[str, tuple[int, int, str]]:
    """(to run, there, why) of each step, from what a dry run printed."""
    rows = re.findall(r"^(\w+) +([\d,]+) +([\d,]+)  (.*)$", printed, re.M)
    return {
        step: (int(run.replace(",", "")), int(there.replace(",", "")), why)
        for step, run, there, why in rows
    }


def tiny(name: str) -> dict:
    """The demo's configuration, cut to seconds: one language, one task, one seed, few steps."""
    config = yaml.safe_load((PROJECT / "config" / "demo.yaml").read_text())
    config["name"] = name
    config["world"] = {"seed": 1, "articles": 60}
    config["sequences"] = {"max_length": 48, "validation_sequences": 20}
    config["teachers"]["teacher"] |= {
        "vocabulary_size": 800,
        "layers": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "heads": 2,
        "max_positions": 48,
        "training": {"steps": 4, "batch_size": 4, "validations": 2, "threads": 1},
    }
    config["students"] = {
        "pre": {
            "teacher": "teacher",
            "vocabulary": "pre",
            "rule": "sentences",
            "layers": 1,
            "training": {"steps": 4, "batch_size": 4, "validations": 2, "threads": 1},
        },
        "full": {"like": "pre", "vocabulary": "full", "rule": None},
        "post": {"vocabulary": "post", "of": "full", "rule": "sentences"},
        "scratch": {"like": "pre", "initialisation": "blank", "training": {"steps": 0}},
    }
    config["finetuning"] = {"epochs": 1, "max_length": 48, "max_train": 20}
    config["measuring"] = {"batch_sizes": [1], "length": 16, "repeats": 3}
    config["experiment"] = {
        "languages": ["qaa"],
        "systems": ["pre", "post", "scratch"],
        "tasks": ["qaa-upos"],
        "seeds": [1],
        "release": ["pre"],
    }
    return config
