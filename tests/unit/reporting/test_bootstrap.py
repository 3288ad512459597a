"""The paired bootstrap: the metrics of resamples, intervals, what cannot be compared."""

import json
import random
from itertools import islice

import numpy as np
import pytest
import scipy.stats
from scipy.stats import spearmanr

import results_tree
from eliquare.evaluation.trainer import score
from eliquare.reporting import bootstrap, results

METRICS = {"ner": "entity_f1", "upos": "accuracy", "classification": "macro_f1", "pair": "accuracy"}


def made_up(kind, seed=0, items=23):
    """Return gold and predicted answers, of which two in three are right."""
    draw = random.Random(seed)
    labels = {"ner": ["O", "B-PER", "I-PER", "I-LOC", "B-LOC"]}.get(kind, ["a", "b", "c", "d"])

    def answer():
        words = [draw.choice(labels) for _ in range(draw.randint(1, 6))]
        return words if kind in ("ner", "upos") else words[0]

    gold = [answer() for _ in range(items)]
    wrong = [[draw.choice(labels) for _ in each] for each in gold]
    if kind not in ("ner", "upos"):
        wrong = [draw.choice(labels) for _ in gold]
    return gold, [g if draw.random() < 2 / 3 else w for g, w in zip(gold, wrong, strict=True)]


@pytest.mark.parametrize("kind", METRICS)
def test_the_score_of_a_resample_is_that_of_its_items(kind):
    gold, predicted = made_up(kind)
    answers = bootstrap.answers(kind, gold, predicted)
    counts = next(bootstrap.resamples(len(gold)))[:15]
    drawn = [np.repeat(np.arange(len(gold)), each.astype(int)) for each in counts]
    expected = [
        score(kind, [gold[n] for n in items], [predicted[n] for n in items])[METRICS[kind]]
        for items in drawn
    ]
    assert bootstrap.mean_score([answers], counts) == pytest.approx(expected)
    assert {len(items) for items in drawn} == {len(gold)}


def test_resamples_are_the_same_again_in_blocks_of_any_size(monkeypatch):
    once = np.concatenate(list(bootstrap.resamples(11)))
    assert once.shape == (bootstrap.RESAMPLES, 11)
    monkeypatch.setattr(bootstrap, "AT_ONCE", 11 * 300)
    blocks = list(bootstrap.resamples(11))
    assert len(blocks) == 7
    assert (np.concatenate(blocks) == once).all()


def test_the_interval_is_that_of_the_paired_difference():
    """0.95 of normal differences lie within 1.96 standard errors of their mean."""
    draw = random.Random(1)
    gold = [1] * 4000
    teacher = [int(draw.random() < 0.8) for _ in gold]
    # The student is wrong where its teacher is, and in one of twenty other items.
    student = [int(each and draw.random() < 0.95) for each in teacher]
    runs = {
        name: [bootstrap.answers("pair", gold, given)]
        for name, given in (("teacher", teacher), ("student", student))
    }
    (found,) = bootstrap.compared([("student", "teacher")], runs)
    differences = np.array(student) - np.array(teacher)
    error = differences.std() / len(gold) ** 0.5
    assert found["difference"] == pytest.approx(differences.mean())
    assert found["low"] == pytest.approx(differences.mean() - 1.96 * error, abs=0.1 * error)
    assert found["high"] == pytest.approx(differences.mean() + 1.96 * error, abs=0.1 * error)
    assert found["remark"] == ""


def test_a_rank_correlation_is_that_of_scipy_and_so_is_its_interval():
    draw = np.random.default_rng(1)
    gold = draw.normal(size=300).round(1)
    given = gold + draw.normal(size=300)
    report = {"embeddings": {"pairs": {"alike": {"scores": gold, "cosines": given}}}}
    (run,) = bootstrap.reported(report, "alike")
    assert run.score(run.counts.sum(0)) == pytest.approx(spearmanr(gold, given).statistic)
    resampled = np.concatenate([run.score(each @ run.counts) for each in bootstrap.resamples(300)])
    found = np.percentile(resampled, bootstrap.PERCENTILES)
    expected = scipy.stats.bootstrap(
        (gold, given),
        lambda x, y: spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert found == pytest.approx([expected.low, expected.high], abs=0.03)
    assert run.score(run.counts[:1].sum(0)) == 0


def test_a_task_may_have_any_name(tmp_path):
    search = {"language": "sl", "kind": "retrieval", "test": "s.tsv", "text_pair_column": "b"}
    changes = {
        "tasks": {"retrieval": search},
        "experiment": {"tasks": [*results_tree.TASKS, "retrieval"]},
    }
    found = records(tmp_path, results_tree.make(tmp_path, changes))
    assert {("pre", "retrieval", "frozen"), ("pre", bootstrap.TITLES, "frozen")} <= found.keys()


@pytest.fixture
def tree(tmp_path):
    settings = results_tree.make(tmp_path, {"students": {"pre": {"seeds": [1, 2]}}})
    return tmp_path, settings


def records(root, settings):
    options = results.ExperimentOptions(settings=settings, results=root)
    table = bootstrap.table(results.read(options))
    return {(row["student"], row["task"], row.get("embeddings")): row for row in table.records}


def test_every_student_is_compared_on_every_task(tree):
    root, _ = tree
    found = records(*tree)
    row = found["pre", "sw-news", None]
    assert (row["teacher"], row["items"], row["metric"]) == (
        "mbert",
        results_tree.EXAMPLES,
        "macro_f1",
    )
    scores = []
    for member in ("pre", "pre@2"):
        for seed in (0, 1, 2):
            path = root / f"finetuned/sw-news/{member}/seed-{seed}/predictions.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            answers = ([each[key] for each in rows] for key in ("gold", "predicted"))
            scores.append(score("classification", *answers)["macro_f1"])
    assert row["student_score"] == pytest.approx(np.mean(scores))
    assert found["scratch", "sl-ner", None]["high"] < 0
    assert found["full", "sl-upos", None]["low"] <= 0
    frozen = found["pre", "sw-news", "frozen"]
    # Two of 200 texts are right in one half of the draws, all in the other.
    assert frozen["student_score"] == pytest.approx(0.505)
    assert (frozen["difference"], frozen["low"], frozen["high"]) == (0, 0, 0)
    assert frozen["remark"] == "includes 0"
    assert found["pre", "held-out titles", "frozen"]["metric"] == "top_1"
    text = found["pre", "held-out text", None]
    bits = (results_tree.BITS["pre"] + results_tree.BITS["pre"] + 0.1) / 2
    more = bits - results_tree.BITS["mbert"]
    assert text["student_score"] == pytest.approx(bits)
    # Of two texts, a resample may be either one alone.
    assert (text["low"], text["high"]) == pytest.approx((0.88 * more, 1.2 * more))
    assert (text["metric"], text["items"]) == ("bits_per_character", 2)


def test_what_cannot_be_compared_says_why(tree):
    root, _ = tree
    (root / "finetuned/sl-ner/full/seed-1/predictions.jsonl").unlink()
    path = root / "finetuned/sl-upos/full/seed-1/predictions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    found = records(*tree)
    assert found["full", "sl-ner", None]["remark"] == "predictions are not saved"
    assert found["full", "sl-upos", None]["remark"] == "not the same test items"
    assert found["pre", "sl-upos", None]["items"] == results_tree.EXAMPLES


def test_resamples_without_a_label_leave_it_out():
    answers = bootstrap.answers("classification", ["a", "b", "c"], ["a", "b", "b"])
    first, no_c = np.array([[2, 1, 0], [1, 1, 1]], float) @ answers.counts
    assert answers.score(first) == 1
    assert answers.score(no_c) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_sampled_blocks_keep_their_memory_bounded():
    block = next(islice(bootstrap.resamples(100_000), 1))
    assert block.size <= bootstrap.AT_ONCE
