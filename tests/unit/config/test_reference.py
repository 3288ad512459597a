"""The JSON schema and the reference page: current, complete, and fit for the shipped files."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from eliquare.config import reference
from eliquare.config.load import complete
from eliquare.config.model import Configuration

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "config").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (reference.SCHEMA, reference.schema_text),
        (reference.PAGE, reference.page),
        (reference.TASKS, reference.tasks_page),
    ],
)
def test_the_committed_files_are_current(path, text):
    assert path.read_text(encoding="utf-8") == text(), "run python -m eliquare.config.reference"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(reference.schema_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_name_the_schema_and_pass_it(path, validator):
    text = path.read_text(encoding="utf-8")
    key, _, place = text.partition("\n")[0].partition("$schema=")
    assert key == "# yaml-language-server: "
    assert (path.parent / place).resolve() == reference.SCHEMA.resolve()
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []


def test_the_schema_finds_what_an_editor_should_mark(validator, small):
    assert validator.is_valid(small)
    objectives = [
        {"kl": 2},
        {"kl": {"from": 5, "to": 1, "shape": "cosine"}},
        {"kl": {"weight": {"points": [[0, 1], [1, 0]]}, "temperature": 3}},
        {"preset": "minilm", "relations": {"heads": 4}},
    ]
    for objective in objectives:
        small["students"]["full"]["objective"] = objective
        complete(small)
        assert validator.is_valid(small)
    for wrong in ({"kl": {"temprature": 3}}, {"kl": "5"}, {"hiden": 1}):
        small["students"]["full"]["objective"] = wrong
        assert not validator.is_valid(small)
    del small["students"]["full"]["objective"]
    del small["teachers"]
    assert not validator.is_valid(small)
    assert validator.is_valid(small | {"extends": "base.yaml"})


def test_the_schema_knows_automatic_tasks(validator, small):
    for tasks in ("auto", {"auto": True, "sl-ner": None, "sl-upos": "UD_Slovenian-SST"}):
        assert validator.is_valid(small | {"tasks": tasks})
    for tasks in ("all", {"auto": "yes"}, {"sl-ner": 1}):
        assert not validator.is_valid(small | {"tasks": tasks})


def test_the_example_of_automatic_tasks_works():
    example = reference.tasks_page().split("```yaml\n")[1].partition("```")[0]
    assert "sw-news" in complete({"language": "sw"} | yaml.safe_load(example)).tasks


def described(part: dict, path: str = ""):
    for key, value in part.get("properties", {}).items():
        yield f"{path}.{key}", value
    for key in ("anyOf", "oneOf"):
        for inner in part.get(key, []):
            yield from described(inner, path)


def test_every_key_is_described():
    schema = Configuration.model_json_schema()
    for name, part in {"": schema, **schema["$defs"]}.items():
        for key, value in described(part, name):
            assert value.get("description") or name == "Weight", key


def test_the_small_configuration_of_the_pages_works():
    page = reference.PAGE.with_name("your-language.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].partition("```")[0]
    assert list(complete(yaml.safe_load(example)).students) == ["small"]
