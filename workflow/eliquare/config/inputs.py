"""The files that an experiment reads: whether all are there, and can be used."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from eliquare.config.corpus import Corpus
from eliquare.config.model import Configuration, Student, Teacher
from eliquare.config.sources import SPLITS
from eliquare.io import InputError
from eliquare.paths import DEMO

# How far the clock of another machine may be ahead.
SECONDS_AHEAD = 60
# Keys of named entries that are files or folders.
FILE_KEYS = (
    ("teachers", "model"),
    ("vocabularies", "tokens"),
    ("vocabularies", "always_keep"),
    ("extensions", "vectors"),
)


def check_files(settings: Configuration, source: str) -> None:
    """Raise InputError with one line for each file of the experiment that cannot be used."""
    files = [
        (".".join(path), Path(file))
        for path, file in files_of(settings)
        if not (settings.demo and Path(file).is_relative_to(DEMO))
    ]
    lines = [
        f"{source}: {key}: there is no {'folder' if key.endswith('.model') else 'file'} {file}; "
        "put it there"
        for key, file in files
        if not os.path.exists(file)  # also where the name is too long for any
    ]
    latest = time.time() + SECONDS_AHEAD
    for key, file in files:
        # A teacher is a folder, all else is a file; what is neither is not told apart here.
        if key.endswith(".model") and os.path.isfile(file):
            lines.append(f"{source}: {key}: {file} is a file; give a folder")
        elif not key.endswith(".model") and os.path.isdir(file):
            lines.append(f"{source}: {key}: {file} is a folder; give a file")
    lines += [
        f"{source}: {key}: the time of {file} is in the future, and Snakemake takes no result that "
        f"is older than its input; `touch {file}`"
        for key, file in files
        if os.path.exists(file) and file.stat().st_mtime > latest
    ]
    lines += [
        f"{source}: languages.{code}.corpus.revision: missing; there is no folder {name}, and of a "
        "data set on the hub give the commit (40 hexadecimal digits, in the history of its files)"
        for code, name in unpinned_datasets(settings)
    ]
    lines += [
        f"{source}: languages.{code}.corpus.{key}: {name} is in place, and is read as it is; "
        f"remove {key}" + (", or give the file of that split" if key == "split" else "")
        for code, name, key in unread_keys(settings)
    ]
    lines += [
        f"{source}: systems.{name}.revision: {model} is in place, and is read as it is; remove it"
        for name, model in systems_in_place(settings)
        if settings.systems[name].revision
    ]
    if any(": tasks." in line for line in lines):
        lines.append(f"{source}: or name in experiment.tasks the tasks whose files are there")
    if lines:
        raise InputError("\n".join(lines))


def unpinned_datasets(settings: Configuration) -> Iterator[tuple[str, str]]:
    """Yield (language, data set) of every corpus from the hub without a commit."""
    for code in corpora_of(settings):
        corpus = settings.languages[code].corpus
        if corpus.dataset and not corpus.revision and not os.path.exists(corpus.dataset):
            yield code, corpus.dataset


def unread_keys(settings: Configuration) -> Iterator[tuple[str, str, str]]:
    """Yield (language, data set, key) of what is said of data sets in place, and is not read."""
    for code in corpora_of(settings):
        corpus = settings.languages[code].corpus
        if not corpus.dataset or not os.path.exists(corpus.dataset):
            continue
        if corpus.revision:
            yield code, corpus.dataset, "revision"
        if os.path.isfile(corpus.dataset) and corpus.split != Corpus.model_fields["split"].default:
            yield code, corpus.dataset, "split"


def corpora_of(settings: Configuration) -> list[str]:
    """Return the languages whose text the experiment reads."""
    trained: list[Student | Teacher] = [*settings.students.values(), *settings.teachers.values()]
    corpora = {*settings.experiment.languages, *(each.corpus for each in trained if each.corpus)}
    reduced = [*trained, *settings.systems.values()]
    rules = [settings.vocabularies.get(each.vocabulary or "") for each in reduced]
    corpora |= {code for rule in rules if rule for code in rule.languages}
    return sorted({code for name in corpora for code in settings.members(name)})


def files_of(settings: Configuration) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of keys, file) of every file that the experiment reads."""
    for code in corpora_of(settings):
        corpus, path = settings.languages[code].corpus, ("languages", code, "corpus")
        if corpus.file is not None:
            yield (*path, "file"), corpus.file
        for file in corpus.files:
            yield (*path, "files"), file
    for section, key in FILE_KEYS:
        for name, entry in getattr(settings, section).items():
            if (file := getattr(entry, key)) is not None and getattr(entry, "source", "") != "hub":
                yield (section, name, key), file
    for name, model in systems_in_place(settings):
        yield ("systems", name, "model"), model
    for name in settings.experiment.tasks or ():
        task = settings.tasks[name]
        for split in () if task.fetched else SPLITS:
            if (file := getattr(task, split)) is not None:
                yield ("tasks", name, split), file


def systems_in_place(settings: Configuration) -> Iterator[tuple[str, str]]:
    """Yield (name, model) of the systems that are compared whose model is there, or must be.

    One that is not there is left out of the tables, as one that the hub has withdrawn; but a path
    from the root, or from this folder, is no id and never was.
    """
    for name in settings.experiment.systems:
        system = settings.systems.get(name)
        model = system.model if system else None
        if model and (os.path.exists(model) or model.startswith(("/", "."))):
            yield name, model
