"""Queries, keys and values of a model's layers, read while it runs."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from eliquare.stage import InputError

NAME = "sdpa_recorded"


class AttentionInputs(NamedTuple):
    """What one layer's attention reads, each of shape (batch, heads, length, width of a head).

    With rotary positions, queries and keys are those after the rotation. ``scaling`` multiplies
    their products.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float


_recording: list[list[AttentionInputs]] = []


def _record(module, query, key, value, attention_mask, scaling=None, **settings):
    if _recording:
        own = query.shape[-1] ** -0.5 if scaling is None else scaling
        _recording[-1].append(AttentionInputs(query, key, value, own))
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **settings
    )


AttentionInterface.register(NAME, _record)
AttentionMaskInterface.register(NAME, sdpa_mask)


def make_recordable(model: PreTrainedModel, name: str) -> None:
    """Let ``recorded`` read this model; its outputs stay what they are.

    Maps of attention are never made for all layers: where they are asked for, they are computed
    from the queries and keys of the layers that a term compares. Raises InputError for an
    architecture with an attention of its own, ``name`` being the term that asks.
    """
    try:
        model.set_attn_implementation(NAME)
    except (ValueError, NotImplementedError):
        possible = False
    else:
        possible = model.config._attn_implementation == NAME and model._supports_sdpa
    if not possible:
        raise InputError(
            f"{name}: the queries and keys of {type(model).__name__} cannot be read; use hidden, "
            "or a BERT, DistilBERT, RoBERTa, XLM-R or ModernBERT model"
        )


@contextlib.contextmanager
def recorded(wanted: bool = True) -> Iterator[list[AttentionInputs]]:
    """The attention inputs of the layers that run inside, from the first to the last."""
    layers: list[AttentionInputs] = []
    if not wanted:
        yield layers
        return
    _recording.append(layers)
    try:
        yield layers
    finally:
        _recording.pop()
