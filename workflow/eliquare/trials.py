"""What is tried before its training, with which options, and which trainings wait for it.

A trial is what eliquare.smoke does with a recipe of a student, or with a teacher that is trained or
conditioned here.
"""

import hashlib
from pathlib import Path
from typing import Any

from eliquare.commands import Commands, quoted
from eliquare.layout import FULL, Layout

FOLDER = "smoke"
# Sequences of a training from which it is tried first: a matter of an hour, not of minutes.
LONG = 1_000_000


class Trials:
    """The trials of one configuration."""

    def __init__(self, layout: Layout, commands: Commands):
        self.layout, self.commands = layout, commands
        self.config = layout.config

    def student_options(self, student: str, corpus: str) -> str:
        """For each part of a recipe the options of its stage: all that decides the student.

        The order of the parts is in the names of trials and in the parameters of what was trained
        after one.
        """
        recipe, commands = self.config["students"][student], self.commands
        parts = [
            *self._text_and_conditioning(recipe["teacher"], corpus),
            ("student", commands.student(student)),
            ("distillation", commands.distillation(student, None)),
            *self._pretraining(recipe["teacher"]),
        ]
        rule = recipe["rule"] if recipe["vocabulary"] == "pre" else None
        if recipe["vocabulary"] == "amplified":
            rule = self.config["amplifications"][recipe["amplification"]]["rule"]
        if rule is not None:
            parts.append(("vocabulary", commands.vocabulary(rule)))
        if recipe["vocabulary"] == "amplified":
            parts.append(("amplification", commands.amplification(recipe["amplification"])))
        return joined(parts)

    def teacher_options(self, teacher: str, corpus: str) -> str:
        """The same for a teacher that is trained or conditioned here."""
        return joined(self._text_and_conditioning(teacher, corpus) + self._pretraining(teacher))

    def _text_and_conditioning(self, teacher: str, corpus: str) -> list[tuple[str, str]]:
        """The text, and each conditioning of a teacher in their order."""
        conditionings: list[tuple[str, str]] = []
        while self.config["teachers"][teacher]["source"] == "condition":
            conditionings.insert(0, ("conditioning", self.commands.teacher(teacher)))
            teacher = self.config["teachers"][teacher]["teacher"]
        text = [
            ("sequences", self.commands.sequences(corpus)),
            ("masking", self.commands.masking()),
        ]
        return text + conditionings

    def _pretraining(self, teacher: str) -> list[tuple[str, str]]:
        if not self.from_nothing(teacher):
            return []
        return [("pretraining", self.commands.teacher(self.layout.root(teacher)))]

    def of_student(self, student: str, corpus: str) -> Path:
        """What a trial leaves: named after its settings, so that it holds for these alone."""
        settings = digest(self.student_options(student, corpus))
        return self.layout.results / FOLDER / f"{student}-{corpus}-{settings}.json"

    def of_teacher(self, teacher: str, corpus: str) -> Path:
        """The same for a teacher."""
        settings = digest(self.teacher_options(teacher, corpus))
        return self.layout.results / FOLDER / "teachers" / f"{teacher}-{corpus}-{settings}.json"

    def start(self, teacher: str, corpus: str) -> Path:
        """What a teacher starts from: a model that was fetched, or its tokenizer."""
        return self.layout.tokenizer(corpus, self.layout.root(teacher), FULL)

    def start_option(self, teacher: str) -> str:
        """Which option of eliquare.smoke takes it."""
        return "tokenizer" if self.from_nothing(teacher) else "teacher"

    def from_nothing(self, teacher: str) -> bool:
        """Whether a teacher, or the one that it was conditioned from, is trained here."""
        return self.config["teachers"][self.layout.root(teacher)]["source"] == "pretrain"

    def waits(
        self,
        training: dict[str, Any],
        options: str,
        inputs: list[str] | None,
        params: list[str] | None,
    ) -> bool:
        """Whether a training waits for its trial.

        ``inputs`` and ``params`` are what Snakemake wrote down of the last time, None if there was
        none. What was trained by the same options without a trial is not trained again for one: its
        inputs now are its inputs then.
        """
        if inputs is not None and repr(options) in (params or []):
            return any(path.startswith(f"{self.layout.results / FOLDER}/") for path in inputs)
        return is_long(training)


def joined(parts: list[tuple[str, str]]) -> str:
    """The parts as options of eliquare.smoke."""
    return " ".join(f"--{name}-options={quoted(words)}" for name, words in parts)


def digest(text: str) -> str:
    """A short name of settings."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_long(training: dict[str, Any]) -> bool:
    """Whether a training is long enough to be worth a minute of trying before it."""
    if training["epochs"] is not None:
        return True
    sequences = training["batch_size"] * training["accumulation"] * training["gpus"]
    return training["steps"] * sequences >= LONG
