"""Learn the new tokens that a corpus asks for, and add them to a tokenizer of its own kind.

Neighbouring tokens are joined, the most frequent pair first, as byte-pair encoding does (Sennrich
et al. 2016), but from the tokens of an existing tokenizer instead of characters. A word that needs
no new token must be segmented as before. What each kind of tokenizer needs for that:

- WordPiece takes the longest token that fits, from the front. If the new segmentation of a word
  holds no new token, each of its tokens was the longest old one. A new token may leave a rest that
  no token fits, which makes the whole word [UNK]: so every character that any token holds after a
  word's start gets a token of its own there.
- Unigram takes the path of the highest score. The score of a new token is that of its best old path
  and a little more for each token that it saves: so the new segmentation is an old best one in
  which runs of tokens are replaced, and as many as possible.
- BPE applies merges in their order. The new ones come after all old ones and make tokens that no
  old merge takes, so that they join what the old ones leave.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

import numpy as np
from tokenizers import Tokenizer

from eliquare.io import InputError, progress
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.tokenizer import Description, backend_of

# About a million distinct words of a language with spaces.
MAX_CHARACTERS = 10_000_000
CURVE_POINTS = 40
PRUNING_ROUNDS = 5
# Tokens learnt beyond the number asked for, since pruning takes some away.
SURPLUS = 1.05
# Far below the differences between scores, far above the rounding of their sums.
SCORE_PER_SAVED_TOKEN = 1e-4

# The words of a corpus


@dataclass(frozen=True)
class Words:
    """The distinct words of a corpus: the tokens of each, and how often each occurs.

    A word is what the tokenizer's normalizer and pre-tokenizer hand to its model, so a written word
    with a hyphen may be several. ``written`` counts the words between spaces: whole phrases in
    languages that are written without.
    """

    segmentations: dict[str, tuple[str, ...]]
    counts: Counter[str]
    written: int

    @classmethod
    def read(cls, backend: Tokenizer, texts: Iterable[str]) -> "Words":
        """Count and segment the words of the texts, in an order that depends on them alone."""
        frequencies = count_written(texts)
        counts = Counter[str]()
        normalizer, splitter = backend.normalizer, backend.pre_tokenizer
        for word, count in frequencies.items():
            # As it stands inside a line.
            text = normalizer.normalize_str(f" {word}") if normalizer else f" {word}"
            for part, _ in splitter.pre_tokenize_str(text) if splitter else [(text, None)]:
                counts[part] += count
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls({}, Counter(dict(ordered)), frequencies.total()).segmented_by(backend)

    def segmented_by(self, backend: Tokenizer) -> "Words":
        """Return the same words in the tokens of another tokenizer."""
        return replace(self, segmentations={word: segment(backend, word) for word in self.counts})

    def compare(self, backend: Tokenizer) -> dict[str, float]:
        """Return fertility now and with ``backend``, and the shares of words that change length."""
        counts = np.array([self.counts[word] for word in self.segmentations])
        before = np.array([len(tokens) for tokens in self.segmentations.values()])
        after = np.array([len(segment(backend, word)) for word in self.segmentations])
        return {
            "fertility_before": float(counts @ before / self.written),
            "fertility_after": float(counts @ after / self.written),
            "words_shortened": float(counts @ (after < before) / counts.sum()),
            "words_lengthened": float(counts @ (after > before) / counts.sum()),
        }


def count_written(texts: Iterable[str], max_characters: int = MAX_CHARACTERS) -> Counter[str]:
    """Return the words between spaces with their counts.

    When the distinct words have twice ``max_characters`` together, the most frequent ones with
    ``max_characters`` stay and the others are forgotten, so that memory does not grow with the
    corpus: neither where it has ever more words, nor where a word is a whole phrase.
    """
    counts: Counter[str] = Counter()
    held = 0
    for text in texts:
        words = text.split()
        held += sum(len(word) for word in set(words) if word not in counts)
        counts.update(words)
        if held > 2 * max_characters:
            ordered = counts.most_common()
            ends = accumulate(len(word) for word, _ in ordered)
            counts = Counter(dict(ordered[: sum(end <= max_characters for end in ends)]))
            held = sum(map(len, counts))
    return counts


def segment(backend: Tokenizer, word: str) -> tuple[str, ...]:
    """Return the tokens of one such word, the unknown one by its own name."""
    model = backend.model
    return tuple(model.id_to_token(token.id) for token in model.tokenize(word))


# Joining neighbours


class MergeLearner:
    """Segmented words whose most frequent neighbours are joined step by step.

    Ties go to the pair that is first in the order of code points. Time and memory are linear in the
    words; each step touches only the words that hold its pair.
    """

    def __init__(
        self,
        words: Iterable[tuple[tuple[str, ...], int]],
        known: Collection[str],
        closed: Collection[str] = (),
        min_frequency: int = 1,
        prefix: str = "",
    ):
        """Count the pairs of the words, given as (tokens, occurrences).

        Pairs are not joined to a token in ``known``, nor with one in ``closed``, nor where they
        occur fewer than ``min_frequency`` times. ``prefix`` marks tokens inside a word.
        """
        self.prefix = prefix
        self.known = known
        self.min_frequency = min_frequency
        self.words: list[list[str]] = []
        self.counts: list[int] = []
        self.uses: Counter[str] = Counter()
        self.num_tokens = 0
        self.created: dict[str, None] = {}
        self.in_use: set[str] = set()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._places: dict[tuple[str, str], set[int]] = defaultdict(set)
        for tokens, count in words:
            self.num_tokens += count * len(tokens)
            for token in tokens:
                self.uses[token] += count
            for is_closed, run in groupby(tokens, closed.__contains__):
                if not is_closed and len(word := list(run)) > 1:
                    for pair in pairwise(word):
                        self._pairs[pair] += count
                        self._places[pair].add(len(self.words))
                    self.words.append(word)
                    self.counts.append(count)
        self._heap = [(-count, *pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._heap)

    def join(self, left: str, right: str) -> str:
        """Return how two neighbours are written as one token."""
        return left + right.removeprefix(self.prefix)

    def peek(self) -> int:
        """Return how often the next pair occurs; 0 where none is left."""
        while self._heap:
            count, left, right = self._heap[0]
            frequent = -count == self._pairs[left, right] >= self.min_frequency
            if frequent and self.join(left, right) not in self.known:
                return -count
            heapq.heappop(self._heap)
        return 0

    def step(self) -> tuple[str, str] | None:
        """Join the most frequent pair everywhere and return it; None where none is left."""
        if not self.peek():
            return None
        _, left, right = heapq.heappop(self._heap)
        result = self.join(left, right)
        changed: set[tuple[str, str]] = set()
        saved = 0
        for index in sorted(self._places.pop((left, right))):
            old, count = self.words[index], self.counts[index]
            new = joined(old, left, right, result)
            if len(new) == len(old):
                continue
            saved += count * (len(old) - len(new))
            for pair in pairwise(old):
                self._pairs[pair] -= count
            for pair in pairwise(new):
                self._pairs[pair] += count
                self._places[pair].add(index)
            changed.update(pairwise(old), pairwise(new))
            self.words[index] = new
        for pair in changed:
            if self._pairs[pair] > 0:
                heapq.heappush(self._heap, (-self._pairs[pair], *pair))
        self.num_tokens -= saved
        self.created[result] = None
        self.uses[result] += saved
        self.uses[left] -= saved
        self.uses[right] -= saved
        for token in (left, right, result):
            used = token in self.created and self.uses[token] >= self.min_frequency
            (self.in_use.add if used else self.in_use.discard)(token)
        return left, right


def joined(tokens: list[str], left: str, right: str, result: str) -> list[str]:
    """Replace each left and right beside each other, from the front."""
    new: list[str] = []
    for token in tokens:
        if token == right and new and new[-1] == left:
            new[-1] = result
        else:
            new.append(token)
    return new


# Learning and pruning


@dataclass(frozen=True)
class LearnedTokens:
    """New tokens in the order of learning, and what adding them step by step does.

    ``characters`` are those that WordPiece needs beside them, ``merges`` those that make them in
    BPE; ``uses`` says how often each token occurs in the segmented corpus; ``pruned``, how many
    made more of the text longer than shorter; ``curve`` has (tokens added, tokens of the text).
    """

    tokens: list[str]
    characters: list[str]
    merges: list[tuple[str, str]]
    uses: Counter[str]
    pruned: int
    curve: list[tuple[int, int]]


def learn_tokens(
    description: Description,
    words: Words,
    num_tokens: int | None,
    min_gain: float,
    min_frequency: int,
) -> LearnedTokens:
    """Join tokens until ``num_tokens`` new ones are in use, or until one more saves too little.

    ``min_gain`` is the share of the text's tokens that the last one must save; it decides where
    ``num_tokens`` is None. ``min_frequency`` is how often a new token must occur. A token that is
    only part of longer new ones is neither counted nor added, except to BPE, whose merges need it.
    """
    known = tokenizer_json.list_tokens(description)
    learner = MergeLearner(
        ((tokens, words.counts[word]) for word, tokens in words.segmentations.items()),
        set(known),
        {known[token_id] for token_id in tokenizer_json.protected_ids(description)},
        min_frequency,
        tokenizer_json.continuation_prefix(description),
    )
    is_bpe = tokenizer_json.kind_of(description) == "BPE"
    found = learner.created if is_bpe else learner.in_use
    wanted, least_saved = float("inf"), max(min_gain * learner.num_tokens, 1)
    if num_tokens is not None:
        wanted, least_saved = num_tokens if is_bpe else round(SURPLUS * num_tokens) + 1, 1
    merges, curve = list[tuple[str, str]](), [(0, learner.num_tokens)]
    steps = progress(iter(learner.step, None), "new tokens", total=num_tokens)
    while len(found) < wanted and learner.peek() >= least_saved and (merge := next(steps, None)):
        merges.append(merge)
        curve.append((len(found), learner.num_tokens))
    curve = thinned([point for point in curve if num_tokens is None or point[0] <= num_tokens])
    tokens = [token for token in learner.created if token in found]
    characters, uses, pruned = missing_characters(description), learner.uses, 0
    if not is_bpe:
        # The merges of a BPE segment the text exactly as they were learnt.
        base = extend_tokenizer(description, characters) if characters else description
        tokens, uses, pruned = prune(tokens, base, words, num_tokens, min_frequency)
    return LearnedTokens(tokens, characters, merges, uses, pruned, curve)


def prune(
    tokens: list[str],
    base: Description,
    words: Words,
    num_tokens: int | None,
    min_frequency: int,
) -> tuple[list[str], Counter[str], int]:
    """Return the tokens that pay when the text is really segmented with them, and their uses.

    WordPiece may cut a word into more tokens than before where a new one ends at a bad place, and
    Unigram and WordPiece may not use a token at all. A token goes if it is used fewer than
    ``min_frequency`` times, or if the words that hold it became longer by more than they became
    shorter: the third value is how many do. Of the others ``num_tokens`` stay at most.
    """
    pruned = 0
    for last_round in [False] * (PRUNING_ROUNDS - 1) + [True]:
        backend, candidates = backend_of(extend_tokenizer(base, tokens)), set(tokens)
        uses, saved = Counter[str](), Counter[str]()
        for word, old in words.segmentations.items():
            if len(old) > 1:
                new, count = segment(backend, word), words.counts[word]
                for token in candidates.intersection(new):
                    uses[token] += count * new.count(token)
                    saved[token] += count * (len(old) - len(new))
        used = [token for token in tokens if uses[token] >= min_frequency]
        paying = [token for token in used if saved[token] > 0]
        pruned += len(used) - len(paying)
        if last_round or paying == tokens:
            paying = paying[:num_tokens]
        if paying == tokens:
            break
        tokens = paying
    return tokens, uses, pruned


def thinned(curve: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return about CURVE_POINTS points of the curve, the first and the last among them."""
    # The number in use can fall for a step; only a new height is a point.
    heights = np.maximum.accumulate([added for added, _ in curve])
    rising = np.unique(heights, return_index=True)[1].tolist()
    chosen = rising[:: -(-len(rising) // CURVE_POINTS)]
    return [curve[place] for place in dict.fromkeys([*chosen, rising[-1]])]


# Adding tokens to a tokenizer


def missing_characters(description: Description) -> list[str]:
    """Return WordPiece's characters that occur inside words but are no token there, in order."""
    if tokenizer_json.kind_of(description) != "WordPiece":
        return []
    prefix = tokenizer_json.continuation_prefix(description)
    vocabulary = tokenizer_json.model_vocabulary(description)
    protected = tokenizer_json.protected_ids(description)
    inside: set[str] = set()
    for token, token_id in vocabulary.items():
        if token_id not in protected:
            inside.update(token[len(prefix) if token.startswith(prefix) else 1 :])
    return sorted(prefix + c for c in inside if prefix + c not in vocabulary)


def old_tokens(backend: Tokenizer, description: Description, token: str) -> list[str]:
    """Return the tokens into which a tokenizer segments the characters of a token, in its place.

    The first token of one from inside a word is one from inside a word, too.
    """
    prefix = tokenizer_json.continuation_prefix(description)
    if tokenizer_json.kind_of(description) != "WordPiece" or not token.startswith(prefix):
        return list(segment(backend, token))
    vocabulary = tokenizer_json.model_vocabulary(description)
    tokens, begin = [], len(prefix)
    while begin < len(token):
        ends = range(len(token), begin, -1)
        end = next((end for end in ends if prefix + token[begin:end] in vocabulary), None)
        if end is None:
            return [description["model"]["unk_token"]]
        tokens.append(prefix + token[begin:end])
        begin = end
    return tokens


def extend_tokenizer(
    description: Description,
    tokens: Sequence[str],
    merges: Iterable[tuple[str, str]] = (),
    scores: dict[str, float] | None = None,
) -> Description:
    """Return the tokenizer with ``tokens`` added in their order, their ids after all old ones.

    BPE needs the ``merges`` that make them, in order. Unigram takes ``scores`` where they are
    given, for old tokens too; by default new tokens get theirs from their best old path and old
    ones keep their own. Raises InputError for a token that the tokenizer has already.
    """
    names = tokenizer_json.list_tokens(description)
    everything = [*names, *tokens]
    if repeated := sorted(set(names).intersection(tokens)):
        raise InputError(f"the tokenizer has the token {repeated[0]!r} already")
    model = dict(description["model"])
    if model["type"] == "Unigram":
        old = dict(model["vocab"])
        # Added tokens beyond the list would move when it grows: they become part of it.
        beyond = dict.fromkeys(names, min(old.values()))
        known = beyond | old | (path_scores(description, tokens) if scores is None else scores)
        model["vocab"] = [[token, known[token]] for token in everything]
    else:
        model["vocab"] = {token: token_id for token_id, token in enumerate(everything)}
    if model["type"] == "BPE":
        model["merges"] = [*model["merges"], *map(list, merges)]
    return description | {"model": model}


def path_scores(description: Description, tokens: Iterable[str]) -> dict[str, float]:
    """Return the score of each new token of a Unigram tokenizer: see the module's head.

    Where a character of some old token is no token itself, no new score falls below the lowest old
    one: tokenizers takes the score of such a character from the lowest of all.
    """
    model = description["model"]
    scores: dict[str, float] = dict(model["vocab"])
    backend = backend_of(description)
    added = {token["content"] for token in description["added_tokens"]}
    complete = all(c in scores for token in scores if token not in added for c in token)
    lowest = float("-inf") if complete else min(scores.values())
    result = {}
    for token in tokens:
        path = backend.model.tokenize(token)
        score = sum(scores[part.value] for part in path) + SCORE_PER_SAVED_TOKEN * (len(path) - 1)
        # tokenizers reads a number of few digits exactly, and one of many perhaps not.
        result[token] = round(max(score, lowest), 6)
    return result
