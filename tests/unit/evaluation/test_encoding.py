"""No word is lost between a task's sentences and the model's inputs."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import families
import worlds
from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.corpus.tokenization import SpecialTokens
from eliquare.evaluation import encoding
from eliquare.evaluation.readers import Example
from eliquare.io import InputError

SENTENCES = [text.split()[:40] for text in worlds.texts()[:60]]


@pytest.fixture(scope="module", params=worlds.KINDS)
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    worlds.write_tokenizer(request.param, folder, worlds.texts())
    return AutoTokenizer.from_pretrained(folder)


def tokenizer_of(family):
    name, _, variant = family.partition("-")
    return families.TOKENIZERS[name](variant)


# Words of four scripts, and what else people write without a space; no sign of which a normalizer
# makes a space, as NFKC does of "´".
written_words = st.one_of(
    st.sampled_from([word for line in families.all_sentences(20) for word in line.split()]),
    st.sampled_from(["'s", "...", "n't", "3.000,5", "(a)", "«", "-", "U.S.", "@you", "😀"]),
    st.text(st.characters(categories=("L", "M", "N", "P")), min_size=1, max_size=8).filter(
        lambda word: " " not in unicodedata.normalize("NFKC", word)
    ),
)


@pytest.mark.parametrize("family", families.FAMILIES)
@settings(deadline=None, max_examples=40)
@given(words=st.lists(written_words, min_size=2, max_size=12))
def test_a_word_inside_a_sentence_is_encoded_as_in_running_text(family, words):
    tokenizer = tokenizer_of(family)
    _, *inside = encoding.encode_words(tokenizer, [words])[0]
    assume(all(tokenizer.tokenize(word) for word in words))
    # What looks like a special token is text in a word, and the token itself in running text.
    assume(not any(token in word for token in tokenizer.all_special_tokens for word in words))
    expected = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]
    first = tokenizer(words[0], add_special_tokens=False)["input_ids"]
    assert [*first, *(token for word in inside for token in word)] == expected


@pytest.mark.parametrize("family", ["roberta", "modernbert", "mmbert"])
def test_the_first_word_of_a_sentence_is_encoded_as_any_other(family):
    tokenizer = tokenizer_of(family)
    first, second = encoding.encode_words(tokenizer, [["reka", "reka"]])[0]
    assert first == second != tokenizer("reka", add_special_tokens=False)["input_ids"]


words_of_any_kind = st.one_of(
    st.sampled_from([word for words in SENTENCES for word in words]),
    st.text(max_size=12),
    st.text(alphabet="\u0000\u0001\u200b\ufeff ", max_size=3),
    st.text(alphabet="क", min_size=30, max_size=60),
)


@settings(deadline=None, max_examples=60)
@given(
    sentences=st.lists(st.lists(words_of_any_kind, min_size=1, max_size=40), max_size=3),
    max_length=st.integers(3, 40),
)
def test_every_word_is_scored_exactly_once(tokenizer, sentences, max_length):
    encoded = encoding.encode_words(tokenizer, sentences)
    windows = encoding.cut(tokenizer, encoded, max_length)
    scored = Counter((window.example, word) for window in windows for word in window.words)
    assert scored == Counter(
        (n, word) for n, words in enumerate(sentences) for word in range(len(words))
    )
    for window in windows:
        assert 3 <= len(window.input_ids) <= max_length
        for position, word in zip(window.positions, window.words, strict=True):
            assert window.input_ids[position] == encoded[window.example][word][0]


def test_words_are_scored_where_they_have_most_context(tokenizer):
    special = SpecialTokens.of(tokenizer.backend_tokenizer)
    windows = encoding.cut(tokenizer, [[[7]] * 100], 20 + special.size)
    assert len(windows) > 1
    home = {word: window for window in windows for word in window.words}
    for word in range(10, 90):
        position = home[word].words.index(word)
        before = home[word].positions[position] - len(special.prefix)
        assert before >= 4
        assert 20 - before > 4


@pytest.mark.parametrize("lengths", [[3] * 60, [9, 1, 5, 10, 2] * 12])
def test_a_word_is_scored_with_all_its_tokens(tokenizer, lengths):
    special = SpecialTokens.of(tokenizer.backend_tokenizer)
    words = [[number] * length for number, length in enumerate(lengths)]
    for window in encoding.cut(tokenizer, [words], 20 + special.size):
        tokens = window.input_ids[: len(window.input_ids) - len(special.suffix)]
        for position, word in zip(window.positions, window.words, strict=True):
            assert tokens[position : position + lengths[word]] == words[word]


def test_no_room_beside_the_special_tokens_is_refused(tokenizer):
    with pytest.raises(InputError, match="max_length 2"):
        encoding.cut(tokenizer, encoding.encode_words(tokenizer, [["a"]]), 2)


def test_names_of_special_tokens_in_text_are_text(tokenizer):
    if tokenizer.backend_tokenizer.to_str().count('"unk_id"'):
        pytest.skip("Unigram's vocabulary holds the names, and its model takes them")
    names = [tokenizer.mask_token, tokenizer.sep_token, tokenizer.cls_token]
    words = encoding.encode_words(tokenizer, [["a", *names]])[0]
    specials = {tokenizer.convert_tokens_to_ids(name) for name in names}
    assert not specials.intersection(token for word in words for token in word)
    text = Example((f"a {' '.join(names)} b",), ("x",), "a.csv", (2,))
    encoded = encoding.encode(tokenizer, "classification", [text], ["x"], 64)
    around = SpecialTokens.of(tokenizer.backend_tokenizer)
    found = [token for token in encoded.features[0]["input_ids"] if token in specials]
    assert found == [*around.prefix, *around.suffix]


def test_texts_are_truncated_and_counted(tokenizer):
    short, long = "a b", " ".join(SENTENCES[0])
    texts = [Example((short,), ("x",), "f", (1,)), Example((long,), ("y",), "f", (2,))]
    encoded = encoding.encode(tokenizer, "classification", texts, ["x", "y"], 12)
    # Inputs are longest first, answers in the order of the texts.
    assert [len(feature["input_ids"]) <= 12 for feature in encoded.features] == [True, True]
    assert [feature["labels"] for feature in encoded.features] == [1, 0]
    assert encoded.gold == ["x", "y"]
    assert encoded.long_share == 0.5
    assert encoded.decode([1, 0]) == ["x", "y"]
    assert encoded.decode([0, 1]) == ["y", "x"]


def test_answers_of_windows_become_the_tags_of_sentences(tokenizer):
    labels = ["NOUN", "VERB"]
    sentences = [
        Example(
            tuple(words), tuple(labels[n % 2] for n in range(len(words))), "f", (1,) * len(words)
        )
        for words in SENTENCES[:5]
    ]
    encoded = encoding.encode(tokenizer, "upos", sentences, labels, 12)
    assert encoded.long_share > 0
    assert len(encoded.features) > len(sentences)
    lengths = [len(feature["input_ids"]) for feature in encoded.features]
    assert lengths == sorted(lengths, reverse=True)
    assert encoded.decode([feature["labels"] for feature in encoded.features]) == encoded.gold


def test_a_label_that_training_never_had_stays_and_is_never_answered(tokenizer):
    labels = ["NOUN", "VERB"]
    sentence = Example(("ena", "dva", "ah"), ("NOUN", "VERB", "INTJ"), "f", (1, 2, 3))
    encoded = encoding.encode(tokenizer, "upos", [sentence], labels, 40)
    (feature,) = encoded.features
    assert [label for label in feature["labels"] if label != IGNORE_INDEX] == [0, 1]
    assert encoded.gold == [["NOUN", "VERB", "INTJ"]]
    assert encoded.unseen_labels == {"INTJ": 1}
    assert encoded.decode([[0] * len(feature["labels"])]) == [["NOUN"] * 3]
    texts = [Example((text,), (text,), "f", (1,)) for text in ("yes", "maybe")]
    encoded = encoding.encode(tokenizer, "classification", texts, ["no", "yes"], 40)
    assert sorted(feature["labels"] for feature in encoded.features) == [IGNORE_INDEX, 1]
    assert (encoded.gold, encoded.unseen_labels) == (["yes", "maybe"], {"maybe": 1})
