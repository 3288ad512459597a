"""What the objectives read of a masked model, without its projection to the vocabulary."""

from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from eliquare.stage import InputError
from eliquare.training.terms import Batch


class Outputs(NamedTuple):
    """A model's outputs at chosen positions.

    ``rows`` is what the projection to the vocabulary reads there, (positions, width): the last
    hidden states after the dense layer, activation and normalisation of the MLM head.
    ``last_hidden`` has shape (batch, length, hidden); ``layers`` holds, if asked for, the
    embeddings and the hidden states after each layer, each of that shape. ``nothing`` is a zero
    that keeps every parameter in the graph: processes that train together expect a gradient of
    each.
    """

    rows: torch.Tensor
    last_hidden: torch.Tensor
    layers: tuple[torch.Tensor, ...]
    nothing: torch.Tensor


def outputs_at(
    model: nn.Module,
    batch: Batch,
    positions: torch.Tensor,
    layers: bool = False,
) -> Outputs:
    """Run the model on a batch, its MLM head at ``positions`` alone, and no projection.

    ``positions`` are indices into the flattened (batch x length). A hook takes the chosen hidden
    states before the head, whatever the architecture calls it, and another what the head hands to
    the projection, which then sees no position at all.
    """
    seen = {}

    def choose(module, arguments, output):
        seen["output"] = output
        seen["hidden"] = output.last_hidden_state
        output.last_hidden_state = seen["hidden"].flatten(0, 1)[positions].unsqueeze(0)
        return output

    def take(module, arguments):
        seen["rows"] = arguments[0][0]
        return (arguments[0][:, :0],)

    plain = unwrapped(model)
    hooks = [
        plain.base_model.register_forward_hook(choose),
        projection_of(plain).register_forward_pre_hook(take),
    ]
    try:
        output = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            output_hidden_states=layers,
        )
    finally:
        for hook in hooks:
            hook.remove()
    states = tuple(seen["output"].hidden_states) if layers else ()
    return Outputs(seen["rows"], seen["hidden"], states, output.logits.sum())


def encoded(model: PreTrainedModel, batch: Batch, layers: bool = False) -> BaseModelOutput:
    """The encoder's output for a batch, without the MLM head."""
    return model.base_model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        output_hidden_states=layers,
    )


def head_rows(model: PreTrainedModel, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
    """What the MLM head hands to its projection for hidden states of shape (positions, hidden).

    The model runs with these states in the place of its encoder's, so that the head may be any
    architecture's.
    """
    states = BaseModelOutput(last_hidden_state=hidden.unsqueeze(0))
    seen = {}

    def take(module, arguments):
        seen["rows"] = arguments[0][0]
        return (arguments[0][:, :0],)

    hook = projection_of(model).register_forward_pre_hook(take)
    encoder = model.base_model
    encoder.forward = lambda *_, **__: states
    try:
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    finally:
        hook.remove()
        del encoder.forward
    return seen["rows"]


def projection_of(model: PreTrainedModel) -> nn.Linear:
    """The projection to the vocabulary that ends the MLM head: a weight and a bias.

    Raises InputError for a head that ends otherwise.
    """
    projection = model.get_output_embeddings()
    if not isinstance(projection, nn.Linear) or projection.out_features != model.config.vocab_size:
        raise InputError(
            f"{type(model).__name__}: its MLM head does not end in a projection of its own to the "
            "vocabulary; choose a BERT, DistilBERT, RoBERTa, XLM-R, ModernBERT or DeBERTa-v3 model"
        )
    return projection


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, out of DistributedDataParallel."""
    return getattr(model, "module", model)
