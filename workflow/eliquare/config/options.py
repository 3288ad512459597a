"""Options of the stages' commands, from the settings.

What decides a result is in its options, sorted by name, so that the order of keys means nothing and
a rule can compare them; how a training runs (``execution``) is apart. All are lists of words, which
a rule quotes as it does every value: ``{params.options:q}``.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from eliquare.config.model import (
    EXECUTION_KEYS,
    Configuration,
    Shape,
    StudentShape,
    Teacher,
    Training,
)
from eliquare.config.sources import SOURCES
from eliquare.config.tasks import HUB_COLUMNS, Task, TaskData
from eliquare.paths import Paths


def words(
    value: BaseModel | Mapping[str, Any],
    of: type[BaseModel] | None = None,
) -> list[str]:
    """Return options as the words of a command.

    Args:
        value: Settings, or a mapping.
        of: The settings model whose keys are options; by default all keys of ``value``.

    Returns:
        Sorted by name: ``--key value``, ``--key a b`` for lists, ``--key``/``--no-key`` for true
        and false, JSON for mappings; None and empty lists are left out.
    """
    values = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    found = []
    for key in sorted(values if of is None else of.model_fields):
        name, given = key.replace("_", "-"), values[key]
        if isinstance(given, bool):
            found.append(f"--{name}" if given else f"--no-{name}")
        elif given is not None and given != []:
            found += [f"--{name}", *map(word, given if isinstance(given, list) else [given])]
    return found


def word(value: Any) -> str:
    """Return a value as one word of a command."""
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return str(value)


def sentence(teacher: Teacher) -> list[str]:
    """Return how a sentence encoder makes the embedding of a text; nothing for other teachers."""
    keys = {"pooling", "normalize", "prompts"}
    return words(teacher.model_dump(include=keys)) if teacher.pooling else []


def pretraining(teacher: Teacher) -> list[str]:
    """Return how a teacher is pre-trained, or adapted to a language."""
    shape = words(teacher, Shape) if teacher.source == "pretrain" else []
    return shape + budget(teacher.training)


def distillation(settings: Configuration, name: str) -> list[str]:
    """Return the shape of a student, what it starts from and how it is distilled."""
    recipe = settings.students[name]
    weights = [recipe.teachers.get(each) for each in Paths(settings).teachers_of(name)]
    values = {
        "objective": recipe.objective.written_out(),
        "freeze": recipe.freeze,
        "data_fraction": recipe.data_fraction,
        "teacher_weights": weights if recipe.teachers else None,
    }
    return words(recipe, StudentShape) + words(values) + budget(recipe.training)


def budget(training: Training) -> list[str]:
    """Return what decides the result of a training."""
    decisive = Training.model_fields.keys() - EXECUTION_KEYS
    return words(training.model_dump(mode="json", include=decisive))


def execution(training: Training) -> list[str]:
    """Return how a training runs, which changes no result; threads are the rule's."""
    keys = EXECUTION_KEYS - {"threads"}
    return words(training.model_dump(mode="json", include={*keys}))


def launcher(training: Training) -> list[str]:
    """Return the command that runs a stage of training: one process, or one for each GPU."""
    if training.gpus == 1:
        return ["python", "-m", "eliquare"]
    processes = ["--nproc-per-node", str(training.gpus)]
    launch = ["python", "-m", "eliquare.training.launch", "--standalone"]
    return [*launch, *processes, "-m", "eliquare"]


def task_source(task: Task) -> list[str]:
    """Return the source of a task, and how its data are stored."""
    read = task.model_dump(mode="json", include={"kind", *HUB_COLUMNS}, exclude_none=True)
    given = {key: source for key in SOURCES if (source := getattr(task, key)) is not None}
    values = {
        key: each.model_dump(mode="json", exclude_defaults=True) for key, each in given.items()
    }
    return words({**read, **values})


def tasks(settings: Configuration, language: str, system: str) -> list[str]:
    """Return the experiment's tasks in a language, each with how a system is fine-tuned on it.

    What is kept of it, and what teaches it, is said only where there is such a thing.
    """
    paths = Paths(settings)
    kept, teaches = paths.kept_tasks(system, language), bool(paths.taught_by(system, language))
    values: dict[str, Any] = {"tasks": []}
    for name in paths.tasks([language]):
        asked = {"keep_model": name in kept, "keep_logits": teaches}
        asked = {key: value for key, value in asked.items() if value}
        values["tasks"].append(task(settings, name) | asked)
    if taught := paths.task_distillation(system):
        values["task_distillation"] = taught.model_dump(mode="json")
    return words({**values, "unlabelled": paths.unlabelled(system, language)})


def task(settings: Configuration, name: str) -> dict[str, Any]:
    """Return a task to fine-tune on."""
    finetuning = settings.tasks[name].finetuning.model_dump(mode="json", exclude_none=True)
    return task_data(settings, name) | {"finetuning": finetuning}


def export(settings: Configuration, student: str, language: str) -> list[str]:
    """Return what is made of a student beside its folder."""
    paths = Paths(settings)
    asked = paths.export(student)
    if asked is None:
        return []
    values = asked.model_dump(mode="json", exclude={"tasks", "static"})
    kept = paths.kept_tasks(student, language)
    used = [
        task(settings, name) | ({"keep_model": True} if name in kept else {})
        for name in paths.exported_on(student, language)
    ]
    for each in (asked.static, settings.benchmark):
        values |= each.model_dump(mode="json")
    return words({**values, "tasks": used})


def intrinsic(settings: Configuration, language: str) -> list[str]:
    """Return the tasks in a language that need no fine-tuning; of a smoke run, a few pairs."""
    paths = Paths(settings)
    names = paths.untrained([language]) + paths.topics([language])
    tasks = [task_data(settings, name) for name in names]
    return words({"tasks": tasks, "max_pairs": 40 if settings.smoke else None})


def task_data(settings: Configuration, name: str) -> dict[str, Any]:
    """Return the name of a task, its files and how they are read."""
    keys = {*TaskData.model_fields}
    values = settings.tasks[name].model_dump(mode="json", include=keys, exclude_none=True)
    return {"name": name, **values}
