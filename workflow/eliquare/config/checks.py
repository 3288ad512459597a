"""What one key alone cannot tell: names that must exist, keys that belong together, files.

Each check yields problems, (path of keys, message), so that all are reported at once. A problem of
one kind must not stop the others: an entry that is named and does not exist is skipped by all
checks but the one of its name.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from eliquare.config.derive import REDUCED_KEYS, mapping
from eliquare.config.errors import Path as KeyPath
from eliquare.config.errors import Problem, suggestion
from eliquare.config.model import (
    EXECUTION_KEYS,
    Configuration,
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
SHARED = {"corpora", "teachers", "students", "systems", "finetuned", "benchmarks", "smoke", "costs"}
# For each source of a corpus or a teacher, and each kind of task: the keys that it needs, and those
# that it may have beside what all have.
KEYS = {
    "dump": ("", "wiki date mirror file expand_templates"),
    "text": ("files", "document"),
    "dataset": ("dataset", "configuration split column revision"),
    "hub": ("model revision", ""),
    "folder": ("model", ""),
    "pretrain": ("corpus", " ".join(["tokenizer vocab_size training", *Shape.model_fields])),
    "adapt": ("teacher", "training"),
    "upos": ("", ""),
    "ner": ("", ""),
    "classification": ("", "text_column label_column"),
    "pair": ("text_pair_column", "text_column label_column"),
}
BUDGET = "give max_steps or num_train_epochs, and not both"
SELECTION_KEYS = ("min_sentence_fraction", "top_k", "coverage", "min_count", "tokens")
# Keys that name entries of other sections. `languages` of a vocabulary may be mixtures too.
REFERENCES = {
    "teacher": ("teachers",),
    "teachers": ("teachers",),
    "corpus": ("languages", "mixtures"),
    "vocabulary": ("vocabularies",),
    "extension": ("extensions",),
    "reduced_from": ("students",),
    "language": ("languages",),
    "languages": ("languages",),
}
DEMO_FOLDER = "resources/demo/"
# Keys of named entries that are files or folders.
FILE_KEYS = (
    ("teachers", "model"),
    ("vocabularies", "tokens"),
    ("vocabularies", "always_keep"),
    ("extensions", "vectors"),
)


def problems(settings: Configuration) -> Iterator[Problem]:
    """Yield what does not belong together in a configuration."""
    yield from taken_names(settings)
    masking = settings.masking
    if masking.mask_replace_prob + masking.random_replace_prob > 1:
        yield ("masking",), "mask_replace_prob and random_replace_prob together are more than 1"
    for code, language in settings.languages.items():
        yield from unread_keys(("languages", code, "corpus"), language.corpus, "source")
    for name, teacher in settings.teachers.items():
        yield from teacher_problems(("teachers", name), teacher, settings)
    for name, student in settings.students.items():
        if student.reduced_from is None:
            yield from student_problems(("students", name), student, settings)
        else:
            yield from reduction_problems(("students", name), student, settings)
    yield from vocabulary_problems(settings)
    yield from evaluation_problems(settings)


# Names


def unknown_names(settings: Configuration, written: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for every name that refers to nothing.

    ``written`` is the configuration as mappings, with the entries that could not be used: their
    names exist.
    """

    def unknown(path: KeyPath, value: Any, known: Collection[str]) -> Iterator[Problem]:
        for word in [value] if isinstance(value, str) else value or ():
            if word not in known:
                yield path, f"there is no {word!r}{suggestion(word, known)}"

    def names(*sections: str) -> list[str]:
        return [name for section in sections for name in mapping(written.get(section))]

    for name, members in settings.mixtures.items():
        yield from unknown(("mixtures", name), members, names("languages"))
    for section in ("teachers", "vocabularies", "extensions", "students", "systems", "tasks"):
        for name, entry in getattr(settings, section).items():
            for key, sections in REFERENCES.items():
                both = (section, key) == ("vocabularies", "languages")
                known = names(*REFERENCES["corpus"] if both else sections)
                yield from unknown((section, name, key), getattr(entry, key, None), known)
    experiment = settings.experiment
    for key, known in (
        ("languages", names("languages")),
        ("systems", names("teachers", "students", "systems")),
        ("tasks", names("tasks")),
        ("release", [name for name in experiment.systems if name in names("students")]),
        ("baseline", experiment.systems),
    ):
        yield from unknown(("experiment", key), getattr(experiment, key), known)


def taken_names(settings: Configuration) -> Iterator[Problem]:
    """Yield a problem for every name that would stand for two things, or two folders in one."""
    if settings.name in SHARED:
        yield ("name",), f"{settings.name} is a folder of all experiments; choose another name"
    for first, second in (
        *combinations(("teachers", "students", "systems"), 2),
        ("vocabularies", "extensions"),
        ("languages", "mixtures"),
    ):
        for name in getattr(settings, second):
            if name in getattr(settings, first):
                yield (second, name), f"{first}.{name} has this name too; choose another"
    for section, name in (("vocabularies", FULL), ("extensions", FULL), ("teachers", "documents")):
        if name in getattr(settings, section):
            yield (section, name), "this name is taken; choose another"
    for name in settings.students:
        if "@" in name:
            yield ("students", name), "'@' is for seeds of distillation; write `seeds: [1, 2]`"


# Entries


def unread_keys(path: KeyPath, entry: BaseModel, by: str) -> Iterator[Problem]:
    """Yield the keys that an entry's source or kind needs and has not, and those of others."""
    kind = getattr(entry, by)
    needed, possible = map(str.split, KEYS[kind])
    for key in needed:
        if not getattr(entry, key):
            yield path, f"{by} {kind} needs the key {key!r}"
    known = {key for keys in KEYS.values() for key in " ".join(keys).split()}
    for key in sorted(entry.model_fields_set & known - {*needed, *possible}):
        if getattr(entry, key) is not None:
            yield (*path, key), f"{by} {kind} does not read this key; remove it"


def vocabulary_problems(settings: Configuration) -> Iterator[Problem]:
    """Yield the problems of vocabularies and extensions."""
    for name, rule in settings.vocabularies.items():
        if len([key for key in SELECTION_KEYS if getattr(rule, key) is not None]) != 1:
            yield ("vocabularies", name), f"give exactly one of {', '.join(SELECTION_KEYS)}"
    for name, extension in settings.extensions.items():
        if extension.num_tokens is not None and extension.min_gain is not None:
            yield ("extensions", name), "give num_tokens or min_gain, and not both"
        if extension.vectors is not None and extension.initialization != "similar":
            yield ("extensions", name, "vectors"), "belongs to `initialization: similar` alone"


def evaluation_problems(settings: Configuration) -> Iterator[Problem]:
    """Yield the problems of other systems, of tasks, and of the tasks of the experiment."""
    for name, system in settings.systems.items():
        keys = [key for key in ("model", "teacher", "vocabulary") if getattr(system, key)]
        if keys not in (["model"], ["teacher", "vocabulary"]):
            yield ("systems", name), "give model, or teacher and vocabulary"
        elif system.model and system.revision is None and not Path(system.model).is_dir():
            message = f"{system.model} is no folder here; if it is a hub id, give its revision"
            yield ("systems", name), message
    for name, task in settings.tasks.items():
        yield from unread_keys(("tasks", name), task, "kind")
    languages = settings.experiment.languages or list(settings.languages)
    for name in settings.experiment.tasks or ():
        code = settings.tasks[name].language if name in settings.tasks else None
        if code in settings.languages and code not in languages:
            message = f"{name} is a task in {code!r}, which is not in experiment.languages"
            yield ("experiment", "tasks"), message


def teacher_problems(path: KeyPath, teacher: Teacher, settings: Configuration) -> Iterator[Problem]:
    """Yield the problems of a teacher's keys, its budget and its shape."""
    yield from unread_keys(path, teacher, "source")
    if teacher.source in ("pretrain", "adapt"):
        if (teacher.training.max_steps is None) == (teacher.training.num_train_epochs is None):
            yield (*path, "training"), BUDGET
        if teacher.training.max_steps == 0:
            yield (*path, "training", "max_steps"), "0 trains no teacher; give at least 1"
    if teacher.source == "pretrain":
        yield from head_problems(path, teacher.hidden_size, teacher.num_attention_heads)
        positions, longest = teacher.max_position_embeddings, settings.sequences.max_length
        if longest > positions:
            message = f"{positions} is less than sequences.max_length, {longest}"
            yield (*path, "max_position_embeddings"), message
    if teacher.source == "adapt" and root(settings, str(path[1])) is None:
        yield (*path, "teacher"), "the teacher is adapted from itself"


def root(settings: Configuration, name: str | None) -> str | None:
    """Return the teacher that one was adapted from, or itself; None if it leads to itself."""
    seen = set()
    while name in settings.teachers and settings.teachers[name].source == "adapt":
        if name in seen:
            return None
        seen.add(name)
        name = settings.teachers[name].teacher
    return name or ""


def head_problems(path: KeyPath, hidden_size: int, heads: int) -> Iterator[Problem]:
    """Yield a problem where the width is no multiple of the number of heads."""
    if hidden_size % heads:
        yield (*path, "hidden_size"), f"{hidden_size} is no multiple of {heads} attention heads"


def student_problems(path: KeyPath, student: Student, settings: Configuration) -> Iterator[Problem]:
    """Yield the problems of a student: its vocabulary, teachers, budget, shape and objective."""
    if student.teacher is None:
        yield (*path, "teacher"), "missing; a student needs a teacher"
        return
    if (student.training.max_steps is None) == (student.training.num_train_epochs is None):
        yield (*path, "training"), BUDGET
    yield from shape_problems(path, student, settings)
    if student.teachers:
        yield from several_teachers_problems((*path, "teachers"), student, settings)
    if student.extension is not None:
        if student.vocabulary is not None:
            yield (*path, "vocabulary"), "its extension says it; write vocabulary: null"
        for term in student.objective.terms():
            if term not in EXTENSION_TERMS:
                message = f"two tokenizers can be compared by {', '.join(EXTENSION_TERMS)} alone"
                yield (*path, "objective", term), message


def shape_problems(path: KeyPath, student: Student, settings: Configuration) -> Iterator[Problem]:
    """Yield what makes a student impossible where the configuration says its teacher's shape."""
    teacher = settings.teachers.get(root(settings, student.teacher) or "")
    if teacher is None or teacher.source != "pretrain":
        return
    layers, of_teacher = student.num_hidden_layers, teacher.num_hidden_layers
    if layers > of_teacher:
        message = f"{layers}, and its teacher has {of_teacher}; a student has no more layers"
        yield (*path, "num_hidden_layers"), message
    elif student.initialization == "2n-1" and 2 * layers - 1 > of_teacher:
        message = (
            f"2n-1 takes layer {2 * layers - 1} of {of_teacher}; use distilbert, first or last"
        )
        yield (*path, "initialization"), message
    width = student.hidden_size or teacher.hidden_size
    heads = student.num_attention_heads or teacher.num_attention_heads
    yield from head_problems(path, width, heads)
    if student.initialization != "blank" and width != teacher.hidden_size:
        message = f"{width}, and its teacher has {teacher.hidden_size}; write initialization: blank"
        yield (*path, "hidden_size"), message


def several_teachers_problems(
    path: KeyPath, student: Student, settings: Configuration
) -> Iterator[Problem]:
    """Yield the problems of several teachers: all must have the vocabulary of the student's own."""
    if len(student.teachers) < 2:
        yield path, "expected at least 2 teachers; one alone is `teacher`"
    if student.teacher not in student.teachers:
        yield path, f"give {student.teacher}, its teacher, a weight among them"
    if student.extension is not None:
        yield path, "a student with an extension has one teacher"
    own = root(settings, student.teacher)
    for name in student.teachers if student.vocabulary is not None else ():
        if name in settings.teachers and root(settings, name) != own:
            yield path, f"{name} and {student.teacher}, if reduced, must be adapted from one model"


def reduction_problems(
    path: KeyPath, student: Student, settings: Configuration
) -> Iterator[Problem]:
    """Yield the problems of a student that is reduced after its distillation."""
    if student.vocabulary is None:
        yield (*path, "vocabulary"), "missing; name one of vocabularies to reduce the student to"
    original = settings.students.get(student.reduced_from or "")
    if original is None:
        return
    for key in sorted(student.model_fields_set - {*REDUCED_KEYS}):
        yield (*path, key), "its `reduced_from` says it; remove this key, or change it there"
    where = (*path, "reduced_from")
    if original.vocabulary or original.extension or original.reduced_from:
        yield where, f"{student.reduced_from} has no full vocabulary to reduce"
    elif original.training.max_steps == 0:
        yield where, f"{student.reduced_from} is not trained (its training.max_steps is 0)"


# Files


def check_files(settings: Configuration, source: str) -> None:
    """Raise InputError with one line for each file of the experiment that is not there."""
    lines = [
        f"{source}: {'.'.join(path)}: there is no file {file}; put it there"
        for path, file in files_of(settings)
        if not (settings.demo and file.startswith(DEMO_FOLDER)) and not Path(file).exists()
    ]
    if any(": tasks." in line for line in lines):
        lines.append(f"{source}: or name in experiment.tasks the tasks whose files are there")
    if lines:
        raise InputError("\n".join(lines))


def files_of(settings: Configuration) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of keys, file) of every file that the experiment reads."""
    corpora = {*settings.experiment.languages}
    corpora |= {each.corpus for each in settings.students.values() if each.corpus}
    corpora |= {each.corpus for each in settings.teachers.values() if each.corpus}
    for code in sorted({code for name in corpora for code in settings.mixtures.get(name, [name])}):
        corpus, path = settings.languages[code].corpus, ("languages", code, "corpus")
        if corpus.file is not None:
            yield (*path, "file"), corpus.file
        for file in corpus.files:
            yield (*path, "files"), file
    for section, key in FILE_KEYS:
        for name, entry in getattr(settings, section).items():
            if (file := getattr(entry, key)) is not None and getattr(entry, "source", "") != "hub":
                yield (section, name, key), file
    for name in settings.experiment.tasks or ():
        for split in ("train", "validation", "test"):
            if (file := getattr(settings.tasks[name], split)) is not None:
                yield ("tasks", name, split), file


# Other experiments


def check_shared(settings: Configuration, source: str, results: str | Path) -> None:
    """Raise InputError where this experiment would make another's results again, otherwise.

    Experiments share results by name, and each records its settings in
    ``results/<name>/settings.json``. Two that give a name other settings are in each other's way
    only where results of that name are on disk.
    """
    lines = []
    ours = made_by(settings, results)
    for file in sorted(Paths(settings, results).results.glob("*/settings.json")):
        try:
            other = Configuration.model_validate_json(file.read_text(encoding="utf-8"))
        except ValidationError:
            # Written by another version, or not by this project.
            continue
        theirs = made_by(other, results) if file.parent.name != settings.name else {}
        differing: dict[str, Path] = {}
        for path in ours.keys() & theirs.keys():
            for name in ours[path]:
                if ours[path][name] != theirs[path].get(name) and path.exists():
                    differing.setdefault(name, path)
        lines += [
            f"{source}: {name}: the experiment {file.parent.name} has made {made} with other "
            "settings under this name; choose another name here, work in another clone, or delete "
            f"{file} to have its results made again"
            for name, made in differing.items()
        ]
    if lines:
        raise InputError("\n".join(lines))


def made_by(settings: Configuration, results: str | Path) -> dict[Path, dict[str, Any]]:
    """Return for each shared path the names and settings that decide what is there."""
    found: dict[Path, dict[str, Any]] = defaultdict(dict)
    paths = Paths(settings, results)
    for name, entry, path in (*prepared_results(paths), *system_results(paths)):
        found[path][name] = decisive(entry)
    return dict(found)


def prepared_results(paths: Paths) -> Iterator[tuple[str, Any, Path]]:
    """Yield (name, settings, path) of the results of corpora, teachers and vocabularies."""
    settings = paths.settings
    corpora = [*settings.languages, *settings.mixtures]
    if settings.demo is not None:
        yield "demo", settings.demo, Path(DEMO_FOLDER)
    for code, language in settings.languages.items():
        yield f"languages.{code}", language.corpus, paths.documents(code)
    for name, members in settings.mixtures.items():
        yield f"mixtures.{name}", members, paths.documents(name)
    for name, teacher in settings.teachers.items():
        yield f"teachers.{name}", teacher, paths.results / "teachers" / name / "tokenizer"
        for corpus in corpora:
            yield f"teachers.{name}", teacher, paths.teacher(corpus, name)
            for vocabulary in (FULL, *settings.vocabularies, *settings.extensions):
                prepared = paths.prepared(corpus, name, vocabulary)
                yield "sequences", settings.sequences, prepared / "sequences"
                yield "masking", settings.masking, prepared / "masking"
            for section in ("vocabularies", "extensions"):
                for vocabulary, entry in getattr(settings, section).items():
                    key = f"{section}.{vocabulary}"
                    yield key, entry, paths.vocabulary_file(corpus, name, vocabulary)
                    yield key, entry, paths.teacher(corpus, name, vocabulary)


def system_results(paths: Paths) -> Iterator[tuple[str, Any, Path]]:
    """Yield (name, settings, path) of the results of students and of all that are evaluated."""
    settings = paths.settings
    corpora = [*settings.languages, *settings.mixtures]
    for (name, student), corpus in product(settings.students.items(), corpora):
        yield f"students.{name}", student, paths.student(name, corpus)
    for name, system in settings.systems.items():
        if system.model is not None:
            yield f"systems.{name}", system, paths.results / "systems" / name / "model"
    for section in ("teachers", "students", "systems"):
        for name, entry in getattr(settings, section).items():
            for code in settings.languages:
                yield "benchmark", settings.benchmark, paths.benchmark(code, name)
                yield f"{section}.{name}", entry, paths.benchmark(code, name)
            for task_name, task in settings.tasks.items():
                yield f"tasks.{task_name}", task, paths.store / task_name / name
                yield f"{section}.{name}", entry, paths.store / task_name / name


# Keys that people read, and that say how else an entry was written.
READ_ONLY = frozenset({"label", "published_as", "extends", "seeds"})


def decisive(settings: Any) -> Any:
    """Return the settings that decide a result, alike for all ways to write them."""
    if isinstance(settings, Objective):
        return settings.written_out()
    if not isinstance(settings, BaseModel):
        return settings
    left_out = EXECUTION_KEYS if isinstance(settings, Training) else READ_ONLY
    if isinstance(settings, Student | System):
        # For which languages it is made decides no model.
        left_out |= {"languages"}
    return {key: decisive(value) for key, value in settings if key not in left_out}
