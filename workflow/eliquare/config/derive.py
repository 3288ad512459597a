"""Values of a configuration that follow from others.

``extended_students`` works on what the user wrote, mistakes included, before it is validated; all
else on a configuration that has passed all checks.
"""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from eliquare.config.base import Problem
from eliquare.config.corpus import Corpus
from eliquare.config.errors import suggestion
from eliquare.config.model import Configuration, Student, Training
from eliquare.config.objective import as_term
from eliquare.config.sources import UNTRAINED
from eliquare.config.systems import System
from eliquare.config.tasks import HUB_COLUMNS

Values = dict[str, Any]

# A label or a published name belongs to one student alone.
OWN_NAMES = ("label", "published_as")
# The keys of a student that is reduced after its distillation; all others are its original's.
REDUCED_KEYS = ("label", "published_as", "vocabulary", "reduced_from", "languages", "export")


def dumps_host() -> str:
    """Return the host of dumps that is asked where the configuration names none."""
    return os.environ.get("ELIQUARE_DUMPS") or "https://dumps.wikimedia.org"


def base_name(student: str) -> str:
    """Return the name of the recipe that a student of any seed was made from.

    >>> base_name("small@2")
    'small'
    """
    return student.partition("@")[0]


# Extending, on plain values


def mapping(value: Any) -> Values:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Return ``base`` with the keys of ``over`` put in, mapping by mapping; lists are replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def extended_students(students: Values) -> tuple[Values, dict[str, list[str]], list[Problem]]:
    """Return the students with the keys of those that they extend, these names, and problems."""
    done: Values = {}
    bases: dict[str, list[str]] = {}
    problems: dict[Problem, None] = {}
    for name, entry in students.items():
        chain = [name]
        while isinstance(base := mapping(students[chain[-1]]).get("extends"), str):
            where = ("students", chain[-1], "extends")
            if base in chain:
                problems[where, f"{chain[-1]} extends itself"] = None
                break
            if base not in students:
                problems[where, f"there is no student {base!r}{suggestion(base, students)}"] = None
                break
            chain.append(base)
        bases[name] = chain[1:]
        done[name] = entry
        if isinstance(entry, dict):
            done[name] = {}
            for each in reversed(chain):
                done[name] = merged_student(done[name], mapping(students[each]))
    return done, bases, list(problems)


def merged_student(base: Values, own: Values) -> Values:
    """Return a student merged into the one it extends; a weight alone keeps a term's settings."""
    base = {key: value for key, value in base.items() if key not in OWN_NAMES}
    own = {key: own[key] for key in own if key != "extends" or not isinstance(own[key], str)}
    for student in (base, own):
        if isinstance(student.get("objective"), dict):
            student["objective"] = {
                name: value if name == "preset" or value is None else as_term(value)
                for name, value in student["objective"].items()
            }
    result = merged(base, own)
    for name, term in mapping(own.get("objective")).items():
        # A schedule replaces the schedule of the other, and is not put into it.
        if isinstance(term, dict) and "weight" in term:
            result["objective"][name]["weight"] = term["weight"]
    return result


# Completing, on checked settings


def changed(settings: Any, update: Any) -> Any:
    """Return settings with other values of some keys, mapping by mapping."""
    if not isinstance(update, dict):
        return update
    if isinstance(settings, BaseModel):
        values = {key: changed(getattr(settings, key), value) for key, value in update.items()}
        return settings.model_copy(update=values)
    return settings | {name: changed(settings[name], value) for name, value in update.items()}


def completed(settings: Configuration) -> Configuration:
    """Return the configuration with labels, languages and tasks, and one student per seed."""
    experiment = settings.experiment
    languages = experiment.languages or list(settings.languages)
    tasks = experiment.tasks
    if tasks is None:
        tasks = [name for name, task in settings.tasks.items() if task.language in languages]
    students = {}
    for name, student in settings.students.items():
        original = settings.students.get(student.reduced_from or "", student)
        own = {key: getattr(student, key) for key in REDUCED_KEYS}
        students[name] = original.model_copy(update=own)
    values: Values = {"experiment": {"languages": languages, "tasks": tasks}}
    for section in ("languages", "teachers", "students", "systems", "tasks"):
        key, entries = "name" if section == "languages" else "label", getattr(settings, section)
        values[section] = {
            name: {key: getattr(each, key) or name} for name, each in entries.items()
        }
        if section in ("students", "systems"):
            for name, entry in entries.items():
                source = getattr(entry, "student", None) or getattr(entry, "reduced_from", None)
                of_student = settings.students.get(source or "")
                inherited = of_student.languages if of_student else []
                values[section][name]["languages"] = entry.languages or inherited or languages
    for code, language in settings.languages.items():
        if language.corpus.source == "dump":
            values["languages"][code]["corpus"] = {"mirror": language.corpus.mirror or dumps_host()}
    values["vocabularies"] = {
        name: {"multiple_of": rule.rounding}
        for name, rule in settings.vocabularies.items()
        if rule.coverage is not None
    }
    for name, task in settings.tasks.items():
        own = task.finetuning.model_dump(exclude_unset=True)
        finetuning = settings.finetuning.model_copy(update=own)
        length = {"max_length": finetuning.longest_input(task.kind)}
        values["tasks"][name]["finetuning"] = finetuning.model_copy(update=length)
        values["tasks"][name] |= task.fetched
        if task.hub and task.kind in ("pair", *UNTRAINED):
            values["tasks"][name]["text_pair_column"] = HUB_COLUMNS["text_pair_column"]
    settings = changed(settings.model_copy(update={"students": students}), values)
    return one_per_seed(smoke_run(settings) if settings.smoke else settings)


def smoke_run(settings: Configuration) -> Configuration:
    """Return the smoke run: every rule, with few documents, steps, seeds and sentences."""

    def few_steps(training: Training) -> Values:
        if not (training.max_steps or training.num_train_epochs):
            return {}
        micro_batches = min(training.gradient_accumulation_steps, 2)
        steps = {"max_steps": 3, "num_train_epochs": None, "min_steps": None, "num_evals": 1}
        return steps | {"gradient_accumulation_steps": micro_batches}

    def few_documents(corpus: Corpus) -> Values:
        most = min(corpus.max_documents or 200, 200)
        return {"max_documents": most, "min_documents": min(corpus.min_documents, most)}

    sequences = min(settings.masking.max_validation_sequences, 50)
    finetuning = {"num_train_epochs": 1, "max_train_samples": 40}
    values = {
        "languages": {
            code: {"corpus": few_documents(each.corpus)}
            for code, each in settings.languages.items()
        },
        "masking": {"max_validation_sequences": sequences},
        "teachers": {
            name: {"training": few_steps(each.training)} for name, each in settings.teachers.items()
        },
        "students": {
            name: {"training": few_steps(each.training), "seeds": each.seeds[:1]}
            for name, each in settings.students.items()
        },
        "systems": {
            name: {"task_distillation": {"sentences": min(each.task_distillation.sentences, 40)}}
            for name, each in settings.systems.items()
            if each.task_distillation
        },
        "extensions": {name: {"num_tokens": 5, "min_gain": None} for name in settings.extensions},
        "tasks": {name: {"finetuning": finetuning} for name in settings.tasks},
        "benchmark": {"repeats": 3},
        "experiment": {"seeds": settings.experiment.seeds[:1]},
    }
    shrunk: Configuration = changed(settings, values)
    return shrunk


def one_per_seed(settings: Configuration) -> Configuration:
    """Make one recipe of each seed of a student: ``small``, ``small@2``, also where it is named."""
    students: dict[str, Student] = {}
    others: dict[str, System] = {}
    names: dict[str, list[str]] = {}
    for name, student in settings.students.items():
        names[name] = [name, *(f"{name}@{seed}" for seed in student.seeds[1:])]
        for each, seed in zip(names[name], student.seeds or [student.training.seed], strict=True):
            values: Values = {"seeds": [], "training": {"seed": seed}}
            if each != name and student.reduced_from:
                values["reduced_from"] = f"{student.reduced_from}@{seed}"
            students[each] = changed(student, values)
    for name, system in settings.systems.items():
        of_student = names.get(system.student or "", [""])
        names[name] = [name, *(f"{name}@{each.partition('@')[2]}" for each in of_student[1:])]
        for each, own in zip(names[name], of_student, strict=True):
            others[each] = changed(system, {"student": own or None})
    systems = [each for name in settings.experiment.systems for each in names.get(name, [name])]
    settings = changed(settings, {"experiment": {"systems": systems}})
    return settings.model_copy(update={"students": students, "systems": others})
