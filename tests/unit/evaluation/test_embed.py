"""Frozen embeddings: made in batches as one by one, scored on topics and retrieval."""

import csv
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss

import trainings
from eliquare.evaluation import data, embed, intrinsic
from eliquare.evaluation.embed import probe, retrieval, similarity, topics
from eliquare.evaluation.readers import Example
from eliquare.io import InputError, read_json, write_json
from eliquare.models.loading import load_model, load_tokenizer
from eliquare.models.sentence import Sentence, write_sentence

PROMPTS = {"query": "ba: ", "passage": "ko: "}


@pytest.fixture(scope="module")
def encoder(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    whole = trainings.write_model(world.tokenizer, folder / "whole")
    load_model(whole).base_model.save_pretrained(folder / "encoder")
    load_tokenizer(whole).save_pretrained(folder / "encoder")
    write_sentence(folder / "encoder", Sentence("mean", True, PROMPTS), 32)
    return folder / "encoder"


def loaded_from(folder):
    return embed.Encoder(folder, load_model(folder))


def texts_of(labels):
    """Return texts whose label is their word."""
    return [
        Example((" ".join([word] * (1 + number % 5)),), (word,), "made", (number,))
        for number, word in enumerate(labels)
    ]


def splits_of(*sizes):
    words = ("ba", "ko", "lu")
    parts = [texts_of([words[n % 3] for n in range(size)]) for size in sizes]
    return data.Splits(*parts, list(words))


def test_in_batches_as_one_by_one(encoder):
    loaded = loaded_from(encoder)
    texts = ["ba ko lu", "ko", "lu ba " * 30, "ti"]
    together = loaded.embed(texts, "ko: ")
    alone = np.concatenate([loaded.embed([text], "ko: ") for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx([1] * 4, abs=1e-5)
    assert not np.allclose(together, loaded.embed(texts), atol=1e-2)


class WordsByHand:
    """Embeddings of words from a table."""

    sentence = Sentence("mean")
    table = {"ba": (0, 1), "bo": (0, 2), "ko": (1, 0), "ku": (2, 0)}  # noqa: RUF012

    def embed(self, texts, prompt=""):
        return np.array([self.table[text] for text in texts], dtype=np.float32)


def test_tags_of_words_are_told_without_context():
    def sentences(*pairs):
        return [Example(*zip(*pair, strict=True), "made", (1,)) for pair in pairs]

    name, other = ("ba", "B-PER"), ("ko", "O")
    train = sentences([name, other, other], [("ko", "B-PER"), other])
    # The frequent tag of a word decides; words that are new have that of their neighbours.
    rest = sentences([name, other], [("bo", "B-PER"), ("ku", "O")])
    splits = data.Splits(train, rest, rest, ["O", "B-PER"])
    found = probe(WordsByHand(), "ner", splits)
    assert found["test"]["entity_f1"] == 1
    assert probe(WordsByHand(), "upos", splits)["validation"]["accuracy"] == 1


def test_topics_that_are_words_are_told(encoder, monkeypatch):
    loaded, asked = loaded_from(encoder), []
    monkeypatch.setattr(loaded, "embed", lambda *texts: asked.append(texts[0]) or embed_all(*texts))
    embed_all = embed.Encoder.embed.__get__(loaded)
    splits = splits_of(600, 30, 30)
    found = topics(loaded, splits)
    assert found["test"] == found["validation"] == {"accuracy": 1.0, "macro_f1": 1.0}
    # Of train, texts that were drawn alone are embedded.
    drawn = {*chain(*embed.draws([each.labels[0] for each in splits.train]))}
    assert 24 < len(drawn) < 240
    assert found["texts"] == [*map(len, asked)] == [len(drawn), 30, 30]
    assert [len(predicted) for predicted in found["predicted"]] == [30] * embed.DRAWS


def test_labels_that_mean_nothing_are_not_told(encoder):
    splits = splits_of(60, 30, 30)
    generator = np.random.default_rng(1)
    shuffled = [
        [
            each._replace(labels=(str(label),))
            for each, label in zip(
                part, generator.permutation([each.labels[0] for each in part]), strict=True
            )
        ]
        for part in splits[:3]
    ]
    found = topics(loaded_from(encoder), data.Splits(*shuffled, splits.labels))
    assert found["test"]["accuracy"] < 0.7


class NumbersByHand:
    """Embeddings that are written as the texts."""

    sentence = Sentence("mean")

    def embed(self, texts, prompt=""):
        return np.array([text.split() for text in texts], dtype=np.float32)


def points(size, generator):
    """Return texts that are points, of three labels that overlap."""
    labels = generator.integers(0, 3, size)
    vectors = generator.normal(size=(size, 12)) + 1.5 * np.eye(3, 12)[labels]
    return [
        Example((" ".join(f"{number:.3f}" for number in vector),), (f"t{label}",), "made", (1,))
        for vector, label in zip(vectors, labels, strict=True)
    ]


def arrays(examples):
    texts, labels = zip(*((each.texts[0], each.labels[0]) for each in examples), strict=True)
    return NumbersByHand().embed(texts), np.array(labels)


def test_topics_are_the_mean_over_draws_of_few_texts():
    generator = np.random.default_rng(2)
    train, validation, test = (points(size, generator) for size in (60, 25, 40))
    # A label with fewer texts than are drawn of the others has them all in each draw.
    rare = [each._replace(labels=("rare",)) for each in train[:3]]
    train = [*rare, *train[3:]]
    # One that train never had is an error.
    validation.append(validation[0]._replace(labels=("never",)))
    found = topics(NumbersByHand(), data.Splits(train, validation, test, []))
    vectors, gold = arrays(train)
    scores = {"validation": [], "test": []}
    drawn = [*embed.draws(gold.tolist())]
    for rows in drawn:
        assert Counter(gold[rows]) == {"rare": 3, "t0": 8, "t1": 8, "t2": 8}
        assert len({*rows}) == len(rows)
        classifier = LogisticRegression().fit(vectors[rows], gold[rows])
        for split, part in (("validation", validation), ("test", test)):
            asked, right = arrays(part)
            given = classifier.predict(asked)
            macro_f1 = f1_score(right, given, average="macro", zero_division=0)
            scores[split].append((accuracy_score(right, given), macro_f1))
    assert len({tuple(sorted(rows)) for rows in drawn}) == embed.DRAWS
    for split, of_draws in scores.items():
        assert [*found[split].values()] == pytest.approx(np.mean(of_draws, 0))
        assert 0.3 < np.mean(of_draws) < 0.95
    assert found["labels"] == [each.labels[0] for each in test]


def test_the_draws_are_those_of_mteb(monkeypatch):
    # What AbsTaskClassification of mteb 2.26.24 draws with samples_per_label = 2.
    monkeypatch.setattr(embed, "TEXTS_PER_LABEL", 2)
    drawn = [sorted(rows) for rows in embed.draws(list("abcabacabcab"))]
    assert drawn[:3] == [[0, 1, 2, 8, 9, 10], [2, 3, 4, 7, 9, 11], [2, 3, 5, 6, 8, 11]]


def test_a_probe_has_the_regularization_of_the_likeliest_validation_labels():
    generator = np.random.default_rng(2)
    train, validation, test = (points(size, generator) for size in (60, 25, 40))
    vectors, labels = arrays(validation)
    fitted = {
        strength: embed.logistic_regression(strength).fit(*arrays(train))
        for strength in embed.INVERSE_STRENGTHS
    }
    losses = {
        strength: log_loss(labels, each.predict_proba(vectors)) for strength, each in fitted.items()
    }
    scores = {
        strength: f1_score(labels, each.predict(vectors), average="macro")
        for strength, each in fitted.items()
    }
    likeliest = min(losses, key=losses.get)
    assert likeliest != max(scores, key=scores.get)

    # A label that training never had is left out of the choice, and is an error.
    unseen = validation[0]._replace(labels=("never",))
    splits = data.Splits(train, [*validation, unseen], test, ["t0", "t1", "t2"])
    found = probe(NumbersByHand(), "classification", splits)
    assert found["inverse_strength"] == likeliest
    right = accuracy_score(labels, fitted[likeliest].predict(vectors))
    assert found["validation"]["accuracy"] == pytest.approx(right * 25 / 26)
    nothing = data.Splits(train, [unseen], test, ["t0", "t1", "t2"])
    found = probe(NumbersByHand(), "classification", nothing)
    assert found["inverse_strength"] == embed.INVERSE_STRENGTHS[0]


def test_a_query_finds_its_own_text(encoder, monkeypatch):
    loaded = loaded_from(encoder)
    pairs = [(text, text) for text in ("ba ko", "lu", "ti ti ba", "ko lu ko lu")]
    monkeypatch.setattr(loaded, "sentence", loaded.sentence._replace(prompts={}))
    found = retrieval(loaded, pairs)
    whole = {"pairs": 4, "documents": 4, "top_1": 1.0, "mean_reciprocal_rank": 1.0}
    assert found == whole | {"ranks": [1, 1, 1, 1]}


def test_embeddings_that_are_all_the_same_find_nothing(encoder, monkeypatch):
    loaded = loaded_from(encoder)
    monkeypatch.setattr(loaded, "embed", lambda texts, prompt="": np.ones((len(texts), 4)))
    found = retrieval(loaded, [("a", "b"), ("c", "d")])
    assert found["top_1"] == 0
    assert found["mean_reciprocal_rank"] == 0.5


def test_of_a_query_with_several_documents_the_nearest_counts():
    class Words(WordsByHand):
        table = WordsByHand.table | {"lu": (1, 1)}

    found = retrieval(Words(), [("ba", "bo"), ("ba", "ko"), ("ku", "lu"), ("ku", "bo")])
    assert (found["pairs"], found["documents"]) == (2, 3)
    # Beside "ku" stands "ko", which is another query's, then "lu".
    assert found["ranks"] == [1, 2]


def test_pairs_are_ranked_as_people_rank_them():
    def examples(*pairs):
        return [Example(texts, (number,), "made", (1,)) for *texts, number in pairs]

    given = [("ba", "bo", "5"), ("ba", "ko", "1"), ("ku", "ko", "5"), ("ba", "lu", "3")]

    class Words(WordsByHand):
        table = WordsByHand.table | {"lu": (1, 1)}

    found = similarity(Words(), examples(*given))
    assert found["spearman"] == pytest.approx(1)
    assert found["cosines"] == pytest.approx([1, 0, 1, 0.5**0.5], abs=1e-6)
    turned = similarity(Words(), examples(*((a, b, f"-{n}") for a, b, n in given)))
    assert turned["spearman"] == pytest.approx(-1)
    assert similarity(Words(), examples(*given[::2]))["spearman"] == 0


def test_the_stage_writes_both(encoder, tmp_path):
    files = {}
    for split, size in (("train", 30), ("validation", 12), ("test", 12)):
        files[split] = str(tmp_path / f"{split}.tsv")
        with open(files[split], "w") as file:
            rows = csv.writer(file, delimiter="\t")
            rows.writerow(["text", "label"])
            rows.writerows([each.texts[0], each.labels[0]] for each in splits_of(size, 3, 3).train)
    (tmp_path / "text.txt").write_text("ba ko lu\n")
    (tmp_path / "pairs.tsv").write_text("query\ttext\nba ko\tba ko lu\nti\tti ti lu\n")
    task = {"name": "words", "kind": "classification", "language": "qaa", **files}
    paths = {"text": tmp_path / "text.txt", "retrieval": tmp_path / "pairs.tsv"}
    options = {"model": encoder, "system": "s", "language": "qaa", "output": tmp_path / "o.json"}
    pairs = {"language": "qaa", "text_column": "query", "text_pair_column": "text"}
    pairs |= {"test": str(tmp_path / "pairs.tsv")}
    (tmp_path / "alike.tsv").write_text("text\tlabel\n" + '"ba\nba"\t5\n"ba\nti lu"\t1\n')
    alike = {"name": "alike", "kind": "similarity", "language": "qaa"}
    alike |= {"test": str(tmp_path / "alike.tsv")}
    (tmp_path / "gone").mkdir()
    write_json(tmp_path / "gone/unavailable.json", {"reason": "moved away"})
    tasks = [
        task,
        {"name": "search", "kind": "retrieval"} | pairs,
        alike,
        alike | {"name": "gone", "test": str(tmp_path / "gone/test.tsv")},
    ]
    intrinsic.evaluate(intrinsic.IntrinsicOptions(tasks=tasks, **paths, **options))
    report = read_json(tmp_path / "o.json")
    found = report["embeddings"]["pairs"]
    assert found["search"] == report["embeddings"]["retrieval"]
    assert found["alike"]["pairs"] == 2
    assert found["alike"]["spearman"] == pytest.approx(1)
    assert found["gone"] == {"unavailable": "moved away"}
    assert report["minimal_pairs"] == {}
    assert report["bits_per_character"] is None
    assert report["embeddings"]["said_by_model"] is True
    assert report["embeddings"]["topics"]["words"]["test"]["accuracy"] == 1
    assert (
        report["embeddings"]["topics"]["words"]["predicted"]
        == [["ba", "ko", "lu"] * 4] * embed.DRAWS
    )
    assert report["embeddings"]["retrieval"]["pairs"] == 2


def test_another_model_gives_the_mean_of_its_states(world):
    loaded = loaded_from(world.teacher)
    assert not loaded.said_by_model
    batch = load_tokenizer(world.teacher)("ba ko", return_tensors="pt")
    with torch.no_grad():
        states = load_model(world.teacher).base_model(**batch).last_hidden_state
    np.testing.assert_allclose(loaded.embed(["ba ko"]), states.mean(1), atol=1e-5)


def test_one_pair_is_no_choice(tmp_path):
    (tmp_path / "pairs.tsv").write_text("query\ttext\na\tb\n")
    with pytest.raises(InputError, match="1 pair; expected two or more"):
        embed.read_titles(tmp_path / "pairs.tsv")
