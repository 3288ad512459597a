"""Sentences that two models with nested vocabularies must treat alike."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.checks import Pair
from eliquare.vocabulary.sample import sample_texts, split_sentences
from eliquare.vocabulary.texts import task_texts

CORPUS = "corpus"
MAX_LENGTH = 128
MASK_EVERY = 7
DOCUMENTS = 2000
TASK_TEXTS = 5000
# Segmentation is compared on this many sentences of a text; running models on them takes longer.
SENTENCES = 200


class Sentence(NamedTuple):
    """A sentence with its ids in both numberings, some of them masked."""

    text: str
    old_ids: list[int]
    new_ids: list[int]


class Sample(NamedTuple):
    """Sentences to run both models on, and counts: of those seen, those cut alike, and those that
    the new tokenizer alone has an [UNK] in."""

    sentences: list[Sentence]
    seen: int
    alike: int
    newly_unknown: int


def sources(sample: str | Path | None, tasks: dict[str, str]) -> dict[str, Iterator[str]]:
    """Texts by name: those of the corpus, and of each task."""
    texts: dict[str, Iterator[str]] = {}
    if sample is not None:
        texts[CORPUS] = sample_texts(sample, DOCUMENTS)
    for name, path in tasks.items():
        texts[name] = islice(task_texts(path), TASK_TEXTS)
    return texts


def take_sample(pair: Pair, reduced: Path, name: str, texts: Iterable[str], wanted: int) -> Sample:
    """Compare the pieces of sentences that the old tokenizer cuts into kept sub-words.

    Returns up to ``wanted`` of these sentences, spread over them. A WordPiece or BPE word that was
    [UNK] may be cut now that a piece which led astray is gone, so sentences with one are left out.
    Raises InputError where such a sentence is cut in another way; for a corpus also where a
    character that the old vocabulary has is gone and its words became [UNK], and where none of its
    sentences can be compared. A task may have characters that the corpus lacks: that is said.
    """
    new_ids = {old: new for new, old in enumerate(pair.old_ids)}
    maximum = min(MAX_LENGTH, pair.old.model_max_length)
    unigram = pair.old_description["model"]["type"] == "Unigram"
    unknown, new_unknown = pair.old.unk_token_id, pair.new.unk_token_id
    sentences: list[Sentence] = []
    seen = newly_unknown = 0
    for text in chain.from_iterable(map(split_sentences, texts)):
        seen += 1
        old = pair.old(text, truncation=True, max_length=maximum)["input_ids"]
        new = pair.new(text, truncation=True, max_length=maximum)["input_ids"]
        if new_unknown is not None and unknown not in old and new_unknown in new:
            newly_unknown += 1
            if name == CORPUS:
                refuse_missing_characters(pair, reduced, text)
        if any(i not in new_ids for i in old) or (not unigram and unknown in old):
            continue
        if new != [new_ids[i] for i in old]:
            raise InputError(
                f"{reduced}: cuts {text[:60]!r} into {pieces(pair.new, new)}, "
                f"the old tokenizer into {pieces(pair.old, old)}"
            )
        sentences.append(masked(pair, text, old, new))
        if len(sentences) == max(wanted, SENTENCES):
            break
    if not sentences:
        message = (
            f"{name}: none of {seen:,} sentences is cut into kept sub-words only, so nothing "
            "can be checked on it"
        )
        if name == CORPUS:
            raise InputError(f"{message}; keep more sub-words, or give text of the right language")
        stage.warn(message)
    if newly_unknown:
        stage.warn(
            f"{name}: {newly_unknown:,} of {seen:,} sentences have an {pair.new.unk_token} that "
            "the whole vocabulary has not"
        )
    number = min(wanted, len(sentences))
    spread = [sentences[place * len(sentences) // number] for place in range(number)]
    return Sample(spread, seen, len(sentences), newly_unknown)


def pieces(tokenizer, ids: list[int]) -> str:
    """The first sub-words, for a message."""
    return " ".join(tokenizer.convert_ids_to_tokens(ids[:12]))


def masked(pair: Pair, text: str, old: list[int], new: list[int]) -> Sentence:
    """The sentence with the mask token in place of every seventh sub-word."""
    specials = set(pair.old.all_special_ids)
    hidden = [i for i, token in enumerate(old) if token not in specials][3::MASK_EVERY]
    old, new = list(old), list(new)
    if pair.old.mask_token_id is not None:
        for position in hidden:
            old[position], new[position] = pair.old.mask_token_id, pair.new.mask_token_id
    return Sentence(text, old, new)


def refuse_missing_characters(pair: Pair, reduced: Path, text: str) -> None:
    """Raise an InputError where a new [UNK] comes from a character that could have been kept."""
    old, new = surgery.model_vocabulary(pair.old_description), pair.new.get_vocab()
    backend = pair.old.backend_tokenizer
    normalized = backend.normalizer.normalize_str(text) if backend.normalizer else text
    words = [(normalized, None)]
    if backend.pre_tokenizer:
        words = backend.pre_tokenizer.pre_tokenize_str(normalized)
    for word, _ in words:
        if pair.new.unk_token not in pair.new.tokenize(word.removeprefix(surgery.WORD_START)):
            continue
        for form in surgery.spelled(pair.old_description, word):
            if form in old and form not in new:
                raise InputError(
                    f"{reduced}: the character {form!r} was not kept, so that the word {word!r} "
                    "became unknown; keep every character of the corpus in each of its forms"
                )
