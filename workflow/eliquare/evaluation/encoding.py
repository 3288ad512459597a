"""Encode the examples of a task as inputs of a model, and decode its answers.

Words are encoded as in running text with a space before each of them, as the field fine-tunes on
such tasks (run_ner.py of transformers). This holds too for the first word of a sentence, and for
one that a treebank marks as written without a space (``SpaceAfter=No``). Each word's label sits on
its first token. A sentence that is too long for the model becomes overlapping windows; each word is
trained on and scored in exactly one of them, the one in which it has most context (as Devlin et al.
2019 treat long documents, run_squad.py). Whole texts are truncated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple, cast

from transformers import PreTrainedTokenizerFast

from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.corpus.tokenization import SpecialTokens
from eliquare.evaluation.data import WORD_KINDS, unseen_labels
from eliquare.evaluation.readers import Example
from eliquare.io import InputError

Word = Sequence[int]  # the token ids of one word
AS_TEXT = {"split_special_tokens": True}  # the name of a special token in a text is text


class Window(NamedTuple):
    """The tokens of (a part of) an example, and the words of a sentence that are scored here.

    ``input_ids[tokens]`` holds the special tokens too. ``positions[words]`` are the places in it
    of the first tokens of the scored words, ``words[words]`` their numbers in the sentence.
    """

    example: int
    input_ids: list[int]
    positions: list[int]
    words: list[int]


@dataclass(frozen=True)
class Encoded:
    """A split as inputs of a model, longest first, so that little of a batch is padding.

    Attributes:
        features: The tokenizer's inputs and ``labels`` of each window.
        windows: Where each input comes from; one per text.
        labels: Names of the labels by id.
        gold: The label of each text, or the tags of each sentence.
        long_share: Share of the examples that are longer than the longest input.
        unknown_share: Share of the tokens that are the unknown token.
        unseen_labels: How often each label stands here that train never had.
    """

    features: list[dict[str, Any]]
    windows: list[Window]
    labels: Sequence[str]
    gold: list[Any]
    long_share: float
    unknown_share: float
    unseen_labels: dict[str, int]

    def decode(self, answers: Sequence[Any]) -> list[Any]:
        """Return labels or tags, as ``gold``, from label ids ``answers[windows(, tokens)]``."""
        decoded: list[Any] = [[""] * len(gold) for gold in self.gold]
        for window, answer in zip(self.windows, answers, strict=True):
            if isinstance(answer, int):
                decoded[window.example] = self.labels[answer]
            for position, word in zip(window.positions, window.words, strict=True):
                decoded[window.example][word] = self.labels[answer[position]]
        return decoded


def encode(
    tokenizer: PreTrainedTokenizerFast,
    kind: str,
    examples: Sequence[Example],
    labels: Sequence[str],
    max_length: int,
) -> Encoded:
    """Encode the examples of one split: sentences in windows, texts truncated.

    Of a pair of texts, the longer one is truncated first. A label that is not among ``labels``
    stays in ``gold``, where no answer equals it, and is left out of the loss.
    """
    ids = {label: number for number, label in enumerate(labels)}
    features: list[dict[str, Any]] = []
    gold: list[Any] = [list(example.labels) for example in examples]
    if kind in WORD_KINDS:
        words = encode_words(tokenizer, [example.texts for example in examples])
        tokens = [list(chain.from_iterable(sentence)) for sentence in words]
        windows = cut(tokenizer, words, max_length)
        for window in windows:
            targets = [IGNORE_INDEX] * len(window.input_ids)
            for position, word in zip(window.positions, window.words, strict=True):
                targets[position] = ids.get(gold[window.example][word], IGNORE_INDEX)
            features.append({"input_ids": window.input_ids, "labels": targets})
    else:
        gold = [label for (label,) in gold]
        columns = [list(texts) for texts in zip(*(each.texts for each in examples), strict=True)]
        tokens = tokenizer(*columns, add_special_tokens=False, verbose=False, **AS_TEXT)[
            "input_ids"
        ]
        inputs = tokenizer(*columns, truncation="longest_first", max_length=max_length, **AS_TEXT)
        windows = [Window(n, input_ids, [], []) for n, input_ids in enumerate(inputs["input_ids"])]
        for number, label in enumerate(gold):
            target = {"labels": ids.get(label, IGNORE_INDEX)}
            features.append({name: inputs[name][number] for name in inputs} | target)
    capacity = max_length - tokenizer.num_special_tokens_to_add(kind == "pair")
    order = sorted(range(len(windows)), key=lambda number: -len(windows[number].input_ids))
    unknown = sum(example.count(cast(int, tokenizer.unk_token_id)) for example in tokens)
    return Encoded(
        features=[features[number] for number in order],
        windows=[windows[number] for number in order],
        labels=labels,
        gold=gold,
        long_share=sum(len(example) > capacity for example in tokens) / len(examples),
        unknown_share=unknown / max(sum(map(len, tokens)), 1),
        unseen_labels={
            label: len(places) for label, places in unseen_labels(kind, labels, examples).items()
        },
    )


def word_prefix(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return what a word needs before it to be encoded as in running text: a space, or nothing.

    Byte-level tokenizers and those of Gemma's kind (mmBERT) mark a word only where a space stands
    before it; others mark each word, or the tokens inside of words.
    """
    return "" if tokenizer.tokenize("a a") == 2 * tokenizer.tokenize("a") else " "


def encode_words(
    tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sequence[str]]
) -> list[list[Word]]:
    """Return the tokens of each word of each sentence.

    A word of which the tokenizer leaves nothing (control characters, for instance) is the unknown
    token, so no word is without a token.
    """
    distinct = sorted(set(chain.from_iterable(sentences)))
    if not distinct:
        return [[] for _ in sentences]
    prefix = word_prefix(tokenizer)
    texts = [prefix + word for word in distinct]
    encoded = tokenizer(texts, add_special_tokens=False, **AS_TEXT)["input_ids"]
    unknown = tokenizer.unk_token_id
    stand_in = [cast(int, tokenizer.mask_token_id if unknown is None else unknown)]
    known = {word: ids or stand_in for word, ids in zip(distinct, encoded, strict=True)}
    return [[known[word] for word in words] for words in sentences]


def cut(
    tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sequence[Word]], max_length: int
) -> list[Window]:
    """Cut encoded sentences into windows of at most ``max_length`` tokens, special ones too.

    Windows of a long sentence begin half a window after each other. A word is scored in the one
    with most context on both its sides; longer than half a window, it keeps its first tokens, so
    that some window holds all of it.
    """
    special = SpecialTokens.of(tokenizer.backend_tokenizer)
    before, after = list(special.prefix), list(special.suffix)
    capacity = max_length - special.size
    if capacity < 1:
        raise InputError(f"max_length {max_length}: leaves no room beside the special tokens")
    step = max(capacity // 2, 1)
    windows = []
    for example, sentence in enumerate(sentences):
        words = [word[:step] for word in sentence]
        tokens = list(chain.from_iterable(words))
        begins = [0, *accumulate(map(len, words))]
        last = max(len(tokens) - capacity, 0)
        starts = [*range(0, last, step), last]
        home = [
            max(starts, key=lambda start: min(begin - start, start + capacity - end))
            for begin, end in pairwise(begins)
        ]
        for start in starts:
            scored = [word for word, its_start in enumerate(home) if its_start == start]
            positions = [len(before) + begins[word] - start for word in scored]
            ids = before + tokens[start : start + capacity] + after
            if scored:
                windows.append(Window(example, ids, positions, scored))
    return windows
