"""Sentences, and their tokens: those of the full text."""

import itertools
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

import worlds
from eliquare.corpus import tokenization
from eliquare.corpus.tokenization import (
    CorpusTokenizer,
    SpecialTokens,
    Words,
    encode,
    split_sentences,
)
from eliquare.io import InputError, read_json, write_json
from eliquare.models import loading

JAPANESE = "今日は晴れです。明日は雨でしょう！本当ですか？「はい。」と彼は言った。\n終わり。"
TEXTS = (
    *(text for code in worlds.CODES for text in worlds.texts(code, 20)),
    JAPANESE,
    "a\n\n b. c",
    "a b\u200c c \u00a0d\u200b. e\u3000f",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: worlds.write_tokenizer(kind, folder / kind, TEXTS) for kind in worlds.KINDS}


@pytest.mark.parametrize("language", ["uk", "mr", "ja", "qaa", "", "zh-min-nan", "be-x-old"])
def test_sentences_joined_are_the_text(language):
    for text in TEXTS:
        sentences = split_sentences(text, language)
        assert "".join(sentences) == text.strip()
        assert all(sentence.strip() for sentence in sentences)
        assert not any(sentence[-1].isspace() for sentence in sentences)


@given(st.text(alphabet="aБ. \n\t\r!?。”\"'(A\u3000\u2028"))
def test_no_text_is_lost(text):
    assert "".join(split_sentences(text, "uk")) == text.strip()


def test_sentences_end_where_they_should():
    text = "Заголовок\nПерше речення. Друге, т. зв. складне, речення!  Третє?\n\nАбзац."
    assert split_sentences(text, "uk") == [
        "Заголовок",
        "\nПерше речення.",
        " Друге, т. зв. складне, речення!",
        "  Третє?",
        "\n\nАбзац.",
    ]


@pytest.mark.parametrize("space", "\u00a0\u202f\u2009\u3000\u2028")
def test_a_letter_a_wide_space_and_a_full_stop(space):
    """Sentencex 1.0 ends with a panic of Rust at these."""
    text = f"Vitamin C{space}. In the group A{space}. Then B"
    sentences = split_sentences(text, "sl")
    assert "".join(sentences) == text
    assert len(sentences) > 1


@pytest.mark.parametrize("prefix_space", [False, True])
@pytest.mark.parametrize("kind", worlds.KINDS)
def test_sentence_by_sentence_gives_the_tokens_of_the_text(folders, kind, prefix_space):
    backend = CorpusTokenizer.load(folders[kind]).backend
    if prefix_space and kind == "bytes":
        backend.pre_tokenizer = type(backend.pre_tokenizer)(add_prefix_space=True)
    sentences = [split_sentences(text, "ja") for text in TEXTS]
    ids, is_start, lengths = encode(Words(backend), sentences)
    expected = backend.encode_batch([text.strip() for text in TEXTS], add_special_tokens=False)
    assert ids.tolist() == list(itertools.chain(*(encoding.ids for encoding in expected)))
    assert lengths.tolist() == [len(encoding.ids) for encoding in expected]
    # A sentence has no start of its own where one token holds its beginning and the end before.
    total = sum(map(len, sentences))
    assert 0.97 * total <= is_start.sum() <= total


@pytest.mark.parametrize("splits", [True, False])
def test_words_have_the_tokens_of_the_text(monkeypatch, splits):
    """Also where two spaces are one, and where a token may hold two words."""
    tokens = ["<unk>", "▁", "a", "b", "▁a", "▁b", "▁a▁b"]
    backend = Tokenizer(models.Unigram([(token, -1.0) for token in tokens], unk_id=0))
    replaced = [("\u200c", " "), (Regex(" {2,}"), " ")]
    backend.normalizer = normalizers.Sequence([normalizers.Replace(*pair) for pair in replaced])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=splits)
    monkeypatch.setattr(tokenization, "REMEMBERED_CHARACTERS", 5)
    words = Words(backend)
    for texts in (["a b\u200c a b\u200c", "a  b", "b"], ["b\u200c \u200cb a", "a b"], []):
        expected = [encoding.ids for encoding in backend.encode_batch(texts)]
        ids, lengths = words.encode(texts)
        assert ids.tolist() == list(itertools.chain(*expected))
        assert lengths.tolist() == list(map(len, expected))
    assert words.encode(["a b"])[0].tolist() == ([4, 5] if splits else [6])


@pytest.mark.parametrize("family", [None, "bert", "xlm-roberta", "modernbert", "camembert"])
@pytest.mark.parametrize("kind", worlds.KINDS)
def test_a_tokenizer_is_the_one_that_autotokenizer_loads(
    folders, tmp_path, monkeypatch, kind, family
):
    shutil.copytree(folders[kind], tmp_path / "model")
    if family:
        write_json(tmp_path / "model/config.json", {"model_type": family})
    expected = AutoTokenizer.from_pretrained(tmp_path / "model")
    monkeypatch.setattr(loading, "load_fast_tokenizer", None)
    tokenizer = CorpusTokenizer.load(tmp_path / "model")
    backend = tokenization.names_as_text(expected.backend_tokenizer, expected.unk_token)
    assert tokenizer.backend.to_str() == backend.to_str()
    assert tokenizer.tokens == expected.convert_ids_to_tokens(range(len(expected)))
    assert tokenizer.special_ids == sorted(expected.all_special_ids)
    assert (tokenizer.mask_id, tokenizer.unk_id, tokenizer.max_length) == (
        expected.mask_token_id,
        expected.unk_token_id,
        expected.model_max_length,
    )


@pytest.mark.parametrize("kind", worlds.KINDS)
def test_a_folder_that_transformers_4_wrote_is_read_as_well(folders, tmp_path, kind):
    shutil.copytree(folders[kind], tmp_path / "model")
    config = read_json(tmp_path / "model/tokenizer_config.json")
    mask = {"__type": "AddedToken", "content": config["mask_token"], "special": True}
    old = config | {"mask_token": mask | dict.fromkeys(("lstrip", "rstrip", "normalized"), False)}
    del old["backend"]
    write_json(tmp_path / "model/tokenizer_config.json", old)
    fast, slow = CorpusTokenizer.load(folders[kind]), CorpusTokenizer.load(tmp_path / "model")
    assert slow.backend.to_str() == fast.backend.to_str()
    assert (slow.tokens, slow.special_ids, slow.around) == (
        fast.tokens,
        fast.special_ids,
        fast.around,
    )
    assert (slow.mask_id, slow.unk_id, slow.max_length) == (
        fast.mask_id,
        fast.unk_id,
        fast.max_length,
    )


def test_the_stages_start_without_slow_imports(folders):
    lines = [
        "import sys",
        "from eliquare.corpus import counts, masking, sequences, tokenization, wikipedia",
        "tokenization.CorpusTokenizer.load(sys.argv[1])",
        "slow = {'torch', 'transformers', 'datasets', 'pandas', 'scipy'} & sys.modules.keys()",
        "sys.exit(', '.join(slow) or None)",
    ]
    assert not subprocess.call([sys.executable, "-c", "\n".join(lines), folders["unigram"]])


@pytest.mark.parametrize("kind", worlds.KINDS)
def test_special_tokens_in_text_are_text(folders, kind):
    tokenizer = CorpusTokenizer.load(folders[kind])
    names = {tokenizer.tokens[index] for index in tokenizer.special_ids}
    specials = set(tokenizer.special_ids) - {tokenizer.unk_id}
    for name in names:
        ids, _, _ = encode(tokenizer.words, [[f"a {name} tag and{name} here"], [name]])
        assert not specials.intersection(ids)
    assert (
        tokenizer.backend.encode("a here").ids
        == Tokenizer.from_file(str(folders[kind] / "tokenizer.json")).encode("a here").ids
    )


def test_special_tokens_stand_around_a_text(folders):
    tokenizer = CorpusTokenizer.load(folders["unigram"])
    begin, end = (tokenizer.tokens.index(name) for name in ("<s>", "</s>"))
    assert tokenizer.around == SpecialTokens((begin,), (end,))
    assert tokenizer.around.size == 2


def test_a_folder_without_tokenizer_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        CorpusTokenizer.load(tmp_path)
    shutil.copytree(folders["unigram"], tmp_path / "damaged")
    (tmp_path / "damaged/tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="damaged: no tokenizer that can be used"):
        CorpusTokenizer.load(tmp_path / "damaged")
