"""Which positions of a batch the terms of a loss are about."""

from typing import NamedTuple

import torch

from eliquare.training.terms import Batch


class Positions(NamedTuple):
    """Indices into the flattened (batch x length): masked positions, and the other real ones.

    The masked come first wherever both are taken, so that a term is about the first so many rows,
    and no number has to come back from the device to tell how many.
    """

    masked: torch.Tensor
    unmasked: torch.Tensor

    def of(self, which: str | None) -> torch.Tensor:
        """The indices of "all" real positions, of the "masked" ones, or none."""
        if which == "all":
            return torch.cat([self.masked, self.unmasked])
        return self.masked if which == "masked" else self.masked[:0]

    def number(self, which: str) -> int:
        """How many positions "all" or "masked" are."""
        return len(self.masked) + (len(self.unmasked) if which == "all" else 0)


def positions_of(batch: Batch) -> Positions:
    """The positions of a batch; on the device only where the batch does not bring them.

    ``PaddedBatch`` puts ``masked`` and ``unmasked`` beside the labels, (batch, length), which are
    -100 where nothing was masked.
    """
    if "masked" in batch:
        return Positions(batch["masked"], batch["unmasked"])
    labels, real = batch["labels"].flatten(), batch["attention_mask"].flatten().bool()
    masked = labels != -100
    return Positions(masked.nonzero().squeeze(-1), (real & ~masked).nonzero().squeeze(-1))
