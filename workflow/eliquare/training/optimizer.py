"""The optimizer and the schedule of a training: its steps, and what is due at which of them."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """How many steps, and at which of them something is due; the optimizer's settings."""

    steps: int
    between_logs: int
    between_validations: int
    warmup_steps: int
    learning_rate: float
    weight_decay: float
    adam_epsilon: float
    clip: float

    def rate_at(self, step: int) -> float:
        """The learning rate of the step after ``step`` steps: up to its peak, then down to 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step / self.warmup_steps)
        left = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * max(0.0, left)

    def logs_at(self, step: int) -> bool:
        """Whether a line of the history is due after so many steps."""
        return step % self.between_logs == 0 or step == self.steps

    def validates_at(self, step: int) -> bool:
        """Whether a validation is due after so many steps."""
        return step % self.between_validations == 0 or step == self.steps


def optimizer_of(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW in one kernel; biases and the weights of norms, which are vectors, do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trained if parameter.dim() >= 2],
            "weight_decay": schedule.weight_decay,
        },
        {
            "params": [parameter for parameter in trained if parameter.dim() < 2],
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=0.0, eps=schedule.adam_epsilon, fused=True)
