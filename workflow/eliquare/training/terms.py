"""What a training minimises: named terms, each a sum over positions and how many these are."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn

Batch = dict[str, torch.Tensor]
Terms = dict[str, tuple[torch.Tensor, int | torch.Tensor]]


class Losses(NamedTuple):
    """What an objective makes of a batch.

    ``loss`` is the weighted sum of the terms, each a mean over its positions, and has a gradient;
    ``terms`` gives for each term its sum over positions and how many these are; ``weights`` the
    weight of each term whose weight changes over the training.
    """

    loss: torch.Tensor
    terms: Terms
    weights: Mapping[str, float] = MappingProxyType({})


# objective(model, batch, progress): progress is the share of the training that is done.
Objective = Callable[[nn.Module, Batch, float], Losses]


def mean(total: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """The mean over ``count`` positions, 0 for none; a count on a device stays there."""
    return total / (count.clamp(min=1) if torch.is_tensor(count) else max(count, 1))
