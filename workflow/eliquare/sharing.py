"""Which students of an experiment can train side by side, on one pass of their teacher."""

import json
from typing import Any

from eliquare.layout import Layout

# What decides the batches and how they are computed; all else may differ within a group.
SHARED = ("batch_size", "accumulation", "gpus", "threads", "precision", "seed")

Distilled = tuple[str, str]


def groups(config: dict[str, Any], layout: Layout) -> list[list[Distilled]]:
    """Groups of (student, corpus) with the same teacher, sequences, masks and batches.

    Of the students that the experiment compares or cuts, if it says ``share_teacher``; one that
    shares with no other is in no group. The order is that of the configuration.
    """
    if not config["experiment"]["share_teacher"]:
        return []
    found: dict[str, list[Distilled]] = {}
    for student, corpus in distilled(config, layout):
        if layout.is_amplified(layout.vocabulary_of(student)):
            # It cuts the text otherwise than its teacher, and its stage trains one student.
            continue
        found.setdefault(shared_by(student, corpus, config, layout), []).append((student, corpus))
    return [group for group in found.values() if len(group) > 1]


def distilled(config: dict[str, Any], layout: Layout) -> list[Distilled]:
    """(student, corpus) of every distillation on one tokenizer in the experiment, each once."""
    wanted = {}
    for language, system in layout.pairs():
        if system in config["students"]:
            student = layout.distilled_by(system)
            recipe = config["students"][student]
            # One with new sub-words has batches of its own, in two tokenizers.
            if recipe["training"]["steps"] != 0 and recipe["vocabulary"] != "amplified":
                wanted[student, layout.corpus_of(student, language)] = True
    return list(wanted)


def shared_by(student: str, corpus: str, config: dict[str, Any], layout: Layout) -> str:
    """All that students must have in common to share a pass of their teacher."""
    recipe = config["students"][student]
    vocabulary = layout.vocabulary_of(student)
    common = {name: recipe["training"][name] for name in SHARED}
    common |= {name: recipe.get(name) for name in ("teacher", "teachers", "data_fraction")}
    common["prepared"] = str(layout.prepared(corpus, recipe["teacher"], vocabulary))
    return json.dumps(common, sort_keys=True)
