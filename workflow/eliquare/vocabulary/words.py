"""The words of a corpus as a tokenizer's model sees them, with their counts, in bounded memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from eliquare.vocabulary import tokenizer as surgery

MOST_WORDS = 1_000_000


@dataclass(frozen=True)
class Words:
    """``cuts``: for each word, its pieces; ``counts``: how often each word stands in the text.

    A word is what the tokenizer's normaliser and pre-tokenizer hand to its model, so a written word
    with a hyphen may be several. ``written`` counts what stands between spaces.
    """

    cuts: dict[str, tuple[str, ...]]
    counts: Counter[str]
    written: int

    @property
    def pieces(self) -> int:
        """Pieces of the whole text."""
        return sum(self.counts[word] * len(cut) for word, cut in self.cuts.items())


def count_written(texts: Iterable[str], most: int = MOST_WORDS) -> tuple[Counter[str], int]:
    """What stands between spaces, with its counts, and how many there are in all.

    At twice ``most`` distinct words the rarest are forgotten until ``most`` are left (lossy
    counting, Manku and Motwani 2002), so that memory does not grow with the corpus.
    """
    counts: Counter[str] = Counter()
    total = forgotten = 0
    for text in texts:
        words = text.split()
        total += len(words)
        counts.update(words)
        if len(counts) > 2 * most:
            while len(counts) > most:
                forgotten += 1
                counts = Counter({word: n for word, n in counts.items() if n > forgotten})
    return counts, total


def words_of(backend: Any, texts: Iterable[str], most: int = MOST_WORDS) -> Words:
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
