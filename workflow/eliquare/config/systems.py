"""The keys of what is compared: names in tables; models made elsewhere, or fine-tuned otherwise."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from eliquare.config.base import (
    Commit,
    CorpusName,
    FilePath,
    Label,
    Line,
    Name,
    Once,
    Problem,
    Settings,
    StudentName,
)


def _names(value: Any) -> Any:
    """Return one name, or none, as a list."""
    return [value] if isinstance(value, str) else [] if value is None else value


# A name, or a list of them.
Names = Annotated[
    Once[Line], BeforeValidator(_names, json_schema_input_type=str | list[str] | None)
]


class Compared(Settings):
    """How a system that is compared is named."""

    label: Label = Field("", description="Name in tables.")
    published_as: Names = Field([], description="The papers' name of this system, or several.")


class TaskDistillation(Settings):
    """A teacher that is fine-tuned on a task teaches the system on it (Hinton et al. 2015).

    With the same seed, on the texts of the task (Sanh et al. 2019; Jiao et al. 2020).
    """

    teacher: Name = Field(description="The teacher, fine-tuned on each task with each seed.")
    temperature: float = Field(2.0, gt=0, description="Temperature of both models' predictions.")
    weight: float = Field(0.5, gt=0, le=1)
    """Share of the loss that is the KL of the predictions; the rest is the cross-entropy of the
    labels."""
    sentences: int = Field(0, ge=0)
    """Besides the task's training texts: so many sentences of the language's training documents,
    which have the teacher's predictions alone. For tasks of pairs there are none."""


class System(Compared):
    """One more model to compare with: `model`; `teacher` and `vocabulary`; or `student`."""

    model: FilePath | None = Field(None, description="Hub id or folder.")
    revision: Commit | None = None
    """For a hub id: the commit. Without it the newest is taken at the fetch, and recorded."""
    teacher: Name | None = None
    """Instead of `model`: a teacher whose vocabulary is only reduced."""
    vocabulary: Name | None = Field(None, description="With `teacher`: one of `vocabularies`.")
    student: StudentName | None = None
    """Instead of `model`: a student of the experiment, with `task_distillation`."""
    task_distillation: TaskDistillation | None = None
    """It is fine-tuned with a teacher of each task, beside the labels."""
    languages: Once[CorpusName] = Field([])
    """Languages that this model is for; all of the experiment if empty, or of the student."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where it is not one of the three kinds."""
        keys = [key for key in ("model", "teacher", "vocabulary", "student") if getattr(self, key)]
        if self.model and "://" in self.model:
            yield ("model",), "expected an id on the hub or a folder, and no address"
        if self.revision and not self.model:
            yield ("revision",), "this is of a hub's model; remove it, or give the model"
        if keys not in (["model"], ["teacher", "vocabulary"], ["student"]):
            yield (), "give model, or teacher and vocabulary, or student and task_distillation"
        elif self.student and self.task_distillation is None:
            message = "missing; without it this is the student itself, which needs no system"
            yield ("task_distillation",), message
