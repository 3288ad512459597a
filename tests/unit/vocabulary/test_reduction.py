"""Exactness of the reduced tokenizer and model, in every family and script."""

import random
import shutil

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

import worlds
from eliquare import cli
from eliquare.io import InputError, checksum, read_json, write_json
from eliquare.models import loading
from eliquare.vocabulary import select as selection
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.reduce import ReduceOptions, reduce
from families import FAMILIES, LANGUAGES, SIZE, make_teacher, reduce_model, sentences


def reduced(folder, kept, output, sample=None):
    """Reduce a model to some ids; return the folder."""
    reduce_model(folder, dict.fromkeys(sorted(kept), "listed"), output, sample)
    return output


def ids_for(folder, tokenizer, texts, extra):
    """Return all tokens of the texts, the special ones, and others by chance; closed."""
    description = tokenizer_json.read_description(folder)
    kept = tokenizer_json.special_ids(folder, description)
    for text in texts:
        kept.update(tokenizer(text)["input_ids"])
    kept.update(extra.sample(range(len(tokenizer)), 100))
    return list(selection.complete(dict.fromkeys(kept, "listed"), description))


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request, tmp_path_factory):
    folder = make_teacher(request.param, tmp_path_factory.mktemp(request.param))
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    return folder, AutoTokenizer.from_pretrained(folder), model


@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), language=st.sampled_from(LANGUAGES))
@example(seed=0, language="spaceless")
def test_reduction_is_exact(teacher, tmp_path, seed, language):
    """Random vocabularies: the same segmentation, all hidden states bit for bit, the logits."""
    folder, tokenizer, model = teacher
    extra = random.Random(seed)
    texts = extra.sample(sentences(language), 4)
    kept = ids_for(folder, tokenizer, texts, extra)
    reduced(folder, kept, tmp_path / "new")
    small = AutoModelForMaskedLM.from_pretrained(tmp_path / "new").eval()
    small_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert small.config.vocab_size == len(small_tokenizer) == len(kept)
    unigram = tokenizer_json.kind_of(tokenizer_json.read_description(folder)) == "Unigram"
    for text in texts:
        if tokenizer.unk_token in tokenizer.tokenize(text) and not unigram:
            continue
        old = tokenizer(text, truncation=True, return_tensors="pt")
        new = small_tokenizer(text, truncation=True, return_tensors="pt")
        assert [kept[i] for i in new["input_ids"][0]] == old["input_ids"][0].tolist()
        with torch.no_grad():
            before = model(**old, output_hidden_states=True)
            after = small(**new, output_hidden_states=True)
        for a, b in zip(before.hidden_states, after.hidden_states, strict=True):
            assert torch.equal(a, b)
        torch.testing.assert_close(after.logits, before.logits[..., kept], rtol=1e-5, atol=1e-5)


def test_the_card_names_the_model_that_was_fetched(teacher, tmp_path):
    """And not the folder that it was fetched to, which the workflow calls "model"."""
    folder, tokenizer, _ = teacher
    fetched = tmp_path / "model"
    shutil.copytree(folder, fetched)
    write_json(fetched / "provenance.json", {"settings": {"model": "someone/their-model"}})
    kept = ids_for(folder, tokenizer, sentences("qaa")[:9], random.Random(1))
    reduced(fetched, kept, tmp_path / "new")
    card = (tmp_path / "new/README.md").read_text(encoding="utf-8")
    assert "base_model: someone/their-model" in card
    assert "# someone/their-model, reduced to" in card


def test_a_reduced_folder_loads_alone_and_fills_masks_in_the_same_order(teacher, tmp_path):
    folder, tokenizer, model = teacher
    texts = sentences("qaa")[:20]
    kept = ids_for(folder, tokenizer, texts, random.Random(1))
    documents = worlds.write_documents(tmp_path / "documents", texts)
    reduced(folder, kept, tmp_path / "new", documents)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert not names & {"vocab.txt", "sentencepiece.bpe.model"}
    assert {"provenance.json", "README.md", "vocabulary.csv", "verification.json"} <= names
    words = texts[0].split()
    text = " ".join([*words[:2], tokenizer.mask_token, *words[3:5]])
    old = pipeline("fill-mask", str(folder))(text, top_k=len(tokenizer))
    new = pipeline("fill-mask", str(tmp_path / "new"))(text, top_k=30)
    stay = set(kept)
    assert [kept[row["token"]] for row in new] == [
        row["token"] for row in old if row["token"] in stay
    ][:30]
    # Pairs of texts, and the ids that the configuration names.
    small = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert [kept[i] for i in small(*texts[:2])["input_ids"]] == tokenizer(*texts[:2])["input_ids"]
    config = AutoModelForMaskedLM.from_pretrained(tmp_path / "new").config
    assert kept[config.pad_token_id] == model.config.pad_token_id
    assert kept[small.mask_token_id] == tokenizer.mask_token_id


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_precision_stays(tmp_path, dtype):
    folder = make_teacher("bert", tmp_path / "teacher", dtype)
    reduced(folder, range(500), tmp_path / "new")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "new").dtype == dtype


def test_reduction_is_repeatable(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    for name in ("one", "two"):
        reduced(folder, range(500), tmp_path / name)
    assert checksum(tmp_path / "one") == checksum(tmp_path / "two")


def test_keeping_everything_changes_no_weight(tmp_path):
    folder = make_teacher("distilbert", tmp_path / "teacher")
    reduced(folder, range(SIZE), tmp_path / "new")
    old, new = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "new"))
    assert old.keys() == new.keys()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())


def test_a_head_that_is_stored_twice_is_reduced_twice(tmp_path):
    """Some files store the tied embeddings a second time, as the output weights."""
    folder = make_teacher("bert", tmp_path / "teacher")
    weights = load_file(folder / "model.safetensors")
    weights["cls.predictions.decoder.weight"] = weights[
        "bert.embeddings.word_embeddings.weight"
    ].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    kept = [*range(5), *range(300, 600)]
    reduced(folder, kept, tmp_path / "new")
    new = load_file(tmp_path / "new/model.safetensors")
    assert torch.equal(
        new["cls.predictions.decoder.weight"], weights["cls.predictions.decoder.weight"][kept]
    )


def test_generation_config_is_renumbered(tmp_path):
    folder = make_teacher("bert-padded", tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    values = {"pad_token_id": 0, "eos_token_id": [tokenizer.sep_token_id]}
    write_json(folder / "generation_config.json", values)
    kept = sorted({*tokenizer.all_special_ids, *range(100, 500)})
    reduced(folder, kept, tmp_path / "new")
    new = read_json(tmp_path / "new" / "generation_config.json")
    assert kept[new["eos_token_id"][0]] == tokenizer.sep_token_id


def test_the_penalty_of_unigrams_unknown_token_depends_on_no_token_that_left():
    description = {
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -9.0]],
        },
        "added_tokens": [{"id": 0, "content": "<unk>"}],
    }
    result = tokenizer_json.reduce(description, [0, 1])
    assert result["model"]["vocab"] == [["<unk>", -9.0], ["a", -1.0]]


def test_rows_beyond_the_tokenizer_are_dropped(tmp_path):
    """Padded vocabularies: 13 rows more than tokens."""
    folder = make_teacher("bert-padded", tmp_path / "teacher")
    reduced(folder, range(700), tmp_path / "new")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "new").config.vocab_size == 700


def test_rows_fewer_than_the_tokenizer_has_tokens(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    model.resize_token_embeddings(1000)
    model.save_pretrained(folder)
    reduced(folder, range(900), tmp_path / "new")
    with pytest.raises(InputError, match=r"1,101 tokens in the tokenizer, and only 1,000 rows"):
        reduced(folder, [*range(900), 1100], tmp_path / "other")


def test_older_weights_are_read(tmp_path):
    """pytorch_model.bin, as many published models still have it."""
    folder = make_teacher("bert", tmp_path / "teacher")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    reduced(folder, range(700), tmp_path / "one")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (tmp_path / "text.txt").write_text("\n".join(sentences("qaa")[:30]), encoding="utf-8")
    reduced(folder, range(SIZE), tmp_path / "full", tmp_path / "text.txt")
    reduced(folder, range(700), tmp_path / "two")
    one, two = (AutoModelForMaskedLM.from_pretrained(tmp_path / n) for n in ("one", "two"))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])


def test_published_deberta_v3_weights_keep_their_head(tmp_path):
    """Their configuration does not say ``legacy: false``, without which the head is not read."""
    folder = make_teacher("deberta-v3", tmp_path / "teacher")
    config = read_json(folder / "config.json")
    config.pop("legacy")
    write_json(folder / "config.json", config)
    kept = [*range(700), SIZE - 1]
    reduced(folder, kept, tmp_path / "new")
    before = load_file(folder / "model.safetensors")["lm_predictions.lm_head.bias"]
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "new")
    assert torch.equal(model.lm_predictions.lm_head.bias, before[kept])


@pytest.mark.parametrize("family", ["bert", "xlmr-other", "modernbert", "deberta"])
def test_a_model_without_an_mlm_head_is_reduced(family, tmp_path, caplog):
    full = make_teacher(family, tmp_path / "full")
    folder = tmp_path / "encoder"
    AutoModel.from_pretrained(full).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(full)
    tokenizer.save_pretrained(folder)
    lines = sentences("qaa")[:20]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    kept = {i for ids in tokenizer(lines)["input_ids"] for i in ids}
    kept |= tokenizer_json.special_ids(folder, tokenizer_json.read_description(folder))
    caplog.set_level("INFO")
    reduced(folder, kept, tmp_path / "new", tmp_path / "text.txt")
    assert "has no MLM head" in caplog.text
    findings = read_json(tmp_path / "new/verification.json")
    assert findings["mlm_head"] is False
    assert findings["largest_relative_logit_difference"] is None
    assert AutoModel.from_pretrained(tmp_path / "new").config.vocab_size < SIZE


# Models that cannot be reduced


def test_a_failed_reduction_leaves_nothing(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    (tmp_path / "text.txt").write_text(" ")
    with pytest.raises(InputError, match="--sample: no sentence in it; give some text"):
        reduced(folder, range(100, 500), tmp_path / "new", tmp_path / "text.txt")
    assert not (tmp_path / "new").exists()


def test_positions_that_depend_on_the_padding_id(tmp_path):
    """RoBERTa counts positions from the padding id + 1: tokens before it must stay."""
    folder = make_teacher("xlmr-other", tmp_path / "teacher")
    rules = read_json(folder / "tokenizer.json")
    rules["added_tokens"] = [t for t in rules["added_tokens"] if t["content"] != "<s>"]
    rules["post_processor"] = None
    write_json(folder / "tokenizer.json", rules)
    for name in ("config.json", "tokenizer_config.json"):
        values = read_json(folder / name)
        for key in ("bos_token_id", "bos_token", "cls_token"):
            values.pop(key, None)
        write_json(folder / name, values | ({"bos_token_id": 2} if name == "config.json" else {}))
    with pytest.raises(InputError, match="counts its positions from the id of its padding token"):
        reduced(folder, range(1, SIZE), tmp_path / "new")


def test_a_vocabulary_size_that_the_weights_do_not_have(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"vocab_size": SIZE + 100})
    with pytest.raises(InputError, match=r"1,200 rows.*vocab_size 1,300"):
        reduced(folder, range(700), tmp_path / "new")


def test_a_tokenizer_without_a_fast_version(tmp_path, monkeypatch):
    folder = make_teacher("bert", tmp_path / "teacher")
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", lambda folder, **_: object())
    with pytest.raises(InputError, match="not a fast one"):
        reduced(folder, range(700), tmp_path / "new")


def test_a_file_of_weights_that_is_cut_short(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="cut short"):
        reduced(folder, range(700), tmp_path / "new")


def test_a_folder_without_weights(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights here"):
        reduced(folder, range(700), tmp_path / "new")


# As commands, without a workflow


def command(*arguments):
    """Run a stage of the vocabulary; return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["vocabulary", *map(str, arguments)])
    return stopped.value.code


def test_select_reduce_and_verify_on_plain_text(tmp_path, capsys):
    folder = make_teacher("bert", tmp_path / "teacher")
    text, vocabulary = tmp_path / "text.txt", tmp_path / "vocabulary.csv"
    text.write_text("\n".join(sentences("qaa")[:40]), encoding="utf-8")
    fraction = ("--min-sentence-fraction", "0.05", "--output", vocabulary)
    assert command("select", "--model", folder, "--text", text, *fraction) == 0
    paths = ("--model", folder, "--vocabulary", vocabulary, "--output", tmp_path / "new")
    assert command("reduce", *paths, "--sample", text) == 0
    assert read_json(tmp_path / "new/verification.json")["texts"]["corpus"]["sentences_compared"]
    rows = vocabulary.read_text(encoding="utf-8")
    assert (tmp_path / "new/vocabulary.csv").read_text(encoding="utf-8") == rows

    # Verify judges the finished folder and changes nothing.
    before = checksum(tmp_path / "new")
    paths = ("--model", folder, "--reduced", tmp_path / "new", "--sample", text)
    assert command("verify", *paths, "--output", tmp_path / "verification.json") == 0
    assert checksum(tmp_path / "new") == before
    assert read_json(tmp_path / "verification.json")["rows"] == "same"

    # One line and exit code 2 where something differs, or an option cannot be read.
    values = read_json(tmp_path / "new/config.json")
    write_json(tmp_path / "new/config.json", values | {"pad_token_id": 3})
    capsys.readouterr()
    assert command("verify", *paths, "--output", tmp_path / "other.json") == 2
    assert [line[:6] for line in capsys.readouterr().err.splitlines()] == ["error:"]
    assert not (tmp_path / "other.json").exists()
    assert command("verify", *paths, "--tasks", "nothing") == 2
    assert "expected NAME=FILE, found 'nothing'" in capsys.readouterr().err


def test_a_plain_list_without_specials_gets_them(tmp_path, caplog):
    folder = make_teacher("bert", tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = sentences("qaa")[:40]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    tokens = {token for line in lines for token in tokenizer.tokenize(line)}
    letters = {form for line in lines for c in line for form in (c, f"##{c}")}
    listed = sorted((tokens | letters & set(tokenizer.get_vocab())) - {"[UNK]"})
    (tmp_path / "list.txt").write_text("\n".join([*listed, listed[0]]), encoding="utf-8")
    caplog.set_level("INFO")
    options = ReduceOptions(
        model=str(folder),
        vocabulary=tmp_path / "list.txt",
        sample=tmp_path / "text.txt",
        output=tmp_path / "new",
    )
    reduce(options)
    assert "5 tokens join the selected ones (5 special)" in caplog.text
    assert "stands in it twice" in caplog.text
    assert read_json(tmp_path / "new/verification.json")["texts"]["corpus"]["sentences_compared"]
    with pytest.raises(InputError, match="--sample"):
        reduce(options.model_copy(update={"sample": None, "tasks": ["a=b"]}))
    reduce(options.model_copy(update={"sample": None}))
    assert "nothing proves this reduction" in caplog.text
