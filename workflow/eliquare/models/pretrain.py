"""Train a teacher by masked language modelling: from nothing, or on with one language.

    python -m eliquare models pretrain --tokenizer T --num-hidden-layers 12 … --output O
    python -m eliquare models pretrain --model TEACHER … --output O

The first is pre-training. The second adapts a teacher: continued pre-training on the student's
language (cruz2024, Table 4). The lines are those of ``distillation/train.py`` with another
objective, `MaskedLanguageModelling`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from eliquare.cli import version
from eliquare.config.base import Problem
from eliquare.config.model import HEADS, Shape
from eliquare.config.objective import Weight
from eliquare.models.loading import load_tokenizer, load_with_head
from eliquare.training.data import load_data
from eliquare.training.options import TrainingOptions, begin
from eliquare.training.outputs import Batch, outputs_at, positions_of, projection_of, unwrapped
from eliquare.training.trainer import Losses, MaskedTrainer


class PretrainOptions(TrainingOptions, Shape):
    """Options of a pre-training, beside those of every training; the shape is for a new model."""

    model: Path | None = Field(None, description="Model folder to train on (adapt).")
    tokenizer: Path | None = Field(None, description="Tokenizer folder of a new model (pre-train).")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where it is not said what to start from, or heads do not fit."""
        yield from super().problems()
        if (self.model is None) == (self.tokenizer is None):
            yield (), "expected either --model or --tokenizer, and not both"
        if self.model is None and self.hidden_size % self.num_attention_heads:
            yield ("hidden_size",), HEADS.format(self.hidden_size, self.num_attention_heads)

    def inputs(self) -> dict[str, Path]:
        """Return the folders whose content decides the result, by name."""
        inputs = {name: getattr(self, name) for name in ("model", "tokenizer")}
        folders = {name: folder for name, folder in inputs.items() if folder}
        return folders | {"sequences": self.sequences, "masking": self.masking}


class MaskedLanguageModelling:
    """The objective of pre-training: cross-entropy of the masked tokens (Devlin et al. 2019)."""

    weights: Mapping[str, Weight] = {"mlm": Weight.model_validate(1.0)}
    best_by = "loss"

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return how many positions are masked."""
        return {"mlm": positions_of(batch).count("masked")}

    def __call__(self, model: nn.Module, batch: Batch, scales: Mapping[str, float]) -> Losses:
        """Return the loss of a batch, and its sum over the masked positions."""
        masked = positions_of(batch).masked
        outputs = outputs_at(model, batch, masked)
        logits = projection_of(unwrapped(model))(outputs.head)
        labels = batch["labels"].flatten()[masked]
        total = F.cross_entropy(logits.float(), labels, reduction="sum")
        return Losses(outputs.zero + scales["mlm"] * total, {"mlm": total.detach()})

    def to(self, device: torch.device) -> None:
        """Move nothing: there is no teacher."""


def pretrain(options: PretrainOptions) -> None:
    """Pre-train a model from nothing, or adapt one to a language."""
    begin(options)
    origin = options.provenance(options.inputs(), version("models", "pretrain"))
    if options.model:
        # An encoder gets a head, which is trained here.
        (model, _), tokenizer = load_with_head(options.model), load_tokenizer(options.model)
    else:
        assert options.tokenizer
        tokenizer = load_tokenizer(options.tokenizer)
        model = new_model(options, tokenizer)
        # What a pipeline truncates its input to, and whether it gives the model token types.
        tokenizer.model_max_length = options.max_position_embeddings
        if options.model_type != "bert":
            tokenizer.model_input_names = ["input_ids", "attention_mask"]
    data = load_data(options, model, tokenizer)

    trainer = MaskedTrainer(model, MaskedLanguageModelling(), data, options)
    if trainer.fit(origin):
        trainer.load_best()
        trainer.save(tokenizer, origin, card(options, trainer.state.global_step))


def new_model(shape: Shape, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return a model of random weights; call it after seeding."""
    # XLM-R counts positions from the padding id + 1.
    offset = tokenizer.pad_token_id + 1 if shape.model_type == "xlm-roberta" else 0
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": shape.max_position_embeddings + offset,
    }
    if shape.model_type == "distilbert":
        settings |= {
            "n_layers": shape.num_hidden_layers,
            "dim": shape.hidden_size,
            "hidden_dim": shape.intermediate_size,
            "n_heads": shape.num_attention_heads,
            "dropout": shape.dropout,
            "attention_dropout": shape.dropout,
        }
    else:
        settings |= {
            "num_hidden_layers": shape.num_hidden_layers,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_attention_heads": shape.num_attention_heads,
            "hidden_dropout_prob": shape.dropout,
            "attention_probs_dropout_prob": shape.dropout,
        }
    config = AutoConfig.for_model(shape.model_type, **settings)
    model: PreTrainedModel = AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
    return model


def card(options: PretrainOptions, steps: int) -> str:
    """Return a short model card."""
    what = "adapted to a language" if options.model else "pre-trained from nothing"
    return (
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\n---\n\n# A teacher\n\n"
        f"Masked language model, {what}, {steps:,} steps. "
        "`provenance.json` holds every setting, `history.jsonl` every loss.\n"
    )
