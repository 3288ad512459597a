"""Students of every family of teachers: what they start as, on the teacher's own layers."""

import argparse

import pytest
import torch
from transformers import AutoModelForMaskedLM
from vocabulary_helpers import make_teacher, needs_data

from eliquare import stage
from eliquare.models import student
from eliquare.models.loading import load_masked_model

pytestmark = needs_data

FAMILIES = ["roberta", "modernbert", "modernbert-untied", "mmbert", "deberta", "deberta-v3"]


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request, tmp_path_factory):
    return make_teacher(request.param, tmp_path_factory.mktemp(request.param))


def make(teacher, output, *options):
    """A student of a teacher."""
    arguments = ["--teacher", str(teacher), "--output", str(output), *map(str, options)]
    student.run(student.parser().parse_args(arguments))
    return AutoModelForMaskedLM.from_pretrained(output).eval()


def batch(model):
    ids = torch.arange(20, 44).reshape(2, 12) % model.config.vocab_size
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_a_student_with_all_layers_is_its_teacher(teacher, tmp_path):
    whole = load_masked_model(teacher).eval()
    copy = make(teacher, tmp_path / "copy", "--layers", 2, "--initialisation", "first")
    with torch.no_grad():
        assert torch.equal(whole(**batch(whole)).logits, copy(**batch(copy)).logits)


@pytest.mark.parametrize("initialisation", ["2n-1", "last", "blank", "embeddings"])
def test_a_student_of_one_layer_runs(teacher, tmp_path, initialisation):
    model = make(teacher, tmp_path / "s", "--layers", 1, "--initialisation", initialisation)
    with torch.no_grad():
        logits = model(**batch(model)).logits
    assert logits.shape == (2, 12, model.config.vocab_size) and logits.isfinite().all()


def test_copied_layers_keep_their_kind_of_attention(tmp_path):
    """ModernBERT attends to the whole text in every third layer: 0, 3, 6, …"""
    folder = make_teacher("modernbert", tmp_path / "two")
    config = AutoModelForMaskedLM.from_pretrained(folder).config
    config.num_hidden_layers = 6
    config.layer_types = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    options = {"hidden_size": None, "intermediate_size": None, "heads": None, "teacher": folder}
    for initialisation, kinds in (
        ("2n-1", [0, 2, 4]),
        ("last", [3, 4, 5]),
        ("blank", [0, 1, 2]),
    ):
        arguments = argparse.Namespace(layers=3, initialisation=initialisation, **options)
        made = student.student_config(config, arguments)
        assert made.layer_types == [config.layer_types[kind] for kind in kinds]


def test_published_deberta_v3_weights_teach(tmp_path):
    """Their configuration does not say ``legacy: false``, without which the head is not read."""
    folder = make_teacher("deberta-v3", tmp_path / "teacher")
    config = stage.read_json(folder / "config.json")
    config.pop("legacy")
    stage.write_json(folder / "config.json", config)
    assert load_masked_model(folder).config.legacy is False
