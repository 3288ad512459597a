"""An exact reduction changes nothing under any head; what would break one is refused."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

import families
from eliquare.io import InputError, read_json, write_json
from eliquare.models.sentence import MODULES, PROMPTS, Sentence, write_sentence
from eliquare.vocabulary import heads
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.reduce import ReduceOptions, reduce
from eliquare.vocabulary.verify import compare

QUERY = "kala "


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(families.sentences("qaa")[:40]), encoding="utf-8")
    return path


def with_head(family, head, folder):
    """Write a random model of a family with a head."""
    families.make_teacher(family, folder / "masked")
    tokenizer = AutoTokenizer.from_pretrained(folder / "masked")
    kinds = {
        "classifier": (AutoModelForSequenceClassification, {"num_labels": 3}),
        "pair head": (AutoModelForSequenceClassification, {"num_labels": 1}),
        "tagger": (AutoModelForTokenClassification, {"num_labels": 5}),
        "answers": (AutoModelForQuestionAnswering, {}),
        "sentence": (AutoModel, {}),
    }
    kind, options = kinds[head]
    torch.manual_seed(3)
    kind.from_pretrained(folder / "masked", **options).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    if head == "sentence":
        write_sentence(folder / "model", Sentence("mean", True, {"query": QUERY}), 16)
        families.add_dense(folder / "model")
    return folder / "model"


def kept_ids(folder, text):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = text.read_text(encoding="utf-8").splitlines()
    characters = [t for t in tokenizer.get_vocab() if len(t.replace("##", "").lstrip("▁")) == 1]
    kept = {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(characters), *range(5)}
    return sorted(kept.union(*tokenizer(lines[:30])["input_ids"]))


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "classifier"),
        ("xlmr", "pair head"),
        ("bert-padded", "tagger"),
        ("xlmr", "answers"),
        ("bert", "sentence"),
    ],
)
def test_the_same_under_every_head(family, head, text, tmp_path):
    model = with_head(family, head, tmp_path)
    selected = dict.fromkeys(kept_ids(model, text), "listed")
    findings = families.reduce_model(model, selected, tmp_path / "new", text)
    found = findings["other_head"]
    assert findings["tokens"] < len(AutoTokenizer.from_pretrained(model))
    lines = text.read_text(encoding="utf-8").splitlines()[:4]
    if head == "sentence":
        assert found["modules"] == ["Transformer", "Pooling", "Dense", "Normalize"]
        old, new = (SentenceTransformer(str(f), device="cpu") for f in (model, tmp_path / "new"))
        assert (
            old.encode(lines, prompt_name="query") == new.encode(lines, prompt_name="query")
        ).all()
    else:
        assert found.get("texts") == (None if head == "answers" else 16)
        assert found.get("pairs") == (None if head == "tagger" else 15)
    if head == "pair head":
        pairs = [(lines[0], lines[1]), (lines[2], lines[3])]
        old, new = (CrossEncoder(str(f), device="cpu") for f in (model, tmp_path / "new"))
        assert (old.predict(pairs) == new.predict(pairs)).all()


@pytest.mark.parametrize(
    ("head", "bias", "named"),
    [
        ("classifier", "classifier.bias", "BertForSequenceClassification"),
        ("answers", "qa_outputs.bias", "BertForQuestionAnswering"),
    ],
)
def test_a_head_that_another_tool_damaged_or_lost_is_found(head, bias, named, text, tmp_path):
    model = with_head("bert", head, tmp_path)
    selected = dict.fromkeys(kept_ids(model, text), "listed")
    families.reduce_model(model, selected, tmp_path / "new")
    weights = load_file(tmp_path / "new/model.safetensors")
    shutil.copytree(tmp_path / "new", tmp_path / "lost")
    weights[bias] += 0.001
    save_file(weights, tmp_path / "new/model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"{named} gives another answer"):
        compare(model, tmp_path / "new", text)
    (tmp_path / "one.txt").write_text(text.read_text(encoding="utf-8").splitlines()[0])
    with pytest.raises(InputError, match=f"{named} gives another answer"):
        compare(model, tmp_path / "new", tmp_path / "one.txt")
    config = read_json(tmp_path / "lost/config.json") | {"architectures": ["BertModel"]}
    write_json(tmp_path / "lost/config.json", config)
    with pytest.raises(InputError, match=f"the old model is a {named}, and"):
        compare(model, tmp_path / "lost", text)


def test_the_tokens_of_prompts_stay_and_are_missed_where_another_tool_lost_them(text, tmp_path):
    model = with_head("bert", "sentence", tmp_path)
    prompts = read_json(model / PROMPTS)
    tokenizer = AutoTokenizer.from_pretrained(model)
    kept = kept_ids(model, text)
    words = (t for t, i in tokenizer.get_vocab().items() if len(t) > 2 and i not in kept)
    lost = min(word for word in words if tokenizer.tokenize(word) == [word])
    prompts["prompts"]["query"] = f"{lost} "
    write_json(model / PROMPTS, prompts)
    needed = heads.prompt_ids(model, tokenizer_json.describe(tokenizer))
    families.reduce_model(model, dict.fromkeys(kept, "listed"), tmp_path / "new", text)
    rows = (tmp_path / "new/vocabulary.csv").read_text(encoding="utf-8")
    assert rows.count(",prompt\n") == len(needed - {*kept})
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in needed - {*kept}]
    with pytest.raises(InputError, match=r"the prompt 'query', .* has the token .* not kept"):
        heads.check_prompts(model, tmp_path / "new", frozenset(kept))
    assert set(tokens) <= set(AutoTokenizer.from_pretrained(tmp_path / "new").get_vocab())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("score of a token", "its module LogitScore names tokens by their ids"),
        ("sparse", "its module SpladePooling names tokens by their ids"),
        ("own key", "config.json: label_word_ids names tokens by their ids"),
        ("generates", "BertLMHeadModel answers with ids of tokens"),
    ],
)
def test_a_head_that_names_tokens_by_their_ids_is_refused(change, said, text, tmp_path):
    model = with_head("bert", "sentence", tmp_path)
    config = read_json(model / "config.json")
    modules = read_json(model / MODULES, list)
    if change == "score of a token":
        (model / "1_LogitScore").mkdir()
        write_json(model / "1_LogitScore/config.json", {"true_token_id": 7})
        modules[1] |= {"path": "1_LogitScore", "type": "sentence_transformers.models.LogitScore"}
    elif change == "sparse":
        modules[1]["type"] = "sentence_transformers.sparse_encoder.models.SpladePooling"
    elif change == "own key":
        config["label_word_ids"] = [3, 4]
    else:
        config["architectures"] = ["BertLMHeadModel"]
    write_json(model / "config.json", config)
    write_json(model / MODULES, modules)
    with pytest.raises(InputError, match=said):
        families.reduce_model(model, dict.fromkeys(range(9), "listed"), tmp_path / "new", text)
    assert not (tmp_path / "new").exists()


def test_verify_needs_text(tmp_path):
    model = families.make_teacher("bert", tmp_path / "model")
    options = {"model": str(model), "vocabulary": tmp_path / "v.csv", "output": tmp_path / "new"}
    with pytest.raises(InputError, match="--sample: give a documents folder or a text file"):
        reduce(ReduceOptions(**options, verify=True))
