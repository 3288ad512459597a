"""Mixtures of old rows that new tokens start from."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import worlds
from eliquare.extension import embeddings
from eliquare.io import InputError


def test_weights_of_the_mean_and_by_rarity():
    even = embeddings.average_weights([[0, 2], [1]], np.ones(3))
    assert even.toarray().tolist() == [[0.5, 0, 0.5], [0, 1, 0]]
    rarity = embeddings.rarity_weights(np.array([999.0, 1.0, 0.0]))
    weights = embeddings.average_weights([[0, 1]], rarity).toarray()[0]
    frequent, rare = 0.001 / (0.001 + 0.999), 0.001 / (0.001 + 0.001)
    assert weights == pytest.approx([frequent / (frequent + rare), rare / (frequent + rare), 0])


def test_sparsemax_is_the_projection_on_the_simplex():
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(20, 30))
    weights = embeddings.sparsemax(scores)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (np.count_nonzero(weights, axis=1) < 30).all()
    for row, result in zip(scores, weights, strict=True):
        for _ in range(50):
            other = generator.dirichlet(np.ones(30))
            assert np.sum((result - row) ** 2) <= np.sum((other - row) ** 2) + 1e-12
    assert embeddings.sparsemax(np.array([[0.0, 5.0]])).tolist() == [[0.0, 1.0]]


def test_similar_tokens_are_weighed_by_their_cosines():
    vectors = {"x": np.array([1.0, 0]), "y": np.array([0, 1.0]), "new": np.array([3.0, 0])}
    mean = embeddings.average_weights([[0, 1], [1]], np.ones(2))
    old = {"x": 0, "y": 1}
    weights, without = embeddings.similarity_weights(["new", "bare"], old, vectors, mean)
    # Cosines 1 and 0: sparsemax gives all to the first; without a vector the mean is taken.
    assert weights.toarray().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert without == 1
    with pytest.raises(InputError, match="auxiliary vector"):
        embeddings.similarity_weights(["new"], {"z": 0}, vectors, mean)


def test_vectors_are_learnt_alike_each_time_and_tokens_of_like_neighbours_are_near():
    texts = worlds.texts("qaa", 20)
    words = sorted({word for text in texts for word in text.split()})
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, words[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # One word under two names, which then have the same neighbours.
    common = max(words, key=lambda word: sum(text.split().count(word) for text in texts))
    twin = "twin"
    backend.add_tokens([twin])
    doubled = [
        " ".join(twin if w == common and n % 2 else w for n, w in enumerate(text.split()))
        for text in texts
    ]
    vectors, again = (
        embeddings.learn_vectors(backend, [*words, twin], doubled, 20) for _ in range(2)
    )
    assert all((vectors[word] == again[word]).all() for word in vectors)
    space = embeddings.unit_rows(np.stack(list(vectors.values())))
    nearest = np.argsort(-space @ space[list(vectors).index(common)])
    assert twin in [list(vectors)[n] for n in nearest[:10]]


@pytest.mark.parametrize(
    ("content", "line"), [("a 1 2\nb 1 x\n", 2), ("a 1 2\nb 1\n", 2), ("2 2\na 1 inf\n", 2)]
)
def test_bad_vectors_are_named_by_their_line(tmp_path, content, line):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=f"vectors.txt, line {line}: expected"):
        embeddings.read_vectors(path)


def test_vectors_are_read_without_the_first_line_and_those_of_zeros(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\na 1 2 \nb 0 0\nc -1 0.5\n")
    vectors = embeddings.read_vectors(path)
    assert {token: vector.tolist() for token, vector in vectors.items()} == {
        "a": [1, 2],
        "c": [-1, 0.5],
    }
