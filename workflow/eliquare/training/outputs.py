"""What an objective reads of a masked language model, without the logits of all positions.

The model runs once, with two hooks: the MLM head sees the chosen positions alone, and its
projection to the vocabulary none at all. So the head may be any architecture's, and the projection
is left to the chunked loss.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from eliquare.io import InputError

Batch = dict[str, torch.Tensor]


class Positions(NamedTuple):
    """Positions of a batch, as indices into the flattened ``[batch * length]``.

    The masked ones come first wherever both are taken, so that a term on masked positions is about
    the first rows, and no number has to come back from the device to tell how many.
    """

    masked: torch.Tensor
    unmasked: torch.Tensor

    def of(self, which: str | None) -> torch.Tensor:
        """Return the indices of "all" real positions, of the "masked" ones, or none."""
        if which == "all":
            return torch.cat([self.masked, self.unmasked])
        return self.masked if which == "masked" else self.masked[:0]

    def count(self, which: str) -> int:
        """Return how many positions "all" or "masked" are."""
        return len(self.masked) + (len(self.unmasked) if which == "all" else 0)


def positions_of(batch: Batch) -> Positions:
    """Return the positions of a batch of ``MaskedCollator``, which knows them."""
    return Positions(batch["masked"], batch["unmasked"])


class AttentionInputs(NamedTuple):
    """What the attention of one layer reads, each ``[batch, heads, length, head width]``.

    With rotary positions, queries and keys are those after the rotation. ``scaling`` multiplies
    their products.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float


class Outputs(NamedTuple):
    """A model's outputs on one batch.

    Attributes:
        head: input of the projection to the vocabulary at the chosen positions,
            ``[positions, width]``.
        last_hidden: last hidden states, ``[batch, length, width]``.
        layers: if asked for, the embeddings and the hidden states after each layer, each
            ``[batch, length, width]``.
        attention: if asked for, the attention inputs of each layer.
        zero: a zero that keeps every parameter in the graph, as processes that train together
            expect a gradient of each.
    """

    head: torch.Tensor
    last_hidden: torch.Tensor
    layers: tuple[torch.Tensor, ...]
    attention: list[AttentionInputs]
    zero: torch.Tensor


def outputs_at(
    model: nn.Module,
    batch: Batch,
    positions: torch.Tensor,
    *,
    layers: bool = False,
    attention: bool = False,
) -> Outputs:
    """Run the model on a batch, its MLM head at ``positions`` alone, and no projection.

    Args:
        model: a masked language model, or its wrapper for several processes.
        batch: ``input_ids`` and ``attention_mask``, both ``[batch, length]``.
        positions: indices into the flattened ``[batch * length]``.
        layers: whether to return the hidden states of all layers.
        attention: whether to return the attention inputs; needs `make_recordable` first.
    """
    seen: dict[str, Any] = {}

    def choose(module: nn.Module, arguments: Any, output: Any) -> Any:
        seen["layers"] = output.hidden_states
        seen["hidden"] = output.last_hidden_state
        output.last_hidden_state = seen["hidden"].flatten(0, 1)[positions].unsqueeze(0)
        return output

    def take(module: nn.Module, arguments: Any) -> Any:
        seen["head"] = arguments[0][0]
        return (arguments[0][:, :0],)

    plain = unwrapped(model)
    hooks = [
        plain.base_model.register_forward_hook(choose),
        projection_of(plain).register_forward_pre_hook(take),
    ]
    recording: contextlib.AbstractContextManager[list[AttentionInputs]]
    recording = recorded() if attention else contextlib.nullcontext([])
    try:
        with recording as attention_inputs:
            output = model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                output_hidden_states=layers,
            )
    finally:
        for hook in hooks:
            hook.remove()
    states = tuple(seen["layers"]) if layers else ()
    return Outputs(seen["head"], seen["hidden"], states, attention_inputs, output.logits.sum())


def projection_of(model: PreTrainedModel) -> nn.Linear:
    """Return the projection to the vocabulary that ends the MLM head: a weight and a bias.

    Raises InputError for a head that ends otherwise.
    """
    projection = model.get_output_embeddings()
    if not isinstance(projection, nn.Linear) or projection.out_features != model.config.vocab_size:
        raise InputError(
            f"{type(model).__name__}: its MLM head does not end in a projection to the vocabulary; "
            "choose a model of docs/vocabulary.md (mDeBERTa-v3's head was never trained; reduce it "
            "alone)"
        )
    return projection


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """Return the model itself, out of torch.compile and DistributedDataParallel."""
    for wrapper in ("_orig_mod", "module"):
        model = getattr(model, wrapper, model)
    return cast(PreTrainedModel, model)


# Queries, keys and values, read while a model runs. Maps of attention are never made for all
# layers: they are computed from the queries and keys of the layers that a term compares.

RECORDED_ATTENTION = "sdpa_recorded"
_recording: list[list[AttentionInputs]] = []


def _record_and_attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **settings: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if _recording:
        own = query.shape[-1] ** -0.5 if scaling is None else scaling
        # As many keys and values as queries, also where several heads share one.
        shared = getattr(module, "num_key_value_groups", 1)
        keys, values = repeat_kv(key, shared), repeat_kv(value, shared)
        _recording[-1].append(AttentionInputs(query, keys, values, own))
    attended: tuple[torch.Tensor, torch.Tensor | None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **settings
    )
    return attended


AttentionInterface.register(RECORDED_ATTENTION, _record_and_attend)
AttentionMaskInterface.register(RECORDED_ATTENTION, sdpa_mask)


def make_recordable(model: PreTrainedModel, term: str) -> None:
    """Let `recorded` read this model; its outputs stay what they are.

    Raises InputError for an architecture with an attention of its own, ``term`` being the term of
    the objective that asks.
    """
    try:
        model.set_attn_implementation(RECORDED_ATTENTION)
    except (ValueError, NotImplementedError):
        possible = False
    else:
        chosen = model.config._attn_implementation
        possible = chosen == RECORDED_ATTENTION and model._supports_sdpa
    if not possible:
        raise InputError(
            f"{term}: the queries and keys of {type(model).__name__} cannot be read; use hidden, "
            "or a BERT, DistilBERT, RoBERTa, XLM-R or ModernBERT model"
        )


@contextlib.contextmanager
def recorded() -> Iterator[list[AttentionInputs]]:
    """Yield the attention inputs of the layers that run inside, from the first to the last."""
    layers: list[AttentionInputs] = []
    _recording.append(layers)
    try:
        yield layers
    finally:
        _recording.pop()
