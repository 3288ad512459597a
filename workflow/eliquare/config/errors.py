"""One plain line for each mistake in settings or options: the key, what was expected, the fix."""

import datetime
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from eliquare.config.model import PATTERNS

Path = tuple[int | str, ...]
# The keys that lead to a mistake, and what is said of it.
Problem = tuple[Path, str]

MISSING = "missing; add this key"
# What pydantic's error types, or the first word of them, say in words; {…} are the error's context.
EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "dict": "keys and values",
    "model": "keys and values",
    "literal": "one of {expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length}",
}


def suggestion(word: object, known: Iterable[object]) -> str:
    """Return "; did you mean …?", or the known names, or nothing."""
    names = sorted(map(str, known))
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
    found = {}
    for each in error.errors(include_url=False):
        # Pydantic marks the key of a mapping, as opposed to its value, by a last "[key]".
        path = tuple(part for part in each["loc"] if part != "[key]")
        if each["type"] == "extra_forbidden":
            said = f"unknown key{suggestion(path[-1], known(path[:-1]))}"
        else:
            said = describe(each)
        found[path, said] = True
    return list(found)


def describe(error: ErrorDetails) -> str:
    """Return what one of pydantic's errors says, in words."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return MISSING
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"expected {PATTERNS.get(context['pattern'], context['pattern'])}, found {value!r}"
    expected = EXPECTED.get(kind) or EXPECTED.get(kind.partition("_")[0])
    if expected is None:
        return error["msg"]
    return f"expected {expected.format(**context)}, found {value!r}{fix(value, kind)}"


def fix(value: Any, kind: str) -> str:
    """Return what to write instead, where YAML's reading surprises; else nothing."""
    if isinstance(value, str) and kind.startswith(("int_", "float_")):
        return fix_number(value)
    if value is None and kind.startswith(("dict_", "model_")):
        return "; nothing stands below this key: leave it out, or write {}"
    if kind not in ("string_type", "literal_error"):
        return ""
    if isinstance(value, bool):
        return f"; YAML reads a bare {'yes' if value else 'no'} as {value}: write it in quotes"
    if isinstance(value, datetime.date):
        value = int(f"{value:%Y%m%d}")
    return f'; write it in quotes: "{value}"' if isinstance(value, int | float) else ""


def fix_number(text: str) -> str:
    """Return how YAML wants the number that ``text`` means; nothing if it means none."""
    try:
        float(text)
    except ValueError:
        return ""
    mantissa, exponent, power = text.lower().partition("e")
    if not exponent:
        return f"; write {text} without quotes"
    # YAML 1.1 knows a number with an exponent by its point and by the exponent's sign.
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    power = power if power[0] in "+-" else f"+{power}"
    return f"; YAML reads {text} as text: write {mantissa}e{power}"
