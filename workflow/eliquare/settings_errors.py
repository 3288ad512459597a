"""One line for each violation of the schema: the key, what was expected, the mend."""

import datetime
from typing import Any

from jsonschema.exceptions import ValidationError

from eliquare.settings_checks import suggestion

TYPES = {
    "object": "keys and values",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


def explain(error: ValidationError) -> str:
    """One line for a violation of the schema: the key, what was expected, the mend."""
    path = ".".join(str(part) for part in error.absolute_path)
    where = f"{path}: " if path else ""
    value = error.instance
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = next(key for key in value if key not in known)
        return f"{where}unknown key {unknown!r}{suggestion(unknown, known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in value)
        return f"{where}the key {missing!r} is missing"
    if error.validator == "type":
        expected = error.validator_value
        expected = expected if isinstance(expected, list) else [expected]
        names = " or ".join(TYPES[name] for name in expected)
        return f"{where}expected {names}, found {value!r}{mend_of_type(value, expected)}"
    if error.validator == "enum":
        return (
            f"{where}expected one of {', '.join(error.validator_value)}, found {value!r}"
            f"{mend_of_type(value, ['string'])}"
        )
    if error.validator == "pattern":
        return (
            f"{where}{value!r} cannot be used here. {error.schema.get('description', '')}".strip()
        )
    if error.validator == "uniqueItems":
        twice = next(item for item in value if value.count(item) > 1)
        return f"{where}{twice!r} stands there twice"
    if error.validator in ("minItems", "minProperties"):
        return f"{where}expected at least {error.validator_value}, found {len(value)}"
    return f"{where}{error.message}"


def mend_of_type(value: Any, expected: list[str]) -> str:
    """What to write instead, where YAML's reading surprises; empty if nothing is to be said."""
    if isinstance(value, str) and {"number", "integer"} & set(expected):
        return mend_of_number(value)
    if value is None and "object" in expected:
        return "; nothing stands below this key: leave it out, or write {}"
    if "string" not in expected:
        return ""
    if isinstance(value, bool):
        return f"; YAML reads a bare {'yes' if value else 'no'} so: write it in quotes"
    if isinstance(value, datetime.date):
        return f'; write it in quotes: "{value:%Y%m%d}"'
    if isinstance(value, int | float):
        return f'; write it in quotes: "{value}"'
    return ""


def mend_of_number(text: str) -> str:
    """How YAML wants the number that ``text`` means; empty if it means none."""
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
