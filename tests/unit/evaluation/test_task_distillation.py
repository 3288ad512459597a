"""A fine-tuned teacher teaches a student the task, across tokenizers, with labels and without."""

import json
import random
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

import worlds
from eliquare import cli
from eliquare.config.systems import TaskDistillation
from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.evaluation import data, finetune
from eliquare.evaluation.encoding import encode
from eliquare.evaluation.task_distillation import Lesson
from eliquare.io import InputError

QUICK = {"num_train_epochs": 1, "learning_rate": 2e-3, "max_length": 12}
WORDS = [word for text in worlds.texts() for word in text.split() if word.isalpha()][:400]
SENTENCES = [" ".join(WORDS[n : n + 6]) for n in range(0, 60, 6)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Return a teacher and a student with tokenizers of two kinds."""
    found = {}
    for name, kind, width in (("teacher", "unigram", 32), ("student", "wordpiece", 16)):
        folder = found[name] = tmp_path_factory.mktemp(name)
        worlds.write_tokenizer(kind, folder, list(worlds.texts()))
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=1200,
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
        BertForMaskedLM(config).save_pretrained(folder)
    return found


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> dict[str, dict]:
    """Return a task of each shape: a label per word, per text, per pair of texts.

    All splits are the same, so that what a model says of train can be read in its predictions.
    """
    folder = tmp_path_factory.mktemp("tasks")
    tagged = [f"{word} {'B-PER' if word[0] in 'abcd' else 'O'}" for word in WORDS]
    lines = ["\n".join(tagged[n : n + 10]) for n in range(0, 400, 10)]
    (folder / "ner.txt").write_text("\n\n".join(lines) + "\n")
    draw = random.Random(0)
    rows = [(" ".join(draw.choices(WORDS, k=5)), draw.choice("ab")) for _ in range(40)]
    texts = "\n".join(f"{text}\t{text[::-1]}\t{label}" for text, label in rows)
    (folder / "texts.tsv").write_text(f"text\tother\tlabel\n{texts}\n")
    (folder / "sentences.txt").write_text("".join(f"{text}\n" for text in SENTENCES))
    shapes = {
        "ner": {"kind": "ner"},
        "text": {"kind": "classification"},
        "pair": {"kind": "pair", "text_pair_column": "other"},
    }
    return {
        name: {"name": name, "language": "qaa", "finetuning": QUICK}
        | dict.fromkeys(("train", "validation", "test"), str(file))
        | shape
        for name, shape in shapes.items()
        for file in [folder / ("ner.txt" if name == "ner" else "texts.tsv")]
    }


def run(folder: Path, models: dict[str, Path], name: str, *tasks: dict, **options) -> dict:
    """Fine-tune a model and return what the stage writes; a dictionary is written as JSON."""
    argv = ["--model", str(models[name]), "--system", name, "--language", "qaa", "--seeds", "1"]
    argv += ["--tasks", *map(json.dumps, tasks), "--store", str(folder / "store")]
    for key, value in options.items():
        word = json.dumps(value) if isinstance(value, dict) else str(value)
        argv += [f"--{key.replace('_', '-')}", word]
    argv += ["--output", str(folder / f"{name}.json")]
    finetune.finetune(cli.parse(finetune.finetune, "finetune", argv))
    return json.loads((folder / f"{name}.json").read_text())["tasks"]


def test_loss_and_gradients_are_those_of_the_formula_in_float64():
    draw = torch.Generator().manual_seed(1)
    teacher, student = torch.randn(2, 7, 5, generator=draw, dtype=torch.float64)
    gold = torch.tensor([0, 3, IGNORE_INDEX, 4, 1, IGNORE_INDEX, 2])
    rows = torch.tensor([[IGNORE_INDEX, 6, 2], [0, IGNORE_INDEX, 4]])
    settings = TaskDistillation(teacher="t", temperature=3.0, weight=0.3)
    lesson = Lesson([], gold, teacher.float(), settings)
    logits = student[:6].reshape(2, 3, 5).float().requires_grad_()
    loss = lesson.loss(logits, rows)
    (gradient,) = torch.autograd.grad(loss, logits)

    plain = student[:6].reshape(2, 3, 5).clone().requires_grad_()
    taught = [((0, 1), 6), ((0, 2), 2), ((1, 0), 0), ((1, 2), 4)]
    divergence, crosses = 0.0, []
    for place, row in taught:
        p, q = (torch.softmax(each / 3.0, -1) for each in (teacher[row], plain[place]))
        divergence += (p * (p.log() - q.log())).sum() / len(taught)
        if gold[row] != IGNORE_INDEX:
            crosses.append(-torch.log_softmax(plain[place], -1)[gold[row]])
    expected = 0.7 * sum(crosses) / len(crosses) + 0.3 * 9.0 * divergence
    (wanted,) = torch.autograd.grad(expected, plain)
    assert len(crosses) == 3
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-6)


def test_a_batch_without_labels_has_the_teacher_alone():
    settings = TaskDistillation(teacher="t")
    lesson = Lesson([], torch.full((2,), IGNORE_INDEX), torch.randn(2, 3), settings)
    assert 0 < lesson.loss(torch.randn(2, 3), torch.tensor([0, 1])) < 10


@pytest.fixture(scope="module")
def taught(tmp_path_factory, models, tasks) -> tuple[Path, dict]:
    """Return the store and the scores of a student that was taught each task."""
    folder = tmp_path_factory.mktemp("taught")
    text = tasks_text(tasks)
    teacher = [task | {"keep_logits": True} for task in tasks.values()]
    run(folder, models, "teacher", *teacher, unlabelled=text)
    settings = {"teacher": "teacher", "weight": 1.0, "sentences": 8}
    options = {"task_distillation": settings, "unlabelled": text}
    return folder, run(folder, models, "student", *tasks.values(), **options)


@pytest.mark.parametrize(("name", "rows"), [("ner", 400), ("text", 40), ("pair", 40)])
def test_the_teacher_keeps_its_answer_to_each_word_or_text(taught, name, rows):
    folder = taught[0] / f"store/{name}/teacher/seed-1"
    logits = load_file(folder / "logits.safetensors")
    labels = json.loads((folder / "metrics.json").read_text())["labels"]
    unlabelled = {"ner": 60, "text": 10, "pair": 0}[name]
    assert {key: len(value) for key, value in logits.items()} == {"train": rows} | (
        {"unlabelled": unlabelled} if unlabelled else {}
    )
    lines = map(json.loads, (folder / "predictions.jsonl").read_text().splitlines())
    answers = [line["predicted"] for line in lines]
    flat = [*chain.from_iterable(answers)] if name == "ner" else answers
    assert [labels[n] for n in logits["train"].argmax(-1).tolist()] == flat
    assert logits["train"].std() > 0


def test_the_row_of_a_word_stands_at_its_first_token(models, tasks, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(models["student"])
    task = finetune.Task(**tasks["ner"])
    splits = data.load(task)
    texts = data.unlabelled("ner", tasks_text(tasks), 3)
    parts = {
        name: encode(tokenizer, "ner", examples, splits.labels, 12)
        for name, examples in (("train", splits.train), ("unlabelled", texts))
    }
    save_file({"train": torch.zeros(400, 3), "unlabelled": torch.ones(60, 3)}, tmp_path / "file")
    lesson = Lesson.of(tmp_path / "file", parts, TaskDistillation(teacher="t"))
    words = [word for example in (*splits.train, *texts) for word in example.texts]
    tags = [label for example in splits.train for label in example.labels]
    assert [splits.labels[n] for n in lesson.labels[:400]] == tags
    assert lesson.labels[400:].tolist() == [IGNORE_INDEX] * 18
    assert lesson.logits.sum() == 18 * 3
    seen = []
    for feature in lesson.features:
        for token, row in zip(feature["input_ids"], feature["labels"], strict=True):
            if row != IGNORE_INDEX:
                seen.append(row)
                assert token == tokenizer(words[row], add_special_tokens=False)["input_ids"][0]
    assert sorted(seen) == list(range(418))


def tasks_text(tasks: dict[str, dict]) -> Path:
    """Return the unlabelled sentences."""
    return Path(tasks["ner"]["train"]).with_name("sentences.txt")


def test_the_student_is_scored_and_its_origin_names_the_teacher(taught, models, tasks):
    folder, scores = taught
    assert scores.keys() == tasks.keys()
    # Batches of 16: 40 labelled texts, of single ones also 8 of the 10 sentences.
    assert {name: scores[name]["seeds"]["1"]["steps"] for name in ("text", "pair")} == {
        "text": 3,
        "pair": 3,
    }
    assert scores["ner"]["sizes"] == {"train": 40, "validation": 40, "test": 40}
    origin = json.loads((folder / "store/ner/student/seed-1/provenance.json").read_text())
    assert origin["settings"]["task_distillation"]["teacher"] == "teacher"
    assert len(origin["inputs"]["teacher_logits"]) == 64


def test_a_student_does_as_its_teacher_says(models, tasks, tmp_path):
    """With the weight 1 the labels count for nothing, and the teacher always answers b."""
    long = tasks["text"] | {"finetuning": QUICK | {"num_train_epochs": 4, "learning_rate": 1e-2}}
    run(tmp_path, models, "teacher", long | {"keep_logits": True})
    stored = tmp_path / "store/text/teacher/seed-1/logits.safetensors"
    save_file({"train": torch.tensor([[-9.0, 9.0]]).repeat(40, 1)}, stored)
    teacher = {"teacher": "teacher", "weight": 1.0}
    run(tmp_path, models, "student", long, task_distillation=teacher)
    lines = (tmp_path / "store/text/student/seed-1/predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["predicted"] for line in lines} == {"b"}


def test_results_are_made_again_where_what_teaches_changed(taught, models, tasks, caplog):
    folder = taught[0]
    text = tasks_text(tasks)
    caplog.set_level("INFO")
    asked = tasks["text"] | {"keep_logits": True}
    # What is stored serves an experiment that does not teach, and one that teaches the same.
    for task, options in ((tasks["text"], {}), (asked, {"unlabelled": text})):
        run(folder, models, "teacher", task, **options)
        assert "teacher: 0 of 1" in caplog.messages[-1]
    student = {"teacher": "teacher", "weight": 1.0, "sentences": 8}
    options = {"task_distillation": student, "unlabelled": text}
    run(folder, models, "student", tasks["text"], **options)
    assert "student: 0 of 1" in caplog.messages[-1]
    run(folder, models, "student", tasks["text"], task_distillation={"teacher": "teacher"})
    assert "student: 1 of 1" in caplog.text


@pytest.mark.parametrize("amiss", ["logits", "task", "text"])
def test_a_lesson_that_is_not_of_this_task_is_refused(taught, models, tasks, tmp_path, amiss):
    folder = tmp_path if amiss == "logits" else taught[0]
    task, text = tasks["text"], tmp_path / "other.txt"
    text.write_text("\n".join(SENTENCES[1:]))
    if amiss == "task":
        task = task | {"finetuning": QUICK | {"max_train_samples": 9}}
    settings = {"teacher": "teacher", "sentences": 5 * (amiss == "text")}
    options = {"unlabelled": text} if amiss == "text" else {}
    where = re.escape(str(folder / "store/text/teacher/seed-1"))
    with pytest.raises(InputError, match=rf"^{where}: expected the logits") as error:
        run(folder, models, "student", task, task_distillation=settings, **options)
    assert "\n" not in str(error.value)


def test_sentences_without_a_file_are_refused(models, tasks, tmp_path):
    settings = {"teacher": "teacher", "sentences": 5}
    with pytest.raises(InputError, match=r"^--unlabelled: missing"):
        run(tmp_path, models, "student", tasks["text"], task_distillation=settings)
