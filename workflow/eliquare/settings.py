"""The configuration: read, completed, checked, with errors that show the mend."""

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from eliquare.settings_checks import check_names, suggestion
from eliquare.settings_entries import check_written
from eliquare.settings_errors import explain
from eliquare.stage import InputError

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"
# JSON schema takes 6.0 for an integer; a command's option does not.
Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration; read once, and not to be changed."""
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def load(path: str | Path) -> dict[str, Any]:
    """Read one configuration file, complete and check it."""
    return complete(read_yaml(path), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file; raises InputError with the file and the line."""
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


def complete(config: dict[str, Any], source: str = "configuration") -> dict[str, Any]:
    """Follow ``extends`` and ``like``, fill in defaults, and check everything.

    Raises InputError with ``source``, the key, what was expected, and the mend.
    """
    config = copy.deepcopy(config)
    seen = [source]
    while "extends" in config:
        base = config.pop("extends")
        if not isinstance(base, str):
            raise InputError(f"{source}: extends: expected the path of a file, found {base!r}")
        if base in seen:
            raise InputError(f"{source}: extends: {base} extends itself")
        if not Path(base).exists():
            raise InputError(
                f"{seen[-1]}: extends: {base} does not exist; write its path from the project's "
                "folder, as config/config.yaml"
            )
        seen.append(base)
        config = merged(read_yaml(base), config)
    refuse_surprises(config, source)
    # Before students take over each other's keys, so that a mistake is told where it was made.
    check(config, source)
    check_written(config, source)
    follow_like(config, source)
    fill_defaults(config, schema())
    check_names(config, source)
    return config


def merged(base: dict, over: dict) -> dict:
    """``base`` with the keys of ``over`` put in, mapping by mapping; lists are replaced whole."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def follow_like(config: dict, source: str) -> None:
    """Give each student the keys of the student that it is like."""
    students = config.get("students", {})
    for name in students:
        chain = [name]
        while "like" in students[name]:
            like = students[name]["like"]
            where = f"{source}: students.{name}.like: {like}"
            if like not in students:
                raise InputError(f"{where} is no student{suggestion(like, students)}")
            if like in chain:
                raise InputError(f"{where} is like itself")
            chain.append(like)
            own = {key: value for key, value in students[name].items() if key != "like"}
            # A label or a published name belongs to one student alone.
            base = {
                key: value
                for key, value in students[like].items()
                if key not in ("label", "published_as")
            }
            students[name] = merged(base, own)


def refuse_surprises(value: Any, source: str, path: str = "") -> None:
    """Refuse what YAML reads otherwise than meant: no as a key, .nan and .inf as numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                written = {False: "no", True: "yes"}.get(key, str(key))
                raise InputError(
                    f"{source}: {path or 'top'}: the key {written} is read by YAML as {key!r}; "
                    f'write it in quotes: "{written}"'
                )
            refuse_surprises(inner, source, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            refuse_surprises(item, source, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{source}: {path}: expected a number, found {value}")


def check(config: dict, source: str) -> None:
    """Check against the schema; raises InputError for the most telling violation."""
    errors = list(Validator(schema()).iter_errors(config))
    if errors:
        error = best_match(errors)
        raise InputError(f"{source}: {explain(error)}")


def fill_defaults(value: Any, part: dict, root: dict | None = None) -> None:
    """Put the schema's defaults in where a key is absent, depth first."""
    root = root or part
    part = resolved(part, root)
    if not isinstance(value, dict):
        return
    for key, inner in part.get("properties", {}).items():
        default = resolved(inner, root).get("default", inner.get("default"))
        if key not in value and (default is not None or _nullable(inner, root)):
            value[key] = copy.deepcopy(default)
        if key in value:
            fill_defaults(value[key], inner, root)
    others = part.get("additionalProperties")
    if isinstance(others, dict):
        for inner in value.values():
            fill_defaults(inner, others, root)


def resolved(part: dict, root: dict) -> dict:
    """A part of the schema with its reference followed; keys beside the reference win."""
    if "$ref" not in part:
        return part
    target = root["$defs"][part["$ref"].rpartition("/")[2]]
    return {**resolved(target, root), **{key: part[key] for key in part if key != "$ref"}}


def _nullable(part: dict, root: dict) -> bool:
    return "default" in resolved(part, root)
