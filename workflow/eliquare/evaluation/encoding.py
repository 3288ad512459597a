"""Encode the examples of a task as inputs of a model, and decode its answers.

Each word's label sits on its first token. A sentence that is too long for the model becomes
overlapping windows; each word is trained on and scored in exactly one of them, the one in which it
has most context (as Devlin et al. 2019 treat long documents, run_squad.py). Whole texts are
truncated.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

from transformers import PreTrainedTokenizerFast

from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.corpus.tokenization import SpecialTokens
from eliquare.evaluation.readers import Examples, Sentence, Text
from eliquare.io import InputError

Word = tuple[int, ...]  # the token ids of one word


class Window(NamedTuple):
    """The tokens of (a part of) a sentence, and its words that are scored here.

    ``input_ids[tokens]`` holds the special tokens too. ``positions[words]`` are the places in it
    of the first tokens of the scored words, ``words[words]`` their numbers in the sentence.
    """

    sentence: int
    input_ids: list[int]
    positions: list[int]
    words: list[int]


class WordEncoder:
    """Encode single words, each distinct word once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        # Byte-level tokenizers mark the beginning of a word by the space before it.
        probe = tokenizer.tokenize(" a")
        self.before_word = " " if probe and probe[0].startswith("Ġ") else ""
        self.special = SpecialTokens.of(tokenizer.backend_tokenizer)
        unknown = tokenizer.unk_token_id
        self.stand_in: Word = (tokenizer.mask_token_id if unknown is None else unknown,)
        self.known: dict[str, Word] = {}

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[list[Word]]:
        """Return the tokens of each word of each sentence.

        A word of which the tokenizer leaves nothing (control characters, for instance) is the
        unknown token, so no word is without a token.
        """
        new = sorted({word for words in sentences for word in words} - self.known.keys())
        if new:
            texts = [self.before_word + word for word in new]
            encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            for word, ids in zip(new, encoded, strict=True):
                self.known[word] = tuple(ids) or self.stand_in
        return [[self.known[word] for word in words] for words in sentences]

    def windows(self, sentences: Sequence[Sequence[Word]], max_length: int) -> list[Window]:
        """Cut encoded sentences into windows of at most ``max_length`` tokens, special ones too.

        Windows come in the order of the sentences; every word is scored in exactly one. A word
        longer than a full window keeps its first tokens.
        """
        before, after = list(self.special.prefix), list(self.special.suffix)
        capacity = max_length - len(before) - len(after)
        if capacity < 1:
            raise InputError(f"max_length {max_length}: leaves no room beside the special tokens")
        windows = []
        for number, sentence in enumerate(sentences):
            words = [word[:capacity] for word in sentence]
            lengths = [len(word) for word in words]
            spans = overlapping_spans(lengths, capacity)
            home = spans_with_most_context(lengths, spans)
            for index, (first, end) in enumerate(spans):
                ids = before.copy()
                positions, scored = [], []
                for word in range(first, end):
                    if home[word] == index:
                        positions.append(len(ids))
                        scored.append(word)
                    ids.extend(words[word])
                windows.append(Window(number, ids + after, positions, scored))
        return windows


def overlapping_spans(lengths: Sequence[int], capacity: int) -> list[tuple[int, int]]:
    """Return spans ``[first, end)`` of words that hold at most ``capacity`` tokens each.

    Spans begin about half a capacity after each other. ``lengths[words]`` are from 1 to
    ``capacity``.

    >>> overlapping_spans([1, 1, 1, 1, 1, 1], 4)
    [(0, 4), (2, 6)]
    """
    starts = [0, *accumulate(lengths)]
    count = len(lengths)
    spans: list[tuple[int, int]] = []
    first = 0
    while True:
        end = first
        while end < count and starts[end + 1] - starts[first] <= capacity:
            end += 1
        if end == count:
            # The last span reaches back as far as it can: context costs nothing there.
            while first > 0 and starts[count] - starts[first - 1] <= capacity:
                first -= 1
            return [*spans, (first, end)]
        spans.append((first, end))
        middle = starts[first] + capacity // 2
        first += 1
        while first < end and starts[first] < middle:
            first += 1


def spans_with_most_context(lengths: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each word the span in which the shorter of its two contexts is longest."""
    starts = [0, *accumulate(lengths)]
    best = [(-1, 0)] * len(lengths)
    for index, (first, end) in enumerate(spans):
        for word in range(first, end):
            context = min(starts[word] - starts[first], starts[end] - starts[word + 1])
            if context > best[word][0]:
                best[word] = (context, index)
    return [index for _, index in best]


class EncodedWords:
    """Tagged sentences as windows with the labels on the first tokens of words.

    ``features`` holds ``input_ids[tokens]`` and ``labels[tokens]`` of each window. ``long_share``
    is the share of sentences that became several windows, ``unknown_share`` the unknown tokens'.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        examples: Sequence[Sentence],
        labels: Sequence[str],
        max_length: int,
    ) -> None:
        encoder = WordEncoder(tokenizer)
        words = encoder.encode([example.words for example in examples])
        self.examples = examples
        self.labels = labels
        self.windows = encoder.windows(words, max_length)
        label_ids = {label: number for number, label in enumerate(labels)}
        self.features: list[dict[str, Any]] = []
        for window in self.windows:
            targets = [IGNORE_INDEX] * len(window.input_ids)
            for position, word in zip(window.positions, window.words, strict=True):
                targets[position] = label_ids[examples[window.sentence].labels[word]]
            self.features.append({"input_ids": window.input_ids, "labels": targets})
        tokens = [token for sentence in words for word in sentence for token in word]
        self.unknown_share = tokens.count(cast(int, tokenizer.unk_token_id)) / len(tokens)
        windows_of = Counter(window.sentence for window in self.windows)
        self.long_share = sum(count > 1 for count in windows_of.values()) / len(examples)

    def gold(self) -> list[list[str]]:
        """Return the tags of each sentence."""
        return [list(example.labels) for example in self.examples]

    def decode(self, answers: Sequence[Sequence[int]]) -> list[list[str]]:
        """Return the tags of each sentence from ``answers[windows][tokens]``, label ids."""
        decoded = [[""] * len(example.words) for example in self.examples]
        for window, answer in zip(self.windows, answers, strict=True):
            for position, word in zip(window.positions, window.words, strict=True):
                decoded[window.sentence][word] = self.labels[answer[position]]
        return decoded


class EncodedTexts:
    """Labelled texts, or pairs of texts, truncated to the longest input.

    Of a pair, the longer text is truncated first. ``features`` holds the tokenizer's inputs and
    one label per text. ``long_share`` is the share of texts that were truncated,
    ``unknown_share`` the unknown tokens'.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        examples: Sequence[Text],
        labels: Sequence[str],
        max_length: int,
    ) -> None:
        self.examples = examples
        self.labels = labels
        label_ids = {label: number for number, label in enumerate(labels)}
        full = tokenizer(*columns(examples), verbose=False)
        special = tokenizer.num_special_tokens_to_add(pair=examples[0].text_pair is not None)
        self.features: list[dict[str, Any]] = []
        unknown = tokens = truncated = 0
        for number, (example, ids) in enumerate(zip(examples, full["input_ids"], strict=True)):
            unknown += ids.count(tokenizer.unk_token_id)
            tokens += len(ids) - special
            inputs = {name: full[name][number] for name in full}
            if len(ids) > max_length:
                truncated += 1
                texts = [column[0] for column in columns([example])]
                inputs = dict(tokenizer(*texts, truncation="longest_first", max_length=max_length))
            self.features.append(inputs | {"labels": label_ids[example.label]})
        self.unknown_share = unknown / max(tokens, 1)
        self.long_share = truncated / len(examples)

    def gold(self) -> list[str]:
        """Return the label of each text."""
        return [example.label for example in self.examples]

    def decode(self, answers: Sequence[int]) -> list[str]:
        """Return the label of each text from ``answers[texts]``, label ids."""
        return [self.labels[answer] for answer in answers]


Encoded = EncodedWords | EncodedTexts


def columns(texts: Sequence[Text]) -> list[list[str]]:
    """Return the first texts, and the second ones of pairs, as a tokenizer takes them."""
    firsts = [text.text for text in texts]
    seconds = [text.text_pair for text in texts if text.text_pair is not None]
    return [firsts, seconds] if seconds else [firsts]


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Examples, labels: Sequence[str], max_length: int
) -> Encoded:
    """Encode the examples of one split, sentences as words and texts as a whole."""
    if isinstance(examples[0], Sentence):
        return EncodedWords(tokenizer, cast(Sequence[Sentence], examples), labels, max_length)
    return EncodedTexts(tokenizer, cast(Sequence[Text], examples), labels, max_length)
