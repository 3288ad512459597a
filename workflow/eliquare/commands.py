"""The options of the stages' commands, from a completed configuration.

What decides a result stands in its options, sorted, so that the order of keys is nothing; what only
says how it is made (threads, GPUs, minutes between checkpoints) does not.
"""

import json
import shlex
from typing import Any

from eliquare.layout import Layout

MACHINE = ("gpus", "threads", "checkpoint_minutes")
SHAPE = (
    "kind",
    "layers",
    "hidden_size",
    "intermediate_size",
    "heads",
    "max_positions",
    "dropout",
)
START = ("layers", "hidden_size", "intermediate_size", "heads", "initialisation")
TASK = (
    "kind",
    "language",
    "train",
    "validation",
    "test",
    "text_column",
    "second_column",
    "label_column",
)


def options(values: dict[str, Any]) -> str:
    """Command-line options from keys and values; a list repeats its option."""
    words = []
    for key in sorted(values):
        value = values[key]
        name = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            words += [f"{name} {quoted(item)}" for item in value]
        elif isinstance(value, dict):
            words.append(f"{name} {quoted(json.dumps(value, sort_keys=True))}")
        elif value is not None and value is not False:
            words.append(f"{name} {quoted(value)}")
    return " ".join(words)


def quoted(value: Any) -> str:
    """A value as one word of a shell."""
    return shlex.quote(str(value))


def launcher(training: dict[str, Any]) -> str:
    """What starts a training: one process, or one for each GPU."""
    gpus = training["gpus"]
    return f"torchrun --standalone --nproc-per-node {gpus} -m" if gpus > 1 else "python -m"


def budget(training: dict[str, Any]) -> dict[str, Any]:
    """What of a masked training decides its result."""
    return {key: value for key, value in training.items() if key not in MACHINE}


class Commands:
    """The options of one configuration, by the names of what they make."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.config = layout.config

    def filter(self, language: str, *keys: str) -> str:
        """Which documents of a language stay; ``keys`` are further ones of its corpus."""
        entry = self.config["languages"][language]["corpus"]
        return options(
            {key: entry.get(key) for key in ("min_characters", "min_documents", *keys)}
            | {"near_duplicates": "yes" if entry["near_duplicates"] else "no"}
        )

    def sequences(self, corpus: str) -> str:
        """How a corpus is cut into sequences, whatever its tokenizer."""
        shared = self.config["sequences"]
        return options(
            {
                "language": corpus if corpus in self.config["languages"] else None,
                "max_length": shared["max_length"],
                "validation_share": shared["validation_share"],
            }
        )

    def masking(self) -> str:
        """How sub-words are masked."""
        masking = self.config["masking"]
        return options(
            {
                "probability": masking["probability"],
                "mask_share": masking["mask"],
                "random_share": masking["random"],
                "smoothing": masking["smoothing"],
                "seed": masking["seed"],
                "max_validation": self.config["sequences"]["validation_sequences"],
            }
        )

    def vocabulary(self, rule: str) -> str:
        """Which sub-words a rule keeps."""
        entry = self.config["vocabularies"][rule]
        return options({key: value for key, value in entry.items() if key != "languages"})

    def amplification(self, name: str) -> str:
        """Which sub-words are new."""
        entry = self.config["amplifications"][name]
        return options({key: value for key, value in entry.items() if key != "rule"})

    def teacher(self, teacher: str) -> str:
        """A training from nothing, or a conditioning."""
        entry = self.config["teachers"][teacher]
        shape = {key: entry[key] for key in SHAPE} if entry["source"] == "pretrain" else {}
        return options(shape | budget(entry["training"]))

    def student(self, student: str) -> str:
        """The shape of a student, and what it starts as."""
        recipe = self.config["students"][student]
        return options({key: recipe[key] for key in START} | {"seed": recipe["training"]["seed"]})

    def distillation(self, student: str, corpus: str | None) -> str:
        """A distillation; without a corpus, with its first teacher alone."""
        recipe = self.config["students"][student]
        several = {}
        if recipe["teachers"] and corpus is not None:
            names = self.layout.teachers_of(student)
            several = {
                "teacher": [str(path) for path in self.layout.other_teachers(student, corpus)],
                "teacher_weight": [recipe["teachers"][name] for name in names],
            }
        return options(
            recipe["objective"]
            | budget(recipe["training"])
            | {"freeze": recipe["freeze"], "fraction": recipe["data_fraction"]}
            | several
        )

    def finetuning(self, task: str) -> str:
        """A task and how a system is fine-tuned on it."""
        entry = self.config["tasks"][task]
        finetuning = {key: value for key, value in entry["finetuning"].items() if key != "threads"}
        return options({key: entry.get(key) for key in TASK} | finetuning)

    def measuring(self) -> str:
        """How a system is measured."""
        measuring = self.config["measuring"]
        return options(
            {
                "batch_size": measuring["batch_sizes"],
                "length": measuring["length"],
                "repeats": measuring["repeats"],
                "threads": measuring["threads"],
            }
        )
