"""Models of every family go the whole way: reduced, distilled, fine-tuned."""

import json

import pytest

import trainings
import worlds
from eliquare.corpus import masking, sequences
from eliquare.distillation.train import DistillOptions, distill
from eliquare.evaluation import finetune
from eliquare.io import InputError
from eliquare.models.loading import load_masked_lm, load_tokenizer
from eliquare.training.outputs import projection_of
from families import make_teacher, reduce_model

# One of each kind of model; docs/vocabulary.md lists them.
FAMILIES = ["distilbert", "xlmr", "xlmr_xl", "roberta", "modernbert", "mmbert", "eurobert"]
FAMILIES += ["deberta", "albert", "electra", "rembert"]
READABLE = ["distilbert", "xlmr", "roberta", "modernbert", "mmbert", "eurobert"]  # attention


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return worlds.write_documents(tmp_path_factory.mktemp("text") / "documents", worlds.texts())


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    path = tmp_path_factory.mktemp("tagged") / "tagged.txt"
    words = [word for text in worlds.texts() for word in text.split() if word.isalpha()][:200]
    lines = [f"{word} {'B-PER' if word[0].isupper() else 'O'}" for word in words]
    sentences = ["\n".join(lines[start : start + 10]) for start in range(0, 200, 10)]
    path.write_text("\n\n".join(sentences) + "\n")
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_reduced_distilled_and_finetuned(family, documents, tagged, tmp_path):
    teacher = make_teacher(family, tmp_path / "teacher")
    # Every other token that is no special one goes.
    tokenizer = load_tokenizer(teacher)
    special = {*tokenizer.all_special_ids}
    kept = sorted(special | {i for i in range(len(tokenizer)) if i < 600 or i % 2})
    reduced = tmp_path / "reduced"
    reduce_model(teacher, dict.fromkeys(kept, "listed"), reduced)

    prepared = {"sequences": tmp_path / "sequences", "masking": tmp_path / "masking"}
    shared = {"tokenizer": reduced, "counts": tmp_path / "counts"}
    sequences.tokenize(
        sequences.TokenizeOptions(
            documents=documents,
            language="qaa",
            max_length=32,
            threads=1,
            output=prepared["sequences"],
            **shared,
        )
    )
    masking.mask(
        masking.MaskOptions(
            sequences=prepared["sequences"],
            max_validation_sequences=8,
            output=prepared["masking"],
            **shared,
        )
    )
    student = tmp_path / "student"
    budget = trainings.BUDGET | {"max_steps": 2, "num_evals": 1}
    terms = {"attention": 1.0, "relations": 1.0} if family in READABLE else {}
    options = {"teachers": [reduced], "num_hidden_layers": 1, "output": student}
    options |= {"objective": {"preset": "electronics2023", **terms}}
    distill(DistillOptions.model_validate({**options, **prepared, **budget}))
    model = load_masked_lm(student)
    assert model.config.vocab_size == load_masked_lm(reduced).config.vocab_size < 1200
    assert model.config.num_hidden_layers == 1
    history = trainings.history_of(student)
    assert {"kl", "cosine", "mlm", *terms} <= {key for row in history for key in row}

    task = {"name": "names", "kind": "ner", "language": "qaa", "train": str(tagged)}
    task["finetuning"] = {"num_train_epochs": 1}
    options = {"model": str(student), "system": "s", "language": "qaa", "tasks": [task]}
    output = {"seeds": [1], "store": tmp_path / "store", "output": tmp_path / "scores.json"}
    finetune.finetune(finetune.FinetuneOptions.model_validate({**options, **output}))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["tasks"]["names"]["seeds"]["1"]["test"]["entity_f1"] >= 0


def test_the_head_of_deberta_v3_teaches_nothing(tmp_path):
    model = load_masked_lm(make_teacher("deberta-v3", tmp_path / "teacher"))
    with pytest.raises(InputError, match="mDeBERTa-v3's head was never trained; reduce it alone"):
        projection_of(model)
