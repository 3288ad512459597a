"""The step of DistilBERT's training script, as it is: the other side of the benchmarks.

After huggingface/transformers-research-projects, distillation/distiller.py, with its flags of the
paper: --alpha_ce 5.0 --alpha_mlm 2.0 --alpha_cos 1.0 --temperature 2.0, no --restrict_ce_to_mask.
"""

import torch
import torch.nn.functional as F
from torch import nn

ALPHA = {"kl": 5.0, "mlm": 2.0, "cosine": 1.0}
TEMPERATURE = 2.0


def plain_step(student, teacher, batch):
    """Return the loss of a batch, with its graph, and the mean of each term."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    outputs = student(**inputs, output_hidden_states=True)
    with torch.no_grad():
        taught = teacher(**inputs, output_hidden_states=True)

    vocabulary = outputs.logits.size(-1)
    mask = batch["attention_mask"].bool().unsqueeze(-1).expand_as(outputs.logits)
    chosen = torch.masked_select(outputs.logits, mask).view(-1, vocabulary)
    target = torch.masked_select(taught.logits, mask).view(-1, vocabulary)
    kl = (
        nn.KLDivLoss(reduction="batchmean")(
            F.log_softmax(chosen / TEMPERATURE, dim=-1), F.softmax(target / TEMPERATURE, dim=-1)
        )
        * TEMPERATURE**2
    )
    mlm = nn.CrossEntropyLoss(ignore_index=-100)(
        outputs.logits.view(-1, vocabulary), batch["labels"].view(-1)
    )
    states, goals = outputs.hidden_states[-1], taught.hidden_states[-1]
    mask = batch["attention_mask"].bool().unsqueeze(-1).expand_as(states)
    states = torch.masked_select(states, mask).view(-1, states.size(-1))
    goals = torch.masked_select(goals, mask).view(-1, goals.size(-1))
    cosine = nn.CosineEmbeddingLoss(reduction="mean")(
        states, goals, states.new_ones(states.size(0))
    )
    means = {"kl": kl, "mlm": mlm, "cosine": cosine}
    loss = sum(ALPHA[name] * mean for name, mean in means.items())
    return loss, {name: mean.detach() for name, mean in means.items()}
