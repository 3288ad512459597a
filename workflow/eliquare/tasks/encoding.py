"""A split's examples as model inputs, and the model's answers as labels of the examples."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eliquare.tasks import texts, windows
from eliquare.tasks.examples import Sentence, Text

IGNORED = -100


class EncodedWords:
    """Tagged sentences as windows, labels on the first sub-words.

    ``long_share``: the share of sentences that became more than one window.
    """

    LONG = "windowed_share"

    def __init__(self, tokenizer, examples: Sequence[Sentence], labels: list[str], longest: int):
        encoder = windows.WordEncoder(tokenizer)
        words = encoder.encode([example.words for example in examples])
        self.examples = examples
        self.labels = labels
        self.windows = windows.windows(encoder, words, longest)
        ids = {label: number for number, label in enumerate(labels)}
        self.features = []
        for window in self.windows:
            targets = [IGNORED] * len(window.input_ids)
            for position, word in zip(window.positions, window.words, strict=True):
                targets[position] = ids[examples[window.sentence].labels[word]]
            self.features.append({"input_ids": window.input_ids, "labels": targets})
        pieces = [piece for sentence in words for word in sentence for piece in word]
        self.unknown_share = pieces.count(tokenizer.unk_token_id) / len(pieces)
        windows_of = Counter(window.sentence for window in self.windows)
        self.long_share = sum(count > 1 for count in windows_of.values()) / len(examples)

    def gold(self) -> list[list[str]]:
        """The tags of each sentence."""
        return [list(example.labels) for example in self.examples]

    def decode(self, answers: Sequence[Sequence[int]]) -> list[list[str]]:
        """Tags of each sentence from the label id at each position of each window."""
        decoded: list[list[Any]] = [[None] * len(example.words) for example in self.examples]
        for window, answer in zip(self.windows, answers, strict=True):
            for position, word in zip(window.positions, window.words, strict=True):
                decoded[window.sentence][word] = self.labels[answer[position]]
        return decoded


class EncodedTexts:
    """Labelled texts, or pairs of texts, cut to the longest length.

    ``long_share``: the share of texts that were cut.
    """

    LONG = "truncated_share"

    def __init__(self, tokenizer, examples: Sequence[Text], labels: list[str], longest: int):
        encoded = texts.encode(tokenizer, examples, longest)
        ids = {label: number for number, label in enumerate(labels)}
        self.examples = examples
        self.labels = labels
        self.features = [
            feature | {"labels": ids[example.label]}
            for feature, example in zip(encoded.features, examples, strict=True)
        ]
        self.unknown_share = encoded.unknown / max(encoded.subwords, 1)
        self.long_share = encoded.truncated / len(examples)

    def gold(self) -> list[str]:
        """The label of each text."""
        return [example.label for example in self.examples]

    def decode(self, answers: Sequence[int]) -> list[str]:
        """The label of each text from its label id."""
        return [self.labels[answer] for answer in answers]
