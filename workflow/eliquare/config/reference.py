"""Write the JSON schema and the reference page of the configuration, both from the models.

python -m eliquare.config.reference
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eliquare.config.model import Configuration
from eliquare.config.objective import PRESETS, Objective

SCHEMA = Path(__file__).with_name("schema.json")
PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
# Sections that several keys share, and where they are described once.
SHARED = {"Training": "training", "Finetuning": "finetuning"}
TYPES = {
    "integer": "whole number",
    "boolean": "true or false",
    "object": "keys",
    "string": "text",
    "number": "number",
}
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
}
INTRODUCTION = """\
# Configuration

One YAML file describes one experiment: its languages, teachers, students, tasks and seeds.
`snakemake --cores N` reads `config/config.yaml`; give another file with `--configfile`. The
smallest useful file:

```yaml
name: welsh
languages:
  cy: {corpus: {source: dump}}
teachers:
  mbert:
    source: hub
    model: google-bert/bert-base-multilingual-cased
    revision: 3f076fdb1ab68d5b2880cb87a0886f315b8146f8
students:
  small:
    teacher: mbert
    training: {num_train_epochs: 10, gradient_accumulation_steps: 200}
experiment: {systems: [mbert, small]}
```

All mistakes of a file are reported at once, before anything runs, one line each: the file, the key,
what was expected and the fix. Editors that know `yaml-language-server` complete the keys and mark
mistakes while you write, if the first line names the schema, as in the files of `config/`.

**Smoke run.** `--config smoke=true` (or `smoke: true` in the file) runs the same rules with 200
documents, three steps, one seed and few task sentences, in `results/smoke/`. Do this first, before
you spend GPU time.

## Other files and other students

`extends: other.yaml` at the top takes another configuration and changes it: mappings are merged key
by key, a list replaces its list. The path is relative to the file, or to the working folder. The
other file may extend a third.

`extends: name` in a student takes every key of another student that this one does not have;
`objective` and `training` are merged key by key. `label` and `published_as` are never taken. To
switch from epochs to steps, write both: `training: {num_train_epochs: null, max_steps: 20000}`.

`seeds: [1, 2]` in a student distils it once per seed: `small` with seed 1, `small@2` with seed 2.
Name it `small` everywhere; tables give the mean and the deviation over these seeds and over those
of fine-tuning (`experiment.seeds`).

Experiments share results by name: corpora, teachers, students, fine-tuned systems and benchmarks
are in no experiment's folder. An experiment that gives a name other settings than the experiment
that made its results is refused before anything runs.

## How YAML reads values

| you write | YAML reads | write instead |
|---|---|---|
| `no` (Norwegian) | false | `"no"` |
| `20260501` | a number | `"20260501"` |
| `2026-05-01` | a date | `"20260501"` |
| `5e-4` | text | `5.0e-4` |
| `{1: 2}` | a number as a key | `{"1": 2}` |

## Objectives

A student's `objective` is a preset and what differs from it, by the names of the terms. A term is
a weight (0 leaves it out) or a mapping of its `weight` and settings. A weight is a number, or
a schedule over the training: `{from: 5, to: 1}`, with `shape: cosine` for half a cosine instead of
a line, or `{points: [[0, 5], [0.5, 2], [1, 0]]}`.

"""
KEYS = """
# Every key

This part is written by `python -m eliquare.config.reference` from `eliquare/config/model.py`.
Keys in bold must be given.
"""


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


# The schema


def schema_text() -> str:
    """Return the JSON schema for editors."""
    schema = for_editors(Configuration.model_json_schema())
    # A file that extends another may leave out any key.
    schema["if"] = {"not": {"required": ["extends"]}}
    schema["then"] = {
        "required": [
            key for key, field in Configuration.model_fields.items() if field.is_required()
        ]
    }
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of eliquare",
    }
    return json.dumps(head | schema, ensure_ascii=False, indent=1) + "\n"


def for_editors(part: Any) -> Any:
    """Return a part of a schema without titles and without keys that must be given.

    An entry may have them from the file or from the student that it extends.
    """
    if isinstance(part, list):
        return [for_editors(item) for item in part]
    if not isinstance(part, dict):
        return part
    cleaned: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            cleaned[key] = {name: for_editors(inner) for name, inner in value.items()}
        elif key == "description":
            cleaned[key] = first_paragraph(value)
        elif key not in ("title", "required"):
            cleaned[key] = for_editors(value)
    if "patternProperties" in cleaned:
        cleaned["additionalProperties"] = False
    return cleaned


def first_paragraph(text: str) -> str:
    """Return the first paragraph of a description, as one line."""
    return " ".join(text.partition("\n\n")[0].split())


# The page


def page() -> str:
    """Return the reference page: introduction, presets, and one table for each section."""
    schema = Configuration.model_json_schema()
    parts = [INTRODUCTION, presets(), KEYS]
    for path, part in sections(schema, schema, ""):
        parts.append(f"\n## {path}\n\n{first_paragraph(part['description'])}\n\n")
        parts.append(table(part, schema))
    return "".join(parts)


def presets() -> str:
    """Return the table of the objectives from the literature."""
    rows = ["| preset | terms | source |", "|---|---|---|"]
    for name, (source, terms) in PRESETS.items():
        words = Objective.model_validate({"preset": name}).in_words() if terms else ""
        rows.append(row(f"`{name}`", words, source))
    return "\n".join(rows) + "\n"


def row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def sections(
    part: dict[str, Any], root: dict[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, part of the schema) of each mapping with keys of its own, shared ones once."""
    if part.get("properties"):
        yield f"`{path}`" if path else "At the top", part
    for key, value in inner_parts(part):
        name = reference_of(value)
        if name not in SHARED or (SHARED[name] == key and not path):
            yield from sections(resolved(value, root), root, f"{path}.{key}" if path else key)
    if not path:
        yield "`training` of a teacher or a student", root["$defs"]["Training"]


def inner_parts(part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the keys below a part of the schema; ``<name>`` for names of the user's choice."""
    yield from part.get("properties", {}).items()
    for value in part.get("patternProperties", {}).values():
        yield "<name>", value
    if isinstance(part.get("items"), dict):
        yield "<each>", part["items"]


def choices(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kinds of value that a part allows, but null."""
    return [each for each in part.get("anyOf", [part]) if each.get("type") != "null"]


def reference_of(part: dict[str, Any]) -> str:
    """Return the name of the model that a part is, or an empty text."""
    return str(choices(part)[0].get("$ref", "")).rpartition("/")[2]


def resolved(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Return a part with its reference followed; of several kinds, the one with keys."""
    kinds = choices(part)
    part = next((each for each in kinds if each.get("properties")), kinds[0])
    name = reference_of(part)
    return resolved(root["$defs"][name], root) if name and name != "Weight" else part


def table(part: dict[str, Any], root: dict[str, Any]) -> str:
    """Return a Markdown table: key, type, default, meaning; keys that must be given first."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = part.get("required", [])
    for key, value in sorted(part["properties"].items(), key=lambda item: item[0] not in required):
        name = f"**`{key}`**" if key in required else f"`{key}`"
        default = value.get("default")
        plain = default not in (None, "", [], {}) and not isinstance(default, dict)
        shown = f"`{yaml_of(default)}`" if plain else ""
        rows.append(row(name, type_of(value, root), shown, value.get("description", "")))
    return "\n".join(rows) + "\n"


def type_of(part: dict[str, Any], root: dict[str, Any]) -> str:
    """Return the type of a value in words, with its bounds."""
    name = reference_of(part)
    if name == "Weight":
        return "weight"
    if name:
        definition = root["$defs"][name]
        return "weight or keys" if "anyOf" in definition else "keys"
    part = choices(part)[0]
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if part["type"] == "array":
        return f"list of {type_of(part['items'], root)}"
    bounds = [words.format(part[key]) for key, words in BOUNDS.items() if key in part]
    return " ".join([TYPES[part["type"]], ", ".join(bounds)]).strip()


def yaml_of(value: Any) -> str:
    """Return a default as it is written in YAML."""
    if isinstance(value, str):
        return value
    # YAML knows a number with an exponent by its point.
    return re.sub(r"^(\d+)e-0?", r"\1.0e-", json.dumps(value))


if __name__ == "__main__":
    main()
