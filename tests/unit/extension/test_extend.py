"""A model with new tokens: what it keeps of the old one, and what the new rows start as."""

import csv
import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

import families
import worlds
from eliquare.extension.extend import ExtendOptions, extend
from eliquare.extension.report import ReportOptions, report
from eliquare.io import InputError, read_json
from eliquare.models.loading import load_fast_tokenizer, load_model

FAMILIES = ["bert-untied", "bert-padded", "xlmr", "roberta", "mmbert", "deberta-padded"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return worlds.write_documents(
        tmp_path_factory.mktemp("corpus") / "documents", worlds.texts("qab")
    )


def load(folder):
    return AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("family", "initialization"),
    [(family, "mean") for family in FAMILIES]
    + [("bert-padded", "weighted"), ("bert-padded", "similar")],
)
def test_a_model_keeps_all_that_it_had(family, initialization, documents, tmp_path):
    teacher, output = families.make_teacher(family, tmp_path / "teacher"), tmp_path / "extended"
    options = {"num_tokens": 60, "min_frequency": 3, "initialization": initialization}
    extend(ExtendOptions(model=str(teacher), documents=documents, output=output, **options))
    result = read_json(output / "extension.json")
    tokens, text = result["tokens"], result["text"]
    assert tokens["new"] - tokens["new_for_characters"] == 60
    assert text["fertility_after"] < text["fertility_before"]
    assert result["curve"][0] == {"added": 0, "fertility": pytest.approx(text["fertility_before"])}

    (old_tokenizer, old), (new_tokenizer, new) = load(teacher), load(output)
    size = len(old_tokenizer)
    assert len(new_tokenizer) == tokens["after"] == size + tokens["new"] == new.config.vocab_size
    old_ids, new_ids = old_tokenizer.get_vocab(), new_tokenizer.get_vocab()
    assert all(new_ids[name] == index for name, index in old_ids.items())
    unchanged = 0
    for line in [*families.sentences("qaa")[:8], *families.sentences("qab")[:8]]:
        before, after = (
            tokenizer(line, return_tensors="pt", truncation=True, max_length=100)
            for tokenizer in (old_tokenizer, new_tokenizer)
        )
        if before["input_ids"].tolist() != after["input_ids"].tolist():
            assert int(after["input_ids"].max()) >= size
            continue
        unchanged += 1
        with torch.no_grad():
            of_old = old(**before, output_hidden_states=True)
            of_new = new(**after, output_hidden_states=True)
        assert torch.equal(of_old.hidden_states[-1], of_new.hidden_states[-1])
        torch.testing.assert_close(of_old.logits[..., :size], of_new.logits[..., :size])
    assert unchanged
    if initialization == "mean":
        with (output / "new_tokens.csv").open(encoding="utf-8", newline="") as file:
            row = list(csv.DictReader(file))[-1]
        ids = [old_ids[token] for token in row["old_tokens"].split(" ")]
        index = int(row["token_id"])
        assert new_ids[row["token"]] == index
        assert int(row["occurrences"]) >= 3
        for a, b in (
            (old.get_input_embeddings().weight, new.get_input_embeddings().weight),
            (old.get_output_embeddings().weight, new.get_output_embeddings().weight),
            (old.get_output_embeddings().bias, new.get_output_embeddings().bias),
        ):
            torch.testing.assert_close(b[index], a[ids].mean(dim=0))


def test_given_vectors_decide_which_old_rows_are_mixed(documents, tmp_path):
    teacher = families.make_teacher("bert", tmp_path / "teacher")
    old_tokenizer, old = load(teacher)
    near = old_tokenizer.convert_ids_to_tokens(700)
    output = tmp_path / "extended"
    options = {"model": str(teacher), "documents": documents, "num_tokens": 5, "min_frequency": 3}
    extend(ExtendOptions(**options, output=tmp_path / "first"))
    name = load(tmp_path / "first")[0].convert_ids_to_tokens(len(old_tokenizer))
    vectors = tmp_path / "vectors.txt"
    vectors.write_text(f"{near} 1 0\n{old_tokenizer.convert_ids_to_tokens(701)} 0 1\n{name} 2 0\n")
    similar = {"initialization": "similar", "vectors": str(vectors)}
    extend(ExtendOptions(**options, **similar, output=output))
    result = read_json(output / "extension.json")
    assert result["tokens"]["without_vector"] == result["tokens"]["new"] - 1
    rows = (load(output)[1].get_input_embeddings().weight, old.get_input_embeddings().weight)
    assert torch.equal(rows[0][len(old_tokenizer)], rows[1][700])
    assert "vectors" in read_json(output / "provenance.json")["inputs"]


def test_vectors_of_words_are_refused(documents, tmp_path):
    teacher = families.make_teacher("xlmr", tmp_path / "teacher")
    (tmp_path / "vectors.txt").write_text("reka 1 0\nteka 0 1\n")
    similar = {"initialization": "similar", "vectors": str(tmp_path / "vectors.txt")}
    options = {"model": str(teacher), "documents": documents, "num_tokens": 5, "min_frequency": 3}
    with pytest.raises(InputError, match=r"vectors\.txt has none of the new tokens"):
        extend(ExtendOptions(**options, **similar, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["bert", "xlmr", "roberta", "albert", "rembert", "modernbert"])
def test_an_encoder_without_a_head_is_extended(family, documents, tmp_path):
    teacher = families.make_teacher(family, tmp_path / "teacher")
    bare, output = tmp_path / "bare", tmp_path / "out"
    load_model(teacher).base_model.save_pretrained(bare)
    load_fast_tokenizer(teacher).save_pretrained(bare)
    options = {"num_tokens": 5, "min_frequency": 3}
    extend(ExtendOptions(model=str(bare), documents=documents, output=output, **options))
    old, new = (load_model(folder).get_input_embeddings().weight for folder in (bare, output))
    assert torch.equal(old, new[: len(old)])
    assert len(new) > len(old)
    counted = tmp_path / "report.json"
    report(ReportOptions(model=bare, extended=output, documents=documents, output=counted))
    stored = sum(each.numel() for each in load_file(output / "model.safetensors").values())
    assert read_json(counted)["parameters"]["after"] == stored


@pytest.mark.parametrize("family", ["bert", "xlmr", "roberta"])
def test_a_replaced_tokenizer_has_as_many_tokens_and_copies_those_it_shares(
    family, documents, tmp_path
):
    teacher, output = families.make_teacher(family, tmp_path / "teacher"), tmp_path / "replaced"
    options = {"method": "replacement", "min_gain": 1e-5, "min_frequency": 3}
    extend(ExtendOptions(model=str(teacher), documents=documents, output=output, **options))
    (old_tokenizer, old), (new_tokenizer, new) = load(teacher), load(output)
    old_ids, new_ids = old_tokenizer.get_vocab(), new_tokenizer.get_vocab()
    shared = sorted(set(old_ids) & set(new_ids))
    assert len(old_ids) // 10 < len(shared) < len(new_ids)
    before = old.get_input_embeddings().weight[[old_ids[name] for name in shared]]
    after = new.get_input_embeddings().weight[[new_ids[name] for name in shared]]
    assert torch.equal(before, after)
    line = families.sentences("qab")[3]
    lengths, decoded = [], []
    for tokenizer in (old_tokenizer, new_tokenizer):
        ids = tokenizer(line)["input_ids"]
        lengths.append(len(ids))
        decoded.append(tokenizer.decode(ids, skip_special_tokens=True))
    assert lengths[1] <= lengths[0]
    assert decoded[0] == decoded[1]


def test_the_same_model_is_made_again(documents, tmp_path):
    teacher = families.make_teacher("bert", tmp_path / "teacher")
    for name in ("a", "b"):
        options = {"num_tokens": 20, "min_frequency": 3, "initialization": "similar"}
        output = tmp_path / name
        extend(ExtendOptions(model=str(teacher), documents=documents, output=output, **options))
    for file in ("model.safetensors", "tokenizer.json", "new_tokens.csv", "provenance.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_report_has_the_form_of_a_reduction_s(documents, tmp_path, capsys):
    teacher, extended = families.make_teacher("bert", tmp_path / "teacher"), tmp_path / "extended"
    options = {"num_tokens": 30, "min_frequency": 3}
    extend(ExtendOptions(model=str(teacher), documents=documents, output=extended, **options))
    task = tmp_path / "task.conllu"
    task.write_text(
        "".join(f"{n}\t{w}\t_\tNOUN\t_\t_\t_\t_\t_\t_\n" for n, w in ((1, "a"), (2, "b")))
    )
    output = tmp_path / "report.json"
    report(
        ReportOptions(
            model=teacher,
            extended=extended,
            documents=documents,
            tasks=[f"words={task}"],
            output=output,
        )
    )
    result = read_json(output)
    assert result["tokens"]["new"] == result["extension"]["tokens"]["new"]
    assert result["tokens"]["selected"] == result["tokens"]["of"]
    assert result["texts"]["words"]["words"] == 2
    corpus = result["texts"]["corpus"]
    assert corpus["after"]["fertility"] < corpus["before"]["fertility"]
    assert result["parameters"]["before"] < result["parameters"]["after"]
    assert "tokens per word" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_tokens": 0}, "num_tokens"),
        ({"num_tokens": 5, "min_gain": 0.1}, "num_tokens or min_gain"),
        ({"min_gain": 1.5}, "min_gain"),
        ({"vectors": "x.txt"}, "vectors are for"),
    ],
)
def test_options_that_do_not_fit_are_refused(values, message, tmp_path):
    with pytest.raises(ValidationError, match=message):
        ExtendOptions(model="m", documents=tmp_path, output=tmp_path / "out", **values)


def test_text_that_asks_for_no_token_is_refused(documents, tmp_path):
    teacher, output = families.make_teacher("bert", tmp_path / "teacher"), tmp_path / "out"
    options = {"model": str(teacher), "documents": documents, "output": output}
    with pytest.raises(InputError, match="no new token occurs 100000 times"):
        extend(ExtendOptions(**options, min_frequency=100_000))
    assert not output.exists()


def test_a_tokenizer_without_rows_is_refused(documents, tmp_path):
    teacher = families.make_teacher("bert", tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.add_tokens([f"more{n}" for n in range(config["vocab_size"] - len(tokenizer) + 1)])
    tokenizer.save_pretrained(teacher)
    with pytest.raises(InputError, match="rows in the model"):
        extend(ExtendOptions(model=str(teacher), documents=documents, output=tmp_path / "out"))
