"""Words to sub-words, and sentences to windows that fit the model.

Each word's label sits on its first sub-word. A sentence that is too long for the model becomes
overlapping windows; each word is trained on and scored in exactly one of them, the one in which it
has most context (as in the treatment of long documents by Devlin et al. 2019, run_squad.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from eliquare.stage import InputError


class Window(NamedTuple):
    """Sub-words of (a part of) a sentence, and its words that are scored here.

    ``input_ids`` holds the special tokens too. ``positions`` are the places in it of the first
    sub-words of the scored words, ``words`` the numbers of these words in the sentence.
    """

    sentence: int
    input_ids: list[int]
    positions: list[int]
    words: list[int]


class WordEncoder:
    """Sub-words of single words, by any tokenizer of transformers."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        self.unknown = tokenizer.unk_token_id
        # Byte-level tokenizers mark the beginning of a word by the space before it.
        probe = tokenizer.tokenize(" a")
        self.before_word = " " if probe and probe[0].startswith("Ġ") else ""
        self.prefix, self.suffix = special_tokens(tokenizer)
        self.known: dict[str, tuple[int, ...]] = {}

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[int, ...]]]:
        """The sub-words of each word of each sentence, never none: a word of which the tokenizer
        leaves nothing (control characters, for instance) is the unknown sub-word."""
        new = sorted({word for words in sentences for word in words} - self.known.keys())
        if new:
            texts = [self.before_word + word for word in new]
            encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            stand_in = self.unknown if self.unknown is not None else self.tokenizer.mask_token_id
            for word, ids in zip(new, encoded, strict=True):
                self.known[word] = tuple(ids) or (stand_in,)
        return [[self.known[word] for word in words] for words in sentences]


def special_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer sets before and after a sequence."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise InputError("the tokenizer does not set its special tokens around a sequence")


def spans(lengths: Sequence[int], capacity: int) -> list[tuple[int, int]]:
    """Cut words of these lengths into spans [first, end) of at most ``capacity`` sub-words.

    Spans begin about half a capacity after each other. Every length must be 1 to ``capacity``.
    """
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    count = len(lengths)
    found: list[tuple[int, int]] = []
    first = 0
    while True:
        end = first
        while end < count and starts[end + 1] - starts[first] <= capacity:
            end += 1
        if end == count:
            # The last span reaches back as far as it can: context costs nothing there.
            while first > 0 and starts[count] - starts[first - 1] <= capacity:
                first -= 1
            found.append((first, end))
            return found
        found.append((first, end))
        middle = starts[first] + capacity // 2
        following = first + 1
        while following < end and starts[following] < middle:
            following += 1
        first = following


def windows(
    encoder: WordEncoder, sentences: Sequence[Sequence[tuple[int, ...]]], max_length: int
) -> list[Window]:
    """Windows of at most ``max_length`` sub-words, special tokens included, in sentence order.

    ``sentences`` holds the sub-words of each word, as ``WordEncoder.encode`` gives them; a word
    longer than a whole window keeps its first sub-words. Every word of every sentence is scored in
    exactly one window.
    """
    capacity = max_length - len(encoder.prefix) - len(encoder.suffix)
    if capacity < 1:
        raise InputError(f"--max-length {max_length}: leaves no room beside the special tokens")
    made = []
    for number, words in enumerate(sentences):
        words = [pieces[:capacity] for pieces in words]
        lengths = [len(pieces) for pieces in words]
        cut = spans(lengths, capacity)
        home = best_span(lengths, cut)
        for index, (first, end) in enumerate(cut):
            ids = list(encoder.prefix)
            positions, scored = [], []
            for word in range(first, end):
                if home[word] == index:
                    positions.append(len(ids))
                    scored.append(word)
                ids.extend(words[word])
            made.append(Window(number, ids + encoder.suffix, positions, scored))
    return made


def best_span(lengths: Sequence[int], cut: Sequence[tuple[int, int]]) -> list[int]:
    """For each word, the span in which the shorter of its two contexts is longest."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    best = [(-1, 0)] * len(lengths)
    for index, (first, end) in enumerate(cut):
        for word in range(first, end):
            context = min(starts[word] - starts[first], starts[end] - starts[word + 1])
            if context > best[word][0]:
                best[word] = (context, index)
    return [index for _, index in best]
