"""Input that cannot be used, or only with a word about it: each a clear answer."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertTokenizer
from vocabulary_helpers import make_teacher, needs_data, real_sentences, swahili_news

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import reduce as reduction
from eliquare.vocabulary import report, select
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.counting import count_text

pytestmark = needs_data


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher, a text of its language, and a plain list of the sub-words in that text."""
    folder = tmp_path_factory.mktemp("input")
    make_teacher("bert", folder / "teacher")
    texts = swahili_news(40)
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    words = {token for text in texts for token in tokenizer.tokenize(text)}
    letters = {form for text in texts for c in text for form in (c, f"##{c}")}
    words |= letters & set(tokenizer.get_vocab())
    return folder, sorted(words - set(tokenizer.all_special_tokens))


def command(teacher, output, keep, *options):
    """Run the command; returns its exit code and what it printed."""
    arguments = ["--model", teacher[0] / "teacher", "--output", output, *options]
    arguments += ["--keep", keep] if keep else []
    done = subprocess.run(
        [sys.executable, "-m", "eliquare.vocabulary.reduce", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stderr.splitlines() if "Loading weights" not in line]
    return done.returncode, lines


def written(tmp_path, words):
    (tmp_path / "kept.txt").write_text("\n".join(words), encoding="utf-8")
    return tmp_path / "kept.txt"


def test_a_plain_list_without_specials_gets_them_and_says_so(teacher, tmp_path):
    keep = written(tmp_path, teacher[1])
    text = teacher[0] / "text.txt"
    code, lines = command(teacher, tmp_path / "cut", keep, "--sample", text)
    assert code == 0, lines
    assert f"{keep}: 5 sub-words joined what it keeps (5 special)" in lines
    assert any("the same model on 16 of them" in line for line in lines)
    # The same command with --verify judges the finished folder, and makes nothing.
    before = stage.checksum(tmp_path / "cut")
    code, lines = command(teacher, tmp_path / "cut", None, "--verify", "--sample", text)
    assert code == 0 and "the same model" in lines[-1]
    assert stage.checksum(tmp_path / "cut") == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["the", "qqqzzz"], "line 2: 'qqqzzz' is not a sub-word of the model"),
        ([], "keeps no sub-word"),
        (["id;subword;reason"], "line 1: 'id;subword;reason' is not a sub-word"),
    ],
)
def test_lists_that_cannot_be_used(teacher, tmp_path, words, message):
    tokenizer = AutoTokenizer.from_pretrained(teacher[0] / "teacher")
    words = [tokenizer.convert_ids_to_tokens(700) if word == "the" else word for word in words]
    code, lines = command(teacher, tmp_path / "cut", written(tmp_path, words))
    assert code == 2 and len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "cut").exists()


def test_a_list_with_duplicates_is_used_and_told(teacher, tmp_path):
    code, lines = command(teacher, tmp_path / "cut", written(tmp_path, teacher[1] * 2))
    assert code == 0
    assert any("stand in it twice" in line for line in lines)
    assert any("nothing proves this reduction" in line for line in lines)


def test_verify_needs_a_sample(teacher, tmp_path):
    code, lines = command(teacher, tmp_path / "cut", None, "--verify")
    assert code == 2 and lines[0].startswith("error: --sample: ")


def test_rows_beyond_the_tokenizer_are_dropped(tmp_path):
    """Padded vocabularies: 2,513 rows for 2,500 sub-words."""
    folder = make_teacher("bert-padded", tmp_path / "teacher")
    kept = range(0, 1000)
    reduction.reduce(folder, kept, tmp_path / "cut")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "cut").config.vocab_size == 1000


def test_rows_fewer_than_the_tokenizer_has_subwords(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    model.resize_token_embeddings(2000)
    model.save_pretrained(folder)
    reduction.reduce(folder, range(1500), tmp_path / "cut")
    with pytest.raises(InputError, match=r"more sub-words than the model has rows \(2,000\)"):
        reduction.reduce(folder, [*range(1500), 2400], tmp_path / "other")


def test_a_vocabulary_size_that_the_weights_do_not_have(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    config = stage.read_json(folder / "config.json")
    stage.write_json(folder / "config.json", config | {"vocab_size": 2600})
    with pytest.raises(InputError, match=r"2,500 rows.*vocab_size 2,600"):
        reduction.reduce(folder, range(1000), tmp_path / "cut")


def test_a_tokenizer_without_a_fast_version(tmp_path, monkeypatch):
    folder = make_teacher("bert", tmp_path / "teacher")
    monkeypatch.setattr(BertTokenizer, "is_fast", False)
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained",
        lambda folder: BertTokenizer.from_pretrained(folder),
    )
    with pytest.raises(InputError, match="no fast version"):
        reduction.reduce(folder, range(1000), tmp_path / "cut")


@pytest.mark.parametrize("family", ["bert", "xlmr-other", "modernbert", "deberta"])
def test_a_model_without_an_mlm_head_is_cut_and_it_is_said(family, tmp_path, capsys):
    whole = make_teacher(family, tmp_path / "whole")
    folder = tmp_path / "encoder"
    AutoModel.from_pretrained(whole).save_pretrained(folder)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tmp_path / "text.txt"
    lines = swahili_news(20)
    text.write_text("\n".join(lines), encoding="utf-8")
    kept = {i for ids in tokenizer(lines)["input_ids"] for i in ids}
    kept |= surgery.special_ids(folder, surgery.read_description(folder))
    findings = reduction.reduce(folder, sorted(kept), tmp_path / "cut", text)
    assert "has no MLM head; its encoder alone was cut" in capsys.readouterr().err
    assert findings["mlm_head"] is False
    assert findings["largest_relative_logit_difference"] is None
    assert AutoModel.from_pretrained(tmp_path / "cut").config.vocab_size < 2500


def test_a_head_that_the_other_tool_lost(teacher, tmp_path):
    folder = tmp_path / "cut"
    keep = written(tmp_path, teacher[1])
    assert command(teacher, folder, keep)[0] == 0
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    code, lines = command(teacher, folder, None, "--verify", "--sample", teacher[0] / "text.txt")
    assert code == 2 and "the old model has an MLM head, and this one has none" in lines[-1]


def test_published_deberta_v3_weights_keep_their_head(tmp_path):
    """Their configuration does not say ``legacy: false``, without which the head is not read."""
    folder = make_teacher("deberta-v3", tmp_path / "teacher")
    config = stage.read_json(folder / "config.json")
    config.pop("legacy")
    stage.write_json(folder / "config.json", config)
    kept = [*range(1000), 2499]
    reduction.reduce(folder, kept, tmp_path / "cut")
    before = load_file(folder / "model.safetensors")["lm_predictions.lm_head.bias"]
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "cut")
    assert torch.equal(model.lm_predictions.lm_head.bias, before[kept])


def test_older_weights_are_read(tmp_path):
    """pytorch_model.bin, as many published models still have it."""
    folder = make_teacher("bert", tmp_path / "teacher")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    reduction.reduce(folder, range(1000), tmp_path / "one")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    reduction.reduce(folder, range(1000), tmp_path / "two")
    one, two = (AutoModelForMaskedLM.from_pretrained(tmp_path / n) for n in ("one", "two"))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])


def test_a_file_of_weights_that_is_cut_short(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="cut short"):
        reduction.reduce(folder, range(1000), tmp_path / "cut")


def test_selection_from_plain_text_for_several_languages(teacher, tmp_path):
    """Each language's rule holds by itself; scripts and lists are kept beside it."""
    folder = teacher[0] / "teacher"
    other = tmp_path / "uk.txt"
    other.write_text("Київ є столицею України\nУкраїна є державою\n", encoding="utf-8")
    size = len(surgery.list_subwords(surgery.read_description(folder)))
    swahili = count_text(teacher[0] / "text.txt", folder, size)
    ukrainian = count_text(other, folder, size)
    alone = [
        {i for i, _, reason in select.select(folder, [corpus], "top_k", 30) if reason == "top_k"}
        for corpus in (swahili, ukrainian)
    ]
    together = select.select(folder, [swahili, ukrainian], "top_k", 30)
    assert alone[0] | alone[1] <= {i for i, _, _ in together}
    with_script = select.select(folder, [swahili], "top_k", 30, scripts=["Hebrew"])
    assert "ש" in {subword for _, subword, _ in with_script}
    assert "ש" not in {subword for _, subword, _ in select.select(folder, [swahili], "top_k", 30)}
    with pytest.raises(InputError, match="'Hebrw' is no script"):
        select.select(folder, [swahili], "top_k", 30, scripts=["Hebrw"])
    listed = written(tmp_path, teacher[1][-5:])
    rows = select.select(folder, [swahili], "list", str(listed))
    assert sum(reason == "list" for _, _, reason in rows) >= 1


def test_a_language_without_spaces(teacher, tmp_path):
    """Selection, reduction and its proof on Japanese; what stands between spaces is a phrase."""
    folder = teacher[0] / "teacher"
    texts = real_sentences("ja")[:60]
    path = tmp_path / "ja.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = select.select(folder, [count_text(path, folder, len(tokenizer))], "coverage", 0.99)
    findings = reduction.reduce(folder, [i for i, _, _ in rows], tmp_path / "cut", path)
    assert findings["texts"]["corpus"]["sentences_run"] > 5
    tokenizers = {"before": tokenizer, "after": AutoTokenizer.from_pretrained(tmp_path / "cut")}
    measured = report.measure_texts(tokenizers, texts)
    assert len(texts) <= measured["words"] < 2 * len(texts)
    assert measured["after"]["sub_words_per_word"] >= measured["before"]["sub_words_per_word"] > 10


def test_select_as_a_command_on_plain_text(teacher, tmp_path):
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "eliquare.vocabulary.select",
                "--model",
                teacher[0] / "teacher",
            ),
            *("--text", teacher[0] / "text.txt", "--coverage", "0.9"),
            *("--output", tmp_path / "kept.csv"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code, lines = command(
        teacher, tmp_path / "cut", tmp_path / "kept.csv", "--sample", teacher[0] / "text.txt"
    )
    assert code == 0, lines
    assert json.loads((tmp_path / "cut/verification.json").read_text())["rows"] == "same"
