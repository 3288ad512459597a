"""What a schema cannot check: names that must exist, and what an experiment puts together."""

import difflib
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from eliquare.settings_entries import (
    check_amplification,
    check_student,
    check_system,
    check_task,
    check_teacher,
)
from eliquare.stage import InputError

# What stands in results/ beside the experiments' own folders.
SHARED_FOLDERS = (
    "corpora",
    "teachers",
    "students",
    "systems",
    "finetuned",
    "measured",
    "smoke",
    "costs",
)

FINETUNING_DEFAULTS = {
    "epochs": 10,
    "learning_rate": 5.0e-5,
    "batch_size": 16,
    "max_length": 128,
    "warmup_steps": 500,
    "weight_decay": 0.01,
    "max_train": None,
    "threads": 1,
}


def suggestion(word: str, known) -> str:
    """ "; did you mean …" or the known names."""
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(map(str, known)))}" if known else ""


def check_names(config: dict, source: str) -> None:
    """Check what a schema cannot: names that must exist, keys that belong together."""
    check_own_names(config, source)
    for where, name, known in references(config):
        if name not in known:
            raise InputError(f"{source}: {where}: there is no {name!r}{suggestion(name, known)}")
    masking = config["masking"]
    if masking["mask"] + masking["random"] > 1:
        raise InputError(f"{source}: masking: mask and random together are more than 1")
    for code, language in config["languages"].items():
        language["name"] = language["name"] or code
    for name, teacher in config["teachers"].items():
        check_teacher(name, config, f"{source}: teachers.{name}")
        teacher["label"] = teacher["label"] or name
    for name, rule in config["vocabularies"].items():
        if len(set(rule) - {"always_keep", "script", "languages"}) != 1:
            raise InputError(
                f"{source}: vocabularies.{name}: give one of share_of_sentences, top_k, coverage, "
                "count and list"
            )
    for name, amplification in config["amplifications"].items():
        check_amplification(amplification, f"{source}: amplifications.{name}")
    complete_experiment(config, source)
    languages = config["experiment"]["languages"]
    for name, student in config["students"].items():
        check_student(student, config, f"{source}: students.{name}")
        student["label"] = student["label"] or name
        student.setdefault("languages", languages)
    for name, system in config["systems"].items():
        check_system(system, f"{source}: systems.{name}")
        system["label"] = system["label"] or name
        system.setdefault("languages", languages)
    for name, task in config["tasks"].items():
        check_task(task, f"{source}: tasks.{name}")
        task["finetuning"] = FINETUNING_DEFAULTS | config["finetuning"] | task["finetuning"]
        task["label"] = task["label"] or name


def check_own_names(config: dict, source: str) -> None:
    """Names that would stand for two things, or for two folders in one place."""
    for one, other in combinations(("teachers", "students", "systems"), 2):
        for name in config[one]:
            if name in config[other]:
                raise InputError(
                    f"{source}: {one}.{name} and {other}.{name}: give each a name of its own"
                )
    for name in config["mixtures"]:
        if name in config["languages"]:
            raise InputError(f"{source}: mixtures.{name} is also a language: give it another name")
    if config["name"] in SHARED_FOLDERS:
        raise InputError(
            f"{source}: name: {config['name']} is a folder of all experiments' results"
        )
    for name in config["amplifications"]:
        if name in config["vocabularies"]:
            raise InputError(
                f"{source}: amplifications.{name} and vocabularies.{name}: give each a name of its "
                "own"
            )
    for section, name in (
        ("vocabularies", "full"),
        ("amplifications", "full"),
        ("teachers", "documents"),
    ):
        if name in config[section]:
            raise InputError(f"{source}: {section}.{name}: this name is taken: choose another")


def complete_experiment(config: dict, source: str) -> None:
    """Fill in the languages and tasks of the experiment, and check that they fit together."""
    experiment, tasks = config["experiment"], config["tasks"]
    languages = experiment.setdefault("languages", list(config["languages"]))
    if "tasks" not in experiment:
        experiment["tasks"] = [name for name in tasks if tasks[name]["language"] in languages]
    for name in experiment["tasks"]:
        if tasks[name]["language"] not in languages:
            raise InputError(
                f"{source}: experiment.tasks: {name} is a task in {tasks[name]['language']!r}, "
                "which is not in experiment.languages"
            )


def references(config: dict) -> Iterator[tuple[str, str, Any]]:
    """(where, name, names that exist) for each name that refers to something else."""
    languages, corpora = config["languages"], {**config["languages"], **config["mixtures"]}
    teachers, students = config["teachers"], config["students"]
    systems = {**teachers, **students, **config["systems"]}
    for name, members in config["mixtures"].items():
        yield from ((f"mixtures.{name}", member, languages) for member in members)
    for name, teacher in teachers.items():
        if "teacher" in teacher:
            yield f"teachers.{name}.teacher", teacher["teacher"], teachers
        if "corpus" in teacher:
            yield f"teachers.{name}.corpus", teacher["corpus"], corpora
    for name, rule in config["vocabularies"].items():
        for other in rule.get("languages", []):
            yield f"vocabularies.{name}.languages", other, corpora
    for name, student in students.items():
        for key, known in (
            ("teacher", teachers),
            ("corpus", corpora),
            ("rule", config["vocabularies"]),
            ("amplification", config["amplifications"]),
            ("of", students),
        ):
            if student.get(key) is not None:
                yield f"students.{name}.{key}", student[key], known
        for teacher in student.get("teachers") or {}:
            yield f"students.{name}.teachers", teacher, teachers
        yield from each_language(f"students.{name}", student, languages)
    for name, amplification in config["amplifications"].items():
        if amplification["rule"] is not None:
            yield f"amplifications.{name}.rule", amplification["rule"], config["vocabularies"]
    for name, system in config["systems"].items():
        yield from each_language(f"systems.{name}", system, languages)
        if "teacher" in system:
            yield f"systems.{name}.teacher", system["teacher"], teachers
        if "rule" in system:
            yield f"systems.{name}.rule", system["rule"], config["vocabularies"]
    for name, task in config["tasks"].items():
        yield f"tasks.{name}.language", task["language"], languages
    experiment = config["experiment"]
    for key, known in (
        ("languages", languages),
        ("systems", systems),
        ("tasks", config["tasks"]),
        ("release", [name for name in experiment["systems"] if name in students]),
    ):
        yield from ((f"experiment.{key}", name, known) for name in experiment.get(key, []))
    if experiment["baseline"] is not None:
        yield "experiment.baseline", experiment["baseline"], experiment["systems"]


def each_language(where: str, entry: dict, languages: dict) -> Iterator[tuple[str, str, Any]]:
    """The references of an entry's own list of languages."""
    yield from ((f"{where}.languages", code, languages) for code in entry.get("languages", []))
