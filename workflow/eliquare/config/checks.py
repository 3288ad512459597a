"""What one entry of the configuration alone cannot tell: names that must exist, what goes together.

Checks yield problems, (path of keys, message), so that all of them are reported at once. What is on
disk is the subject of ``inputs.py`` and ``shared.py``.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from itertools import product
from typing import Any

from eliquare.config import catalogue, published
from eliquare.config.base import Problem
from eliquare.config.corpus import Corpus
from eliquare.config.derive import REDUCED_KEYS, mapping
from eliquare.config.errors import Path as KeyPath
from eliquare.config.errors import suggestion
from eliquare.config.model import (
    HEADS,
    Configuration,
    Student,
)
from eliquare.config.objective import SENTENCE_TERMS, TERMS_OF_A_HEAD
from eliquare.config.sources import COLUMN_KINDS, UNTRAINED, Columns, source_of
from eliquare.config.systems import System
from eliquare.paths import FULL

# Folders beside those of the experiments in results/.
SHARED = {"corpora", "teachers", "students", "systems", "finetuned", "benchmarks", "smoke", "costs"}
SYSTEMS = ("teachers", "students", "systems")
# Keys, of one section or of any, that name entries of these sections.
REFERENCES = {
    "teacher": ("teachers",),
    "teachers": ("teachers",),
    "corpus": ("languages", "mixtures"),
    "vocabulary": ("vocabularies",),
    "extension": ("extensions",),
    "reduced_from": ("students",),
    "student": ("students",),
    "language": ("languages",),
    "languages": ("languages",),
    "vocabularies.languages": ("languages", "mixtures"),
    "systems": SYSTEMS,
    "baseline": SYSTEMS,
    "release": ("students",),
    "tasks": ("tasks",),
}
# Sections whose names may not be the same, and a name of which the workflow makes a folder.
NAMESPACES = (
    (SYSTEMS, "documents"),
    (("vocabularies", "extensions"), FULL),
    (("languages", "mixtures"), ""),
)


# Names


def unknown_names(written: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for every name that refers to nothing.

    ``written`` is the configuration as the user wrote it, mistakes included.
    """
    references: list[tuple[KeyPath, Any, Collection[str]]] = [
        (("mixtures", name), mapping(members).get("languages", members), REFERENCES["language"])
        for name, members in mapping(written.get("mixtures")).items()
    ]
    entries: list[tuple[KeyPath, Any]] = [(("experiment",), written.get("experiment"))]
    for section in ("teachers", "vocabularies", "extensions", "students", "systems", "tasks"):
        entries += [((section, name), each) for name, each in mapping(written.get(section)).items()]
    for name, student in mapping(written.get("students")).items():
        entries.append((("students", name, "export"), mapping(student).get("export")))
    for name, system in mapping(written.get("systems")).items():
        taught = mapping(system).get("task_distillation")
        entries.append((("systems", name, "task_distillation"), taught))
    for path, entry in entries:
        for key, value in mapping(entry).items():
            if named := REFERENCES.get(f"{path[0]}.{key}") or REFERENCES.get(key):
                references.append(((*path, key), value, named))
    for path, value, sections in references:
        if any(written.get(section) and not mapping(written[section]) for section in sections):
            # The section itself is the mistake.
            continue
        known = [name for section in sections for name in mapping(written.get(section))]
        words = value if isinstance(value, list | dict) else [value]
        for word in words:
            if isinstance(word, str) and word not in known:
                yield path, f"there is no {word!r}{suggestion(word, known)}"


def taken_names(settings: Configuration) -> Iterator[Problem]:
    """Yield a problem for every name that would stand for two things, or two folders in one."""
    if settings.name in SHARED:
        yield ("name",), f"{settings.name} is a folder of all experiments; choose another name"
    for sections, reserved in NAMESPACES:
        taken = {reserved: "the workflow"}
        for section in sections:
            for name in getattr(settings, section):
                if name in taken:
                    yield (section, name), f"this name is taken by {taken[name]}; choose another"
                taken[name] = f"{section}.{name}"
    yield from names_that_join(settings)
    for section in ("students", "systems"):
        for name in getattr(settings, section):
            if "@" in name:
                yield (section, name), "'@' is for seeds of distillation; write `seeds: [1, 2]`"


def names_that_join(settings: Configuration) -> Iterator[Problem]:
    """Yield a problem where two names of models, joined with a corpus, are one folder or log.

    Student `pre` for `zh-yue` and student `pre-zh` for `yue` are both `models/pre-zh-yue`.
    """
    corpora = [*settings.languages, *settings.mixtures]
    models = [(section, name) for section in SYSTEMS for name in getattr(settings, section)]
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for (section, name), corpus in product(models, corpora):
        for first, joined in (("model", f"{name}-{corpus}"), ("corpus", f"{corpus}-{name}")):
            other, of_other = known.setdefault((first, joined), (name, corpus))
            if other != name and of_other != corpus:
                yield (
                    (section, name),
                    f"{name} for {corpus} and {other} for {of_other} are both {joined!r} in names "
                    "of files; choose another name",
                )


# Entries


def problems(settings: Configuration) -> Iterator[Problem]:
    """Yield what does not belong together among entries that are right by themselves."""
    yield from taken_names(settings)
    yield from unknown_wikipedias(settings)
    for name, teacher in settings.teachers.items():
        positions, longest = teacher.max_position_embeddings, settings.sequences.max_length
        if teacher.source == "pretrain" and longest > positions:
            message = f"{positions} is less than sequences.max_length, {longest}"
            yield ("teachers", name, "max_position_embeddings"), message
        elif teacher.source == "pretrain" and settings.benchmark.sequence_length > positions:
            message = (
                f"{settings.benchmark.sequence_length} is more than max_position_embeddings of "
                f"{name}, {positions}, whose speed is measured"
            )
            yield ("benchmark", "sequence_length"), message
        if root(settings, name) is None:
            yield ("teachers", name, "teacher"), "the teacher is adapted from itself"
    for name, student in settings.students.items():
        check = reduction_problems if student.reduced_from else student_problems
        for path, message in [*check(student, settings), *export_problems(student, settings)]:
            yield ("students", name, *path), message
    experiment = settings.experiment
    for name, system in settings.systems.items():
        for path, message in task_distillation_problems(name, system, settings):
            yield ("systems", name, *path), message
    for name in [*experiment.release, experiment.baseline or experiment.systems[0]]:
        if name not in experiment.systems:
            message = f"{name}, of release or baseline, is not compared; add it here"
            yield ("experiment", "systems"), message
    yield from row_problems(settings)
    for name in experiment.tasks or ():
        code = settings.tasks[name].language
        if code not in (experiment.languages or settings.languages):
            message = f"{name} is a task in {code!r}, which is not in experiment.languages"
            yield ("experiment", "tasks"), message
    yield from published.problems(settings)


def row_problems(settings: Configuration) -> Iterator[Problem]:
    """Yield the rows of tables that would be empty, or have the name of another row."""
    experiment = settings.experiment
    entries = {
        name: (section, entry)
        for section in SYSTEMS
        for name, entry in getattr(settings, section).items()
        if name in experiment.systems
    }
    names = [entry.label or name for name, (_, entry) in entries.items()]
    for name, (section, entry) in entries.items():
        if entry.label and names.count(entry.label) > 1:
            message = f"two systems would be {entry.label!r} in tables; choose another"
            yield (section, name, "label"), message
        made_for = getattr(entry, "languages", [])
        if made_for and not {*made_for} & {*(experiment.languages or settings.languages)}:
            message = (
                f"{name} is made for {', '.join(made_for)}, none of the experiment's languages"
            )
            yield ("experiment", "systems"), f"{message}; add one, or take it out"


def unknown_wikipedias(settings: Configuration) -> Iterator[Problem]:
    """Yield the languages of which a dump is wanted and no Wikipedia is known."""
    for code, language in settings.languages.items():
        corpus = language.corpus
        if corpus.source == "dump" and not (corpus.file or corpus.wiki or catalogue.is_known(code)):
            message = f"{catalogue.unknown(code)} (or give the name of the dump's database)"
            yield ("languages", code, "corpus", "wiki"), message


def root(settings: Configuration, name: str) -> str | None:
    """Return the teacher that one was adapted from, or itself; None if it leads to itself."""
    seen = {name}
    while (entry := settings.teachers[name]).source == "adapt":
        name = entry.teacher or ""
        if name in seen:
            return None
        seen.add(name)
    return name


def extended(settings: Configuration, name: str) -> str | None:
    """Return the last teacher on the way to this one that got other tokens, if there is one."""
    if root(settings, name) is None:
        return None
    entry = settings.teachers[name]
    if entry.starts_from or not entry.teacher:
        return name if entry.starts_from else None
    return extended(settings, entry.teacher)


def student_problems(student: Student, settings: Configuration) -> Iterator[Problem]:
    """Yield what makes a student of its teachers impossible."""
    own = root(settings, student.teacher or "")
    for name in student.teachers if student.vocabulary is not None else ():
        if root(settings, name) != own:
            message = f"{name} and {student.teacher}, if reduced, must be adapted from one model"
            yield ("teachers",), message
    for name in student.teachers:
        if extended(settings, name) != extended(settings, student.teacher or ""):
            message = (
                f"{name} and {student.teacher} have other tokens, since a vocabulary or an "
                "extension of one changed them"
            )
            yield ("teachers",), f"{message}; the teachers of a student have the same"
    yield from term_problems(student, settings)
    if own is None or settings.teachers[own].source != "pretrain":
        return
    # The configuration says the shape of the teacher.
    teacher = settings.teachers[own]
    layers, of_teacher = student.num_hidden_layers, teacher.num_hidden_layers
    if layers > of_teacher:
        message = f"{layers}, and its teacher has {of_teacher}; a student has no more layers"
        yield ("num_hidden_layers",), message
    elif student.initialization == "2n-1" and 2 * layers - 1 > of_teacher:
        message = f"2n-1 takes layer {2 * layers - 1} of {of_teacher}"
        yield ("initialization",), f"{message}; use even, distilbert, first or last"
    width = student.hidden_size or teacher.hidden_size
    size = teacher.hidden_size // teacher.num_attention_heads
    heads = student.num_attention_heads or teacher.num_attention_heads
    if width > teacher.hidden_size:
        message = f"{width}, and its teacher has {teacher.hidden_size}; a student is no wider"
        yield ("hidden_size",), message
    elif student.initialization == "blank":
        if width % heads:
            yield ("hidden_size",), HEADS.format(width, heads)
    elif width % size or width != (student.num_attention_heads or width // size) * size:
        message = f"{width}, and the heads that stay have the teacher's size, {size}"
        yield ("hidden_size",), f"{message}; make it their multiple, or write initialization: blank"


def export_problems(student: Student, settings: Configuration) -> Iterator[Problem]:
    """Yield the tasks of which there is no fine-tuned model to keep."""
    compared = settings.experiment.tasks
    for name in student.export.tasks if student.export else ():
        if settings.tasks[name].kind in UNTRAINED:
            yield ("export", "tasks"), f"{name} is scored without fine-tuning; take it out"
        elif compared is not None and name not in compared:
            yield ("export", "tasks"), f"{name} is not among experiment.tasks; add it there"
    tasks = student.export.tasks if student.export else []
    made_for = student.languages or [*settings.languages]
    if tasks and not any(settings.tasks[name].language in made_for for name in tasks):
        yield ("export", "tasks"), "none is in a language that this student is made for"


def without_effect(written: Mapping[str, Any], settings: Configuration) -> Iterator[Problem]:
    """Yield what an entry has of its own, not of a base, and nothing reads.

    What has the value that it would have anyway is no mistake.
    """

    def has_own(*path: str, default: Any = None) -> bool:
        *sections, key = path
        entry = reduce(lambda entry, section: mapping(entry.get(section)), sections, written)
        return entry.get(key) not in (None, default)

    in_place = "the dump is a file here, so nothing is downloaded; remove it, or file"
    for code, language in settings.languages.items():
        for name in ("wiki", "date", "mirror") if language.corpus.file else ():
            written_at = ("languages", code, "corpus", name)
            if has_own(*written_at, default=Corpus.model_fields[name].default):
                yield written_at, in_place
    for name, task in settings.tasks.items():
        path = ("tasks", name)
        if task.kind in UNTRAINED and has_own(*path, "finetuning"):
            message = f"a task of kind {task.kind} is scored without fine-tuning; remove it"
            yield (*path, "finetuning"), message
        if source_of(task) is None and has_own(*path, "optional", default=False):
            yield (*path, "optional"), "its files are in place, and must be there; remove it"
        for column, kinds in COLUMN_KINDS.items():
            key = (*path, "hub", "columns", column)
            default = Columns.model_fields[column].default
            if task.kind not in kinds and has_own(*key, default=default):
                yield key, f"a task of kind {task.kind} does not read it; remove it"
    experiment = settings.experiment
    for name, student in settings.students.items():
        path = ("students", name)
        seed = student.seeds[0] if student.seeds else student.training.seed
        if seed != student.training.seed and has_own(*path, "training", "seed"):
            yield (
                (*path, "training", "seed"),
                "nothing reads it beside seeds; remove one of the two",
            )
        trained = student.training.max_steps != 0
        released = name in experiment.release if experiment.release else trained
        if name in experiment.systems and not released and has_own(*path, "export"):
            message = f"{name} is not released, so nothing of it is exported"
            yield (*path, "export"), f"{message}; add it to experiment.release"


def task_distillation_problems(
    name: str, system: System, settings: Configuration
) -> Iterator[Problem]:
    """Yield what hinders the comparison of a system that a teacher of the task teaches."""
    if system.student is None or name not in settings.experiment.systems:
        return
    if system.student not in settings.experiment.systems:
        message = f"{system.student} is not compared; add it to experiment.systems beside {name}"
        yield ("student",), message
    yield from language_problems(system, system.student, settings)


def language_problems(
    entry: System | Student, student: str, settings: Configuration
) -> Iterator[Problem]:
    """Yield the languages of an entry for which the student that it needs is not made."""
    made_for = settings.students[student].languages
    for code in entry.languages if made_for else ():
        if code not in made_for:
            yield ("languages",), f"{student} is not made for {code}; add it there"


def term_problems(student: Student, settings: Configuration) -> Iterator[Problem]:
    """Yield the terms that a student's teachers cannot teach."""
    for name in sorted({student.teacher or "", *student.teachers}):
        terms: tuple[str, ...]
        if settings.teachers[name].pooling:
            terms, lacks = TERMS_OF_A_HEAD, "a sentence encoder predicts no tokens"
            mend = "write `preset: sentence`, or adapt it (source: adapt), which trains a head"
        else:
            terms, lacks = SENTENCE_TERMS, "its pooling, which makes embeddings, is not given"
            mend = "give `pooling`, or take another term"
        for term in terms:
            if term in student.objective.terms():
                yield ("objective", term), f"{name}: {lacks}; {mend}"


def reduction_problems(student: Student, settings: Configuration) -> Iterator[Problem]:
    """Yield the problems of a student that is reduced after its distillation."""
    original = settings.students[student.reduced_from or ""]
    for key in sorted(student.model_fields_set - {*REDUCED_KEYS}):
        yield (key,), "its `reduced_from` says it; remove this key, or change it there"
    if original.vocabulary or original.extension or original.reduced_from:
        yield ("reduced_from",), f"{student.reduced_from} has no full vocabulary to reduce"
    elif original.training.max_steps == 0:
        message = f"{student.reduced_from} is not trained (its training.max_steps is 0)"
        yield ("reduced_from",), message
    yield from language_problems(student, student.reduced_from or "", settings)
