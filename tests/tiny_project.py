"""A project of its own for a test: the workflow, tiny settings, its results in a new folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from warm_python import warm_python

PROJECT = Path(__file__).parents[1]
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


class Project:
    """A folder in which `snakemake` runs this project's workflow, as in a clone.

    It is a copy of this clone, or of another project; what is there already stays.

    Attributes:
        offline: Whether runs are in a network of their own, with nothing in it.
    """

    offline = False

    def __init__(self, folder: Path, like: "Project | None" = None):
        self.folder = folder
        if (folder / "Snakefile").exists():
            return
        if like is not None:
            shutil.copytree(like.folder, folder, symlinks=True, dirs_exist_ok=True)
            return
        # Copies, so that a test can edit what a user would edit.
        for name in ("workflow", "config", "envs"):
            ignored = shutil.ignore_patterns("*.egg-info")
            shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
        shutil.copy(PROJECT / "Snakefile", folder)
        # Without the first, Snakemake does not find what the profiles set for every run.
        for name in ("profiles", "slurm"):
            (folder / name).symlink_to((PROJECT / name).readlink())

    def configure(self, config: Mapping[str, Any], name: str = "test.yaml") -> Path:
        """Write a configuration and return its path."""
        path = self.folder / "config" / name
        path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return path

    def start(
        self,
        *options: str,
        command: Sequence[str] = (SNAKEMAKE,),
        environment: Mapping[str, str] = os.environ,
        **keywords: Any,
    ) -> "subprocess.Popen[str]":
        """Start snakemake here, with the package of this folder."""
        return subprocess.Popen(
            [*command, *options],
            cwd=self.folder,
            env=dict(environment) | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **keywords,
        )

    def run(
        self, *options: str, environment: Mapping[str, str] = os.environ, timeout: float = 2400
    ) -> "subprocess.CompletedProcess[str]":
        """Run snakemake to its end, it and its stages warm; its output is in ``stdout``."""
        python, of_bash = warm_python(self.offline)
        command = [*python, "-m", "snakemake"]
        process = self.start(*options, command=command, environment={**environment, **of_bash})
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def make(self, config: Path, *options: str, target: str | None = None) -> str:
        """Run the complete configuration, or one target; return or fail with what was printed."""
        wanted = ["--", target] if target else []
        done = self.run(*options, "--cores", "2", "--configfile", str(config), *wanted)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def planned(self, config: Path, *options: str) -> dict[str, int]:
        """Return how often each rule would run now."""
        done = self.run("--cores", "1", "--dry-run", "--configfile", str(config), *options)
        assert done.returncode == 0, done.stdout[-6000:]
        return jobs_of(done.stdout)


def jobs_of(printed: str) -> dict[str, int]:
    """Return the jobs of each rule in the first statistics that a run printed."""
    table = printed.partition("Job stats:")[2].partition("\n\n")[0]
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    return {rule: count for rule, count in jobs.items() if rule not in ("total", "all", "default")}


def tiny(name: str) -> dict[str, Any]:
    """Return a configuration of seconds: one invented language, one task, one seed, few steps."""
    dump = {"source": "dump", "date": "20260101", "mirror": "resources/demo/mirror"}
    few = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "num_evals": 2,
        "learning_rate": 1.0e-3,
        "threads": 1,
    }
    tasks = "resources/demo/tasks/qaa"
    return {
        "name": name,
        "demo": {"seed": 1, "articles": 60},
        "languages": {code: {"corpus": dict(dump)} for code in ("qaa", "qab", "qac")},
        "mixtures": {"world": ["qaa", "qab", "qac"]},
        "sequences": {"max_length": 48},
        "masking": {"max_validation_sequences": 20},
        "teachers": {
            "teacher": {
                "source": "pretrain",
                "corpus": "world",
                "vocab_size": 800,
                "num_hidden_layers": 2,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_attention_heads": 2,
                "max_position_embeddings": 48,
                "dropout": 0.0,
                "training": dict(few),
            }
        },
        "vocabularies": {"sentences": {"min_sentence_fraction": 0.0005}},
        "students": {
            "pre": {
                "teacher": "teacher",
                "vocabulary": "sentences",
                "num_hidden_layers": 1,
                "training": dict(few),
            },
            "full": {"extends": "pre", "vocabulary": None},
            "post": {"reduced_from": "full", "vocabulary": "sentences"},
            "scratch": {"extends": "pre", "initialization": "blank", "training": {"max_steps": 0}},
        },
        "tasks": {
            "qaa-upos": {
                "language": "qaa",
                "kind": "upos",
                "train": f"{tasks}/upos/train.conllu",
                "validation": f"{tasks}/upos/dev.conllu",
                "test": f"{tasks}/upos/test.conllu",
            },
            "qaa-topic": {
                "language": "qaa",
                "kind": "classification",
                "train": f"{tasks}/topic/train.tsv",
                "validation": f"{tasks}/topic/dev.tsv",
                "test": f"{tasks}/topic/test.tsv",
            },
        },
        "finetuning": {
            "num_train_epochs": 1,
            "learning_rate": 1.0e-3,
            "max_length": 48,
            "max_train_samples": 20,
        },
        "benchmark": {"batch_sizes": [1], "sequence_length": 16, "repeats": 3},
        "experiment": {
            "languages": ["qaa"],
            "systems": ["pre", "post", "scratch"],
            "tasks": ["qaa-upos"],
            "seeds": [1],
            "release": ["pre"],
        },
    }
