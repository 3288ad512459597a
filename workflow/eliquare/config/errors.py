"""One plain line for each mistake in settings or options: the key, what was expected, the fix."""

import datetime
import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from eliquare.config.base import PATTERNS, Problem

Path = tuple[int | str, ...]


def suggestion(word: object, known: Iterable[object]) -> str:
    """Return "; did you mean …?", or the known names, or nothing."""
    names = sorted({str(name) for name in known})
    close = difflib.get_close_matches(str(word), names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def explain(error: ValidationError, named: Callable[[str], str] = str) -> list[str]:
    """Return one line for each mistake, its key as ``named`` writes it."""
    found = [(".".join(map(str, path)), said) for path, said in mistakes(error)]
    return [f"{named(key)}: {said}" if key else said for key, said in found]


def mistakes(
    error: ValidationError, known: Callable[[Path], Iterable[str]] = lambda path: ()
) -> list[Problem]:
    """Return the problems, each once.

    ``known`` gives the keys that exist at a path, to suggest one in place of an unknown key.
    """
    found: dict[Problem, None] = {}
    for each in error.errors(include_url=False):
        path = each["loc"]
        if path[-1:] == ("[key]",):
            # The mistake is the key of a mapping itself, the part before this mark.
            path = path[:-2]
        if each["type"] == "problems":
            found |= {((*path, *keys), said): None for keys, said in each["ctx"]["found"]}
        elif each["type"] == "extra_forbidden":
            found[path, f"unknown key{suggestion(path[-1], known(path[:-1]))}"] = None
        else:
            found[path, describe(each)] = None
    return list(found)


def describe(error: ErrorDetails) -> str:
    """Return what one of pydantic's errors says, and what to write instead."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "missing; add this key"
    if kind == "value_error":
        return str(context["error"])
    expected = error["msg"].replace("Input should be", "expected")
    expected = re.sub(r" or instance of \w+", "", expected)
    if kind == "string_pattern_mismatch":
        expected = f"expected {PATTERNS.get(context['pattern'], context['pattern'])}"
    return f"{expected}, found {value!r}{fix(value, kind)}"


def fix(value: Any, kind: str) -> str:
    """Return what to write instead, where YAML's reading surprises; else nothing."""
    if isinstance(value, str) and kind.startswith(("int_", "float_")):
        return "; write a number without quotes, with an exponent as 5.0e-4 or 1.0e+3"
    if value is None and kind.startswith(("dict_", "model_")):
        return "; nothing stands below this key: leave it out, or write {}"
    if kind not in ("string_type", "literal_error"):
        return ""
    if isinstance(value, bool):
        return f"; YAML reads a bare {'yes' if value else 'no'} as {value}: write it in quotes"
    if isinstance(value, datetime.date):
        value = int(f"{value:%Y%m%d}")
    return f'; write it in quotes: "{value}"' if isinstance(value, int | float) else ""
