"""Read a configuration: YAML, ``extends``, derived values, one plain line for every mistake.

``complete`` is the way of every configuration: mappings in, a frozen ``Configuration`` out.
"""

import contextlib
import copy
import os
import re
from collections.abc import Collection, Hashable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from eliquare.config import catalogue, checks, derive, new
from eliquare.config.base import Problem
from eliquare.config.errors import Path as KeyPath
from eliquare.config.errors import explain, mistakes
from eliquare.config.model import Configuration
from eliquare.faults import first_line
from eliquare.io import InputError


def load(path: str | Path) -> Configuration:
    """Read one configuration file, complete and check it."""
    return complete(read_yaml(path), str(path))


def complete(raw: Mapping[str, Any], source: str = "configuration") -> Configuration:
    """Follow ``extends``, check everything and fill in derived values.

    Args:
        raw: The content of a configuration file, which is left as it is. With ``language``, and
            perhaps ``teacher`` and ``date``, what `eliquare new` prints is what it changes.
        source: The file, for messages and for ``extends``; several are separated by ", ".

    Raises:
        InputError: One line for each mistake: source, key, what was expected, the fix.
    """
    written = with_bases(raw, source)
    if "language" in written:
        words = {key: written.pop(key, None) for key in ("language", "teacher", "date")}
        alone = of_language(words, source)
        one_language(next(iter(alone["languages"])), written, source)
        written = derive.merged(catalogue.spelled_out(alone), written)
    if written.get("smoke") in ("true", "false"):
        # Snakemake reads `--config smoke=true` as text.
        written["smoke"] = written["smoke"] == "true"
    students, bases, problems = derive.extended_students(derive.mapping(written.get("students")))
    for key in [key for key in ("teacher", "date") if key in written]:
        problems.append(((key,), "this is of a language alone; give language=CODE beside it"))
        del written[key]
    if students:
        written["students"] = students
    if "tasks" in written:
        compared = derive.mapping(written.get("experiment")).get("languages")
        languages = [
            code
            for code in derive.mapping(written.get("languages"))
            if not isinstance(compared, list) or not compared or code in compared
        ]
        written["tasks"], unresolved = catalogue.resolved(written["tasks"], languages)
        problems += unresolved
    refused = []
    try:
        settings = Configuration.model_validate(written, strict=True)
    except ValidationError as error:
        refused = mistakes(error, keys_at)
    refused += checks.unknown_names(written)
    # Of an entry with a mistake, more would be said than is amiss.
    broken = {path[:2] for path, _ in problems}
    problems += [problem for problem in refused if problem[0][:2] not in broken]
    with contextlib.suppress(ValidationError):
        settings = Configuration.model_validate(without_entries(written, problems), strict=True)
        problems += [*checks.problems(settings), *checks.without_effect(raw, settings)]
    problems = [problem for problem in problems if not inherited(problem, problems, bases)]
    if problems:
        lines = [f"{source}: {'.'.join(map(str, path))}: {message}" for path, message in problems]
        raise InputError("\n".join(lines))
    return derive.completed(settings)


def one_language(code: str, written: Mapping[str, Any], source: str) -> None:
    """Raise InputError where a language is given beside others that nothing says of."""
    given = derive.mapping(written.get("languages"))
    others = [each for each in given if each.partition("-")[0] != code.partition("-")[0]]
    if others and not derive.mapping(written.get("experiment")).get("languages"):
        raise InputError(
            f"{source}: language: {code}, and languages has {', '.join(others)}; give one of the "
            "two, or say in experiment.languages which are compared"
        )


def of_language(words: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the configuration of a language; raise InputError with the source before it."""
    try:
        return new.configuration(**words)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def without_entries(written: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Return the configuration without the entries that have problems, and those that name them."""
    rest = copy.deepcopy(dict(written))
    while problems:
        for path, _ in problems:
            section, *keys = map(str, path)
            holder, key = (rest.get(section), keys[0]) if keys else (rest, section)
            derive.mapping(holder).pop(key, None)
        systems = [name for each in checks.SYSTEMS for name in derive.mapping(rest.get(each))]
        rest["experiment"] = {"systems": list(dict.fromkeys(systems))}
        problems = list(checks.unknown_names(rest))
    # A wrong name keeps nothing else from being checked.
    return {"name": "unnamed"} | rest


def dump(configuration: Configuration) -> dict[str, Any]:
    """Return a completed configuration as plain values, for ``settings.json``."""
    return configuration.model_dump(mode="json")


def restore(values: Mapping[str, Any]) -> Configuration:
    """Return the configuration that ``dump`` wrote; a key added since then has its default."""
    try:
        return Configuration.model_validate(values, strict=True)
    except ValidationError as error:
        lines = [f"settings.json: {line}" for line in explain(error)]
        raise InputError("\n".join(lines)) from None


def inherited(
    problem: Problem, problems: Collection[Problem], bases: Mapping[str, Collection[str]]
) -> bool:
    """Return whether a student has a problem from one that it extends, where it is reported."""
    path, message = problem
    if path[:1] != ("students",) or len(path) == 1:
        return False
    of_bases = [("students", base, *path[2:]) for base in bases.get(str(path[1]), ())]
    return any((path, message) in problems for path in of_bases)


# Files


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that stands twice instead of taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; raise ConstructorError at the second of two equal keys."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            # "<<" merges another mapping, and may stand more than once.
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if (key.tag, key.value) in seen:
                    message = f"the key {key.value!r} stands here twice; remove one"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; raise ConstructorError where YAML's reading surprises."""
        value: int = super().construct_yaml_int(node)
        if not DECIMAL.fullmatch(node.value):
            message = f"{node.value} is {value} in YAML; write that, or put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return value


INT = "tag:yaml.org,2002:int"
UniqueKeyLoader.add_constructor(INT, UniqueKeyLoader.construct_yaml_int)
# Not 010, which is 8 in YAML, nor 1:30, which is 90.
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file; raise InputError with the file and the line."""
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such configuration file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(f"{path}, line {line}: not YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML ({first_line(error)})") from None
    except RecursionError:
        raise InputError(f"{path}: not YAML that can be read (nested too deeply)") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: expected keys and values at the top, found {found}")
    return content


def with_bases(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a configuration merged into those that it extends.

    A path is relative to the file that names it, or to the working folder.
    """
    content = catalogue.spelled_out(raw)
    folders = [Path(each).parent for each in source.split(", ")]
    seen = {Path(each).resolve() for each in source.split(", ")}
    where = source
    while (base := content.pop("extends", None)) is not None:
        if not isinstance(base, str):
            raise InputError(f"{where}: extends: expected the path of a file, found {base!r}")
        places = [folder / base for folder in (*folders, Path())]
        # os.path's also takes a name that is too long for any file.
        found = next((place for place in places if os.path.isfile(place)), None)
        if found is None:
            tried = " or ".join(dict.fromkeys(map(str, places)))
            raise InputError(f"{where}: extends: there is no file {tried}")
        if found.resolve() in seen:
            raise InputError(f"{where}: extends: {base} extends itself")
        seen.add(found.resolve())
        content = derive.merged(catalogue.spelled_out(read_yaml(found)), content)
        where, folders = str(found), [found.parent]
    return content


def keys_at(path: KeyPath) -> Iterable[str]:
    """Return the keys that the settings at a path may have."""
    kind: Any = Configuration
    for part in path:
        fields = getattr(kind, "model_fields", None)
        # A key of settings, or else a value of a mapping or an item of a list.
        kind = unwrapped(fields[part].annotation if fields else get_args(kind)[-1])
    keys: Iterable[str] = kind.model_fields
    return keys


def unwrapped(annotation: Any) -> Any:
    """Return a type without Annotated and without None."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = get_args(annotation)[0]
    return annotation
