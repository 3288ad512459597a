"""The words of a corpus as a tokenizer's model sees them, with their counts, in bounded memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from eliquare.vocabulary import tokenizer as surgery

# About a million words of a language with spaces.
MOST_CHARACTERS = 10_000_000


@dataclass(frozen=True)
class Words:
    """``cuts``: for each word, its pieces; ``counts``: how often each word stands in the text.

    A word is what the tokenizer's normaliser and pre-tokenizer hand to its model, so a written word
    with a hyphen may be several. ``written`` counts what stands between spaces: whole phrases in
    languages that are written without.
    """

    cuts: dict[str, tuple[str, ...]]
    counts: Counter[str]
    written: int

    @property
    def pieces(self) -> int:
        """Pieces of the whole text."""
        return sum(self.counts[word] * len(cut) for word, cut in self.cuts.items())


def count_written(texts: Iterable[str], most: int = MOST_CHARACTERS) -> tuple[Counter[str], int]:
    """What stands between spaces, with its counts, and how many there are in all.

    When the distinct words have twice ``most`` characters together, the most frequent ones with
    ``most`` characters stay and the others are forgotten, so that memory does not grow with the
    corpus: neither where it has ever more words, nor where a word is a whole phrase.
    """
    counts: Counter[str] = Counter()
    total = held = 0
    for text in texts:
        words = text.split()
        total += len(words)
        held += sum(len(word) for word in set(words) if word not in counts)
        counts.update(words)
        if held > 2 * most:
            counts = most_frequent(counts, most)
            held = sum(map(len, counts))
    return counts, total


def most_frequent(counts: Counter[str], most: int) -> Counter[str]:
    """The most frequent words, as many as have ``most`` characters together."""
    ordered = counts.most_common()
    ends = accumulate(len(word) for word, _ in ordered)
    return Counter(dict(entry for entry, end in zip(ordered, ends, strict=True) if end <= most))


def words_of(backend: Any, texts: Iterable[str], most: int = MOST_CHARACTERS) -> Words:
    """The words of the texts and their pieces; ``backend`` is a tokenizer of tokenizers' own."""
    written, total = count_written(texts, most)
    counts: Counter[str] = Counter()
    for word, count in written.items():
        for part in prepared(backend, word):
            counts[part] += count
    ordered = Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))
    return Words({word: cut_word(backend, word) for word in ordered}, ordered, total)


def prepared(backend: Any, written: str) -> Iterator[str]:
    """The parts of a written word that the tokenizer's model cuts, each by itself.

    The word is taken as it stands inside a line, after a space.
    """
    text = f" {written}"
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    if backend.pre_tokenizer is None:
        yield text
        return
    for part, _ in backend.pre_tokenizer.pre_tokenize_str(text):
        yield part


def cut_word(backend: Any, word: str) -> tuple[str, ...]:
    """The pieces of one such word, the unknown one by its own name."""
    model = backend.model
    return tuple(model.id_to_token(token.id) for token in model.tokenize(word))


def closed_pieces(description: surgery.Description) -> set[str]:
    """Pieces that nothing may be joined with: special and added tokens, bytes, the unknown one."""
    subwords = surgery.list_subwords(description)
    model = description["model"]
    closed = {subwords[identifier] for identifier in surgery.protected_ids(description)}
    if model.get("type") == "BPE" and not model.get("byte_fallback"):
        # The 256 bytes of a byte-level tokenizer are kept in every cut, and are what it joins.
        return {token["content"] for token in description["added_tokens"]}
    return closed
