"""Results that experiments share by name: which settings decide each, and who made it otherwise."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from eliquare.config.model import EXECUTION_KEYS, Configuration, Student, Training
from eliquare.config.objective import Objective
from eliquare.config.systems import System
from eliquare.io import InputError
from eliquare.paths import DEMO, FULL, Paths

# Keys that people read, and that say how else an entry was written.
READ_ONLY = frozenset(
    {
        *("label", "published_as", "extends", "seeds", "licence", "prefix", "optional", "export"),
        *("mirror", "min_documents"),  # where a dump came from, and what its text is refused by
    }
)


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
    for name, entry, places in shared_results(paths):
        for place in places:
            found[place][name] = decisive(entry)
    return dict(found)


def shared_results(paths: Paths) -> Iterator[tuple[str, Any, Iterable[Path]]]:
    """Yield (name, settings, paths of the results that they decide)."""
    settings, results = paths.settings, paths.results
    corpora = [*settings.languages, *settings.mixtures]
    if settings.demo is not None:
        yield "demo", settings.demo, [DEMO]
    for code, language in settings.languages.items():
        yield f"languages.{code}", language.corpus, [paths.documents(code)]
    for name, members in settings.mixtures.items():
        yield f"mixtures.{name}", members, [paths.documents(name)]
    reduced = (*settings.vocabularies, *settings.extensions)
    prepared = [
        paths.prepared(*each) for each in product(corpora, settings.teachers, (FULL, *reduced))
    ]
    yield "sequences", settings.sequences, [folder / "sequences" for folder in prepared]
    held_out = [paths.held_out(code) for code in settings.languages]
    taught = product(settings.systems, settings.experiment.languages)
    held_out += filter(None, (paths.unlabelled(*each) for each in taught))
    yield "sequences.validation_fraction", settings.sequences.validation_fraction, held_out
    yield "masking", settings.masking, [folder / "masking" for folder in prepared]
    for section in ("vocabularies", "extensions"):
        for name, entry in getattr(settings, section).items():
            for pair in product(corpora, settings.teachers):
                places = [paths.vocabulary_file(*pair, name), paths.teacher(*pair, name)]
                yield f"{section}.{name}", entry, places
    for section in ("teachers", "students", "systems"):
        for name, entry in getattr(settings, section).items():
            # A taught student is measured as the student.
            codes = settings.languages if paths.untaught(name) == name else ()
            of_system = [paths.benchmark(code, name) for code in codes]
            of_system += [paths.store / task / name for task in settings.tasks]
            if section == "teachers":
                of_system += [paths.teacher(corpus, name) for corpus in corpora]
                of_system.append(results / section / name / "tokenizer")
            elif section == "students":
                of_system += [paths.student(name, corpus) for corpus in corpora]
            elif entry.model is not None:
                of_system.append(results / section / name / "model")
            yield f"{section}.{name}", entry, of_system
    systems = [*settings.teachers, *settings.students, *settings.systems]
    benchmarks = [paths.benchmark(*pair) for pair in product(settings.languages, systems)]
    yield "benchmark", settings.benchmark, benchmarks
    for name, task in settings.tasks.items():
        yield f"tasks.{name}", task, [paths.store / name / system for system in systems]


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
