"""No word is lost between a task's sentences and the model's inputs."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import worlds
from eliquare.evaluation import encoding
from eliquare.evaluation.readers import Text
from eliquare.io import InputError

SENTENCES = [text.split()[:40] for text in worlds.texts()[:60]]


@pytest.fixture(scope="module", params=worlds.KINDS)
def encoder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    worlds.write_tokenizer(request.param, folder, worlds.texts())
    return encoding.WordEncoder(AutoTokenizer.from_pretrained(folder))


def test_words_are_encoded_as_the_tokenizer_encodes_running_text(encoder):
    for words in SENTENCES:
        tokens = [token for word in encoder.encode([words])[0] for token in word]
        special = encoder.special
        text = encoder.before_word + " ".join(words)
        assert [*special.prefix, *tokens, *special.suffix] == encoder.tokenizer(text)["input_ids"]


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
def test_every_word_is_scored_exactly_once(encoder, sentences, max_length):
    encoded = encoder.encode(sentences)
    windows = encoder.windows(encoded, max_length)
    scored = Counter((window.sentence, word) for window in windows for word in window.words)
    assert scored == Counter(
        (n, word) for n, words in enumerate(sentences) for word in range(len(words))
    )
    for window in windows:
        assert 3 <= len(window.input_ids) <= max_length
        for position, word in zip(window.positions, window.words, strict=True):
            assert window.input_ids[position] == encoded[window.sentence][word][0]


def test_words_are_scored_where_they_have_most_context():
    lengths = [1] * 100
    spans = encoding.overlapping_spans(lengths, 20)
    home = encoding.spans_with_most_context(lengths, spans)
    for word in range(10, 90):
        first, end = spans[home[word]]
        assert word - first >= 4
        assert end - word > 4


def test_no_room_beside_the_special_tokens_is_refused(encoder):
    with pytest.raises(InputError, match="max_length 2"):
        encoder.windows(encoder.encode([["a"]]), 2)


def test_texts_are_truncated_and_counted(encoder):
    short, long = "a b", " ".join(SENTENCES[0])
    texts = [Text(short, None, "x", "f", 1), Text(long, None, "y", "f", 2)]
    encoded = encoding.encode(encoder.tokenizer, texts, ["x", "y"], 12)
    assert [len(feature["input_ids"]) <= 12 for feature in encoded.features] == [True, True]
    assert [feature["labels"] for feature in encoded.features] == [0, 1]
    assert encoded.long_share == 0.5
    assert encoded.decode([1, 0]) == ["y", "x"]
