"""A small project in which every stage runs, and the commands of them all: for tests that kill."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoModel, AutoTokenizer

import worlds
from eliquare.cli import STAGES, load, parse
from eliquare.outputs import outputs_of
from families import make_teacher
from tiny_project import SNAKEMAKE, Project, tiny
from warm_python import warm_python

COMMAND = re.compile(r"((?:\w+=\d+ )?python -m (?:eliquare|demo_languages) .*?) > \S+ 2>&1")
STUDENT, CORPUS = "results/students/pre/qaa/model", "results/corpora/qaa"
ENCODER = f"{CORPUS}/encoder/sentences"
# Stages that the workflow does not run, in the order of their needs.
BY_HAND = (
    "corpus dataset --dataset text.jsonl --output by-hand/documents",
    # Small inputs get one process from the workflow.
    "corpus documents --dump resources/dumps/qaawiki-20260101-pages-articles.xml.bz2"
    " --min-documents 10 --processes 2 --output by-hand/pages",
    "corpus text --files text.txt --min-documents 10 --processes 2 --output by-hand/text",
    f"vocabulary reduce --model base --vocabulary {ENCODER}/vocabulary.csv"
    f" --sample {CORPUS}/documents --output by-hand/reduced",
    "export recipe --reduced by-hand/reduced --base base --output by-hand/recipe.json",
    "export rebuild --recipe by-hand/recipe.json --base base --output by-hand/rebuilt",
    f"export onnx --model {STUDENT} --text {CORPUS}/held_out.txt --output by-hand/onnx",
    f"export static --model {STUDENT} --counts {CORPUS}/teacher/sentences/counts"
    " --output by-hand/static",
    """evaluation fetch --kind classification --url '{"train": "https://host.example/train.tsv"}'"""
    " --output by-hand/task",
)


def make(folder: Path) -> tuple[Project, Path, list["Stage"]]:
    """Return the undisturbed project, its configuration, and every stage that made it."""
    project, said = Project(folder), folder / "said.txt"
    config = folder / "config/test.yaml"
    if not said.exists():
        project.configure(configuration(folder))
        printed = project.make(config, "--printshellcmds")
        prepare_by_hand(folder)
        for command in BY_HAND:
            done = run_warm(project, shlex.split(f"-m eliquare {command}"))
            assert done.returncode == 0, done.stdout
        said.write_text(printed)
    commands = list(dict.fromkeys(COMMAND.findall(said.read_text())))
    commands += [f"python -m eliquare {command}" for command in BY_HAND]
    return project, config, [Stage.of(command) for command in commands]


def configuration(folder: Path) -> dict[str, Any]:
    """Write what a small project needs into its folder; return its settings: every rule runs."""
    model = make_teacher("bert", folder / "bert")
    AutoModel.from_pretrained(model).save_pretrained(folder / "encoder")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "encoder")
    lines = [line for text in worlds.texts("qab") for line in text.splitlines() if line]
    (folder / "text.txt").write_text("\n".join(lines))
    (folder / "text.jsonl").write_text("".join(f"{json.dumps({'text': x})}\n" for x in lines))
    config = tiny("kills")
    config["demo"]["articles"] = 150
    # Long enough to be caught in.
    long = {"max_steps": 60, "checkpoint_minutes": 1e-3}
    few = {"max_steps": 20}
    students = config["students"]
    config["teachers"]["teacher"]["training"] |= long
    students["pre"]["training"] |= long
    config["finetuning"] |= {"num_train_epochs": 5, "max_train_samples": 40}
    config["languages"]["qad"] = {"corpus": {"source": "text", "files": ["text.txt"]}}
    config["mixtures"]["world"].append("qad")
    config["extensions"] = {
        "more": {"vocabulary": "sentences", "num_tokens": 60, "min_frequency": 3}
    }
    config["teachers"] |= {
        "encoder": {"source": "folder", "model": "encoder", "pooling": "mean"},
        "own": {"source": "adapt", "teacher": "teacher", "extension": "more", "training": long},
    }
    kept = ["qaa-upos", "qaa-topic"]
    students["pre"]["export"] = {"formats": ["onnx", "static"], "tasks": kept}
    students["full"]["export"] = None
    students |= {
        "longer": {"extends": "full", "extension": "more"},
        "of-own": {"extends": "full", "teacher": "own", "training": few},
        "sentence": {
            "extends": "full",
            "teacher": "encoder",
            "objective": {"preset": "sentence"},
            "training": few,
        },
    }
    config["systems"] = {
        "other": {"model": "bert"},
        "reduced": {"teacher": "encoder", "vocabulary": "sentences"},
    }
    config["tasks"]["qaa-agreement"] = {
        "language": "qaa",
        "kind": "minimal_pairs",
        "test": "resources/demo/tasks/qaa/agreement/test.tsv",
        "text_column": "good",
        "text_pair_column": "bad",
    }
    compared = ["teacher", "pre", "post", "longer", "of-own", "reduced", "sentence", "other"]
    config["experiment"] |= {
        "systems": compared,
        "tasks": [*kept, "qaa-agreement"],
        "baseline": "teacher",
    }
    return config


def prepare_by_hand(folder: Path) -> None:
    """Put down what stages need that the workflow does not run: a hub's model, a task's file."""
    shutil.copytree(folder / "results/teachers/encoder/model", folder / "base")
    origin = folder / "base/provenance.json"
    said = json.loads(origin.read_text())
    said["settings"] |= {"model": "owner/teacher", "revision": "a" * 40}
    origin.write_text(json.dumps(said))
    raw = folder / "by-hand/task.raw"
    raw.mkdir(parents=True)
    shutil.copy(folder / "resources/demo/tasks/qaa/topic/train.tsv", raw)


class Stage(NamedTuple):
    """A command, and what it makes.

    Attributes:
        name: room and stage.
        command: as Snakemake printed it.
        variables: of its environment.
        arguments: of Python.
        outputs: relative to the project; the one whose lock it takes comes first.
    """

    name: str
    command: str
    variables: dict[str, str]
    arguments: list[str]
    outputs: list[Path]

    @classmethod
    def of(cls, command: str) -> "Stage":
        """Return the stage of a command."""
        words = shlex.split(command)
        at = words.index("python")
        variables = dict(word.split("=") for word in words[:at])
        _, package, *rest = arguments = words[at + 1 :]
        output = Path(rest[rest.index("--output") + 1])
        if package != "eliquare":
            return cls(package, command, variables, arguments, [output])
        room, stage = rest[:2]
        options: Any = parse(load(STAGES[room][stage]), stage, rest[2:])
        outputs = sorted({output, *outputs_of(options, options.outputs).values()})
        if stage == "finetune":
            outputs += [options.store / task.name / options.system for task in options.tasks]
        name = f"{room} {stage}"
        if getattr(options, "processes", 1) > 1:
            name += f", {options.processes} processes"
        return cls(name, command, variables, arguments, outputs)


def run_warm(
    project: Project, arguments: list[str], variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a stage to its end in a Python that has imported everything; both outputs are one."""
    command = [*warm_python(project.offline)[0], *arguments]
    # A file, as in a rule: the stage takes its output for what the forked Python had.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command, cwd=project.folder, env=environment() | dict(variables or {}), check=False,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, output.read())


def environment() -> dict[str, str]:
    """Return the environment of a stage as a rule calls it."""
    path = f"{Path(SNAKEMAKE).parent}{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ) | {
        "PATH": path,
        "PYTHONPATH": "workflow",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
