"""Tokenizers learnt from text: complete, repeatable, and of the size that was asked for."""

import os
import subprocess
import sys

import pytest

import worlds
from eliquare.corpus import documents
from eliquare.io import InputError
from eliquare.models import tokenizer as tokenizers
from eliquare.models.loading import load_tokenizer
from eliquare.models.tokenizer import TokenizerOptions, train_tokenizer

KINDS = ["wordpiece", "unigram"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a documents folder of two languages."""
    texts = worlds.texts("qaa")[:20] + worlds.texts("qab")[:20]
    return worlds.write_documents(tmp_path_factory.mktemp("corpus") / "documents", texts)


def train(corpus, output, kind, size):
    options = {"documents": corpus, "output": output, "tokenizer": kind, "vocab_size": size}
    train_tokenizer(TokenizerOptions(**options))
    return output


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_corpus_is_unknown(corpus, kind, tmp_path):
    tokenizer = load_tokenizer(train(corpus, tmp_path / "out", kind, 700))
    assert len(tokenizer) <= 700
    vocabulary = tokenizer.get_vocab()
    backend = tokenizer.backend_tokenizer
    for document in documents.read(corpus):
        for paragraph in document.text.splitlines():
            encoding = backend.encode(paragraph)
            unknown = [
                paragraph[begin:end]
                for index, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
                if index == tokenizer.unk_token_id
            ]
            # WordPiece gives up on a word of more than a hundred characters.
            assert all(len(word) > 100 for word in unknown), unknown
            characters = set(backend.normalizer.normalize_str(paragraph)) - set(" ")
            assert all(character in vocabulary for character in characters)
            if kind == "wordpiece":
                assert all(f"##{character}" in vocabulary for character in characters)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_processes_learn_the_same_bytes(corpus, kind, tmp_path):
    folders = [train(corpus, tmp_path / "here", kind, 700), tmp_path / "there"]
    command = ["models", "tokenizer", "--documents", corpus, "--tokenizer", kind]
    command += ["--vocab-size", 700, "--output", folders[1]]
    subprocess.run(
        [sys.executable, "-m", "eliquare", *map(str, command)],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": "1"} | worlds.BARE,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [4, 60])
def test_a_vocabulary_that_cannot_hold_the_characters(corpus, kind, size, tmp_path):
    with pytest.raises(InputError, match=f"vocab_size: {size} is too small"):
        train(corpus, tmp_path / "out", kind, size)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_special_tokens_in_a_text_are_no_second_entries(kind, tmp_path):
    texts = [f"{text} <s> <mask> [MASK] <unk> </s> ▁ ▅ a##b" for text in worlds.texts()[:20]]
    corpus = worlds.write_documents(tmp_path / "documents", texts)
    tokenizer = load_tokenizer(train(corpus, tmp_path / "out", kind, 600))
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    specials = {"wordpiece": tokenizers.WORDPIECE_SPECIALS, "unigram": tokenizers.UNIGRAM_SPECIALS}
    assert tokenizer.convert_tokens_to_ids(specials[kind]) == list(range(5))


def test_documents_are_spread_over_the_corpus(tmp_path):
    corpus = worlds.write_documents(tmp_path / "documents", [f"text {n}" for n in range(10)])
    assert list(documents.sample_texts(corpus, 4)) == ["text 0", "text 3", "text 6", "text 9"]
    assert len(list(documents.sample_texts(corpus, 20))) == 10
    (tmp_path / "text.txt").write_text("a\nb\nc\n")
    assert list(documents.sample_texts(tmp_path / "text.txt", 2)) == ["a", "c"]
