"""The known mistakes of tools that reduce vocabularies, each planted and found by verify."""

import shutil

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

import worlds
from eliquare.io import InputError, read_json, write_json
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.verify import VerifyOptions, compare
from families import make_teacher, reduce_model, sentences


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder with a teacher, its reduced form and documents; and the kept ids.

    Special tokens stand at 41 and on, as in mBERT.
    """
    folder = tmp_path_factory.mktemp("models")
    texts = sentences("qaa")[:60]
    old = make_teacher("bert-padded", folder / "old")
    tokenizer = AutoTokenizer.from_pretrained(old)
    vocabulary = tokenizer.get_vocab()
    kept = set(tokenizer.all_special_ids)
    for text in texts[:40]:
        kept.update(tokenizer(text)["input_ids"])
    forms = (form for text in texts for c in text for form in (c, f"##{c}"))
    kept.update(vocabulary[form] for form in forms if form in vocabulary)
    worlds.write_documents(folder / "documents", texts)
    selected = dict.fromkeys(sorted(kept), "listed")
    reduce_model(old, selected, folder / "new", folder / "documents")
    return folder, sorted(kept)


@pytest.fixture
def planted(models, tmp_path):
    """Return a copy of the right reduction, to plant a mistake in."""
    shutil.copytree(models[0] / "new", tmp_path / "new")
    return tmp_path / "new"


def check(models, planted):
    return compare(models[0] / "old", planted, models[0] / "documents", sentences=20)


def tokens_of(models):
    return tokenizer_json.list_tokens(tokenizer_json.read_description(models[0] / "old"))


def change_weights(planted, change):
    weights = load_file(planted / "model.safetensors")
    change(weights)
    save_file(weights, planted / "model.safetensors", {"format": "pt"})


def change_json(path, change):
    value = read_json(path)
    change(value)
    write_json(path, value)


def test_the_right_reduction_passes(models, planted):
    findings = check(models, planted)
    assert findings["texts"]["corpus"]["sentences_compared"] == 20
    assert findings["largest_relative_logit_difference"] < 1e-6
    assert findings["mlm_head"] is True
    assert findings["tokens"] == len(models[1])


def test_output_bias_of_the_first_rows(models, planted):
    old = load_file(models[0] / "old" / "model.safetensors")["cls.predictions.bias"]
    size = len(models[1])
    change_weights(planted, lambda w: w.update({"cls.predictions.bias": old[:size].clone()}))
    with pytest.raises(InputError, match=r"predictions.bias: the row of token .* is not its"):
        check(models, planted)


def test_a_row_of_no_token(models, planted):
    def change(weights):
        weights["bert.embeddings.word_embeddings.weight"][70] += 1

    change_weights(planted, change)
    with pytest.raises(InputError, match=r"embeddings.weight: .*\(1 of .* rows are wrong"):
        check(models, planted)


def test_ids_in_dictionary_order(models, planted):
    def sort_vocabulary(rules):
        vocabulary = rules["model"]["vocab"]
        ids = {word: index for index, word in enumerate(sorted(vocabulary))}
        rules["model"]["vocab"] = ids
        for token in rules["added_tokens"]:
            token["id"] = ids[token["content"]]
        for special in rules["post_processor"]["special_tokens"].values():
            special["ids"] = [ids[token] for token in special["tokens"]]

    change_json(planted / "tokenizer.json", sort_vocabulary)
    pad = AutoTokenizer.from_pretrained(planted).pad_token_id
    change_json(planted / "config.json", lambda c: c.update(pad_token_id=pad))
    with pytest.raises(InputError, match=r"of token .* is not its old one .* rows are wrong"):
        check(models, planted)


def test_stale_special_ids_in_the_configuration(models, planted, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(models[0] / "old", old)
    sep = AutoTokenizer.from_pretrained(old).sep_token_id
    for folder in (old, planted):
        change_json(folder / "config.json", lambda c: c.update(sep_token_id=sep))
    with pytest.raises(InputError, match=rf"config.json: sep_token_id is {sep}, but '\[SEP\]'"):
        compare(old, planted, models[0] / "documents")


@pytest.mark.parametrize("part", ["post_processor", "added_tokens"])
def test_stale_ids_in_the_tokenizer(models, planted, part):
    old = read_json(models[0] / "old" / "tokenizer.json")[part]
    change_json(planted / "tokenizer.json", lambda t: t.update({part: old}))
    with pytest.raises(InputError):
        check(models, planted)


def test_missing_continuation_characters(models, tmp_path):
    folder, kept = models
    tokens = tokens_of(models)
    fewer = [i for i in kept if not (tokens[i].startswith("##") and len(tokens[i]) == 3)]
    reduce_model(folder / "old", dict.fromkeys(fewer, "listed"), tmp_path / "new")
    with pytest.raises(InputError, match=r"the character '##.' was not kept, which '.* has"):
        compare(folder / "old", tmp_path / "new", folder / "documents")


def test_a_character_of_a_task_that_the_corpus_lacks_is_counted(models, planted, tmp_path):
    folder, kept = models
    lacking = next(
        token
        for index, token in enumerate(tokens_of(models))
        if index not in kept and len(token) == 1 and token.isalpha()
    )
    known = sentences("qaa")[0]
    (tmp_path / "task.txt").write_text(f"{known} {lacking}\n{known}\n", encoding="utf-8")
    tasks = [("task", tmp_path / "task.txt")]
    texts = compare(folder / "old", planted, folder / "documents", tasks)["texts"]
    assert texts["task"]["sentences_newly_unknown"] == 1
    assert texts["corpus"]["sentences_newly_unknown"] == 0


def test_tasks_that_are_unavailable_are_left_out(tmp_path):
    (tmp_path / "gone").mkdir()
    write_json(tmp_path / "gone/unavailable.json", {"reason": "moved away"})
    values = {"model": "m", "reduced": "r", "sample": "s"}
    files = [f"gone={tmp_path}/gone/train.tsv", f"there={tmp_path}/there/train.tsv"]
    options = VerifyOptions.model_validate({**values, "tasks": files})
    assert options.tasks == [("there", tmp_path / "there/train.tsv")]


def test_changed_segmentation(models, planted):
    change_json(planted / "tokenizer.json", lambda t: t["normalizer"].update(lowercase=True))
    with pytest.raises(InputError, match="segments "):
        check(models, planted)


def test_a_dropped_token_beyond_the_longest_input_counts(tmp_path):
    """It changes the tokens before it, so the sentence is not segmented into kept tokens alone."""
    pieces = ["<unk>", "<pad>", "</s>", "▁", "ab", "cd", "a", "bcd", "x"]
    folder = tmp_path / "old"
    backend = Tokenizer(Unigram([(piece, -1.0 - n / 100) for n, piece in enumerate(pieces)], 0))
    backend.pre_tokenizer = Metaspace()
    roles = {"unk_token": "<unk>", "pad_token": "<pad>", "sep_token": "</s>"}
    tokens = PreTrainedTokenizerFast(tokenizer_object=backend, **roles)
    config = XLMRobertaConfig(
        vocab_size=len(pieces), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=140, pad_token_id=1,
    )  # fmt: skip
    XLMRobertaForMaskedLM(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    kept = [pieces.index(piece) for piece in pieces if piece != "cd"]
    text = tmp_path / "text.txt"
    text.write_text("x ab\n" + "x " * 64 + "abcd\n", encoding="utf-8")
    reduce_model(folder, dict.fromkeys(kept, "listed"), tmp_path / "new", text)
    counted = read_json(tmp_path / "new/verification.json")["texts"]["corpus"]
    assert counted["sentences_read"] == 2
    assert counted["sentences_segmented_identically"] == 1


def test_changed_encoder(models, planted):
    def change(weights):
        weights["bert.encoder.layer.1.output.dense.bias"] += 0.01

    change_weights(planted, change)
    with pytest.raises(InputError, match="other hidden states"):
        check(models, planted)


@pytest.mark.parametrize("amount", [0.1, float("nan")])
def test_changed_head(models, planted, amount):
    """The transform of the head has no row per token; the logits show it."""

    def change(weights):
        weights["cls.predictions.transform.dense.bias"] += amount

    change_weights(planted, change)
    with pytest.raises(InputError, match="MLM logits differ"):
        check(models, planted)


def test_a_head_that_the_other_tool_lost(models, planted):
    AutoModel.from_pretrained(planted).save_pretrained(planted)
    with pytest.raises(InputError, match="the old model has an MLM head, and this one has none"):
        check(models, planted)


def test_tokens_of_its_own(models, planted):
    def rename(rules):
        vocabulary = rules["model"]["vocab"]
        vocabulary["novel"] = vocabulary.pop(next(w for w in vocabulary if w.isalpha()))

    change_json(planted / "tokenizer.json", rename)
    with pytest.raises(InputError, match="token 'novel' is not one of the old model's"):
        check(models, planted)


def test_documents_without_a_kept_sentence_are_refused(models, planted, tmp_path):
    _, kept = models
    gone = [t for i, t in enumerate(tokens_of(models)) if i not in kept and t.isalpha()]
    worlds.write_documents(tmp_path / "documents", [max(gone, key=len)])
    with pytest.raises(InputError, match="none of 1 sentences"):
        compare(models[0] / "old", planted, tmp_path / "documents")
