"""The report on a reduced vocabulary: coverage, [UNK], fertility, scripts."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

import worlds
from eliquare.config.model import SelectionRule
from eliquare.io import InputError, read_json
from eliquare.models.loading import load_model
from eliquare.vocabulary import report as reports
from eliquare.vocabulary import select as selection
from eliquare.vocabulary import tokenizer as tokenizer_json
from families import make_teacher, reduce_model, sentences


def prepare(folder, language, rule, head=True):
    """Write a teacher, a text, counts, documents, a vocabulary file and the reduced model."""
    teacher = make_teacher("bert", folder / "teacher")
    if not head:
        load_model(teacher).base_model.save_pretrained(teacher)
    texts = sentences(language)[:100]
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    worlds.write_documents(folder / "documents", texts)
    corpus = selection.count_text(folder / "text.txt", teacher)
    (folder / "counts").mkdir()
    corpus.counts.save(folder / "counts")
    selected = selection.select_tokens(teacher, [corpus], rule)
    selection.write_vocabulary(folder / "vocabulary.csv", selected, corpus.counts.tokens)
    reduce_model(teacher, selected, folder / "new")
    return reports.ReportOptions(
        model=teacher,
        reduced=folder / "new",
        vocabulary=folder / "vocabulary.csv",
        counts=folder / "counts",
        documents=folder / "documents",
        tasks=[f"task={folder / 'text.txt'}"],
        output=folder / "vocabulary.json",
    )


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return prepare(folder, "qaa", SelectionRule(min_sentence_fraction=0.05))


def test_the_report(options, capsys):
    reports.report(options)
    result = read_json(options.output)
    selected, total = result["tokens"]["selected"], result["tokens"]["of"]
    assert sum(result["tokens"]["by_reason"].values()) == selected < total == 1200
    assert max(result["tokens"]["by_script"], key=result["tokens"]["by_script"].get) == "Latin"
    saved = result["parameters"]["before"] - result["parameters"]["after"]
    assert saved == (total - selected) * (16 + 1)
    assert 0.7 < result["token_coverage"] < 1
    assert list(result["texts"]) == ["corpus", "task"]
    corpus = result["texts"]["corpus"]
    assert corpus["texts"] == 100
    assert corpus["after"]["fertility"] > corpus["before"]["fertility"] > 1
    unknown = corpus["before"]["unknown_share"]
    assert corpus["after"]["unknown_share"] == pytest.approx(unknown, abs=1e-4)
    assert result["verification"]["rows"] == "same"
    assert "task" in capsys.readouterr().out


def test_the_parameters_of_an_encoder_without_a_head_are_its_own(tmp_path):
    options = prepare(tmp_path, "qaa", SelectionRule(min_sentence_fraction=0.05), head=False)
    reports.report(options)
    counted = read_json(options.output)["parameters"]
    for name, folder in (("before", options.model), ("after", options.reduced)):
        stored = load_file(folder / "model.safetensors")
        assert counted[name] == sum(each.numel() for each in stored.values())


def test_the_curve_says_what_other_sizes_cost(options):
    reports.report(options)
    result = read_json(options.output)
    curve = result["curve"]
    sizes = [point["tokens"] for point in curve]
    assert sizes == sorted(set(sizes))
    assert len(curve) >= 5
    (chosen,) = [point for point in curve if point["chosen"]]
    assert chosen["tokens"] == result["tokens"]["selected"]
    assert chosen["coverage"] == result["token_coverage"]
    assert chosen["fertility"] == pytest.approx(result["texts"]["corpus"]["after"]["fertility"])
    by_coverage = [point for point in curve if not point["chosen"]]
    fertility = [point["fertility"] for point in by_coverage]
    assert fertility == sorted(fertility, reverse=True)
    assert fertility[-1] == pytest.approx(result["texts"]["corpus"]["before"]["fertility"])
    assert by_coverage[-1]["coverage"] == 1


def test_texts_are_read_whole_whatever_the_folder_says(options, tmp_path):
    reports.report(options)
    teacher = tmp_path / "teacher"
    shutil.copytree(options.model, teacher)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer(["a", "a b c"], truncation=True, max_length=8, padding=True)
    tokenizer.save_pretrained(teacher)
    stored = read_json(teacher / "tokenizer.json")
    assert stored["truncation"]
    assert stored["padding"]
    output = tmp_path / "vocabulary.json"
    reports.report(options.model_copy(update={"model": teacher, "output": output}))
    expected = read_json(options.output)
    assert {key: read_json(output)[key] for key in ("texts", "curve")} == {
        key: expected[key] for key in ("texts", "curve")
    }


def test_files_that_do_not_belong_together_are_refused(options, tmp_path):
    (tmp_path / "other.csv").write_text("[PAD]\n")
    with pytest.raises(InputError, match="was reduced with"):
        reports.report(options.model_copy(update={"vocabulary": tmp_path / "other.csv"}))


def test_token_coverage_counts_no_special_tokens(options):
    counts = selection.read_counts(options.counts)
    frequent = int(np.argmax(counts.occurrences))
    share = counts.occurrences[frequent] / counts.occurrences.sum()
    assert reports.token_coverage(counts, [frequent], []) == pytest.approx(share)
    assert reports.token_coverage(counts, [frequent], [frequent]) == 0


def test_a_language_without_spaces(tmp_path):
    """Selection, reduction and report; between spaces there are phrases, not words."""
    options = prepare(tmp_path, "spaceless", SelectionRule(coverage=0.99))
    reports.report(options)
    result = read_json(options.output)
    assert result["verification"]["texts"]["corpus"]["sentences_compared"] > 5
    corpus = result["texts"]["corpus"]
    assert corpus["words"] == 100
    assert corpus["after"]["fertility"] >= corpus["before"]["fertility"] > 5


def test_scripts_of_bytes_are_those_of_the_letters(tmp_path):
    folder = make_teacher("modernbert", tmp_path / "teacher")
    description = tokenizer_json.read_description(folder)
    tokens = AutoTokenizer.from_pretrained(folder).tokenize(" ".join(sentences("qab")[:20]))
    scripts = reports.count_scripts(description, set(tokens))
    assert set(scripts) >= {"Cyrillic", "Common"}
