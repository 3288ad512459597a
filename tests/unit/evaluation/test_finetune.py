"""Fine-tuning learns, repeats itself, makes only what is missing, and refuses bad input."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

import worlds
from eliquare import cli
from eliquare.evaluation import finetune, readers
from eliquare.io import Failure, InputError, write_json
from real_data import DATA, needs_data

TOPICS = {
    "sea": ["wave", "sail", "ship", "salt", "harbour", "tide", "fish", "boat"],
    "field": ["wheat", "plough", "soil", "seed", "harvest", "barn", "cow", "furrow"],
}
FILES = ["history.jsonl", "metrics.json", "predictions.jsonl", "provenance.json"]
STORED = [*FILES, "runtime.json"]  # a time is never the same again
QUICK = {"num_train_epochs": 1, "learning_rate": 2e-3, "max_length": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return a masked language model of two layers with random weights."""
    folder = tmp_path_factory.mktemp("model")
    texts = [" ".join(words) for words in TOPICS.values()] * 20 + list(worlds.texts())
    worlds.write_tokenizer("wordpiece", folder, texts)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Return pairs of texts that are about the same topic, or not."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    draw = random.Random(0)
    lines = ["premise\thypothesis\tlabel\ttopic"]
    for _ in range(300):
        topics = [draw.choice(sorted(TOPICS)) for _ in range(2)]
        texts = [" ".join(draw.choices(TOPICS[topic], k=6)) for topic in topics]
        lines.append("\t".join([*texts, str(int(topics[0] == topics[1])), topics[0]]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def tagged(tmp_path_factory) -> Path:
    """Return sentences of ten words, of which the capitalised ones are entities."""
    path = tmp_path_factory.mktemp("tagged") / "tagged.txt"
    words = [word for text in worlds.texts() for word in text.split() if word.isalpha()][:600]
    lines = [
        f"{word} {'B-PER' if word[0].isupper() else 'O'}" + ("\n" if number % 10 == 9 else "")
        for number, word in enumerate(words)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def topic_task(pairs: Path, name: str = "topic", **changes) -> dict:
    task = {"name": name, "kind": "classification", "language": "qaa", "train": str(pairs)}
    columns = {"text_column": "premise", "label_column": "topic"}
    return task | columns | {"finetuning": QUICK} | changes


def ner_task(tagged: Path, **changes) -> dict:
    task = {"name": "ner", "kind": "ner", "language": "qaa", "train": str(tagged)}
    return task | {"finetuning": QUICK} | changes


def run(folder: Path, model: Path, *tasks: dict, seeds=(1,)) -> dict:
    """Run the stage and return the scores that it writes."""
    argv = ["--model", str(model), "--system", "tiny", "--language", "qaa", "--threads", "1"]
    argv += ["--tasks", *map(json.dumps, tasks), "--seeds", *map(str, seeds)]
    argv += ["--store", str(folder / "store"), "--output", str(folder / "scores/qaa/tiny.json")]
    finetune.finetune(cli.parse(finetune.finetune, "finetune", argv))
    return json.loads((folder / "scores/qaa/tiny.json").read_text())


def result(folder: Path, task: str, seed: int = 1) -> Path:
    return folder / "store" / task / "tiny" / f"seed-{seed}"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_learns_what_can_be_learned(tmp_path, model, pairs):
    settings = QUICK | {"num_train_epochs": 4}
    report = run(tmp_path, model, topic_task(pairs, finetuning=settings))
    task = report["tasks"]["topic"]
    scores = task["seeds"]["1"]
    assert task["metric"] == "macro_f1"
    assert scores["test"]["macro_f1"] > 0.9
    assert task["sizes"] == {"train": 240, "validation": 30, "test": 30}
    assert (scores["steps"], scores["warmup_steps"]) == (60, 6)
    folder = result(tmp_path, "topic")
    assert sorted(file.name for file in folder.iterdir()) == STORED
    assert json.loads((folder / "runtime.json").read_text())["seconds"] > 0
    rows = lines(folder / "predictions.jsonl")
    assert scores["test"]["accuracy"] == sum(r["gold"] == r["predicted"] for r in rows) / 30
    history = lines(folder / "history.jsonl")
    best = max(history, key=lambda epoch: (epoch["validation_macro_f1"], -epoch["validation_loss"]))
    assert scores["best_epoch"] == best["epoch"]
    assert scores["validation"]["macro_f1"] == best["validation_macro_f1"]


def test_pairs_are_read_by_their_two_columns(tmp_path, model, pairs):
    task = topic_task(pairs, kind="pair", text_pair_column="hypothesis", label_column="label")
    report = run(tmp_path, model, task)["tasks"]["topic"]
    assert report["metric"] == "accuracy"
    assert report["labels"] == ["0", "1"]


def test_tagging_scores_every_word_of_long_sentences(tmp_path, model, tagged):
    report = run(tmp_path, model, ner_task(tagged, finetuning=QUICK | {"max_length": 8}))
    task = report["tasks"]["ner"]
    assert task["metric"] == "entity_f1"
    assert task["long_share"]["test"] > 0.5
    rows = lines(result(tmp_path, "ner") / "predictions.jsonl")
    assert {len(row["gold"]) for row in rows} == {10}
    assert all(len(row["predicted"]) == 10 and all(row["predicted"]) for row in rows)


def test_results_do_not_depend_on_what_the_process_did_before(tmp_path, model, pairs, tagged):
    tasks = [topic_task(pairs), ner_task(tagged)]
    run(tmp_path / "together", model, *tasks, seeds=[2, 1])
    for task in tasks:
        run(tmp_path / "alone", model, task, seeds=[1])
        for name in FILES:
            alone, together = (
                (result(tmp_path / each, task["name"]) / name).read_bytes()
                for each in ("alone", "together")
            )
            assert alone == together
    first, second = (result(tmp_path / "together", "ner", seed) for seed in (1, 2))
    assert (first / "history.jsonl").read_bytes() != (second / "history.jsonl").read_bytes()


@pytest.fixture
def made(monkeypatch) -> list[tuple[str, int]]:
    """Return the list of results that are made, which costs nothing here."""
    from eliquare.evaluation import trainer

    made = []

    class System:
        def __init__(self, *options):
            pass

        def prepare(self, kind, task, finetuning, unlabelled):
            return kind

        def train(self, prepared, seed, lesson):
            made.append((prepared, seed))
            names = (*finetune.TASK_KEYS, *finetune.SEED_KEYS)
            metrics = dict.fromkeys(names, f"{prepared} {seed}")
            return trainer.Result(metrics, [], [], 1.0, None, None)

    monkeypatch.setattr(trainer, "System", System)
    return made


def test_only_what_is_missing_is_made(tmp_path, made, model, pairs, tagged):
    topic, ner = topic_task(pairs), ner_task(tagged)
    run(tmp_path, model, topic, seeds=[1, 2])
    assert made == [("classification", 1), ("classification", 2)]
    made.clear()
    report = run(tmp_path, model, topic, ner, seeds=[1, 2, 3])
    assert made == [("classification", 3), ("ner", 1), ("ner", 2), ("ner", 3)]
    assert report["tasks"]["topic"]["seeds"].keys() == {"1", "2", "3"}
    made.clear()
    assert run(tmp_path, model, ner, topic, seeds=[2, 1])["tasks"].keys() == {"ner", "topic"}
    assert made == []


def test_the_origin_names_the_gpu(tmp_path, model, pairs, monkeypatch):
    monkeypatch.setattr(finetune, "gpu_name", lambda: {"gpu": "a GPU"})
    run(tmp_path, model, topic_task(pairs))
    origin = json.loads((result(tmp_path, "topic") / "provenance.json").read_text())
    assert origin["hardware"]["gpu"] == "a GPU"


def test_another_origin_is_another_result(tmp_path, made, model, pairs):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    table = tmp_path / "moved.tsv"
    shutil.copy(pairs, table)
    run(tmp_path, folder, topic_task(pairs))
    # Where the files lie, and a model's card, decide nothing.
    (folder / "README.md").write_text("card")
    run(tmp_path, folder, topic_task(table))
    assert len(made) == 1
    table.write_text(table.read_text() + "wave\tsail\t1\tsea\n")
    run(tmp_path, folder, topic_task(table))
    assert len(made) == 2
    run(tmp_path, folder, topic_task(table, finetuning=QUICK | {"weight_decay": 0.1}))
    assert len(made) == 3
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    run(tmp_path, folder, topic_task(table, finetuning=QUICK | {"weight_decay": 0.1}))
    assert len(made) == 4


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path, model, pairs):
    command = [sys.executable, "-m", "eliquare", "evaluation", "finetune", "--model", str(model)]
    command += ["--system", "tiny", "--language", "qaa", "--seeds", *map(str, range(1, 30))]
    command += ["--tasks", json.dumps(topic_task(pairs)), "--store", str(tmp_path / "store")]
    command += ["--output", str(tmp_path / "scores.json")]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | worlds.BARE
    )
    for line in running.stderr:
        if "seed 3 " in line:
            running.kill()
    running.wait()
    assert not (tmp_path / "scores.json").exists()
    kept = {seed: result(tmp_path, "topic", seed) / "metrics.json" for seed in (1, 2)}
    times = {seed: path.stat().st_mtime_ns for seed, path in kept.items()}
    assert not result(tmp_path, "topic", 3).exists()
    run(tmp_path, model, topic_task(pairs), seeds=[1, 2, 3])
    assert times == {seed: path.stat().st_mtime_ns for seed, path in kept.items()}
    assert sorted(file.name for file in result(tmp_path, "topic", 3).iterdir()) == STORED


NINE_ONES = "".join(f"a{n},1\n" for n in range(9))


@pytest.mark.parametrize(
    ("kind", "train", "test", "says"),
    [
        ("classification", "text,gold\na,1\n", "text,label\na,1\n", "no column 'label'"),
        ("classification", "text,label\na,1\nb,\n", "text,label\na,1\n", "train.csv, line 3"),
        ("classification", f"text,label\n{NINE_ONES}", "text,label\na,2\n", "label '1'"),
        (
            "classification",
            f"text,label\n{NINE_ONES}b,0\n",
            "text,label\na,2\n",
            "of 0, 1, found",
        ),
        ("ner", "Ana B-PER\nide X\n", "Ana B-PER\n", "train.csv, line 2"),
        ("upos", "1\tAna\t_\tPROPN\t_\t_\t_\t_\t_\n", "", "train.csv, line 1: 9 columns"),
        ("pair", "text,label\na,1\n", "", "text_pair_column"),
        ("ner", "Ana B-PER\n", None, "too few"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, model, kind, train, test, says):
    task = {"name": "t", "kind": kind, "language": "qaa", "train": str(tmp_path / "train.csv")}
    (tmp_path / "train.csv").write_text(train)
    if test is not None:
        task["test"] = str(tmp_path / "test.csv")
        (tmp_path / "test.csv").write_text(test)
    with pytest.raises(InputError, match=says) as error:
        run(tmp_path / "made", model, task)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def test_a_folder_and_a_negative_seed_are_refused(tmp_path, model):
    task = {"name": "t", "kind": "ner", "language": "qaa", "train": str(tmp_path)}
    with pytest.raises(InputError, match="is a folder; expected a task file"):
        run(tmp_path / "made", model, task)
    with pytest.raises(InputError, match=r"--seeds\.0: expected greater than or equal to 0"):
        run(tmp_path / "made", model, task, seeds=[-1])


@pytest.mark.parametrize("broken", ["missing", "empty", "weights", "tokenizer"])
def test_a_model_that_does_not_load_is_named(tmp_path, model, pairs, broken):
    folder = tmp_path / "model"
    if broken != "missing":
        shutil.copytree(model, folder)
    if broken == "empty":
        (folder / "config.json").unlink()
    if broken == "weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    if broken == "tokenizer":
        (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=str(folder)) as error:
        run(tmp_path / "made", folder, topic_task(pairs))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "made").rglob("*.json"))


def test_a_length_above_the_models_is_lowered_with_a_warning(tmp_path, model, pairs, caplog):
    task = topic_task(pairs, finetuning=QUICK | {"max_length": 512})
    assert run(tmp_path, model, task)["tasks"]["topic"]["max_length"] == 64
    assert any(record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_the_longest_input_follows_the_kind_of_task(tmp_path, model, pairs, tagged, kind, caplog):
    """The model takes 64 tokens, fewer than the default of either."""
    task = topic_task(pairs) if kind == "classification" else ner_task(tagged)
    task["finetuning"] = {key: QUICK[key] for key in QUICK if key != "max_length"}
    (report,) = run(tmp_path, model, task)["tasks"].values()
    assert report["max_length"] == 64
    wanted = {"classification": 512, "ner": 128}[kind]
    assert f"{model}: takes at most 64 tokens; finetuning's max_length of {wanted}" in caplog.text


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_a_label_that_training_never_had_counts_as_an_error(tmp_path, model, pairs, tagged, kind):
    """Also where a whole batch of the validation has no other."""
    task = topic_task(pairs) if kind == "classification" else ner_task(tagged)
    if kind == "classification":
        content = "premise\ttopic\nwave sail\tsea\n" + "wheat plough\tcity\n" * 70
        unseen = {"city": 70}
    else:
        content = "Ana B-PER\nReka B-LOC\nreka I-LOC\n\n" + "Reka B-LOC\n\n" * 70
        unseen = {"LOC": 71}
    file = tmp_path / "test.tsv"
    file.write_text(content)
    task |= {"validation": str(file), "test": str(file)}
    (report,) = run(tmp_path, model, task)["tasks"].values()
    assert report["unseen_labels"] == {"train": {}, "validation": unseen, "test": unseen}
    scores = report["seeds"]["1"]["test"]
    rows = lines(result(tmp_path, task["name"]) / "predictions.jsonl")
    if kind == "classification":
        assert {row["predicted"] for row in rows} <= {"sea", "field"}
        assert [row["gold"] for row in rows].count("city") == 70
        assert scores["accuracy"] <= 1 / 71
        # Of the labels in gold and predicted, city has an F1 of 0.
        assert scores["macro_f1"] <= 1 / 2
    else:
        assert scores["entity_recall"] <= 1 / 72
    (epoch,) = lines(result(tmp_path, task["name"]) / "history.jsonl")
    assert 0 <= epoch["validation_loss"] < 10


@pytest.mark.parametrize("loss", ["loss", "validation loss"])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, model, pairs, loss):
    # In one step, the training itself does not see what it did.
    one_step = {"per_device_train_batch_size": 10**9, "warmup_ratio": 0.0}
    rate = {"learning_rate": 4e9} | (one_step if loss != "loss" else {})
    with pytest.raises(Failure, match=f"the {loss} is nan; lower finetuning's learning_rate"):
        run(tmp_path, model, topic_task(pairs, finetuning=QUICK | rate))
    assert not result(tmp_path, "topic").exists()


@needs_data
@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ({"kind": "ner", "train": "sw/ner/train.txt", "test": "sw/ner/test.txt"}, "entity_f1"),
        (
            {"kind": "classification", "train": "sw/news/train.tsv", "label_column": "category"},
            "macro_f1",
        ),
        ({"kind": "upos", "train": "mr/upos/train.conllu"}, "accuracy"),
    ],
)
def test_real_tasks(tmp_path, model, task, metric):
    paths = {key: str(DATA / "tasks" / task[key]) for key in ("train", "test") if key in task}
    settings = QUICK | {"max_train_samples": 64}
    real = {"name": "real", "language": "sw", "finetuning": settings} | task | paths
    report = run(tmp_path, model, real)["tasks"]["real"]
    assert metric == report["metric"]
    rows = lines(result(tmp_path, "real") / "predictions.jsonl")
    assert len(rows) == report["sizes"]["test"]
    if "test" in task and task["kind"] == "ner":
        gold = [list(sentence.labels) for sentence in readers.read("ner", paths["test"])]
        assert [row["gold"] for row in rows] == gold


def unavailable(folder: Path) -> Path:
    """Make the folder of something that could not be fetched."""
    folder.mkdir(parents=True)
    write_json(folder / "unavailable.json", {"reason": "moved away"})
    return folder


def test_a_task_that_is_unavailable_says_why_beside_the_scores_of_the_others(
    tmp_path, model, pairs
):
    gone = unavailable(tmp_path / "tasks/gone")
    files = {split: str(gone / f"{split}.tsv") for split in ("train", "validation", "test")}
    tasks = run(tmp_path, model, topic_task(pairs), topic_task(pairs, "gone", **files))["tasks"]
    assert tasks["gone"] == {"unavailable": "moved away", "seeds": {}}
    assert list(tasks["topic"]["seeds"]) == ["1"]


def test_a_system_that_is_unavailable_says_why(tmp_path, pairs):
    report = run(tmp_path, unavailable(tmp_path / "model"), topic_task(pairs))
    assert report["unavailable"] == "moved away"
    assert report["tasks"] == {}


def test_of_several_learning_rates_the_best_on_validation_is_taken(model, pairs, tmp_path):
    rates = [1e-7, 2e-3]
    several = QUICK | {"learning_rate": rates, "num_train_epochs": 2}
    scores = {}
    for name, finetuning in (("both", several), ("one", several | {"learning_rate": 2e-3})):
        task = topic_task(pairs, finetuning=finetuning)
        options = {"model": str(model), "system": "s", "language": "qaa", "tasks": [task]}
        paths = {"store": tmp_path / name, "output": tmp_path / f"{name}.json"}
        given = finetune.FinetuneOptions.model_validate({**options, **paths, "seeds": [1]})
        finetune.finetune(given)
        scores[name] = json.loads(paths["output"].read_text())["tasks"]["topic"]["seeds"]["1"]
    assert scores["both"] == scores["one"]
    assert scores["both"]["learning_rate"] == 2e-3


def test_it_stops_early_where_nothing_gets_better(model, pairs, tmp_path):
    patient = {"num_train_epochs": 9, "learning_rate": 1e-9, "early_stopping_patience": 1}
    task = topic_task(pairs, finetuning=QUICK | patient)
    options = {"model": str(model), "system": "s", "language": "qaa", "tasks": [task]}
    paths = {"store": tmp_path / "store", "output": tmp_path / "scores.json"}
    finetune.finetune(finetune.FinetuneOptions.model_validate({**options, **paths, "seeds": [1]}))
    found = json.loads(paths["output"].read_text())["tasks"]["topic"]["seeds"]["1"]
    history = (paths["store"] / "topic/s/seed-1/history.jsonl").read_text().splitlines()
    assert len(history) == found["best_epoch"] + 1 < 9
    assert found["steps"] == json.loads(history[-1])["step"]
