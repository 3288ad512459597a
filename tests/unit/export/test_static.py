"""Static embeddings: model2vec's method, and what loads them."""

import numpy as np
import pytest
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import families
from eliquare.export import static
from eliquare.io import InputError, read_json
from eliquare.vocabulary import select


@pytest.fixture(scope="module")
def made(models, text, tmp_path_factory):
    """The static embeddings of a model, in a folder, and the counts they are weighted with."""
    folder = tmp_path_factory.mktemp("static")
    counts = select.count_text(text, models["fill-mask"]).counts
    (folder / "counts").mkdir()
    counts.save(folder / "counts")
    options = {"model": models["fill-mask"], "counts": folder / "counts", "dimensions": 8}
    static.export(static.StaticOptions(**options, output=folder / "static"))
    return folder / "static", counts


def by_hand(models, counts, words, sif=1e-4):
    """Return the embedding of tokens, from the model's own states."""
    vectors = static.token_vectors(models["fill-mask"], len(counts.tokens))
    reduced, _ = static.principal_components(vectors, 8)
    weights = sif / (sif + counts.occurrences / counts.occurrences.sum())
    vector = (reduced * weights[:, None])[words].mean(0)
    return vector / np.linalg.norm(vector)


def test_both_libraries_give_the_weighted_mean_of_token_vectors(made, models):
    folder, counts = made
    texts = families.sentences("qaa")[:4]
    found = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(StaticModel.from_pretrained(folder).encode(texts), found, atol=1e-5)
    np.testing.assert_allclose(static.StaticEncoder(folder).embed(texts), found, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(models["fill-mask"])
    for sentence, vector in zip(texts, found, strict=True):
        ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
        np.testing.assert_allclose(vector, by_hand(models, counts, ids), atol=1e-5)
    report = read_json(folder / "report.json")
    assert report["width"] == 8
    assert 0 < report["explained_variance"] < 1


def test_components_are_those_of_the_covariance_and_at_most_all():
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    found, explained = static.principal_components(vectors, 99)
    assert found.shape == (50, 6)
    assert explained == pytest.approx(1)
    covariance = np.cov(found.T)
    np.testing.assert_allclose(covariance, np.diag(covariance.diagonal()), atol=1e-5)
    assert (np.diff(covariance.diagonal()) <= 0).all()
    distances = np.linalg.norm(vectors[:1] - vectors, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found[:1] - found, axis=1), distances, atol=1e-5)


def test_frequent_tokens_weigh_little_and_rare_ones_all():
    assert static.sif(np.array([0, 1e-4, 0.01]), 1e-4) == pytest.approx([1, 0.5, 1 / 101])


def test_counts_of_another_tokenizer_are_refused(made, text, tmp_path):
    other = families.make_teacher("xlmr", tmp_path / "xlmr")
    counts = made[0].parent / "counts"
    with pytest.raises(InputError, match=r"counts: does not count '.*such\); give the counts of"):
        static.export(static.StaticOptions(model=other, counts=counts, output=tmp_path / "out"))
