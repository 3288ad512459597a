"""What one key alone cannot tell: names that must exist, keys that belong together, files.

Each check yields problems, (path of keys, message), so that all are reported at once. A problem of
one kind must not stop the others: an entry that is named and does not exist is skipped by all
checks but the one of its name.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from eliquare.config.derive import Problem
from eliquare.config.errors import suggestion
from eliquare.config.model import (
    EXECUTION_KEYS,
    Configuration,
    Corpus,
    Shape,
    Student,
    System,
    Teacher,
    Training,
)
from eliquare.config.objective import EXTENSION_TERMS, Objective
from eliquare.io import InputError
from eliquare.paths import FULL, Paths

# Folders beside those of the experiments in results/.
SHARED_FOLDERS = (
    "corpora",
    "teachers",
    "students",
    "systems",
    "finetuned",
    "benchmarks",
    "smoke",
    "costs",
)
# For each source: the keys that it needs, and those that it may have beside what all have.
CORPUS_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dump": ((), ("wiki", "date", "mirror", "file", "expand_templates")),
    "text": (("files",), ("document",)),
    "dataset": (("dataset",), ("configuration", "split", "column", "revision")),
}
TEACHER_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hub": (("model", "revision"), ()),
    "folder": (("model",), ()),
    "pretrain": (("corpus",), ("tokenizer", "vocab_size", *Shape.model_fields, "training")),
    "adapt": (("teacher",), ("training",)),
}
SELECTION_KEYS = ("min_sentence_fraction", "top_k", "coverage", "min_count", "tokens")
# Columns of a table that a kind of task reads.
TASK_COLUMNS: dict[str, tuple[str, ...]] = {
    "upos": (),
    "ner": (),
    "classification": ("text_column", "label_column"),
    "pair": ("text_column", "text_pair_column", "label_column"),
}
# Keys of named entries that name entries of other sections.
CORPORA = ("languages", "mixtures")
REFERENCES = (
    ("teachers", "teacher", ("teachers",)),
    ("teachers", "corpus", CORPORA),
    ("vocabularies", "languages", CORPORA),
    ("extensions", "vocabulary", ("vocabularies",)),
    ("students", "teacher", ("teachers",)),
    ("students", "teachers", ("teachers",)),
    ("students", "corpus", CORPORA),
    ("students", "vocabulary", ("vocabularies",)),
    ("students", "extension", ("extensions",)),
    ("students", "reduced_from", ("students",)),
    ("students", "languages", ("languages",)),
    ("systems", "teacher", ("teachers",)),
    ("systems", "vocabulary", ("vocabularies",)),
    ("systems", "languages", ("languages",)),
    ("tasks", "language", ("languages",)),
)
DEMO_FOLDER = "resources/demo/"
# Keys of named entries that are files or folders.
FILE_KEYS = (
    ("teachers", "model"),
    ("vocabularies", "tokens"),
    ("vocabularies", "always_keep"),
    ("extensions", "vectors"),
)


def problems(configuration: Configuration) -> Iterator[Problem]:
    """Yield what does not belong together in a completed configuration."""
    yield from taken_names(configuration)
    masking = configuration.masking
    if masking.mask_replace_prob + masking.random_replace_prob > 1:
        yield ("masking",), "mask_replace_prob and random_replace_prob together are more than 1"
    for code, language in configuration.languages.items():
        path = ("languages", code, "corpus")
        yield from unread_keys(path, language.corpus, language.corpus.source, CORPUS_KEYS)
    for name in configuration.teachers:
        yield from teacher_problems(name, configuration)
    for name, rule in configuration.vocabularies.items():
        if len([key for key in SELECTION_KEYS if getattr(rule, key) is not None]) != 1:
            yield ("vocabularies", name), f"give exactly one of {', '.join(SELECTION_KEYS)}"
    for name, extension in configuration.extensions.items():
        if extension.num_tokens is not None and extension.min_gain is not None:
            yield ("extensions", name), "give num_tokens or min_gain, and not both"
        if extension.vectors is not None and extension.initialization != "similar":
            yield ("extensions", name, "vectors"), "belongs to `initialization: similar` alone"
    for name in configuration.students:
        yield from student_problems(name, configuration)
    for name, system in configuration.systems.items():
        keys = [key for key in ("model", "teacher", "vocabulary") if getattr(system, key)]
        if keys not in (["model"], ["teacher", "vocabulary"]):
            yield ("systems", name), "give model, or teacher and vocabulary"
        elif system.model and system.revision is None and not Path(system.model).is_dir():
            yield (
                ("systems", name),
                f"{system.model} is no folder here; if it is an id on the hub, give its commit as "
                "revision",
            )
    yield from task_problems(configuration)


# Names


def unknown_names(configuration: Configuration, named: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for every name that refers to nothing.

    ``named`` is the configuration as mappings, with the entries that could not be used: their
    names exist.
    """

    def problems_of(path: tuple[str, ...], value: Any, known: Collection[str]) -> Iterator[Problem]:
        for word in [value] if value is None or isinstance(value, str) else value:
            if word is not None and word not in known:
                yield path, f"there is no {word!r}{suggestion(word, known)}"

    def names(sections: Collection[str]) -> list[str]:
        return [str(name) for section in sections for name in named.get(section) or {}]

    for name, members in configuration.mixtures.items():
        yield from problems_of(("mixtures", name), members, names(["languages"]))
    for section, key, sections in REFERENCES:
        for name, entry in getattr(configuration, section).items():
            yield from problems_of((section, name, key), getattr(entry, key), names(sections))
    experiment = configuration.experiment
    compared = [name for name in experiment.systems if name in names(["students"])]
    for key, known in (
        ("languages", names(["languages"])),
        ("systems", names(["teachers", "students", "systems"])),
        ("tasks", names(["tasks"])),
        ("release", compared),
        ("baseline", experiment.systems),
    ):
        yield from problems_of(("experiment", key), getattr(experiment, key), known)


def taken_names(configuration: Configuration) -> Iterator[Problem]:
    """Yield a problem for every name that would stand for two things, or two folders in one."""
    if configuration.name in SHARED_FOLDERS:
        yield ("name",), f"{configuration.name} is a folder of all experiments; choose another name"
    pairs = [
        *combinations(("teachers", "students", "systems"), 2),
        ("vocabularies", "extensions"),
        ("languages", "mixtures"),
    ]
    for first, second in pairs:
        for name in getattr(configuration, second):
            if name in getattr(configuration, first):
                yield (second, name), f"{first}.{name} has this name too; choose another"
    for section, name in (("vocabularies", FULL), ("extensions", FULL), ("teachers", "documents")):
        if name in getattr(configuration, section):
            yield (section, name), "this name is taken; choose another"


def unread_keys(
    path: tuple[str, ...],
    entry: Corpus | Teacher,
    source: str,
    keys: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
) -> Iterator[Problem]:
    """Yield the keys that a source needs and has not, and those that only another source reads."""
    needed, possible = keys[source]
    written = {key for key in entry.model_fields_set if getattr(entry, key) is not None}
    for key in needed:
        if key not in written or not getattr(entry, key):
            yield path, f"source {source} needs the key {key!r}"
    of_sources = {key for both in keys.values() for some in both for key in some}
    for key in sorted(written & of_sources - {*needed, *possible}):
        yield (*path, key), f"source {source} does not read this key; remove it"


# Teachers and students


def teacher_problems(name: str, configuration: Configuration) -> Iterator[Problem]:
    """Yield the problems of a teacher's keys, its budget and its shape."""
    teacher, path = configuration.teachers[name], ("teachers", name)
    yield from unread_keys(path, teacher, teacher.source, TEACHER_KEYS)
    if teacher.source in ("pretrain", "adapt"):
        yield from budget_problems((*path, "training"), teacher.training)
        if teacher.training.max_steps == 0:
            yield (*path, "training", "max_steps"), "0 trains no teacher; give at least 1"
    if teacher.source == "pretrain":
        yield from head_problems(path, teacher.hidden_size, teacher.num_attention_heads)
        longest = configuration.sequences.max_length
        if longest > teacher.max_position_embeddings:
            yield (
                (*path, "max_position_embeddings"),
                f"{teacher.max_position_embeddings} is less than sequences.max_length, {longest}",
            )
    if teacher.source == "adapt" and root(configuration, name) is None:
        yield (*path, "teacher"), "the teacher is adapted from itself"


def root(configuration: Configuration, name: str | None) -> str | None:
    """Return the teacher that one was adapted from, or itself; None if it leads to itself."""
    seen = []
    while name in configuration.teachers and configuration.teachers[name].source == "adapt":
        if name in seen:
            return None
        seen.append(name)
        name = configuration.teachers[name].teacher
    return name or ""


def head_problems(path: tuple[str, ...], hidden_size: int, heads: int) -> Iterator[Problem]:
    """Yield a problem where the width is no multiple of the number of heads."""
    if hidden_size % heads:
        yield (*path, "hidden_size"), f"{hidden_size} is no multiple of {heads} attention heads"


def budget_problems(path: tuple[str, ...], training: Training) -> Iterator[Problem]:
    """Yield a problem where a training has no budget, or two."""
    if (training.max_steps is None) == (training.num_train_epochs is None):
        yield path, "give max_steps or num_train_epochs, and not both"


def student_problems(name: str, configuration: Configuration) -> Iterator[Problem]:
    """Yield the problems of a student: its vocabulary, teachers, budget, shape and objective."""
    student, path = configuration.students[name], ("students", name)
    if student.reduced_from is not None:
        yield from reduction_problems(path, student, configuration)
        return
    if student.teacher is None:
        yield (*path, "teacher"), "missing; a student needs a teacher"
        return
    yield from budget_problems((*path, "training"), student.training)
    yield from shape_problems(path, student, configuration)
    yield from several_teachers_problems(path, student, configuration)
    if student.extension is not None:
        if student.vocabulary is not None:
            yield (
                (*path, "vocabulary"),
                "a student with an extension starts from the vocabulary of the extension; write "
                "vocabulary: null",
            )
        for term in student.objective.terms():
            if term not in EXTENSION_TERMS:
                yield (
                    (*path, "objective", term),
                    "not for a student whose tokenizer is another than its teacher's; its terms "
                    f"are {', '.join(EXTENSION_TERMS)}",
                )


def reduction_problems(
    path: tuple[str, ...], student: Student, configuration: Configuration
) -> Iterator[Problem]:
    """Yield the problems of a student that is reduced after its distillation."""
    if student.vocabulary is None:
        yield (*path, "vocabulary"), "missing; name one of vocabularies to reduce the student to"
    original = configuration.students.get(student.reduced_from or "")
    if original is None:
        return
    where = (*path, "reduced_from")
    if original.vocabulary or original.extension or original.reduced_from:
        yield where, f"{student.reduced_from} has no full vocabulary to reduce"
    elif original.training.max_steps == 0:
        yield where, f"{student.reduced_from} is not trained (its training.max_steps is 0)"


def shape_problems(
    path: tuple[str, ...], student: Student, configuration: Configuration
) -> Iterator[Problem]:
    """Yield what makes a student impossible where the configuration says its teacher's shape."""
    teacher = configuration.teachers.get(root(configuration, student.teacher) or "")
    if teacher is None or teacher.source != "pretrain":
        return
    layers, of_teacher = student.num_hidden_layers, teacher.num_hidden_layers
    if layers > of_teacher:
        yield (
            (*path, "num_hidden_layers"),
            f"{layers}, and its teacher has {of_teacher}; a student has no more layers than its "
            "teacher",
        )
    elif student.initialization == "2n-1" and 2 * layers - 1 > of_teacher:
        yield (
            (*path, "initialization"),
            f"2n-1 takes layer {2 * layers - 1} of a teacher that has {of_teacher}; use "
            "distilbert, first or last",
        )
    width = student.hidden_size or teacher.hidden_size
    yield from head_problems(
        path, width, student.num_attention_heads or teacher.num_attention_heads
    )
    if student.initialization != "blank" and width != teacher.hidden_size:
        yield (
            (*path, "hidden_size"),
            f"a width other than the teacher's {teacher.hidden_size} cannot start from the "
            "teacher; write initialization: blank",
        )


def several_teachers_problems(
    path: tuple[str, ...], student: Student, configuration: Configuration
) -> Iterator[Problem]:
    """Yield the problems of several teachers: all must have the vocabulary of the student's own."""
    where = (*path, "teachers")
    if not student.teachers:
        return
    if len(student.teachers) < 2:
        yield where, "expected at least 2 teachers; one alone is `teacher`"
    if student.teacher not in student.teachers:
        yield where, f"give {student.teacher}, its teacher, a weight among them"
    if student.extension is not None:
        yield where, "a student with an extension has one teacher"
    if student.vocabulary is not None:
        own = root(configuration, student.teacher)
        for name in student.teachers:
            if name in configuration.teachers and root(configuration, name) != own:
                yield (
                    where,
                    f"{name} is not reduced to the vocabulary of {student.teacher}; teachers with "
                    "a reduced vocabulary are one model, adapted to the language or not",
                )


# Tasks and files


def task_problems(configuration: Configuration) -> Iterator[Problem]:
    """Yield columns that a task lacks or does not read, and tasks outside the experiment."""
    for name, task in configuration.tasks.items():
        path = ("tasks", name)
        if task.kind == "pair" and task.text_pair_column is None:
            yield path, "kind pair needs text_pair_column, the column of the second text"
        columns = {column for some in TASK_COLUMNS.values() for column in some}
        for key in sorted(columns - {*TASK_COLUMNS[task.kind]}):
            if key in task.model_fields_set and getattr(task, key) is not None:
                yield (*path, key), f"kind {task.kind} does not read this key; remove it"
    experiment = configuration.experiment
    for name in experiment.tasks or ():
        task_of = configuration.tasks.get(name)
        if task_of is not None and task_of.language not in experiment.languages:
            yield (
                ("experiment", "tasks"),
                f"{name} is a task in {task_of.language!r}, which is not in experiment.languages",
            )


def check_files(configuration: Configuration, source: str) -> None:
    """Raise InputError with one line for each file of the experiment that is not there."""
    lines = []
    for path, file in files_of(configuration):
        written = configuration.demo is not None and file.startswith(DEMO_FOLDER)
        if not written and not Path(file).exists():
            lines.append(f"{source}: {'.'.join(path)}: there is no file {file}; put it there")
    if any(": tasks." in line for line in lines):
        lines.append(f"{source}: or name in experiment.tasks the tasks whose files are there")
    if lines:
        raise InputError("\n".join(lines))


def files_of(configuration: Configuration) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of keys, file) of every file that the experiment reads."""
    for code in sorted(languages_of(configuration)):
        corpus, path = configuration.languages[code].corpus, ("languages", code, "corpus")
        if corpus.file is not None:
            yield (*path, "file"), corpus.file
        for file in corpus.files:
            yield (*path, "files"), file
    for section, key in FILE_KEYS:
        for name, entry in getattr(configuration, section).items():
            if (file := getattr(entry, key)) is not None and getattr(entry, "source", "") != "hub":
                yield (section, name, key), file
    for name in configuration.experiment.tasks or ():
        for split in ("train", "validation", "test"):
            if (file := getattr(configuration.tasks[name], split)) is not None:
                yield ("tasks", name, split), file


def languages_of(configuration: Configuration) -> set[str]:
    """Return the languages whose text the experiment reads."""
    corpora = {*configuration.experiment.languages}
    corpora |= {each.corpus for each in configuration.students.values() if each.corpus}
    corpora |= {each.corpus for each in configuration.teachers.values() if each.corpus}
    members = [configuration.mixtures.get(corpus, [corpus]) for corpus in corpora]
    return {code for some in members for code in some}


# Other experiments


def check_shared(configuration: Configuration, source: str, results: str | Path) -> None:
    """Raise InputError where this experiment would make another's results again, otherwise.

    Experiments share results by name, and each records its settings in
    ``results/<name>/settings.json``. Two that give a name other settings are in each other's way
    only where results of that name are on disk.
    """
    lines = []
    for file in sorted(Paths(configuration, results).results.glob("*/settings.json")):
        if file.parent.name == configuration.name:
            continue
        try:
            other = Configuration.model_validate_json(file.read_text(encoding="utf-8"))
        except ValidationError:
            # Written by another version, or not by this project.
            continue
        lines += [
            f"{source}: {name}: the experiment {file.parent.name} has made {made} with other "
            "settings under this name; choose another name here, work in another clone, or delete "
            f"{file} to have its results made again"
            for name, made in differences(configuration, other, results).items()
        ]
    if lines:
        raise InputError("\n".join(lines))


def differences(
    configuration: Configuration, other: Configuration, results: str | Path
) -> dict[str, Path]:
    """Return each name that has other settings in another configuration, and a result of it."""
    theirs = made_by(other, results)
    found: dict[str, Path] = {}
    for path, settings in made_by(configuration, results).items():
        if path in theirs and settings != theirs[path] and path.exists():
            for name in settings:
                if settings[name] != theirs[path].get(name):
                    found.setdefault(name, path)
    return found


def made_by(configuration: Configuration, results: str | Path) -> dict[Path, dict[str, Any]]:
    """Return for each shared path the names and settings that decide what is there."""
    paths = Paths(configuration, results)
    found: dict[Path, dict[str, Any]] = {}
    for name, settings, place in (*corpus_results(paths), *system_results(paths)):
        found.setdefault(place, {})[name] = decisive(settings)
    return found


def corpus_results(paths: Paths) -> Iterator[tuple[str, Any, Path]]:
    """Yield (name, settings, path) of the results that corpora, teachers and vocabularies have."""
    settings = paths.settings
    corpora = [*settings.languages, *settings.mixtures]
    vocabularies = [("vocabularies", *each) for each in settings.vocabularies.items()]
    extensions = [("extensions", *each) for each in settings.extensions.items()]
    if settings.demo is not None:
        yield "demo", settings.demo, Path(DEMO_FOLDER)
    for code, language in settings.languages.items():
        yield f"languages.{code}", language.corpus, paths.documents(code)
    for name, members in settings.mixtures.items():
        yield f"mixtures.{name}", members, paths.documents(name)
    for name, teacher in settings.teachers.items():
        yield f"teachers.{name}", teacher, paths.results / "teachers" / name / "tokenizer"
    for name, corpus in product(settings.teachers, corpora):
        yield f"teachers.{name}", settings.teachers[name], paths.teacher(corpus, name)
        for vocabulary in (FULL, *settings.vocabularies, *settings.extensions):
            prepared = paths.prepared(corpus, name, vocabulary)
            yield "sequences", settings.sequences, prepared / "sequences"
            yield "masking", settings.masking, prepared / "masking"
        for section, vocabulary, entry in (*vocabularies, *extensions):
            key = f"{section}.{vocabulary}"
            yield key, entry, paths.vocabulary_file(corpus, name, vocabulary)
            yield key, entry, paths.teacher(corpus, name, vocabulary)


def system_results(paths: Paths) -> Iterator[tuple[str, Any, Path]]:
    """Yield (name, settings, path) of the results that students and other systems have."""
    settings = paths.settings
    corpora = [*settings.languages, *settings.mixtures]
    for name, corpus in product(settings.students, corpora):
        for part in ("initial", "distilled", "reduced"):
            yield f"students.{name}", settings.students[name], paths.student(name, corpus, part)
    for name, system in settings.systems.items():
        if system.model is not None:
            yield f"systems.{name}", system, paths.results / "systems" / name / "model"
    for section in ("teachers", "students", "systems"):
        for name, entry in getattr(settings, section).items():
            key = f"{section}.{name}"
            for code in settings.languages:
                yield "benchmark", settings.benchmark, paths.benchmark(code, name)
                yield key, entry, paths.benchmark(code, name)
            for task_name, task in settings.tasks.items():
                yield f"tasks.{task_name}", task, paths.store() / task_name / name
                yield key, entry, paths.store() / task_name / name


# Keys that people read, and that say how else an entry was written.
READ_ONLY = frozenset({"label", "published_as", "extends", "seeds"})


def decisive(settings: Any) -> Any:
    """Return the settings that decide a result, alike for all ways to write them."""
    if isinstance(settings, Objective):
        return settings.written_out()
    if not isinstance(settings, BaseModel):
        return settings
    left_out = READ_ONLY
    if isinstance(settings, Training):
        left_out = EXECUTION_KEYS
    if isinstance(settings, Student | System):
        # For which languages it is made decides no model.
        left_out |= {"languages"}
    return {key: decisive(value) for key, value in settings if key not in left_out}
