"""Train a teacher by masked language modelling: from nothing, or on with one language.

    python -m eliquare.models.mlm --tokenizer T --kind bert --layers 12 … --output O
    python -m eliquare.models.mlm --model TEACHER … --output O

The first is pre-training. The second is conditioning: continued masked language modelling on the
student's language (cruz2024, Table 4).
"""

import argparse

from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from eliquare import stage
from eliquare.models.loading import load_masked_model, load_tokenizer
from eliquare.training import budget
from eliquare.training import run as training
from eliquare.training.mlm import MaskedLanguageModelling

VERSION = 3


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--model", help="model folder to go on from (conditioning)")
    start.add_argument("--tokenizer", help="tokenizer folder of a new model (pre-training)")
    shape = parser.add_argument_group("shape of a new model")
    shape.add_argument("--kind", choices=["bert", "distilbert", "xlm-roberta"], default="bert")
    shape.add_argument("--layers", type=int, default=12)
    shape.add_argument("--hidden-size", type=int, default=768)
    shape.add_argument("--intermediate-size", type=int, default=3072)
    shape.add_argument("--heads", type=int, default=12)
    shape.add_argument(
        "--max-positions", type=int, default=512, help="longest sequence, in sub-words"
    )
    shape.add_argument("--dropout", type=float, default=0.1)
    budget.add_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Train and save the model."""
    training.start(arguments)
    source = arguments.model or arguments.tokenizer
    tokenizer = load_tokenizer(source)
    model = load_masked_model(source) if arguments.model else new_model(arguments, tokenizer)
    if not arguments.model:
        # What a pipeline cuts its input to, and whether it gives the model token types.
        tokenizer.model_max_length = arguments.max_positions
        if arguments.kind != "bert":
            tokenizer.model_input_names = ["input_ids", "attention_mask"]
    training.train(
        training.Task(
            arguments,
            model,
            tokenizer,
            MaskedLanguageModelling(),
            {"mlm": 1.0},
            best_by="loss",
            inputs={
                "model" if arguments.model else "tokenizer": source,
                "sequences": arguments.sequences,
                "masking": arguments.masking,
            },
            version=VERSION,
            card=lambda history: card(arguments, history),
        )
    )


def new_model(arguments: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model of the asked shape with random weights; call after seeding."""
    for name in ("layers", "hidden_size", "intermediate_size", "heads", "max_positions"):
        if getattr(arguments, name) < 1:
            option = name.replace("_", "-")
            raise stage.InputError(f"--{option}: expected 1 or more")
    if arguments.hidden_size % arguments.heads:
        raise stage.InputError(
            f"hidden size {arguments.hidden_size} is no multiple of {arguments.heads} heads"
        )
    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if arguments.kind == "distilbert":
        shape = {
            "n_layers": arguments.layers,
            "dim": arguments.hidden_size,
            "hidden_dim": arguments.intermediate_size,
            "n_heads": arguments.heads,
            "dropout": arguments.dropout,
            "attention_dropout": arguments.dropout,
        }
    else:
        shape = {
            "num_hidden_layers": arguments.layers,
            "hidden_size": arguments.hidden_size,
            "intermediate_size": arguments.intermediate_size,
            "num_attention_heads": arguments.heads,
            "hidden_dropout_prob": arguments.dropout,
            "attention_probs_dropout_prob": arguments.dropout,
        }
    # XLM-R counts positions from the padding id + 1.
    offset = tokenizer.pad_token_id + 1 if arguments.kind == "xlm-roberta" else 0
    shape["max_position_embeddings"] = arguments.max_positions + offset
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(arguments.kind, **ids, **shape))


def card(arguments: argparse.Namespace, history: list[dict]) -> str:
    """A short model card."""
    what = "conditioned on a language" if arguments.model else "pre-trained from nothing"
    steps = max(line["step"] for line in history)
    return (
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\n---\n\n# A teacher\n\n"
        f"Masked language model, {what}, {steps:,} steps. "
        "`provenance.json` holds every setting, `history.jsonl` every loss.\n"
    )


if __name__ == "__main__":
    stage.main(parser(), run)
