"""Compare what the head of a model gives before and after a reduction, and say what breaks it.

A head that reads hidden states cannot notice an exact reduction: a classifier, a pair head
(reranker), question answering, the pooling of a sentence encoder and what follows it. They are run,
on text whose tokens all stay, and must agree bit for bit. Two things do break a head, and are
refused: a prompt whose tokens were not kept, and a head that names tokens by their ids, which a
reduction changes.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

from eliquare.faults import refused
from eliquare.io import InputError, read_as, read_json
from eliquare.models.loading import load_config, load_fast_tokenizer, load_weights
from eliquare.models.sentence import MODULES, Module, read_prompts
from eliquare.vocabulary.tokenizer import Description, backend_of

MAX_LENGTH = 128
# The end of an architecture's name, the class that loads it, and whether it reads texts and pairs.
CLASSES = {
    "ForSequenceClassification": (AutoModelForSequenceClassification, ("texts", "pairs")),
    "ForTokenClassification": (AutoModelForTokenClassification, ("texts",)),
    "ForQuestionAnswering": (AutoModelForQuestionAnswering, ("pairs",)),
}
# Modules of sentence-transformers with a place for each token of the vocabulary, or which read the
# score of a token, as "yes" and "no".
BY_ID = frozenset(
    {"BoW", "WordEmbeddings", "WordWeights", "StaticEmbedding", "SparseStaticEmbedding"}
    | {"SpladePooling", "MLMTransformer", "LogitScore"}
)
GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
# Keys with these ends name tokens; the first is renumbered, in config.json.
RENUMBERED, ID_KEYS = "_token_id", ("_token_id", "_token_ids", "_tokens_ids", "_word_ids")

Encode = Callable[[PreTrainedTokenizerFast, Sequence[Any]], Any]


def prompts_of(folder: Path) -> dict[str, str]:
    """Return the texts that a model wants before a text, by purpose."""
    return read_prompts(folder).texts()


def prompt_ids(folder: Path, description: Description) -> set[int]:
    """Return the ids of the tokens of all prompts."""
    if not (texts := [text.strip() for text in prompts_of(folder).values()]):
        return set()
    encoded = backend_of(description).encode_batch(texts, add_special_tokens=False)
    return {index for each in encoded for index in each.ids}


def check_prompts(folder: Path, reduced: Path, kept: frozenset[int]) -> None:
    """Raise InputError for prompts with a token that is not among the kept (old) ids."""
    tokenizer = load_fast_tokenizer(folder)
    lines = []
    for name, text in prompts_of(folder).items():
        ids = tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
        lost = [tokenizer.convert_ids_to_tokens(index) for index in ids if index not in kept]
        if lost:
            lines.append(
                f"{reduced}: the prompt {name!r}, {text!r}, has the token {lost[0]!r}, which was "
                "not kept; add it to the vocabulary, or every embedding with this prompt changes"
            )
    if lines:
        raise InputError("\n".join(lines))


def check_addressing(folder: Path) -> None:
    """Raise InputError for a head that names tokens by their ids, which a reduction changes."""
    lines = [f"{folder}: {found}" for found in addressed(folder)]
    if lines:
        raise InputError(
            "\n".join(
                f"{line}; a reduction changes them, and this head with them" for line in lines
            )
        )


def addressed(folder: Path) -> Iterator[str]:
    """Yield each part of a model that names tokens by their ids, beside its configuration."""
    for name in load_config(folder).architectures or ():
        if name.endswith(GENERATES):
            yield f"{name} answers with ids of tokens"
    for key in read_json(folder / "config.json"):
        if key.endswith(ID_KEYS) and not key.endswith(RENUMBERED):
            yield f"config.json: {key} names tokens by their ids"
    for module in read_as(folder / MODULES, list[Module]) if (folder / MODULES).exists() else ():
        kind = module.type.rpartition(".")[2]
        path = folder / module.path / "config.json"
        said = read_json(path) if module.path and path.exists() else {}
        keys = [key for key in said if key.endswith(ID_KEYS)]
        if kind in BY_ID or keys:
            yield f"its module {kind} names tokens by their ids"


def compare_heads(folder: Path, reduced: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Return what was found the same under the head of a model; empty if it has none of these.

    ``texts`` are those whose tokens all stay.

    Raises:
        InputError: the head gives something else, or is missing in the reduced model.
    """
    found: dict[str, Any] = {}
    names = load_config(folder).architectures or [""]
    inputs: dict[str, list[Any]] = {"texts": list(texts), "pairs": list(pairwise(texts))}
    # One text alone makes a pair with itself.
    inputs["pairs"] = inputs["pairs"] or [(text, text) for text in texts]
    for end, (kind, reads) in CLASSES.items():
        if not names[0].endswith(end):
            continue
        if (load_config(reduced).architectures or [""])[0] != names[0]:
            raise InputError(f"{reduced}: the old model is a {names[0]}, and this one is not")
        found["head"] = names[0]
        for what in reads:
            if given := inputs[what]:
                old, new = (run(kind, each, given) for each in (folder, reduced))
                require_same(reduced, names[0], given, old, new)
                found[what] = len(given)
    if (folder / MODULES).exists():
        found |= compare_embeddings(folder, reduced, texts)
    return found


@torch.inference_mode()
def run(kind: Any, folder: Path, given: Sequence[Any]) -> list[torch.Tensor]:
    """Return the logits of texts or pairs, one at a time, so that no padding stands in between."""
    model = load_weights(kind, folder, dtype=torch.float32)[0].eval()
    # The product of a matrix and one vector is rounded by where the matrix lies in memory, and in a
    # mapped file it lies anywhere.
    for parameter in model.parameters():
        if parameter is not model.get_input_embeddings().weight:
            parameter.data = parameter.data.clone()
    tokenizer = load_fast_tokenizer(folder)
    logits = []
    for each in given:
        parts = (each,) if isinstance(each, str) else each
        batch = tokenizer(*parts, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        # A question's answer has two of them: where it starts and where it ends.
        output = model(**batch)
        logits.append(torch.cat([output[key].flatten() for key in output if "logits" in key]))
    return logits


def require_same(
    reduced: Path, what: str, given: Sequence[Any], old: Sequence[Any], new: Sequence[Any]
) -> None:
    """Raise InputError that names the first text with another result."""
    for each, before, after in zip(given, old, new, strict=True):
        if not torch.equal(torch.as_tensor(before), torch.as_tensor(after)):
            text = each if isinstance(each, str) else " / ".join(each)
            raise InputError(
                f"{reduced}: {what} gives another answer than before for {text[:60]!r}"
            )


def compare_embeddings(folder: Path, reduced: Path, texts: Sequence[str]) -> Mapping[str, Any]:
    """Compare the embeddings that sentence-transformers makes, with every prompt and module.

    Where it is not installed, nothing is run: all modules after the encoder read hidden states
    alone, which are compared anyway.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        return {"embeddings": "not run: sentence-transformers is not installed"}
    from sentence_transformers import SentenceTransformer

    prompts = list(dict.fromkeys(["", *prompts_of(folder).values()]))
    with refused(f"{folder}: sentence-transformers makes no embeddings with it"):
        old, new = (SentenceTransformer(str(each), device="cpu") for each in (folder, reduced))
        old.encode("", prompt="")
    for prompt in prompts:
        # One at a time: sentence-transformers sorts by length, and sums differ with the padding.
        before, after = (
            [model.encode(text, prompt=prompt) for text in texts] for model in (old, new)
        )
        require_same(
            reduced, f"sentence-transformers, with the prompt {prompt!r},", texts, before, after
        )
    kinds = [each.type.rpartition(".")[2] for each in read_as(folder / MODULES, list[Module])]
    return {"embeddings": len(texts), "modules": kinds, "prompts": len(prompts) - 1}
