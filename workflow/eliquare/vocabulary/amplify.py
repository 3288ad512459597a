"""Give a masked language model new, longer sub-words for a language (VocabAmp).

    python -m eliquare.vocabulary.amplify --model MODEL --documents DOCUMENTS --output FOLDER

Singh, De Clercq and Lefever 2023 describe the step and leave it to others. The new sub-words are
learnt in the tokenizer's own kind; words that need none are cut as before. Nothing is trained.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from eliquare import stage
from eliquare.corpus import documents as corpus
from eliquare.stage import InputError
from eliquare.vocabulary import auxiliary, embeddings
from eliquare.vocabulary import extend as extension
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.amplified_folder import card, write_new
from eliquare.vocabulary.new_subwords import Learnt, effect, guard, learn
from eliquare.vocabulary.options import local_folder
from eliquare.vocabulary.sample import sample_texts
from eliquare.vocabulary.saving import save_tokenizer
from eliquare.vocabulary.tokenizer import Description
from eliquare.vocabulary.weights import load_model
from eliquare.vocabulary.words import Words, cut_word, words_of

VERSION = 2

GAIN = 2e-5
LEAST = 10
# Texts that auxiliary vectors are learnt from, spread over the corpus.
TEXTS = 20_000


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    options = argparse.ArgumentParser(
        prog="python -m eliquare.vocabulary.amplify", description=__doc__.split("\n\n")[0]
    )
    options.add_argument("--model", required=True, help="model folder, or a hub id")
    options.add_argument("--documents", required=True, type=Path, help="documents folder")
    options.add_argument("--add", type=int, help="how many new sub-words (or --gain)")
    options.add_argument(
        "--gain",
        type=float,
        help="add sub-words while one more makes the text shorter by at least this share of its "
        f"pieces (default {GAIN:g})",
    )
    options.add_argument(
        "--least",
        type=int,
        default=LEAST,
        help="occurrences that a new sub-word must have (default %(default)s)",
    )
    options.add_argument(
        "--method",
        choices=["extension", "replacement"],
        default="extension",
        help="replacement: a new tokenizer of the same kind and as many sub-words, learnt from "
        "characters",
    )
    options.add_argument(
        "--initialisation",
        choices=["mean", "weighted", "similar"],
        default="mean",
        help="new embeddings: the mean of the old pieces they replace, a mean in which frequent "
        "pieces count less, or a mean of the sub-words that are similar in an auxiliary space",
    )
    options.add_argument(
        "--vectors", help="similar: auxiliary vectors in word2vec's text format; else learnt"
    )
    options.add_argument("--output", required=True, type=Path, help="model folder to make")
    return options


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that cannot be, before anything is read."""
    if arguments.add is not None and arguments.gain is not None:
        raise InputError("give either --add or --gain, and not both")
    for name in ("add", "least"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name}: expected 1 or more, found {value}")
    if arguments.gain is not None and not 0 < arguments.gain < 1:
        raise InputError(f"--gain: expected a share between 0 and 1, found {arguments.gain}")
    if arguments.vectors and arguments.initialisation != "similar":
        raise InputError("--vectors: belongs to --initialisation similar")


def run(arguments: argparse.Namespace) -> None:
    """Learn the sub-words, extend the tokenizer and the model, report."""
    check(arguments)
    logging.disable_progress_bar()
    folder = local_folder(arguments.model)
    tokenizer = surgery.load_tokenizer(folder)
    old = surgery.describe(tokenizer)
    model = load_model(folder)
    names = surgery.list_subwords(old)
    if model.config.vocab_size < len(names):
        raise InputError(
            f"{folder}: {len(names):,} sub-words in the tokenizer, {model.config.vocab_size:,} "
            "rows in the model"
        )
    texts = (document.text for document in corpus.read(arguments.documents))
    words = words_of(surgery.backend_of(old), stage.progress(texts, "words", unit="documents"))
    kept, base = base_of(old, arguments.method)
    # A replacement ends with as many sub-words as an extension would have.
    room = len(names) - len(kept)
    start = words
    if arguments.method == "replacement":
        bare = surgery.backend_of(base)
        start = Words({w: cut_word(bare, w) for w in words.cuts}, words.counts, words.written)
    add = None if arguments.add is None else arguments.add + room
    learnt = learn(base, start, add, arguments.gain or GAIN, arguments.least)
    guard(base, start, learnt, arguments.least, add)
    if not learnt.pieces:
        raise InputError(
            f"{arguments.documents}: no new sub-word occurs {arguments.least} times and shortens "
            "the text; give more text, or lower --least or --gain"
        )
    new = extended(base, learnt, arguments.method)
    result = surgery.backend_of(new)
    found = effect(words, result)
    if arguments.method == "extension":
        require_old_cuts(words, result, set(names))
    if add is not None and len(learnt.pieces) < add:
        stage.warn(
            f"{len(learnt.pieces) - room:,} sub-words added, not {arguments.add:,}: the others "
            f"occur fewer than {arguments.least} times, or do not shorten the text"
        )
    copied, weights, without = rows(arguments, old, new, words)
    amplified = embeddings.resized(model, kept, len(surgery.list_subwords(new)), copied, weights)
    report = {
        "kind": surgery.kind_of(old),
        "method": arguments.method,
        "initialisation": arguments.initialisation,
        "sub_words": {
            "before": len(names),
            "after": len(surgery.list_subwords(new)),
            "new": len(surgery.list_subwords(new)) - len(copied),
            "new_for_characters": len(learnt.characters),
            "left_out_as_harmful": len(learnt.harmful),
            "without_auxiliary_vector": without,
        },
        "parameters": {"before": model.num_parameters(), "after": amplified.num_parameters()},
        "words": words.written,
        "text": found,
        "curve": [
            {"added": added - room, "sub_words_per_word": pieces / words.written}
            for added, pieces in learnt.curve
            if added >= room
        ],
    }
    settings = {name: getattr(arguments, name) for name in ("add", "gain", "least", "method")} | {
        "initialisation": arguments.initialisation
    }
    inputs = {"model": folder, "documents": arguments.documents / "documents.jsonl.zst"}
    if arguments.vectors:
        inputs["vectors"] = arguments.vectors
    with stage.whole_folder(arguments.output) as beside:
        save_tokenizer(tokenizer, new, beside)
        amplified.save_pretrained(beside)
        stage.write_json(beside / "amplification.json", report)
        write_new(beside / "new_subwords.csv", old, new, learnt)
        stage.write_json(beside / "provenance.json", stage.provenance(settings, inputs))
        (beside / "README.md").write_text(card(folder.resolve().name, report), encoding="utf-8")
    stage.say(
        f"{arguments.output}: {report['sub_words']['new']:,} new sub-words, "
        f"{found['sub_words_per_word_before']:.3f} sub-words per word became "
        f"{found['sub_words_per_word_after']:.3f}; parameters {report['parameters']['before']:,} "
        f"became {report['parameters']['after']:,}"
    )


def base_of(old: Description, method: str) -> tuple[list[int], Description]:
    """The ids and the tokenizer to start from: all of the old, or its characters and specials."""
    names = surgery.list_subwords(old)
    if method == "extension":
        return list(range(len(names))), old
    kept = sorted(
        surgery.protected_ids(old)
        | {n for n, name in enumerate(names) if len(surgery.characters_of(old, name)) == 1}
        | {n for n, name in enumerate(names) if name == surgery.WORD_START}
    )
    kept = sorted({*kept, *surgery.closing_ids(old, kept)})
    return kept, surgery.cut(old, kept)


def extended(base: Description, learnt: Learnt, method: str) -> Description:
    """The base with what was learnt; a replaced Unigram tokenizer gets scores from the text."""
    scores = None
    if method == "replacement" and surgery.kind_of(base) == "Unigram":
        total = sum(learnt.uses.values())
        names = [name for name, _ in base["model"]["vocab"]]
        special = {token["content"] for token in base["added_tokens"]}
        scores = {
            name: round(float(np.log(max(learnt.uses[name], 0.5) / total)), 6)
            for name in [*names, *learnt.pieces]
            if name not in special
        }
    pieces = [*learnt.characters, *learnt.pieces]
    return extension.extend(base, pieces, learnt.merges, scores)


def require_old_cuts(words: Words, backend: Any, old: set[str]) -> None:
    """Raise Failure where a word without a new piece is cut otherwise than before."""
    for word, before in words.cuts.items():
        after = cut_word(backend, word)
        if after != before and old.issuperset(after):
            raise stage.Failure(
                f"{word!r} needs no new sub-word, but its cut {before} became {after}; "
                "nothing was written"
            )


def rows(
    arguments: argparse.Namespace, old: Description, new: Description, words: Words
) -> tuple[dict[int, int], Any, int]:
    """Which rows are copied (new id: old id), and the weights of old rows for all others.

    Returns also how many new sub-words had no auxiliary vector and took the mean instead.
    """
    old_names, names = surgery.list_subwords(old), surgery.list_subwords(new)
    ids = {name: number for number, name in enumerate(old_names)}
    copied = {number: ids[name] for number, name in enumerate(names) if name in ids}
    fresh = [name for name in names if name not in ids]
    backend = surgery.backend_of(old)
    replaced = [[ids[piece] for piece in sources(backend, old, name, ids)] for name in fresh]
    if arguments.initialisation == "mean":
        return copied, embeddings.mean_weights(replaced, len(ids)), 0
    if arguments.initialisation == "weighted":
        uses = Counter()
        for word, cut in words.cuts.items():
            for piece in cut:
                uses[ids[piece]] += words.counts[word]
        occurrences = np.array([uses[number] for number in range(len(ids))], dtype=np.float64)
        return copied, embeddings.frequency_weights(replaced, occurrences), 0
    if arguments.vectors:
        vectors = auxiliary.read_vectors(arguments.vectors)
    else:
        texts = sample_texts(arguments.documents, TEXTS)
        vectors = auxiliary.learn_vectors(surgery.backend_of(new), names, texts)
    special = surgery.protected_ids(old)
    shared = {name: number for name, number in ids.items() if number not in special}
    otherwise = embeddings.mean_weights(replaced, len(ids))
    weights, without = embeddings.similarity_weights(fresh, shared, vectors, otherwise)
    return copied, weights, without


def sources(backend: Any, old: Description, name: str, ids: dict[str, int]) -> list[str]:
    """The old pieces that a new sub-word begins as."""
    bare = name.removeprefix(surgery.continuing(old))
    if len(bare) == 1 and bare in ids:
        # A character that stood at the start of words only.
        return [bare]
    return extension.old_pieces(backend, old, name)


if __name__ == "__main__":
    stage.main(parser(), run)
