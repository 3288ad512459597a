"""Give a masked language model new, longer tokens for a language (VocabAmp).

Singh, De Clercq and Lefever 2023 describe the step and leave it to others. The new tokens are
learnt in the tokenizer's own kind; words that need none are segmented as before. Nothing is
trained.
"""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field
from scipy import sparse
from tokenizers import Tokenizer

from eliquare.cli import Options
from eliquare.config.model import ExtensionRule
from eliquare.corpus.documents import read, sample_texts
from eliquare.extension import embeddings
from eliquare.extension.learn import (
    LearnedTokens,
    Words,
    extend_tokenizer,
    learn_tokens,
    old_tokens,
    segment,
)
from eliquare.io import Failure, InputError, atomic_dir, progress, provenance, write_json
from eliquare.models.hub import local_folder, name_of
from eliquare.models.loading import load_fast_tokenizer, load_model, quiet
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.tokenizer import Description, backend_of

MIN_GAIN = 2e-5
# Texts that auxiliary vectors are learnt from, spread over the corpus.
VECTOR_TEXTS = 20_000
CARD = """---
library_name: transformers
pipeline_tag: fill-mask
base_model: {name}
tags: [vocabulary-extension]
---

# {name} with {new:,} new tokens

A word of one language has {fertility_after:.2f} tokens, and had {fertility_before:.2f}. Nothing was
trained: the new tokens start as mixtures of old ones, and are of use only after more training.
`new_tokens.csv` lists them, `extension.json` says what they do to the text, `provenance.json` what
the model was made from. The terms of {name} hold for this model too.
"""

logger = logging.getLogger(__name__)


class ExtendOptions(Options, ExtensionRule):
    """Options of ``extension extend``."""

    model: str = Field(description="Model folder, or a hub id.")
    documents: Path = Field(description="Documents folder of the language.")
    output: Path = Field(description="Model folder to write.")


def extend(options: ExtendOptions) -> None:
    """Learn the tokens, extend tokenizer and model, write them with a report."""
    quiet()
    folder = local_folder(options.model)
    tokenizer, model = load_fast_tokenizer(folder), load_model(folder)
    old = tokenizer_json.describe(tokenizer)
    names = tokenizer_json.list_tokens(old, tokenizer.name_or_path)
    ids = {name: token_id for token_id, name in enumerate(names)}
    size = len(ids)
    tokenizer_json.require_rows(folder, size, model.config.vocab_size)
    texts = (document.text for document in read(options.documents))
    old_backend = backend_of(old)
    words = Words.read(old_backend, progress(texts, "words", unit="documents"))

    kept, base = base_tokenizer(old, options.method)
    # A replacement ends with as many tokens as an extension would have.
    replaced = size - len(kept)
    learned = learn(options, words, base, replaced)
    new = with_tokens(base, learned, options.method)
    backend, names = backend_of(new), tokenizer_json.list_tokens(new)
    text = words.compare(backend)
    if options.method == "extension":
        require_same_segmentation(words, backend, ids)

    copied = {token_id: ids[name] for token_id, name in enumerate(names) if name in ids}
    mixtures, without_vector = mix(options, words, old, new)
    extended = embeddings.resize(model, kept, len(names), copied, mixtures)
    num_new = len(names) - len(copied)
    report = {
        "tokenizer": tokenizer_json.kind_of(old),
        "method": options.method,
        "initialization": options.initialization,
        "tokens": {
            "before": size,
            "after": len(names),
            "new": num_new,
            "new_for_characters": len(learned.characters),
            "pruned": learned.pruned,
            "without_vector": without_vector,
        },
        "parameters": {"before": model.num_parameters(), "after": extended.num_parameters()},
        "words": words.written,
        "text": text,
        "curve": [
            {"added": added - replaced, "fertility": tokens / words.written}
            for added, tokens in learned.curve
            if added >= replaced
        ],
    }
    inputs = {"model": folder, "documents": options.documents / "documents.jsonl.zst"}
    if options.vectors:
        inputs["vectors"] = Path(options.vectors)
    rule = options.model_dump(include=set(ExtensionRule.model_fields))
    with atomic_dir(options.output) as partial:
        tokenizer_json.save_tokenizer(tokenizer, new, partial)
        extended.save_pretrained(partial)
        write_json(partial / "extension.json", report)
        with (partial / "new_tokens.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["token_id", "token", "occurrences", "old_tokens"])
            for token_id, name in enumerate(names):
                if name not in ids:
                    old_names = " ".join(old_tokens(old_backend, old, name))
                    writer.writerow([token_id, name, learned.uses[name], old_names])
        write_json(partial / "provenance.json", provenance(rule, inputs))
        card = CARD.format(name=name_of(options.model, folder), new=num_new, **text)
        (partial / "README.md").write_text(card, encoding="utf-8")
    sizes = num_new, text["fertility_before"], text["fertility_after"]
    logger.info("%s: %d new tokens, %.3f tokens per word became %.3f", options.output, *sizes)


def base_tokenizer(old: Description, method: str) -> tuple[list[int], Description]:
    """Return ids and tokenizer to start from: all of the old, or its characters and specials."""
    names = tokenizer_json.list_tokens(old)
    if method == "extension":
        return list(range(len(names))), old
    kept = tokenizer_json.protected_ids(old) | {
        token_id
        for token_id, name in enumerate(names)
        if name == tokenizer_json.WORD_START or len(tokenizer_json.characters_of(old, name)) == 1
    }
    ordered = sorted({*kept, *tokenizer_json.closing_ids(old, sorted(kept))})
    return ordered, tokenizer_json.reduce(old, ordered)


def learn(options: ExtendOptions, words: Words, base: Description, replaced: int) -> LearnedTokens:
    """Learn the new tokens of ``base``, ``replaced`` of them in the place of old ones.

    Raises InputError where the text asks for none.
    """
    if options.method == "replacement":
        words = words.segmented_by(backend_of(base))
    wanted = None if options.num_tokens is None else options.num_tokens + replaced
    min_gain = options.min_gain or MIN_GAIN
    learned = learn_tokens(base, words, wanted, min_gain, options.min_frequency)
    if not learned.tokens:
        raise InputError(
            f"{options.documents}: no new token occurs {options.min_frequency} times and shortens "
            "the text, of those that can be joined from old ones; give more text, lower "
            "--min-frequency or --min-gain, or take a model that has the characters of the text"
        )
    if wanted is not None and len(learned.tokens) < wanted:
        text = "%d tokens fewer than asked for; lower --min-frequency, or give more text"
        logger.warning(text, wanted - len(learned.tokens))
    return learned


def with_tokens(base: Description, learned: LearnedTokens, method: str) -> Description:
    """Return the base with the new tokens; a replaced Unigram tokenizer gets scores from text."""
    tokens = [*learned.characters, *learned.tokens]
    scores = None
    if method == "replacement" and tokenizer_json.kind_of(base) == "Unigram":
        names = {name for name, _ in base["model"]["vocab"]}
        special = {token["content"] for token in base["added_tokens"]}
        total = learned.uses.total()
        scores = {
            name: round(float(np.log(max(learned.uses[name], 0.5) / total)), 6)
            for name in (names | set(tokens)) - special
        }
    return extend_tokenizer(base, tokens, learned.merges, scores)


def require_same_segmentation(words: Words, backend: Tokenizer, old: Mapping[str, int]) -> None:
    """Raise Failure where a word without a new token is segmented otherwise than before."""
    for word, before in words.segmentations.items():
        after = segment(backend, word)
        if after != before and all(token in old for token in after):
            raise Failure(
                f"{word!r} needs no new token, but its segmentation {before} became {after}; "
                "nothing was written"
            )


def mix(
    options: ExtendOptions, words: Words, old: Description, new: Description
) -> tuple[sparse.csr_matrix, int]:
    """Return what the new tokens start as, mixtures[new, old], in the order of their ids.

    Also returns how many had no auxiliary vector and took the mean instead.
    """
    ids = {name: token_id for token_id, name in enumerate(tokenizer_json.list_tokens(old))}
    names = tokenizer_json.list_tokens(new)
    fresh = [name for name in names if name not in ids]
    backend, prefix = backend_of(old), tokenizer_json.continuation_prefix(old)
    sources = []
    for name in fresh:
        bare = name.removeprefix(prefix)
        # A character that was known at the start of words only.
        alone = len(bare) == 1 and bare in ids
        sources.append([ids[t] for t in ([bare] if alone else old_tokens(backend, old, name))])
    weights = np.ones(len(ids))
    if options.initialization == "weighted":
        uses = np.zeros(len(ids))
        for word, tokens in words.segmentations.items():
            np.add.at(uses, [ids[token] for token in tokens], words.counts[word])
        weights = embeddings.rarity_weights(uses)
    mixtures = embeddings.average_weights(sources, weights)
    if options.initialization != "similar":
        return mixtures, 0
    if options.vectors:
        vectors = embeddings.read_vectors(options.vectors)
        if not any(name in vectors for name in fresh):
            raise InputError(
                f"vectors: {options.vectors} has none of the new tokens, as {fresh[0]!r}; expected "
                "vectors of the new tokenizer's tokens, not of words"
            )
    else:
        texts = sample_texts(options.documents, VECTOR_TEXTS)
        vectors = embeddings.learn_vectors(backend_of(new), names, texts)
    protected = tokenizer_json.protected_ids(old)
    shared = {name: token_id for name, token_id in ids.items() if token_id not in protected}
    return embeddings.similarity_weights(fresh, shared, vectors, mixtures)
