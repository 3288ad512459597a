"""New tokens: what they must not change, in each kind of tokenizer."""

import json
from collections import Counter
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

import families
from eliquare.extension import learn
from eliquare.extension.learn import MergeLearner, Words, segment
from eliquare.io import InputError
from eliquare.vocabulary import tokenizer as tokenizer_json

KINDS = {
    "wordpiece": lambda: families.wordpiece(False),
    "unigram": lambda: families.unigram(False),
    "bytes": lambda: families.byte_bpe(True),
    "byte-fallback": families.sentencepiece_bpe,
}
NEW = 200
MIN_FREQUENCY = 4


class Extended:
    """A tokenizer of several scripts with new tokens for more text of them."""

    def __init__(self, kind: str):
        self.description = json.loads(KINDS[kind]().backend_tokenizer.to_str())
        self.kind = tokenizer_json.kind_of(self.description)
        self.old = tokenizer_json.backend_of(self.description)
        lines = [families.sentences(language) for language in families.LANGUAGES]
        self.texts = [line for each in lines for line in each[: len(each) // 2]]
        self.words = Words.read(self.old, self.texts)
        self.learned = learn.learn_tokens(self.description, self.words, NEW, 0.5, MIN_FREQUENCY)
        tokens = [*self.learned.characters, *self.learned.tokens]
        self.new = tokenizer_json.backend_of(
            learn.extend_tokenizer(self.description, tokens, self.learned.merges)
        )
        self.known = set(tokenizer_json.list_tokens(self.description))
        unseen = [line for each in lines for line in each[len(each) // 2 :]]
        self.unseen = Words.read(self.old, [*unseen, "naïve 北京 ‡ x9y"])


@pytest.fixture(scope="module", params=KINDS)
def extended(request):
    return Extended(request.param)


def test_words_that_need_no_new_token_keep_their_segmentation(extended):
    changed = 0
    for corpus in (extended.words, extended.unseen):
        for word, before in corpus.segmentations.items():
            after = segment(extended.new, word)
            if extended.known.issuperset(after):
                assert after == before
            changed += after != before
    assert changed > 100


def test_texts_are_segmented_as_their_words(extended):
    for text in extended.texts[::40]:
        old, new = (
            backend.encode(text, add_special_tokens=False)
            for backend in (extended.old, extended.new)
        )
        assert len(new.ids) <= len(old.ids)
        assert (old.offsets[0][0], old.offsets[-1][1]) == (new.offsets[0][0], new.offsets[-1][1])


def test_unigram_and_bpe_only_join_old_tokens_and_no_word_gets_longer(extended):
    if extended.kind == "WordPiece":
        pytest.skip("WordPiece takes the longest token, which may end elsewhere")
    vocabulary = extended.description["model"]["vocab"]
    # A BPE has no scores: there every end must be an old one.
    scores = dict(vocabulary) if isinstance(vocabulary, list) else {}

    def score_of(tokens):
        return sum(scores[token] for token in tokens)

    for corpus in (extended.words, extended.unseen):
        for word, before in corpus.segmentations.items():
            if "<unk>" in before:
                continue
            after = segment(extended.new, word)
            assert len(after) <= len(before), word
            if not {*accumulate(map(len, before))}.issuperset(accumulate(map(len, after))):
                # Of several best paths with one score, any may be taken.
                parts = [
                    part
                    for token in after
                    for part in learn.old_tokens(extended.old, extended.description, token)
                ]
                assert score_of(parts) == pytest.approx(score_of(before), abs=1e-9), word


def test_no_new_unknown_words(extended):
    unknown = {"[UNK]", "<unk>"}
    for word, before in extended.unseen.segmentations.items():
        if not unknown & set(before):
            assert not unknown & set(segment(extended.new, word)), word


def test_as_many_as_asked_for_and_a_shorter_text(extended):
    assert len(extended.learned.tokens) == NEW
    added, heights = zip(*extended.learned.curve, strict=True)
    assert added[0] == 0
    assert NEW * 0.9 < added[-1] <= NEW
    assert list(heights) == sorted(heights, reverse=True)
    assert heights[-1] < 0.97 * heights[0]
    text = extended.words.compare(extended.new)
    assert text["fertility_after"] < text["fertility_before"]
    assert text["words_lengthened"] < 0.005
    if extended.kind == "BPE":
        # The merges do to the text exactly what the learner said.
        counts = extended.words.counts
        assert heights[-1] == sum(len(segment(extended.new, w)) * n for w, n in counts.items())


def test_every_new_token_is_used_and_pays(extended):
    if extended.kind == "BPE":
        pytest.skip("a merge may be there for longer ones")
    uses = Counter()
    for word, count in extended.words.counts.items():
        for token in segment(extended.new, word):
            uses[token] += count
    assert min(uses[token] for token in extended.learned.tokens) >= MIN_FREQUENCY


def test_an_old_token_is_not_added_again(extended):
    token = next(iter(tokenizer_json.model_vocabulary(extended.description)))
    with pytest.raises(InputError, match="already"):
        learn.extend_tokenizer(extended.description, [token])


def test_tokens_are_learnt_while_one_more_saves_enough(extended):
    few, many = (
        learn.learn_tokens(extended.description, extended.words, None, gain, MIN_FREQUENCY)
        for gain in (1e-3, 3e-4)
    )
    assert 0 < len(few.tokens) < len(many.tokens)


def test_a_new_token_without_the_characters_would_make_a_word_unknown():
    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, "##cd": 3, "d": 4}
    old = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    description = json.loads(old.to_str())
    assert segment(old, "abcd") == ("a", "##b", "##cd")
    bad = tokenizer_json.backend_of(learn.extend_tokenizer(description, ["abc"]))
    assert segment(bad, "abcd") == ("[UNK]",)
    characters = learn.missing_characters(description)
    assert characters == ["##c", "##d"]
    good = learn.extend_tokenizer(description, [*characters, "abc"])
    assert segment(tokenizer_json.backend_of(good), "abcd") == ("abc", "##d")


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=8), st.integers(1, 9)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_joining_counts_what_it_saves(counted):
    """Tokens, uses and pairs stay what a count from nothing gives; the best pair is taken."""
    start = [(tuple(word), count) for word, count in counted]
    learner = MergeLearner(start, set("abc"), min_frequency=2)
    while True:
        pairs = Counter()
        for word, count in zip(learner.words, learner.counts, strict=True):
            for pair in pairwise(word):
                pairs[pair] += count
        merge = learner.step()
        best = max(pairs.values(), default=0)
        if merge is None:
            assert best < 2
            break
        assert pairs[merge] == best
        single = sum(count for word, count in start if len(word) == 1)
        tokens = zip(learner.words, learner.counts, strict=True)
        assert learner.num_tokens == single + sum(len(word) * count for word, count in tokens)
        longer = [word for word, _ in start if len(word) > 1]
        for tokens, characters in zip(learner.words, longer, strict=True):
            assert "".join(tokens) == "".join(characters)


def test_words_are_counted_in_bounded_memory():
    texts = (" ".join(["often", "well", f"once{n}", f"rare{n}"]) for n in range(5000))
    counts = learn.count_written(texts, 1000)
    assert counts["often"] == counts["well"] == 5000
    assert 500 < sum(map(len, counts)) <= 2100


def test_fertility_is_of_the_words_that_are_counted(tmp_path, monkeypatch):
    """Not of all: the tokens of those that were forgotten are not known."""
    folder = families.make_teacher("bert", tmp_path / "teacher")
    count = learn.count_written
    monkeypatch.setattr(learn, "count_written", lambda texts: count(texts, 200))
    texts = (" ".join(["reka", f"voda{n}", f"gora{n}"]) for n in range(500))
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = Words.read(backend, texts)
    counted = sum(words.counts.values())
    assert counted < 1500
    tokens = sum(count * len(words.segmentations[word]) for word, count in words.counts.items())
    assert words.compare(backend)["fertility_before"] == tokens / counted


def test_phrases_of_a_language_without_spaces_are_counted_in_bounded_memory():
    """None of them occurs twice, so that none is more frequent than another."""
    digits = str.maketrans("0123456789", "〇一二三四五六七八九")
    phrases = [f"{n:05}".translate(digits) * 20 for n in range(2000)]
    counts = learn.count_written(iter(phrases), 10_000)
    assert 10_000 <= sum(map(len, counts)) <= 20_100
