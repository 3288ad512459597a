"""Sizes are those of the formulas; times and memory are consistent."""

import json

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, XLMRobertaConfig, XLMRobertaForMaskedLM

from eliquare import cli
from eliquare.evaluation.benchmark import benchmark
from eliquare.io import InputError, write_json
from eliquare.models.loading import load_masked_lm
from families import make_teacher

VOCABULARY, HIDDEN, LAYERS, INTERMEDIATE, POSITIONS = 5000, 32, 2, 64, 40


def small_bert(folder, **changes):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=INTERMEDIATE,
        max_position_embeddings=POSITIONS,
        **changes,
    )
    model = BertForMaskedLM(config)
    model.save_pretrained(folder)
    return model


def measured(folder, output, *options):
    arguments = ["--model", str(folder), "--language", "sl", "--system", "small"]
    arguments += ["--sequence-length", "16", "--repeats", "3", "--threads", "1", "--device", "cpu"]
    arguments += ["--output", str(output), *options]
    benchmark(cli.parse(benchmark, "benchmark", arguments))
    return json.loads(output.read_text())


def test_parameters_are_those_of_the_formula(tmp_path):
    small_bert(tmp_path / "model")
    report = measured(tmp_path / "model", tmp_path / "m.json", "--batch-sizes", "1")
    embeddings = (VOCABULARY + POSITIONS + 2) * HIDDEN + 2 * HIDDEN
    attention = 4 * (HIDDEN * HIDDEN + HIDDEN) + 2 * HIDDEN
    feed_forward = 2 * HIDDEN * INTERMEDIATE + INTERMEDIATE + HIDDEN + 2 * HIDDEN
    head = HIDDEN * HIDDEN + HIDDEN + 2 * HIDDEN + VOCABULARY
    encoder = LAYERS * (attention + feed_forward)
    assert report["parameters"] == {
        "total": embeddings + encoder + head,
        "embeddings": embeddings,
        "encoder": encoder,
        "head": head,
    }
    assert report["tied_embeddings"] is True
    assert report["vocab_size"] == VOCABULARY
    assert report["weights_mb"] == pytest.approx(4 * (embeddings + encoder + head) / 1e6, rel=0.03)


@pytest.mark.parametrize("family", ["eurobert", "modernbert", "deberta"])
def test_parameters_of_other_families_are_counted(tmp_path, family):
    folder = make_teacher(family, tmp_path / "model")
    parts = measured(folder, tmp_path / "m.json", "--batch-sizes", "1")["parameters"]
    model = load_masked_lm(folder)
    matrix = model.get_input_embeddings().weight.numel()
    assert matrix <= parts["embeddings"] < matrix + 200 * 16
    assert parts["total"] == sum(each.numel() for each in model.parameters())
    assert parts["embeddings"] + parts["encoder"] + parts["head"] == parts["total"]


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:", "cuda:70"])
def test_a_device_that_is_not_there_is_one_line(tmp_path, device):
    small_bert(tmp_path / "model")
    with pytest.raises(InputError, match=r"device.*(cpu|0 CUDA devices|CUDA)"):
        measured(tmp_path / "model", tmp_path / "m.json", "--device", device)


def test_an_untied_head_owns_its_matrix(tmp_path):
    small_bert(tmp_path / "model", tie_word_embeddings=False)
    report = measured(tmp_path / "model", tmp_path / "m.json", "--batch-sizes", "1")
    assert report["tied_embeddings"] is False
    assert report["parameters"]["head"] > VOCABULARY * HIDDEN


def test_each_batch_size_is_measured_without_and_with_the_head(tmp_path):
    small_bert(tmp_path / "model")
    options = ["--batch-sizes", "32", "1"]
    report = measured(tmp_path / "model", tmp_path / "m.json", *options)
    rows = {(row["batch_size"], row["part"]): row for row in report["measurements"]}
    assert set(rows) == {(n, p) for n in (1, 32) for p in ("encoder", "encoder_and_mlm_head")}
    for (batch_size, _), row in rows.items():
        timed = row["latency_ms"]
        assert 0 < timed["lower_quartile"] <= timed["median"] <= timed["upper_quartile"]
        sequences = batch_size / timed["median"] * 1000
        assert row["sequences_per_second"] == pytest.approx(sequences, rel=0.01)
        assert row["tokens_per_second"] == pytest.approx(16 * sequences, rel=0.01)


def test_an_encoder_without_a_head_is_measured_as_it_is(tmp_path):
    small_bert(tmp_path / "whole").base_model.save_pretrained(tmp_path / "model")
    report = measured(tmp_path / "model", tmp_path / "m.json", "--batch-sizes", "1")
    whole = measured(tmp_path / "whole", tmp_path / "w.json", "--batch-sizes", "1")
    assert [row["part"] for row in report["measurements"]] == ["encoder"]
    parts = whole["parameters"] | {"head": 0}
    assert report["parameters"] == parts | {"total": parts["embeddings"] + parts["encoder"]}
    assert report["weights_mb"] == pytest.approx(4 * report["parameters"]["total"] / 1e6, rel=0.03)


def test_peak_memory_holds_the_logits_of_the_head(tmp_path):
    small_bert(tmp_path / "model")
    report = measured(tmp_path / "model", tmp_path / "m.json", "--batch-sizes", "64")
    rows = {row["part"]: row["peak_memory_mb"] for row in report["measurements"]}
    logits = 64 * 16 * VOCABULARY * 4 / 1e6
    assert rows["encoder"] < logits / 2
    assert logits * 0.9 < rows["encoder_and_mlm_head"] < logits * 3


def test_positions_of_xlm_r_start_behind_the_padding(tmp_path):
    config = XLMRobertaConfig(
        vocab_size=100,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=18,
    )
    XLMRobertaForMaskedLM(config).save_pretrained(tmp_path / "model")
    measured(tmp_path / "model", tmp_path / "m.json", "--batch-sizes", "1")
    with pytest.raises(InputError, match=r"--sequence-length 17: .*at most 16"):
        measured(tmp_path / "model", tmp_path / "n.json", "--sequence-length", "17")


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no model here \(config.json is missing\)") as error:
        measured(tmp_path / "empty", tmp_path / "m.json")
    assert "\n" not in str(error.value)
    write_json(tmp_path / "empty/config.json", {"model_type": "bert", "num_hidden_layers": 10**7})
    with pytest.raises(InputError, match="num_hidden_layers 10000000; no model has so many"):
        measured(tmp_path / "empty", tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_a_model_that_is_unavailable_says_why(tmp_path):
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model/unavailable.json", {"reason": "moved away"})
    report = measured(tmp_path / "model", tmp_path / "m.json")
    assert report.pop("unavailable") == "moved away"
    assert {*report} == {"system", "language"}
