"""Values of a configuration that follow from others, filled in before it is validated.

Everything here works on plain mappings that may still hold mistakes, and leaves those alone: they
are reported by the validation. Nothing changes the mapping that it is given.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from eliquare.config.errors import Path, suggestion
from eliquare.config.objective import as_term

Values = dict[str, Any]
Problem = tuple[Path, str]

# A label or a published name belongs to one student alone.
OWN_NAMES = ("label", "published_as")
# The keys of a student that is reduced after its distillation; all others are its original's.
REDUCED_KEYS = ("label", "published_as", "vocabulary", "reduced_from", "languages")

SMOKE_DOCUMENTS = 200
SMOKE_STEPS = 3
SMOKE_TRAINING = {"max_steps": SMOKE_STEPS, "num_train_epochs": None, "num_evals": 1}
SMOKE_MICRO_BATCHES = 2
SMOKE_VALIDATION_SEQUENCES = 50
SMOKE_NEW_TOKENS = 5
SMOKE_FINETUNING = {"num_train_epochs": 1, "max_train_samples": 40}
SMOKE_REPEATS = 3


def derived(written: Mapping[str, Any]) -> tuple[Values, list[Problem]]:
    """Return a configuration with its derived values, and the problems of students' ``extends``."""
    values = copy.deepcopy(dict(written))
    students, problems = extended_students(section(values, "students"))
    replace_students(values, students)
    for task in entries(values, "tasks"):
        task["finetuning"] = merged(
            mapping(values.get("finetuning")), mapping(task.get("finetuning"))
        )
    if values.get("smoke") == "true":
        # Snakemake reads `--config smoke=true` as text.
        values["smoke"] = True
    if values.get("smoke") is True:
        shrink(values)
    students, more = reduced_students(section(values, "students"))
    replace_students(values, students)
    fill_in_names(values)
    expand_seeds(values)
    return values, problems + more


def base_name(student: str) -> str:
    """Return the name of the recipe that a student of any seed was made from.

    >>> base_name("small@2")
    'small'
    """
    return student.partition("@")[0]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Return ``base`` with the keys of ``over`` put in, mapping by mapping; lists are replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def mapping(value: Any) -> Values:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def section(values: Values, name: str) -> Values:
    """Return a section of named entries."""
    return mapping(values.get(name))


def entries(values: Values, name: str) -> list[Values]:
    """Return the entries of a section that are mappings."""
    return [entry for entry in section(values, name).values() if isinstance(entry, dict)]


# Students


def replace_students(values: Values, students: Values) -> None:
    """Put the students in, where there are any to replace."""
    if students:
        values["students"] = students


def extended_students(students: Values) -> tuple[Values, list[Problem]]:
    """Return the students, each with the keys of the student that it extends."""
    problems: list[Problem] = [
        (("students", name), "'@' is for seeds of distillation; write `seeds: [1, 2]`")
        for name in students
        if "@" in name
    ]
    done: Values = {}

    def extended(name: str, chain: tuple[str, ...]) -> Any:
        entry = students[name]
        if name in done or not isinstance(entry, dict):
            return done.get(name, entry)
        base = entry.get("extends")
        own = {key: value for key, value in entry.items() if key != "extends"}
        where = ("students", name, "extends")
        if isinstance(base, str) and base in (*chain, name):
            problems.append((where, f"{name} extends itself"))
        elif isinstance(base, str) and base not in students:
            problems.append((where, f"there is no student {base!r}{suggestion(base, students)}"))
        elif isinstance(base, str):
            taken = mapping(extended(base, (*chain, name)))
            taken = {key: value for key, value in taken.items() if key not in OWN_NAMES}
            own = merged_student(taken, own)
        elif base is not None:
            own["extends"] = base
        return own

    for name in students:
        done[name] = extended(name, ())
    return done, problems


def merged_student(base: Values, own: Values) -> Values:
    """Return a student merged into the one it extends; a weight alone keeps a term's settings."""
    base, own = dict(base), dict(own)
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


def reduced_students(students: Values) -> tuple[Values, list[Problem]]:
    """Return the students; one that is reduced from another has the recipe of that one."""
    problems: list[Problem] = []
    done = dict(students)
    for name, entry in students.items():
        original = students.get(mapping(entry).get("reduced_from") or "")
        if not isinstance(original, dict):
            continue
        problems += [
            (
                ("students", name, key),
                "a student that is reduced after its distillation has what its `reduced_from` has; "
                "remove this key, or change it there",
            )
            for key in entry
            if key not in REDUCED_KEYS
        ]
        taken = {key: value for key, value in original.items() if key not in REDUCED_KEYS}
        done[name] = taken | {key: value for key, value in entry.items() if key in REDUCED_KEYS}
    return done, problems


def expand_seeds(values: Values) -> None:
    """Make one recipe of each seed of a student: ``small``, ``small@2``, also where it is named."""
    students: Values = {}
    names: dict[str, list[str]] = {}
    for name, student in section(values, "students").items():
        seeds = seeds_of(student)
        if not seeds:
            students[name] = student
            continue
        names[name] = [name, *(f"{name}@{seed}" for seed in seeds[1:])]
        for each, seed in zip(names[name], seeds, strict=True):
            training = mapping(student.get("training")) | {"seed": seed}
            students[each] = student | {"seeds": [], "training": training}
            if each != name and student.get("reduced_from"):
                students[each]["reduced_from"] = f"{student['reduced_from']}@{seed}"
    replace_students(values, students)
    experiment = mapping(values.get("experiment"))
    if isinstance(experiment.get("systems"), list):
        systems = experiment["systems"]
        experiment["systems"] = [each for name in systems for each in names.get(str(name), [name])]


def seeds_of(student: Any) -> list[int]:
    """Return the seeds of a student, none if they cannot be used: validation reports those."""
    seeds = mapping(student).get("seeds")
    if not isinstance(seeds, list):
        return []
    usable = all(type(seed) is int and seed >= 0 and seeds.count(seed) == 1 for seed in seeds)
    return seeds if usable else []


# Names


def fill_in_names(values: Values) -> None:
    """Give every entry its label, and everything the languages that it is for."""
    for name, language in section(values, "languages").items():
        if isinstance(language, dict):
            language["name"] = language.get("name") or name
    for kind in ("teachers", "students", "systems", "tasks"):
        for name, entry in section(values, kind).items():
            if isinstance(entry, dict):
                entry["label"] = entry.get("label") or name
    experiment = mapping(values.get("experiment"))
    if not experiment:
        return
    experiment["languages"] = experiment.get("languages") or list(section(values, "languages"))
    for entry in (*entries(values, "students"), *entries(values, "systems")):
        entry["languages"] = entry.get("languages") or experiment["languages"]
    if experiment.get("tasks") is None and isinstance(experiment["languages"], list):
        experiment["tasks"] = [
            name
            for name, task in section(values, "tasks").items()
            if mapping(task).get("language") in experiment["languages"]
        ]


# The smoke run


def shrink(values: Values) -> None:
    """Make the run a smoke run: every rule, with few documents, steps, seeds and sentences."""
    for language in entries(values, "languages"):
        corpus = mapping(language.get("corpus"))
        at_most(corpus, "max_documents", SMOKE_DOCUMENTS)
    masking = values.setdefault("masking", {})
    at_most(mapping(masking), "max_validation_sequences", SMOKE_VALIDATION_SEQUENCES)
    trained = [
        entry
        for entry in entries(values, "teachers")
        if entry.get("source") in ("pretrain", "adapt")
    ]
    students = [each for each in entries(values, "students") if not each.get("reduced_from")]
    for entry in (*trained, *students):
        training = mapping(entry.get("training"))
        if training.get("max_steps") != 0:
            at_most(training, "gradient_accumulation_steps", SMOKE_MICRO_BATCHES, default=1)
            training |= SMOKE_TRAINING
        if isinstance(entry.get("seeds"), list):
            entry["seeds"] = entry["seeds"][:1]
    for extension in entries(values, "extensions"):
        extension |= {"num_tokens": SMOKE_NEW_TOKENS, "min_gain": None}
    for task in entries(values, "tasks"):
        task["finetuning"] |= SMOKE_FINETUNING
    benchmark = values.setdefault("benchmark", {})
    mapping(benchmark)["repeats"] = SMOKE_REPEATS
    experiment = mapping(values.get("experiment"))
    if isinstance(experiment.setdefault("seeds", [1]), list):
        experiment["seeds"] = experiment["seeds"][:1]


def at_most(values: Values, key: str, limit: int, default: int | None = None) -> None:
    """Lower a number to a limit; put in the default, or the limit, where it is not given."""
    value = values.get(key)
    if value is None:
        values[key] = limit if default is None else default
    elif isinstance(value, int):
        values[key] = min(value, limit)


# Where a mistake was made


def inherited(problem: Problem, problems: Collection[Problem], written: Mapping[str, Any]) -> bool:
    """Return whether a problem is also one of the entry that this one took the value from.

    A student takes keys of the one that it extends or is reduced from, a task those of
    ``finetuning``; a mistake in them is reported where it was made.
    """
    path, message = problem
    if path[:1] == ("tasks",) and path[2:3] == ("finetuning",):
        return (path[2:], message) in problems
    if path[:1] != ("students",) or len(path) < 2:
        return False
    students = section(dict(written), "students")
    name, seen = str(path[1]), set()
    while name not in seen:
        seen.add(name)
        if name != path[1] and (("students", name, *path[2:]), message) in problems:
            return True
        entry = mapping(students.get(name))
        name = str(entry.get("extends") or entry.get("reduced_from") or base_name(name))
    return False
