"""Read a configuration: YAML, ``extends``, derived values, one plain line for every mistake.

``complete`` is the way of every configuration: mappings in, a frozen ``Configuration`` out. The
values that follow from others (labels, languages, one recipe per seed of distillation, the smoke
run) are filled in while it is still mappings, and validated with the rest.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from eliquare.config import checks, derive
from eliquare.config.derive import Problem
from eliquare.config.errors import MISSING, mistakes
from eliquare.config.errors import Path as KeyPath
from eliquare.config.model import Configuration
from eliquare.io import InputError

base_name = derive.base_name


def load(path: str | Path) -> Configuration:
    """Read one configuration file, complete and check it."""
    return complete(read_yaml(path), str(path))


def complete(raw: Mapping[str, Any], source: str = "configuration") -> Configuration:
    """Follow ``extends``, fill in derived values and check everything.

    Args:
        raw: The content of a configuration file, which is left as it is.
        source: The file, for messages and for ``extends``; several are separated by ", ".

    Raises:
        InputError: One line for each mistake: source, key, what was expected, the fix.
    """
    written, problems = readable(with_bases(raw, source))
    derived, more = derive.derived(written)
    configuration, refused = validate(derived)
    problems += more + refused
    if configuration is not None:
        broken = [path for path, _ in problems]
        problems += checks.unknown_names(configuration, derived)
        # In an entry without the values that were refused, more may be amiss than the user wrote.
        problems += [
            problem
            for problem in checks.problems(configuration)
            if not any(related(problem[0], path) for path in broken)
        ]
    problems = [each for each in problems if not derive.inherited(each, problems, written)]
    if problems or configuration is None:
        raise InputError("\n".join(lines(problems, source)))
    return configuration


def dump(configuration: Configuration) -> dict[str, Any]:
    """Return a completed configuration as plain values, for ``settings.json``."""
    return configuration.model_dump(mode="json")


def restore(values: Mapping[str, Any]) -> Configuration:
    """Return the configuration that ``dump`` wrote; a key added since then has its default."""
    try:
        return Configuration.model_validate(values, strict=True)
    except ValidationError as error:
        raise InputError("\n".join(lines(mistakes(error), "settings.json"))) from None


def lines(problems: Iterable[Problem], source: str) -> list[str]:
    """Return one line for each problem."""
    return [": ".join(filter(None, (source, dotted(path), message))) for path, message in problems]


def dotted(path: KeyPath) -> str:
    """Return a path of keys as it is written in messages."""
    return ".".join(map(str, path))


# Files


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file; raise InputError with the file and the line."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such configuration file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(f"{path}, line {line}: not YAML ({error.problem})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values at the top")
    return content


def with_bases(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a configuration merged into those that it extends.

    A path is relative to the file that names it, or to the working folder.
    """
    content = dict(raw)
    folders = [Path(each).parent for each in source.split(", ")]
    seen = {Path(each).resolve() for each in source.split(", ")}
    where = source
    while (base := content.pop("extends", None)) is not None:
        if not isinstance(base, str):
            raise InputError(f"{where}: extends: expected the path of a file, found {base!r}")
        places = [folder / base for folder in (*folders, Path())]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            tried = " or ".join(dict.fromkeys(map(str, places)))
            raise InputError(f"{where}: extends: there is no file {tried}")
        if found.resolve() in seen:
            raise InputError(f"{where}: extends: {base} extends itself")
        seen.add(found.resolve())
        content = derive.merged(read_yaml(found), content)
        where, folders = str(found), [found.parent]
    return content


def readable(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return a copy without what YAML reads otherwise than meant, and a problem for each."""
    problems: list[Problem] = []

    def copied(value: Any, path: KeyPath) -> Any:
        if isinstance(value, Mapping):
            kept = {}
            for key, inner in value.items():
                text = key if isinstance(key, str) else yaml_word(key)
                kept[text] = copied(inner, (*path, text))
                if text != key:
                    message = f'YAML reads the key {text} as {key!r}: write it in quotes, "{text}"'
                    problems.append((path, message))
            return kept
        if isinstance(value, list):
            return [copied(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            problems.append((path, f"expected a finite number, found {value}"))
            return 1.0
        return copy.deepcopy(value)

    return copied(raw, ()), problems


def yaml_word(value: Any) -> str:
    """Return the word that YAML reads as this value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


# Validation


def validate(derived: dict[str, Any]) -> tuple[Configuration | None, list[Problem]]:
    """Return the configuration, without what cannot be used, and a problem for each such value.

    The rest is still typed, so that its own mistakes are found in the same run; it is None where
    too little is left.
    """
    problems: list[Problem] = []
    usable = copy.deepcopy(derived)
    while True:
        try:
            return Configuration.model_validate(usable, strict=True), problems
        except ValidationError as error:
            refused = mistakes(error, lambda path: keys_at(Configuration, path))
        # What is left after an entry was dropped may be too little; that is no further mistake.
        problems = problems or refused
        before = copy.deepcopy(usable)
        for path, message in reversed(refused):
            drop(usable, path[:2] if message == MISSING else path)
        if usable == before:
            return None, problems


def drop(value: Any, path: KeyPath) -> None:
    """Remove what is at the path, or the deepest part of the path that exists."""
    parent, key = None, None
    for part in path:
        inside = isinstance(value, dict) and part in value
        inside = inside or (isinstance(value, list) and isinstance(part, int) and part < len(value))
        if not inside:
            break
        parent, key, value = value, part, value[part]
    if parent is not None:
        del parent[key]


def related(one: KeyPath, other: KeyPath) -> bool:
    """Return whether two paths are in one entry, so that one mistake may be due to the other."""
    depth = min(2, len(one), len(other))
    return one[:depth] == other[:depth]


def keys_at(model: Any, path: KeyPath) -> Iterator[str]:
    """Yield the keys that the mapping at a path may have; none if the user names them."""
    for part in path:
        model = inner(model, part)
    yield from (
        model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else ()
    )


def inner(annotation: Any, key: int | str) -> Any:
    """Return the type at a key of a type: a field, the values of a mapping, items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(key))
        return unwrapped(field.annotation) if field else None
    members = get_args(annotation)
    if get_origin(annotation) is dict:
        return unwrapped(members[1])
    return unwrapped(members[0]) if get_origin(annotation) is list else None


def unwrapped(annotation: Any) -> Any:
    """Return a type without Annotated and without None."""
    while not isinstance(annotation, type) and get_origin(annotation) not in (dict, list):
        members = [each for each in get_args(annotation) if each is not type(None)]
        if not members:
            return None
        annotation = members[0]
    return annotation
