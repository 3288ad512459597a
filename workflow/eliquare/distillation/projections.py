"""Learned maps from the student's width to the teacher's, which only the training has."""

from torch import nn
from transformers import PreTrainedModel

NAME = "distillation_projections"


def add_projections(student: PreTrainedModel, widths: dict[str, int]) -> None:
    """Give the student a linear map to each width, by name; none where it is its own."""
    own = student.config.hidden_size
    maps = {
        name: nn.Linear(own, width, bias=False) for name, width in widths.items() if width != own
    }
    if maps:
        setattr(student, NAME, nn.ModuleDict(maps).to(student.dtype))


def projected(student: PreTrainedModel, name: str, states):
    """The student's states in the teacher's width."""
    maps = getattr(student, NAME, {})
    return maps[name](states) if name in maps else states


def remove_projections(student: nn.Module) -> None:
    """Take the training's maps away, so that the student is saved as a plain model."""
    if hasattr(student, NAME):
        delattr(student, NAME)
