"""Write the JSON schema and the reference page of the configuration, both from the models.

python -m eliquare.config.reference

So is the page of public tasks from the catalogue. The introduction of a page, above ``MARK``, is
written by hand and stays.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from eliquare.config import catalogue
from eliquare.config.load import unwrapped
from eliquare.config.model import Configuration, Training
from eliquare.config.objective import PRESETS, Objective, Weight
from eliquare.config.tasks import Finetuning

SCHEMA = Path(__file__).with_name("schema.json")
PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
TASKS = PAGE.with_name("tasks.md")
MARK = "<!-- From here on, this page is written by `python -m eliquare.config.reference`. -->\n"
Rows = list[tuple[str, ...]]

TYPES = {
    "integer": "whole number",
    "boolean": "true or false",
    "object": "keys",
    "string": "text",
    "number": "number",
}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def main() -> None:
    """Write the three files."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    TASKS.write_text(tasks_page(), encoding="utf-8")


class EditorSchema(GenerateJsonSchema):
    """The schema without keys that must be given: an entry may have them from what it extends."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Return False."""
        return False

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: a title would repeat the key."""
        return False

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        """Refuse names that do not match the pattern of names."""
        found = super().dict_schema(schema)
        return found | ({"additionalProperties": False} if "patternProperties" in found else {})


def schema_text() -> str:
    """Return the JSON schema for editors."""
    schema = Configuration.model_json_schema(schema_generator=EditorSchema)
    required = [key for key, field in Configuration.model_fields.items() if field.is_required()]
    schema |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of eliquare",
        # A file that extends another may leave out any key.
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": required},
    }
    return json.dumps(schema, ensure_ascii=False, indent=1) + "\n"


def page() -> str:
    """Return the reference page: introduction, presets, and one table for each section."""
    presets: Rows = [
        (f"`{name}`", Objective(preset=name).in_words() if terms else "", source)
        for name, (source, terms) in PRESETS.items()
    ]
    parts = [
        introduction(PAGE),
        table(["preset", "terms", "source"], presets),
        "# Every key\n\nKeys in bold must be given.\n",
    ]
    shared: list[tuple[str, type[BaseModel]]] = [("training of a teacher or a student", Training)]
    for path, model in [*sections(Configuration, ""), *shared]:
        description = line(model.__doc__ or "")
        parts.append(f"## {f'`{path}`' if path else 'At the top'}\n\n{description}\n")
        parts.append(table(["key", "type", "default", "meaning"], keys(model)))
    return "\n".join(parts)


def introduction(path: Path) -> str:
    """Return what is written by hand on a page, and the mark."""
    return path.read_text(encoding="utf-8").partition(MARK)[0] + MARK


def tasks_page() -> str:
    """Return the page of public tasks: how many languages have which, and all sets."""
    codes = [code for code, each in catalogue.languages().items() if not each.is_closed]
    taken = {code: catalogue.entries_of(code) for code in codes}
    sorts = Counter(task for entries in taken.values() for task in entries)
    by_sort: Rows = [
        (words, str(sorts[task]), str(len(codes) - sorts[task]))
        for task, words in catalogue.AUTOMATIC.items()
    ]
    numbers = Counter(len(entries) for entries in taken.values())
    by_number: Rows = [
        (str(number), str(numbers[number])) for number in sorted(numbers, reverse=True)
    ]
    sets: dict[tuple[str, ...], list[str]] = {}
    for entry in catalogue.entries():
        # A treebank has a repository of its own, and a name that says which.
        name = "Universal Dependencies" if entry.task == "upos" else entry.name
        read_in = "each treebank's" if entry.task == "upos" else f"`{entry.read_in}`"
        sort = catalogue.AUTOMATIC.get(entry.task, entry.task)
        sets.setdefault((name, sort, read_in, entry.confidence), []).append(entry.code)
    of_sets: Rows = [
        (name, sort, ", ".join(dict.fromkeys(of)), read_in, confidence)
        for (name, sort, read_in, confidence), of in sets.items()
    ]
    head = f"# How many languages have which tasks\n\nOf {len(codes)} open Wikipedias:\n"
    parts = [
        introduction(TASKS),
        head,
        table(["task", "with", "without"], by_sort),
        table(["tasks of `tasks: auto`", "languages"], by_number),
        "# All sets\n\nThe address of each set was read in a repository of GitHub at a commit, or "
        "inferred from what stands there; `auto` takes no inferred one.\n",
        table(["set", "task", "languages", "repository", "address"], sorted(of_sets, key=by_size)),
    ]
    return "\n".join(parts)


def by_size(row: tuple[str, ...]) -> tuple[int, str]:
    """Return the key that sorts sets of many languages first."""
    return -len(row[2].split()), row[0]


def table(head: list[str], rows: Rows) -> str:
    """Return a Markdown table."""
    lines = [tuple(head), ("---",) * len(head), *rows]
    return "".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in each) + " |\n" for each in lines
    )


def line(text: str) -> str:
    """Return the first paragraph of a description, as one line."""
    return " ".join(text.partition("\n\n")[0].split())


def sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield (path, model) of each mapping with keys of its own, shared ones at the top alone."""
    yield path, model
    for name, field in model.model_fields.items():
        inner, where = unwrapped(field.annotation), f"{path}.{name}".lstrip(".")
        while get_origin(inner) in (dict, list):
            where += ".<name>" if get_origin(inner) is dict else ".<each>"
            inner = unwrapped(get_args(inner)[-1])
        known = inner in (Training, Weight) or (inner is Finetuning and path)
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not known:
            yield from sections(inner, where)


def keys(model: type[BaseModel]) -> Rows:
    """Return (key, type, default, meaning) of each key; those that must be given first."""
    schema = model.model_json_schema()
    part = schema if "properties" in schema else schema["anyOf"][-1]
    rows: Rows = []
    for key, value in part["properties"].items():
        default = value.get("default")
        plain = default not in (None, "", [], {}) and not isinstance(default, dict)
        # YAML knows a number with an exponent by its point.
        words = default if isinstance(default, str) else json.dumps(default)
        shown = "`" + re.sub(r"^(\d+)e-0?", r"\1.0e-", words) + "`" if plain else ""
        name = f"**`{key}`**" if key in part.get("required", ()) else f"`{key}`"
        rows.append(
            (name, type_of(value, schema.get("$defs", {})), shown, line(value["description"]))
        )
    return sorted(rows, key=lambda row: not row[0].startswith("*"))


def type_of(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the type of a value in words, with its bounds."""
    part = next(each for each in part.get("anyOf", [part]) if each.get("type") != "null")
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        if name == "Weight":
            return "weight"
        if name == "Mixture":
            return "list or keys"
        return "weight or keys" if "anyOf" in definitions[name] else "keys"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if part["type"] == "array":
        return f"list of {type_of(part['items'], definitions)}"
    bounds = [f"{sign} {part[key]}" for key, sign in BOUNDS.items() if key in part]
    return " ".join([TYPES[part["type"]], ", ".join(bounds)]).strip()


if __name__ == "__main__":
    main()
