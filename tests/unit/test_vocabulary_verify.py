"""The known mistakes of tools that cut vocabularies, each planted and found by verify."""

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from vocabulary_helpers import (
    make_teacher,
    needs_data,
    swahili_news,
    write_documents,
)

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import reduce as reduction
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.verify import verify

pytestmark = needs_data


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A teacher whose special tokens stand at 41 and on, as in mBERT, its cut form, documents."""
    folder = tmp_path_factory.mktemp("models")
    texts = swahili_news(60)
    old = make_teacher("bert-padded", folder / "old")
    tokenizer = AutoTokenizer.from_pretrained(old)
    vocabulary = tokenizer.get_vocab()
    kept = set(tokenizer.all_special_ids)
    for number, text in enumerate(texts):
        if number < 40:
            kept.update(tokenizer(text)["input_ids"])
        kept.update(vocabulary[f] for c in text for f in (c, f"##{c}") if f in vocabulary)
    write_documents(folder / "documents", texts)
    reduction.reduce(old, sorted(kept), folder / "new", folder / "documents")
    return folder, sorted(kept)


@pytest.fixture
def planted(models, tmp_path):
    """A copy of the right reduction, to plant a mistake in."""
    shutil.copytree(models[0] / "new", tmp_path / "new")
    return tmp_path / "new"


def check(models, planted):
    return verify(models[0] / "old", planted, models[0] / "documents", sentences=20)


def change_weights(planted, change):
    weights = load_file(planted / "model.safetensors")
    change(weights)
    save_file(
        {k: v.contiguous() for k, v in weights.items()},
        planted / "model.safetensors",
        {"format": "pt"},
    )


def change_json(path, change):
    value = stage.read_json(path)
    change(value)
    stage.write_json(path, value)


def test_the_right_reduction_passes(models, planted):
    findings = check(models, planted)
    assert findings["texts"]["corpus"]["sentences_run"] == 20
    assert findings["largest_relative_logit_difference"] < 1e-6


def test_output_bias_of_the_first_rows(models, planted):
    old = load_file(models[0] / "old" / "model.safetensors")["cls.predictions.bias"]
    size = len(models[1])
    change_weights(planted, lambda w: w.update({"cls.predictions.bias": old[:size].clone()}))
    with pytest.raises(InputError, match=r"output bias .* of sub-word .* is that of '\[unused"):
        check(models, planted)


def test_ids_in_dictionary_order(models, planted):
    def sort_vocabulary(rules):
        vocabulary = rules["model"]["vocab"]
        ids = {word: i for i, word in enumerate(sorted(vocabulary))}
        rules["model"]["vocab"] = ids
        for token in rules["added_tokens"]:
            token["id"] = ids[token["content"]]
        for special in rules["post_processor"]["special_tokens"].values():
            special["ids"] = [ids[token] for token in special["tokens"]]

    change_json(planted / "tokenizer.json", sort_vocabulary)
    pad = AutoTokenizer.from_pretrained(planted).pad_token_id
    change_json(planted / "config.json", lambda c: c.update(pad_token_id=pad))
    with pytest.raises(InputError, match=r"of sub-word .* is that of .* rows are wrong"):
        check(models, planted)


def test_stale_special_ids_in_the_configuration(models, planted, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(models[0] / "old", old)
    sep = AutoTokenizer.from_pretrained(old).sep_token_id
    for folder in (old, planted):
        change_json(folder / "config.json", lambda c: c.update(sep_token_id=sep))
    with pytest.raises(InputError, match=rf"config.json: sep_token_id is {sep}, but '\[SEP\]'"):
        verify(old, planted, models[0] / "documents")


def test_stale_post_processor(models, planted):
    old = stage.read_json(models[0] / "old" / "tokenizer.json")["post_processor"]
    change_json(planted / "tokenizer.json", lambda t: t.update(post_processor=old))
    with pytest.raises(InputError, match=r"tokenizer.json: post_processor gives '\[CLS\]'"):
        check(models, planted)


def test_stale_added_tokens(models, planted):
    old = stage.read_json(models[0] / "old" / "tokenizer.json")["added_tokens"]
    change_json(planted / "tokenizer.json", lambda t: t.update(added_tokens=old))
    with pytest.raises(InputError):
        check(models, planted)


def test_missing_continuation_characters(models, tmp_path):
    folder, kept = models
    subwords = surgery.list_subwords(surgery.read_description(folder / "old"))
    fewer = [i for i in kept if not (subwords[i].startswith("##") and len(subwords[i]) == 3)]
    reduction.reduce(folder / "old", fewer, tmp_path / "new")
    with pytest.raises(InputError, match=r"the character '##.' was not kept.* the word '"):
        verify(folder / "old", tmp_path / "new", folder / "documents")


def test_a_character_of_a_task_that_the_corpus_lacks_is_counted(models, planted, tmp_path):
    folder, kept = models
    subwords = surgery.list_subwords(surgery.read_description(folder / "old"))
    lacking = next(
        s for i, s in enumerate(subwords) if i not in kept and len(s) == 1 and s.isalpha()
    )
    assert lacking not in (folder / "documents/characters.json").read_text()
    (tmp_path / "task.txt").write_text(f"habari {lacking} njema\nhabari njema\n")
    tasks = {"task": str(tmp_path / "task.txt")}
    findings = verify(folder / "old", planted, folder / "documents", tasks)
    assert findings["texts"]["task"]["sentences_newly_with_unknown"] == 1
    assert findings["texts"]["task"]["sentences_seen"] == 2
    assert findings["texts"]["corpus"]["sentences_newly_with_unknown"] == 0


def test_changed_segmentation(models, planted):
    change_json(planted / "tokenizer.json", lambda t: t["normalizer"].update(lowercase=True))
    with pytest.raises(InputError, match="cuts "):
        check(models, planted)


def test_changed_encoder(models, planted):
    def change(weights):
        weights["bert.encoder.layer.1.output.dense.bias"] += 0.01

    change_weights(planted, change)
    with pytest.raises(InputError, match="other hidden states"):
        check(models, planted)


def test_documents_without_a_kept_sentence_are_refused(models, planted, tmp_path):
    folder, kept = models
    subwords = surgery.list_subwords(surgery.read_description(folder / "old"))
    gone = [s for i, s in enumerate(subwords) if i not in kept and s.isascii() and s.isalpha()]
    write_documents(tmp_path / "documents", [max(gone, key=len)])
    with pytest.raises(InputError, match="none of 1 sentences"):
        verify(folder / "old", planted, tmp_path / "documents")


def test_command_exits_with_2_and_one_line(models, planted, tmp_path):
    change_json(planted / "config.json", lambda c: c.update(pad_token_id=3))
    command = [sys.executable, "-m", "eliquare.vocabulary.verify"]
    command += ["--model", models[0] / "old", "--reduced", planted]
    command += ["--sample", models[0] / "documents", "--output", tmp_path / "v.json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "v.json").exists()
    assert json.loads((models[0] / "new" / "verification.json").read_text())
