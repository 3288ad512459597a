"""What two experiments name alike and set otherwise: they would overwrite each other's results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eliquare import settings
from eliquare.stage import InputError

# Sections whose entries have a folder of their own, or one in the folder of each corpus.
NAMED = ("languages", "mixtures", "teachers", "systems", "tasks")
NAMED_IN_A_CORPUS = ("vocabularies", "amplifications", "students")
# Sections that decide what lies in the folders of each corpus.
OF_EVERY_CORPUS = ("sequences", "masking")
# Keys that change no result.
READ_ONLY = ("label", "name", "published_as", "languages", "threads", "gpus")


def differences(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """Where two completed configurations would write other results to the same place."""
    share = bool(corpora(one) & corpora(other))
    for section in NAMED + NAMED_IN_A_CORPUS * share:
        mine, theirs = (entries(config, section, share) for config in (one, other))
        for name in mine:
            if name in theirs and decisive(mine[name]) != decisive(theirs[name]):
                yield f"{section}.{name}"
    for section in OF_EVERY_CORPUS * share:
        if one[section] != other[section]:
            yield section


def entries(config: dict[str, Any], section: str, share: bool) -> dict[str, Any]:
    """The entries of a section that have a place in common with another configuration's.

    A system that is cut from a teacher lies in the folder of its corpus, any other in its own.
    """
    found = config.get(section) or {}
    if section != "systems" or share:
        return found
    return {name: entry for name, entry in found.items() if "rule" not in entry}


def corpora(config: dict[str, Any]) -> set[str]:
    """The languages and mixtures of a configuration."""
    return {*config["languages"], *config.get("mixtures", {})}


def decisive(value: Any) -> Any:
    """The settings that decide a result, without those that only people and machines read."""
    if isinstance(value, dict):
        return {key: decisive(inner) for key, inner in value.items() if key not in READ_ONLY}
    return value


def check_shared(config: dict[str, Any], source: str, results: Path) -> None:
    """Raise InputError where this experiment would make another's results again, otherwise.

    Each experiment's completed settings stand in ``results/<name>/settings.json``.
    """
    for file in sorted(results.glob("*/settings.json")):
        if file.parent.name == config["name"]:
            continue
        try:
            other = json.loads(file.read_text(encoding="utf-8"))
            # Keys that were added to the schema since then had their defaults.
            settings.fill_defaults(other, settings.schema())
            found = list(differences(config, other))
        except (json.JSONDecodeError, KeyError):
            continue
        if found:
            raise InputError(
                f"{source}: {', '.join(found)}: the experiment {file.parent.name} has made results "
                f"with other settings under the same name ({file}). Choose another name here, work "
                f"in another clone, or delete {file} to have them made again"
            )
