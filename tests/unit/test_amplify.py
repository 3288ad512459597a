"""New sub-words: what they must not change, what they begin as, in each kind of tokenizer."""

import json
from collections import Counter
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoModelForMaskedLM, AutoTokenizer
from vocabulary_helpers import (
    DATA,
    TOPICS,
    byte_bpe,
    make_teacher,
    needs_data,
    real_sentences,
    sentencepiece_bpe,
    swahili_news,
    unigram,
    wordpiece,
    write_documents,
)

from eliquare.stage import InputError
from eliquare.vocabulary import amplify, auxiliary, embeddings, extend, new_subwords, words
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.merging import Merging

FAMILIES = ["bert-untied", "bert-padded", "xlmr", "roberta", "mmbert", "deberta-padded"]
KINDS = ["wordpiece", "unigram", "bytes", "spaces"]


class Amplified:
    """A tokenizer of one kind with new sub-words from real text in seven languages."""

    def __init__(self, kind: str):
        backend = {
            "wordpiece": lambda: wordpiece(False).backend_tokenizer,
            "unigram": lambda: unigram(False).backend_tokenizer,
            "bytes": lambda: byte_bpe(True).backend_tokenizer,
            "spaces": lambda: sentencepiece_bpe().backend_tokenizer,
        }[kind]()
        self.description = json.loads(backend.to_str())
        self.old = surgery.backend_of(self.description)
        self.texts = [line for language in TOPICS for line in real_sentences(language)[:200]]
        self.words = words.words_of(self.old, self.texts)
        self.learnt = new_subwords.learn(self.description, self.words, 500, 0.5, 5)
        self.pieces_as_learnt = self.learnt.curve[-1][1]
        new_subwords.guard(self.description, self.words, self.learnt, 5, 500)
        self.result = extend.extend(
            self.description,
            [*self.learnt.characters, *self.learnt.pieces],
            self.learnt.merges,
        )
        self.new = surgery.backend_of(self.result)
        self.known = set(surgery.list_subwords(self.description))
        unseen = [line for language in TOPICS for line in real_sentences(language)[500:]]
        self.unseen = words.words_of(self.old, [*unseen, *swahili_news(200)])


@pytest.fixture(scope="module", params=KINDS)
def amplified(request):
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}")
    return Amplified(request.param)


def test_words_that_need_no_new_piece_keep_their_cut(amplified):
    changed = 0
    for corpus in (amplified.words, amplified.unseen):
        for word, before in corpus.cuts.items():
            after = words.cut_word(amplified.new, word)
            if amplified.known.issuperset(after):
                assert after == before
            changed += after != before
    assert changed > 300


def test_whole_texts_are_cut_as_their_words(amplified):
    for text in amplified.texts[::40]:
        old = amplified.old.encode(text, add_special_tokens=False).tokens
        new = amplified.new.encode(text, add_special_tokens=False).tokens
        assert amplified.old.decode(
            amplified.old.encode(text, add_special_tokens=False).ids
        ) == amplified.new.decode(amplified.new.encode(text, add_special_tokens=False).ids)
        assert len(new) <= len(old)


def test_unigram_and_bpe_only_join_old_pieces_and_no_word_gets_longer(amplified):
    if amplified.description["model"]["type"] == "WordPiece":
        pytest.skip("WordPiece takes the longest piece, which may end elsewhere")
    vocabulary = amplified.description["model"]["vocab"]
    # A BPE has no scores: there every end must be an old one.
    scores = dict(vocabulary) if isinstance(vocabulary, list) else {}

    def old_pieces(piece):
        return extend.old_pieces(amplified.old, amplified.description, piece)

    def score_of(pieces):
        return sum(scores[piece] for piece in pieces)

    for word, before in [*amplified.words.cuts.items(), *amplified.unseen.cuts.items()]:
        if "<unk>" in before:
            continue
        ends = {*accumulate(map(len, before))}
        after = words.cut_word(amplified.new, word)
        assert len(after) <= len(before), word
        if not ends.issuperset(accumulate(map(len, after))):
            # Of several best paths with one score, as through a row of equal signs, any may be it.
            joined = [p for new in after for p in old_pieces(new)]
            assert score_of(joined) == pytest.approx(score_of(before), abs=1e-9), word


def test_no_new_unknown_words(amplified):
    unknown = {"[UNK]", "<unk>"}
    for word, before in amplified.unseen.cuts.items():
        if not unknown & set(before):
            assert not unknown & set(words.cut_word(amplified.new, word)), word


def test_as_many_as_asked_for_and_a_shorter_text(amplified):
    kind = amplified.description["model"]["type"]
    lost = 500 - len(amplified.learnt.pieces)
    assert lost == 0
    heights = [pieces for _, pieces in amplified.learnt.curve]
    assert heights == sorted(heights, reverse=True) and heights[-1] < 0.97 * heights[0]
    found = new_subwords.effect(amplified.words, amplified.new)
    assert found["sub_words_per_word_after"] < found["sub_words_per_word_before"]
    assert found["words_made_longer"] < 0.002
    if kind == "BPE":
        # The merges do to the text exactly what the learner said.
        pieces = sum(
            count * len(words.cut_word(amplified.new, word))
            for word, count in amplified.words.counts.items()
        )
        assert pieces == amplified.pieces_as_learnt


def test_every_new_piece_is_used_and_pays(amplified):
    if amplified.description["model"]["type"] == "BPE":
        pytest.skip("a merge may be there for longer ones")
    uses = Counter()
    for word, count in amplified.words.counts.items():
        for piece in words.cut_word(amplified.new, word):
            uses[piece] += count
    assert min(uses[piece] for piece in amplified.learnt.pieces) >= 5


def test_an_old_piece_is_not_added_again(amplified):
    piece = next(iter(surgery.model_vocabulary(amplified.description)))
    with pytest.raises(InputError, match="already"):
        extend.extend(amplified.description, [piece])


def test_a_new_piece_without_the_characters_would_make_a_word_unknown():
    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, "##cd": 3, "d": 4}
    old = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    description = json.loads(old.to_str())
    assert words.cut_word(old, "abcd") == ("a", "##b", "##cd")
    bad = surgery.backend_of(extend.extend(description, ["abc"]))
    assert words.cut_word(bad, "abcd") == ("[UNK]",)
    characters = extend.missing_characters(description)
    assert characters == ["##c", "##d"]
    good = surgery.backend_of(extend.extend(description, [*characters, "abc"]))
    assert words.cut_word(good, "abcd") == ("abc", "##d")


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=8), st.integers(1, 9)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_joining_counts_what_it_saves(counted):
    """Pieces, uses and pairs stay what a count from nothing gives, and the best pair is taken."""
    start = [(tuple(word), count) for word, count in counted]
    learning = Merging(start, str.__add__, set("abc"), least=2)
    while True:
        pairs = Counter()
        for word, count in zip(learning.words, learning.counts, strict=True):
            for pair in pairwise(word):
                pairs[pair] += count
        before = learning.pieces
        step = learning.step()
        best = max(pairs.values(), default=0)
        if step is None:
            assert best < 2
            break
        assert pairs[step.left, step.right] == best
        assert learning.pieces == before - step.saved
        for word, (pieces, _) in zip(
            learning.words, [item for item in start if len(item[0]) > 1], strict=True
        ):
            assert "".join(word) == "".join(pieces)


def test_words_are_counted_in_bounded_memory():
    texts = (" ".join(["often", "well", f"once{n}", f"rare{n}"]) for n in range(5000))
    counts, total = words.count_written(texts, most=1000)
    assert total == 20_000
    assert counts["often"] == counts["well"] == 5000
    assert 500 < sum(map(len, counts)) <= 2100


def test_phrases_of_a_language_without_spaces_are_counted_in_bounded_memory():
    """None of them occurs twice, so that none is more frequent than another."""
    phrases = [
        f"{n:05}".translate({48 + d: c for d, c in enumerate("一二三四五六七八九十")}) * 20
        for n in range(2000)
    ]
    counts, total = words.count_written(iter(phrases), most=10_000)
    assert total == 2000
    assert 10_000 <= sum(map(len, counts)) <= 20_100


def test_weights_of_the_mean_and_of_frequencies():
    assert embeddings.mean_weights([[0, 2], [1]], 3).toarray().tolist() == [
        [0.5, 0, 0.5],
        [0, 1, 0],
    ]
    occurrences = np.array([999.0, 1.0, 0.0])
    weights = embeddings.frequency_weights([[0, 1]], occurrences).toarray()[0]
    frequent, rare = 0.001 / (0.001 + 0.999), 0.001 / (0.001 + 0.001)
    assert weights == pytest.approx([frequent / (frequent + rare), rare / (frequent + rare), 0])


def test_sparsemax_is_the_projection_on_the_simplex():
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(20, 30))
    weights = auxiliary.sparsemax(scores)
    assert weights.min() >= 0 and np.allclose(weights.sum(axis=1), 1)
    assert (np.count_nonzero(weights, axis=1) < 30).all()
    for row, found in zip(scores, weights, strict=True):
        for _ in range(50):
            other = generator.dirichlet(np.ones(30))
            assert np.sum((found - row) ** 2) <= np.sum((other - row) ** 2) + 1e-12
    assert auxiliary.sparsemax(np.array([[0.0, 5.0]])).tolist() == [[0.0, 1.0]]


def test_similar_sub_words_are_weighed_by_their_cosines():
    vectors = {"x": np.array([1.0, 0]), "y": np.array([0, 1.0]), "new": np.array([3.0, 0])}
    mean = embeddings.mean_weights([[0, 1], [1]], 2)
    weights, without = embeddings.similarity_weights(
        ["new", "bare"], {"x": 0, "y": 1}, vectors, mean
    )
    # Cosines 1 and 0: sparsemax gives all to the first; without a vector the mean is taken.
    assert weights.toarray().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert without == 1
    with pytest.raises(InputError, match="auxiliary vector"):
        embeddings.similarity_weights(["new"], {"z": 0}, vectors, mean)


@needs_data
def test_vectors_of_words_that_stand_alike_are_alike():
    backend = wordpiece(True).backend_tokenizer
    names = surgery.list_subwords(json.loads(backend.to_str()))
    vectors = auxiliary.learn_vectors(backend, names, swahili_news(1500), 30)
    again = auxiliary.learn_vectors(backend, names, swahili_news(1500), 30)
    assert all((vectors[name] == again[name]).all() for name in vectors)
    common = sorted(vectors, key=lambda name: -np.linalg.norm(vectors[name]))[:100]
    space = auxiliary.unit_rows(np.stack([vectors[name] for name in common]))
    cosines = space @ space.T
    assert cosines.max() < 1.0001 and np.median(cosines) < 0.5


def read_options(**values):
    written = []
    for name, value in values.items():
        written += [f"--{name}", str(value)]
    return amplify.parser().parse_args(written)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    if needs_data.mark.args[0] is not False:
        pytest.skip("no real data")
    return write_documents(tmp_path_factory.mktemp("corpus") / "documents", swahili_news(800))


@needs_data
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("initialisation", ["mean", "weighted", "similar"])
def test_a_model_keeps_all_that_it_had(family, initialisation, documents, tmp_path):
    if initialisation != "mean" and family != "bert-padded":
        pytest.skip("one family of each kind is enough")
    teacher = make_teacher(family, tmp_path / "teacher")
    output = tmp_path / "amplified"
    amplify.run(
        read_options(
            model=teacher,
            documents=documents,
            add=120,
            initialisation=initialisation,
            output=output,
        )
    )
    report = json.loads((output / "amplification.json").read_text())
    text, subwords = report["text"], report["sub_words"]
    assert subwords["new"] - subwords["new_for_characters"] == 120
    assert text["sub_words_per_word_after"] < text["sub_words_per_word_before"]
    old_words, new_words = (
        AutoTokenizer.from_pretrained(teacher),
        AutoTokenizer.from_pretrained(output),
    )
    assert len(new_words) == subwords["after"] == len(old_words) + subwords["new"]
    old, new = map(AutoModelForMaskedLM.from_pretrained, (teacher, output))
    assert new.config.vocab_size == len(new_words)
    for name in old_words.get_vocab():
        assert new_words.get_vocab()[name] == old_words.get_vocab()[name]
    unchanged = 0
    for text in [*real_sentences("uk")[:6], *swahili_news(40)[20:]]:
        batch = old_words(text, return_tensors="pt", truncation=True, max_length=100)
        again = new_words(text, return_tensors="pt", truncation=True, max_length=100)
        if batch["input_ids"].tolist() != again["input_ids"].tolist():
            assert int(again["input_ids"].max()) >= len(old_words)
            continue
        unchanged += 1
        with torch.no_grad():
            before = old(**batch, output_hidden_states=True)
            after = new(**again, output_hidden_states=True)
        assert torch.equal(before.hidden_states[-1], after.hidden_states[-1])
        size = len(old_words)
        torch.testing.assert_close(before.logits[..., :size], after.logits[..., :size])
    assert unchanged
    if initialisation == "mean":
        rows = [line.split(",") for line in (output / "new_subwords.csv").read_text().splitlines()]
        identifier, name, _, pieces = next(row for row in rows[-50:] if len(row) == 4)
        ids = [old_words.get_vocab()[piece] for piece in pieces.split(" ")]
        number = int(identifier)
        assert new_words.get_vocab()[name] == number
        for pair in (
            (old.get_input_embeddings().weight, new.get_input_embeddings().weight),
            (old.get_output_embeddings().weight, new.get_output_embeddings().weight),
            (old.get_output_embeddings().bias, new.get_output_embeddings().bias),
        ):
            torch.testing.assert_close(pair[1][number], pair[0][ids].mean(dim=0))


@needs_data
@pytest.mark.parametrize("family", ["bert", "xlmr", "roberta"])
def test_a_replaced_tokenizer_has_as_many_sub_words_and_copies_those_it_shares(
    family, documents, tmp_path
):
    teacher = make_teacher(family, tmp_path / "teacher")
    output = tmp_path / "replaced"
    common = {"model": teacher, "documents": documents, "least": 3}
    amplify.run(read_options(**common, method="replacement", gain=1e-5, output=output))
    old_words, new_words = (
        AutoTokenizer.from_pretrained(teacher),
        AutoTokenizer.from_pretrained(output),
    )
    old, new = (AutoModelForMaskedLM.from_pretrained(folder) for folder in (teacher, output))
    shared = sorted(set(old_words.get_vocab()) & set(new_words.get_vocab()))
    assert len(old_words) // 10 < len(shared) < len(new_words)
    before = old.get_input_embeddings().weight[[old_words.get_vocab()[name] for name in shared]]
    after = new.get_input_embeddings().weight[[new_words.get_vocab()[name] for name in shared]]
    assert torch.equal(before, after)
    text = swahili_news(5)[3]
    assert len(new_words(text)["input_ids"]) <= len(old_words(text)["input_ids"])
    decoded = (
        words.decode(words(text)["input_ids"], skip_special_tokens=True)
        for words in (old_words, new_words)
    )
    assert next(decoded) == next(decoded)


@needs_data
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"add": 0}, "--add: expected 1 or more, found 0"),
        ({"add": 5, "gain": 0.1}, "either --add or --gain"),
        ({"gain": 1.5}, "--gain: expected a share"),
        ({"vectors": "x.txt"}, "--vectors: belongs to"),
        ({"least": 100_000}, "no new sub-word occurs"),
        ({"initialisation": "similar", "vectors": "bad.txt"}, "bad.txt, line 2: expected"),
    ],
)
def test_bad_input_is_told_in_one_line(values, message, documents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txt").write_text("a 1 2\nb 1 x\n")
    teacher = make_teacher("bert", tmp_path / "teacher")
    with pytest.raises(InputError, match=message) as caught:
        amplify.run(
            read_options(model=teacher, documents=documents, output=tmp_path / "out", **values)
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
