"""Every string of a configuration reaches its stage as written; the shell runs none of it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eliquare import cli
from eliquare.config.load import complete
from eliquare.config.model import Configuration
from stub_project import Stubs

# What a shell, Bash's expansions, Python's formats and a table could take for their own.
HOSTILE = """a b'c"d$(touch PWNED)`touch PWNED`;touch PWNED|&>PWNED<*?[x]~#!\\%s=é"""
COMMIT = "0" * 40
# Stages that the workflow does not run.
BY_HAND = {("reporting", "summary")}
BY_HAND |= {("export", stage) for stage in ("onnx", "static", "recipe", "rebuild", "push")}
ADDRESS = f"https://host.example/{HOSTILE}"
WRITTEN = (HOSTILE, f"{HOSTILE} 2", f"{HOSTILE} 3", f"{HOSTILE} folder", ADDRESS)
# Bash: write down the words of each command instead of running it.
RECORD = """
python() { printf '%s\\0' "$@" $'\\n' >> words; }
scontrol() { :; }
"""
COMMAND = re.compile(r"^Shell command: ((?:OMP_NUM_THREADS=\d+ )?python .*)$", re.M)


def configuration() -> dict[str, Any]:
    """Return every kind of entry, each of its free strings hostile."""
    second, third = (f"{HOSTILE} {number}" for number in (2, 3))
    columns = {"label": HOSTILE, "text": second, "text_pair": third}
    of_words = {"tokens": HOSTILE, "tags": second}
    training = {"max_steps": 2, "report_to": ["tensorboard"]}
    splits = {"train": HOSTILE, "validation": second, "test": third}
    table = {"language": "qaa", "kind": "pair", "text_pair_column": second}
    return {
        "name": "hostile",
        "title": HOSTILE,
        "languages": {
            "qaa": {"name": HOSTILE, "corpus": {"source": "dump", "file": HOSTILE}},
            "qab": {"corpus": {"source": "text", "files": [HOSTILE, f"{HOSTILE} 2"]}},
            "qac": {
                "corpus": {
                    "source": "dataset",
                    "dataset": f"{HOSTILE} folder",
                    "configuration": HOSTILE,
                    "split": HOSTILE,
                    "column": HOSTILE,
                }
            },
            "qad": {"corpus": {"source": "dump", "mirror": ADDRESS}},
        },
        "mixtures": {"all": ["qaa", "qab", "qac", "qad"]},
        "teachers": {
            "hub": {"source": "hub", "model": "a/b", "revision": COMMIT, "label": HOSTILE},
            "encoder": {
                "source": "folder",
                "model": f"{HOSTILE} folder",
                "pooling": "mean",
                "prompts": {"query": HOSTILE},
            },
            "adapted": {"source": "adapt", "teacher": "hub", "training": training},
            "own": {"source": "pretrain", "corpus": "all", "training": training},
        },
        "vocabularies": {
            "listed": {"tokens": HOSTILE, "always_keep": HOSTILE, "scripts": [HOSTILE]},
        },
        "extensions": {"more": {"initialization": "similar", "vectors": HOSTILE}},
        "students": {
            "pre": {
                "teacher": "adapted",
                "vocabulary": "listed",
                "training": training,
                "export": {"formats": ["onnx", "static"], "tasks": ["table"]},
                "label": second,
            },
            "full": {"teacher": "own", "training": training},
            "post": {"reduced_from": "full", "vocabulary": "listed"},
            "longer": {"teacher": "hub", "extension": "more", "training": training},
        },
        "systems": {"other": {"model": f"{HOSTILE} folder", "label": third}},
        "tasks": {
            "words": {"language": "qaa", "kind": "upos", **splits},
            "table": table | splits | {"text_column": HOSTILE, "label_column": third},
            "hub-words": {
                "language": "qaa",
                "kind": "upos",
                "hub": {"dataset": "a/b", "columns": of_words},
            },
            "hub": {
                "language": "qaa",
                "kind": "pair",
                "label": HOSTILE,
                "hub": {
                    "dataset": "a/b",
                    "configuration": HOSTILE,
                    "revision": HOSTILE,
                    "columns": columns,
                    "labels": [HOSTILE],
                    "licence": HOSTILE,
                    **splits,
                },
            },
            "url": {
                "language": "qaa",
                "kind": "classification",
                "url": {
                    "archive": ADDRESS,
                    "header": [HOSTILE],
                    "licence": HOSTILE,
                    **splits,
                },
            },
        },
        "experiment": {
            "languages": ["qaa"],
            "systems": ["pre", "post", "longer", "other", "hub", "own", "encoder"],
            "seeds": [1],
        },
    }


def free_strings() -> set[tuple[str, str]]:
    """Return (settings, key) of every string that is no name, and so can be hostile."""
    schema = Configuration.model_json_schema()
    models = schema.pop("$defs") | {"Configuration": schema}
    return {
        (name, key)
        for name, model in models.items()
        for key, value in model.get("properties", {}).items()
        for string in strings_in(value)
        if re.search(string.get("pattern", ""), HOSTILE)
    }


def strings_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield what a schema says of every string in it that is not one of a few words."""
    if isinstance(schema, list):
        for each in schema:
            yield from strings_in(each)
    elif isinstance(schema, dict):
        if schema.get("type") == "string" and not {"enum", "const"} & schema.keys():
            yield schema
        for key in ("anyOf", "items", "additionalProperties", "patternProperties"):
            yield from strings_in(schema.get(key))


def hostile_strings(value: Any, name: tuple[str, str] = ("", "")) -> set[tuple[str, str]]:
    """Return (settings, key) of every hostile string in settings."""
    if isinstance(value, BaseModel):
        return set().union(*(hostile_strings(v, (type(value).__name__, k)) for k, v in value))
    if isinstance(value, dict | list):
        each = value.values() if isinstance(value, dict) else value
        return set().union(*(hostile_strings(v, name) for v in each))
    return {name} if isinstance(value, str) and HOSTILE in value else set()


def test_every_string_is_hostile_here():
    """A new key is put into ``configuration``, or takes names alone."""
    # These are read before anything runs, or must name an entry, or what a paper prints.
    checked = {("Experiment", key) for key in ("baseline", "release", "systems", "tasks")}
    checked |= {(kind, "published_as") for kind in ("Teacher", "Student", "System")}
    checked |= {("PublishedTask", "language"), ("PublishedTask", "task")}
    checked |= {("PublishedTable", "table")}
    found = hostile_strings(complete(configuration()))
    assert free_strings() - found == checked | {("Configuration", "extends")}


def test_the_shell_gives_every_string_to_its_stage_and_runs_none(tmp_path):
    project = Stubs(tmp_path)
    for name in WRITTEN[:3]:
        (tmp_path / name).touch()
    (tmp_path / WRITTEN[3]).mkdir()
    path = project.configure(configuration())
    planned = project.run("--cores", "1", "--dry-run", "-p", "--configfile", str(path))
    assert planned.returncode == 0, planned.stdout[-6000:]
    commands = COMMAND.findall(planned.stdout)
    logs = {Path(log).parent for log in re.findall(r"> (logs/\S+)", planned.stdout)}
    for folder in logs:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    files = {*tmp_path.iterdir()}
    script = "\n".join([RECORD, *commands])
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, check=True)
    assert {*tmp_path.iterdir()} - files == {tmp_path / "words"}
    assert not (tmp_path / "PWNED").exists()
    called = [
        words.split("\0")[:-1] for words in (tmp_path / "words").read_text().split("\n\0")[:-1]
    ]
    assert len(called) == len(commands)
    assert {tuple(words[2:4]) for words in called} == {
        (room, stage) for room, stages in cli.STAGES.items() for stage in stages
    } - BY_HAND
    hostile = set()
    for _, _, room, stage, *words in called:
        options = cli.parse(cli.load(cli.STAGES[room][stage]), "a stage", words)
        for option, value in options.model_dump(mode="json").items():
            for string in strings_of(value):
                if "PWNED" in string:
                    assert string in WRITTEN
                    hostile.add(f"{room} {stage} {option}")
    assert hostile == {
        "corpus dataset column",
        "corpus dataset configuration",
        "corpus dataset dataset",
        "corpus dataset split",
        "corpus documents dump",
        "corpus dump mirror",
        "corpus text files",
        "evaluation fetch hub",
        "evaluation fetch url",
        "evaluation finetune tasks",
        "export student tasks",
        "extension extend vectors",
        "extension report tasks",
        "models fetch model",
        "models fetch prompts",
        "vocabulary report tasks",
        "vocabulary select always_keep",
        "vocabulary select scripts",
        "vocabulary select tokens",
        "vocabulary verify tasks",
    }


def strings_of(value: Any) -> Iterator[str]:
    """Yield the strings in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings_of(each)
