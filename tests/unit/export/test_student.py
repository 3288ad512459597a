"""All forms of a student in one program, from the fine-tuned models that were kept."""

import shutil

import pytest
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForTokenClassification, pipeline

import families
from eliquare.evaluation import benchmark, finetune
from eliquare.evaluation.finetune import FinetuneOptions, Task
from eliquare.export import student
from eliquare.io import InputError, processor_name, read_json
from eliquare.vocabulary import select

QUICK = {"num_train_epochs": 1, "max_length": 64, "max_train_samples": 20}


@pytest.fixture(scope="module")
def finetuned(models, tagged, tmp_path_factory):
    """Options of fine-tuning with two seeds, whose models are kept."""
    folder = tmp_path_factory.mktemp("finetuned")
    task = Task(
        name="ner", kind="ner", language="qaa", train=str(tagged), finetuning=QUICK, keep_model=True
    )
    options = FinetuneOptions(
        model=str(models["fill-mask"]),
        system="small",
        language="qaa",
        tasks=[task],
        seeds=[1, 2],
        store=folder / "store",
        output=folder / "scores.json",
    )
    finetune.finetune(options)
    return options


def options_of(finetuned, models, text, folder, **options):
    counts = folder / "counts"
    counts.mkdir()
    select.count_text(text, models["fill-mask"]).counts.save(counts)
    given = {"model": models["fill-mask"], "system": "small", "language": "qaa", "text": text}
    given |= {"counts": counts, "seeds": [1, 2], "store": finetuned.store, "repeats": 3}
    given |= {"sequence_length": 16}
    return student.StudentOptions(**given | options, output=folder / "out")


def test_each_form_is_loaded_by_what_it_is_for(finetuned, models, text, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "MINIMUM_SECONDS", 0)
    options = {"formats": ["onnx", "static"], "tasks": finetuned.tasks, "margin": 0.5}
    made = options_of(finetuned, models, text, tmp_path, **options)
    student.export(made)
    report = read_json(made.output / "report.json")
    assert (made.output / report["onnx"]["file"]).exists()
    assert SentenceTransformer(str(made.output / "static"), device="cpu").encode("a").any()
    task = report["tasks"]["ner"]
    assert (made.output / "tasks/ner" / task["onnx"]["file"]).exists()
    assert task["onnx"]["float32"]["scores"]["validation"] == task["validation"]["entity_f1"]
    assert task["onnx"]["float32"]["scores"]["test"] == task["test"]["entity_f1"]
    static = report["static"]
    assert 0 <= static["tasks"]["ner"]["test"]["entity_f1"] <= 1
    assert 0 < static["latency_ms"]["median"] < report["onnx"]["torch_latency_ms"]["median"]
    assert report["measured"] == {
        "device": processor_name(),
        "threads": 1,
        "batch_size": 1,
        "sequence_length": 16,
    }
    pipe = pipeline("token-classification", model=str(made.output / "tasks/ner"), device="cpu")
    assert {each["entity"] for each in pipe(families.sentences("qaa")[0])} <= {
        "O",
        "B-PER",
        "I-PER",
    }


def test_the_model_that_is_kept_is_the_one_that_was_scored(finetuned):
    place = finetuned.store / "ner/small/seed-1"
    loaded = AutoModelForTokenClassification.from_pretrained(place / "model")
    assert list(loaded.config.id2label.values()) == ["O", "B-PER", "I-PER"]
    seed, folder, metrics = student.best_seed(place.parent, [1, 2])
    scores = {n: read_json(place.parent / f"seed-{n}/metrics.json") for n in (1, 2)}
    best = max(scores, key=lambda n: scores[n]["validation"]["entity_f1"])
    assert (seed, folder) == (best, place.parent / f"seed-{best}")
    assert metrics == scores[best]


def test_a_result_without_its_model_is_made_again_only_where_it_is_to_be_kept(finetuned):
    runs = finetune.plan(finetuned, finetuned.model and student.Path(finetuned.model))
    assert all(run.is_stored() for run in runs)
    moved = runs[0].model.rename(runs[0].model.with_name("elsewhere"))
    assert not runs[0].is_stored()
    thrown_away = runs[0]._replace(task=runs[0].task.model_copy(update={"keep_model": False}))
    assert thrown_away.is_stored()
    moved.rename(runs[0].model)


def test_without_a_kept_model_the_task_is_named(finetuned, models, text, tmp_path):
    shutil.copytree(finetuned.store, tmp_path / "store")
    for kept in (tmp_path / "store/ner/small").glob("*/model"):
        shutil.rmtree(kept)
    options = {"tasks": finetuned.tasks, "store": tmp_path / "store"}
    with pytest.raises(InputError, match=r"ner/small: no fine-tuned model was kept"):
        student.export(options_of(finetuned, models, text, tmp_path, **options))


def test_spacy_gives_states_of_a_student(models):
    pytest.importorskip("spacy_transformers", reason="not beside transformers 5 (1.4.0)")
    import spacy

    architecture = "spacy-transformers.TransformerModel.v3"
    model = {"@architectures": architecture, "name": str(models["fill-mask"])}
    nlp = spacy.blank("xx")
    nlp.add_pipe("transformer", config={"model": model})
    nlp.initialize()
    states = nlp(families.sentences("qaa")[0])._.trf_data.model_output.last_hidden_state
    width = AutoModelForTokenClassification.from_pretrained(models["fill-mask"]).config.hidden_size
    assert states.shape[-1] == width
