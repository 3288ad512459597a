"""Models for ONNX Runtime: the same as they were, in int8 only where the score allows it."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load
from transformers import AutoTokenizer, pipeline

import families
from eliquare.evaluation import benchmark
from eliquare.evaluation.finetune import Task
from eliquare.export import onnx
from eliquare.io import Failure, InputError, read_json


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    monkeypatch.setattr(benchmark, "MINIMUM_SECONDS", 0)


def export(model, output, **options):
    """Export a model; return the report and the session of what was kept."""
    onnx.export(onnx.OnnxOptions(model=model, output=output, repeats=3, **options))
    report = read_json(output / "onnx/report.json")
    files = [path.name for path in output.joinpath("onnx").glob("*.onnx")]
    assert files == [report["file"].removeprefix("onnx/")]
    return report, onnxruntime.InferenceSession(output / report["file"])


def outputs(folder, session, head, texts):
    """Return what the model itself and its export give for texts, at real tokens."""
    model, _ = onnx.load_exported(folder, head)
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        own = model(**batch)[0].numpy()
    feed = {each.name: batch[each.name].numpy() for each in session.get_inputs()}
    (exported,) = session.run(None, feed)
    real = batch["attention_mask"].bool().numpy()
    return (own[real], exported[real]) if own.ndim == 3 else (own, exported)


@pytest.mark.parametrize("head", onnx.HEADS)
def test_the_float_model_gives_the_same_for_texts_of_any_length(models, text, tmp_path, head):
    report, session = export(models[head], tmp_path / "onnx", text=text, int8=False)
    assert report["head"] == head
    assert report["kept"] == "float32"
    assert "int8 was not asked for" in report["decision"]
    texts = families.sentences("qaa")[70:73]
    for some in (texts, texts[:1], ["a"]):
        own, exported = outputs(models[head], session, head, some)
        np.testing.assert_allclose(exported, own, atol=1e-4 * max(1, np.abs(own).max()))


@pytest.mark.parametrize("family", ["xlmr", "modernbert", "deberta-v3"])
def test_other_families_are_exported_too(family, text, tmp_path):
    model = families.make_teacher(family, tmp_path / "model")
    report, _ = export(model, tmp_path / "onnx", text=text, int8=False)
    assert report["float32"]["largest_difference"] < onnx.TOLERANCE


def test_int8_is_kept_within_the_margin_and_is_smaller(models, tagged, tmp_path):
    task = Task(name="ner", kind="ner", language="qaa", train=str(tagged))
    folder = models["token-classification"]
    report, session = export(folder, tmp_path / "onnx", task=task, margin=0.99)
    assert report["kept"] == "int8 (calibrated)"
    assert report["metric"] == "entity_f1"
    assert (
        "within the margin of 0.99: entity_f1 on the validation split of ner" in report["decision"]
    )
    int8 = report["int8"]["calibrated"]
    assert int8["scores"].keys() == {"validation", "test"}
    assert int8["passed"]
    own, exported = outputs(folder, session, None, families.sentences("qaa")[:8])
    assert np.corrcoef(own.ravel(), exported.ravel())[0, 1] > 0.9
    # The tokenizer and the labels are beside it.
    assert AutoTokenizer.from_pretrained(tmp_path / "onnx")
    assert read_json(tmp_path / "onnx/config.json")["id2label"]["1"] == "B-PER"
    # Embeddings and linear layers are uint8 or int8: a quarter of the bytes. The rest is graph.
    graph = load(tmp_path / "onnx" / report["file"]).graph
    assert {each.data_type for each in graph.initializer if len(each.dims) == 2} <= {2, 3}
    # Queries with keys, and weights with values, are multiplied in float32.
    layers = read_json(folder / "config.json")["num_hidden_layers"]
    assert [node.op_type for node in graph.node].count("MatMul") == 2 * layers
    assert int8["bytes"] < report["float32"]["bytes"]


def test_a_task_is_scored_on_inputs_as_long_as_it_was_tuned_on(
    models, tagged, tmp_path, monkeypatch
):
    encode, lengths = onnx.encode, []

    def encoded(tokenizer, kind, examples, labels, length):
        lengths.append(length)
        return encode(tokenizer, kind, examples, labels, length)

    monkeypatch.setattr(onnx, "encode", encoded)
    monkeypatch.setattr(onnx, "MAX_LENGTH", 4)  # of what int8 is calibrated on
    task = Task(
        name="ner", kind="ner", language="qaa", train=str(tagged), finetuning={"max_length": 64}
    )
    export(models["token-classification"], tmp_path / "onnx", task=task)
    assert lengths == [64, 64]  # validation and test


def test_where_int8_costs_more_than_the_margin_float_is_kept_and_said(models, text, tmp_path):
    report, session = export(models["feature-extraction"], tmp_path / "onnx", text=text, margin=0)
    assert report["kept"] == "float32"
    assert report["file"] == "onnx/model.onnx"
    assert [report["int8"][each]["passed"] for each in ("calibrated", "dynamic")] == [False] * 2
    assert report["decision"].startswith("float32 kept, since int8 costs more than the margin of 0")
    own, exported = outputs(models["feature-extraction"], session, None, ["ein text"])
    np.testing.assert_allclose(exported, own, atol=1e-4)


def test_answers_are_those_of_pipeline(models, tmp_path, tagged):
    """The gate scores what a user gets: tags of whole sentences, as `pipeline` gives them."""
    folder = models["token-classification"]
    sentence = families.sentences("qaa")[3]
    pipe = pipeline("token-classification", model=str(folder), device="cpu")
    labels = [each["entity"] for each in pipe(sentence)]
    task = Task(name="ner", kind="ner", language="qaa", train=str(tagged))
    _, session = export(folder, tmp_path / "onnx", task=task, int8=False)
    _, logits = outputs(folder, session, None, [sentence])
    names = onnx.load_exported(folder)[0].config.id2label
    assert [names[i] for i in logits.argmax(-1)[1:-1] if names[i] != "O"] == [
        label for label in labels if label != "O"
    ]


@pytest.mark.parametrize(
    ("head", "asked", "said"),
    [
        ("fill-mask", "token-classification", "has no head for token-classification; its head is"),
        ("feature-extraction", "fill-mask", "has no head for fill-mask"),
    ],
)
def test_a_model_without_the_head_asked_for(models, text, tmp_path, head, asked, said):
    with pytest.raises(InputError, match=said):
        export(models[head], tmp_path / "onnx", text=text, head=asked)
    assert not (tmp_path / "onnx").exists()


def test_a_task_with_other_labels_and_no_text_at_all(models, tagged, tmp_path):
    task = Task(name="ner", kind="ner", language="qaa", train=str(tagged))
    with pytest.raises(InputError, match=r"fill-mask: .*not fine-tuned.*O, B-PER, I-PER"):
        export(models["fill-mask"], tmp_path / "onnx", task=task)
    with pytest.raises(InputError, match="--text: give text of the language"):
        export(models["fill-mask"], tmp_path / "onnx")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "short.txt: no text; give some sentences"),
        ("\n \n", "short.txt: no text; give some sentences"),
        ("e\n", "--text: too short to mask a token of it; give some sentences"),
    ],
)
def test_hardly_any_text(models, tmp_path, content, said):
    (tmp_path / "short.txt").write_text(content)
    with pytest.raises(InputError, match=said):
        export(models["fill-mask"], tmp_path / "onnx", text=tmp_path / "short.txt")
    assert not (tmp_path / "onnx").exists()


def test_a_graph_that_gives_something_else_is_not_written(models, text, tmp_path, monkeypatch):
    right = onnx.Session.__call__
    monkeypatch.setattr(onnx.Session, "__call__", lambda *given: right(*given) + 0.01)
    with pytest.raises(Failure, match="the exported model differs from the model itself by"):
        export(models["fill-mask"], tmp_path / "onnx", text=text)
    assert not (tmp_path / "onnx").exists()
