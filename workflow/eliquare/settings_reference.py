"""Print the reference of the configuration's keys, out of its schema.

python -m eliquare.settings_reference > config/README.md
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from eliquare.settings import SCHEMA, resolved, schema
from eliquare.settings_checks import FINETUNING_DEFAULTS

HEAD = SCHEMA.with_name("config.head.md")
TYPES = {
    "integer": "whole number",
    "boolean": "true or false",
    "object": "keys",
    "string": "text",
    "null": "null",
    "number": "number",
}
WORDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "exclusiveMinimum": "> {}",
    "exclusiveMaximum": "< {}",
}


def main() -> None:
    """Print the head and the tables."""
    print(reference(), end="")


def reference() -> str:
    """The whole text: the hand-written head, then one table for each section of the schema."""
    whole = schema()
    parts = [HEAD.read_text(encoding="utf-8")]
    for path, part in sections(whole, whole, ""):
        parts.append(f"\n## {path}\n\n{part['description']}\n\n")
        parts.append(table(part, whole))
    return "".join(parts)


def sections(part: dict, root: dict, path: str) -> Iterator[tuple[str, dict]]:
    """(path, part of the schema) of each mapping with named keys; a shared one stands once."""
    if part.get("properties"):
        yield f"`{path}`" if path else "At the top", part
    for key, inner in inner_parts(part):
        below = f"{path}.{key}" if path else key
        if path and inner.get("$ref") in ("#/$defs/training", "#/$defs/finetuning"):
            continue
        yield from sections(resolved(inner, root), root, below)
    if not path:
        yield "`training`, of a teacher or a student", root["$defs"]["training"]


def inner_parts(part: dict) -> Iterator[tuple[str, dict]]:
    """The keys below a part of the schema; ``<name>`` for names of the user's choice."""
    yield from part.get("properties", {}).items()
    if isinstance(part.get("additionalProperties"), dict):
        yield "<name>", part["additionalProperties"]
    if isinstance(part.get("items"), dict):
        yield "<each>", part["items"]


def table(part: dict, root: dict) -> str:
    """A Markdown table: key, type, default, meaning."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    # Their defaults are filled in last, so that a task's and the experiment's own can meet first.
    late = FINETUNING_DEFAULTS if "warmup_steps" in part["properties"] else {}
    for key, inner in part["properties"].items():
        inner = resolved(inner, root)
        name = f"**`{key}`**" if key in part.get("required", []) else f"`{key}`"
        default = late.get(key, inner.get("default", {}))
        shown = "" if default == {} else f"`{yaml_of(default)}`"
        cells = (name, type_of(inner, root), shown, inner.get("description", ""))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def type_of(part: dict, root: dict) -> str:
    """The type of a value in words, with its bounds."""
    part = resolved(part, root)
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    kinds = part.get("type", "object")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    words = [
        f"list of {type_of(part['items'], root)}" if kind == "array" else TYPES[kind]
        for kind in kinds
    ]
    bounds = [word.format(part[key]) for key, word in WORDS.items() if key in part]
    return " ".join([" or ".join(words), ", ".join(bounds)]).strip()


def yaml_of(value: Any) -> str:
    """A default as it would be written in YAML."""
    if isinstance(value, str) and value:
        return value
    text = json.dumps(value)
    # YAML knows a number with an exponent by its point.
    return text if "." in text else re.sub(r"e-0?", ".0e-", text)


if __name__ == "__main__":
    main()
