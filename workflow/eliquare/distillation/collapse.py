"""A teacher whose answers do not depend on what it reads has nothing to teach."""

import math

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from eliquare import stage
from eliquare.training.outputs import outputs_at, projection_of
from eliquare.training.positions import positions_of
from eliquare.training.terms import Batch

# Trained teachers, however small, were seen at 1.4 to 3.4 nats, one after 24 steps at 0.003.
NATS = 0.05
SEQUENCES, POSITIONS = 4, 256


def warn_of_collapse(name: str, teacher: PreTrainedModel, batch: Batch) -> None:
    """Warn, once for a training, where a teacher answers nearly the same at all positions."""
    found = information(teacher, batch)
    if found < NATS:
        stage.warn(
            f"{name}: this teacher predicts nearly the same sub-words at every position (on the "
            f"first validation sequences {found:.3f} nats from its mean prediction, a trained one "
            "1 or more): it has collapsed or was hardly trained, and its student will be no "
            "better. Look at its history.jsonl; train it longer, or with a lower learning rate"
        )


@torch.no_grad()
def information(model: PreTrainedModel, batch: Batch) -> float:
    """How far a model's predictions are from their mean, in nats: 0 where all are the same.

    The mean over real positions of KL(prediction || mean prediction), which is the mutual
    information of position and predicted sub-word. Taken on predictions, since hidden states of
    healthy models may all point one way (Ethayarajh 2019). At most ``POSITIONS`` of the first
    ``SEQUENCES`` sequences are read.
    """
    device = batch["input_ids"].device
    model.to(device)
    few = {name: batch[name][:SEQUENCES] for name in ("input_ids", "attention_mask")}
    few["labels"] = torch.full_like(few["input_ids"], -100)
    real = positions_of(few).of("all")
    chosen = real[:: math.ceil(len(real) / POSITIONS)]
    logits = projection_of(model)(outputs_at(model, few, chosen).rows).flatten(0, -2)
    log_p = F.log_softmax(logits.float(), dim=-1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return float((log_p.exp() * (log_p - log_mean)).sum(-1).mean())
