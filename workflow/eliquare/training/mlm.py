"""Masked language modelling: the objective of pre-training and conditioning."""

import torch.nn.functional as F
from torch import nn

from eliquare.training.outputs import outputs_at, projection_of, unwrapped
from eliquare.training.positions import positions_of
from eliquare.training.terms import Batch, Losses, mean


class MaskedLanguageModelling:
    """Cross-entropy of the masked sub-words alone (Devlin et al. 2019)."""

    def __call__(self, model: nn.Module, batch: Batch, progress: float = 0.0) -> Losses:
        masked = positions_of(batch).masked
        outputs = outputs_at(model, batch, masked)
        logits = projection_of(unwrapped(model))(outputs.rows)
        labels = batch["labels"].flatten()[masked]
        total = F.cross_entropy(logits.float(), labels, reduction="sum")
        return Losses(mean(total, len(masked)), {"mlm": (total.detach(), len(masked))})
