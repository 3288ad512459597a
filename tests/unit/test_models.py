"""Teachers and students: what is copied, what is refused, and tokenizers learnt from text."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
import transformers
from corpus_helpers import articles, needs_data, write_documents
from safetensors.torch import load_file
from training_helpers import KINDS, corpus, options, quiet, stage_run, write_model, write_student
from transformers import AutoModelForMaskedLM, AutoTokenizer

from eliquare import stage
from eliquare.corpus import documents
from eliquare.models import fetch, tokenizer
from eliquare.models.loading import load_masked_model, load_tokenizer, longest_sequence
from eliquare.models.student import LAYER, layer_map

pytestmark = needs_data


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Tokenizers of both kinds, learnt from the same real text."""
    return {
        kind: corpus(tmp_path_factory.mktemp(kind), kind, characters=30_000)
        for kind in ("wordpiece", "unigram")
    }


@pytest.fixture(scope="module", params=KINDS)
def teacher(request, worlds, tmp_path_factory):
    """A teacher of twelve layers of one architecture."""
    words = worlds[KINDS[request.param]].tokenizer
    folder = tmp_path_factory.mktemp("teachers") / request.param
    return write_model(words, folder, request.param, layers=12)


def weights(folder):
    return load_file(folder / "model.safetensors")


# Students


def test_layer_maps():
    assert layer_map("2n-1", 6, 12) == [0, 2, 4, 6, 8, 10]
    assert layer_map("distilbert", 6, 12) == [0, 2, 4, 7, 9, 11]
    assert layer_map("last", 4, 12) == [8, 9, 10, 11]
    assert layer_map("first", 4, 12) == [0, 1, 2, 3]
    for of in range(1, 25):
        for layers in range(1, of + 1):
            spread = layer_map("distilbert", layers, of)
            assert len(set(spread)) == layers and spread == sorted(spread)
            assert spread[0] == 0 and (layers == 1 or spread[-1] == of - 1)
    with pytest.raises(stage.InputError, match="takes layer 9 of the teacher"):
        layer_map("2n-1", 5, 8)


@pytest.mark.parametrize(
    ("initialisation", "layers", "mapped"),
    [
        ("2n-1", 6, [0, 2, 4, 6, 8, 10]),
        ("distilbert", 6, [0, 2, 4, 7, 9, 11]),
        ("last", 3, [9, 10, 11]),
        ("first", 3, [0, 1, 2]),
        ("blank", 2, None),
        ("embeddings", 2, None),
    ],
)
def test_a_student_starts_as_the_right_layers(teacher, tmp_path, initialisation, layers, mapped):
    folder = write_student(teacher, tmp_path / "s", layers, initialisation=initialisation)
    student, source = weights(folder), weights(teacher)
    for name, found in student.items():
        layer = LAYER.match(name)
        if layer and mapped:
            name = f"{layer['before']}{mapped[int(layer['number'])]}{layer['after']}"
        copied = mapped is not None or (initialisation == "embeddings" and "embeddings." in name)
        assert torch.equal(found, source[name]) == copied, name
    numbers = {int(layer["number"]) for layer in map(LAYER.match, student) if layer}
    assert numbers == set(range(layers))
    model, loading = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()) and model.config.num_hidden_layers == layers
    tied = model.get_output_embeddings().weight
    assert tied.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    words = AutoTokenizer.from_pretrained(folder)
    assert words.get_vocab() == AutoTokenizer.from_pretrained(teacher).get_vocab()
    assert str(teacher) not in (folder / "provenance.json").read_text()


def test_a_student_of_all_the_layers_is_its_teacher(teacher, tmp_path):
    folder = write_student(teacher, tmp_path / "s", 12, initialisation="first")
    inputs = AutoTokenizer.from_pretrained(folder)("Київ", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    outputs = [load_masked_model(one).eval()(**inputs).logits for one in (folder, teacher)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 13, "initialisation": "first"}, "no more than its teacher"),
        ({"layers": 0}, "at least 1"),
        ({"layers": 7}, "2n-1 takes layer 13"),
        ({"layers": 2, "hidden_size": 16}, "a student of another width starts blank"),
        ({"layers": 2, "hidden_size": 16, "initialisation": "embeddings"}, "starts blank"),
        ({"layers": 2, "intermediate_size": 16}, "starts blank"),
        ({"layers": 2, "heads": 2}, "heads"),
        ({"layers": 2, "hidden_size": 30, "initialisation": "blank"}, "no multiple of 4 heads"),
        ({"layers": 2, "hidden_size": 0, "initialisation": "blank"}, "hidden_size: expected 1"),
    ],
)
def test_a_student_that_cannot_be_is_refused(teacher, tmp_path, settings, message):
    with pytest.raises(stage.InputError, match=message):
        write_student(teacher, tmp_path / "s", **settings)
    assert not list(tmp_path.iterdir())


def test_another_shape_starts_blank(teacher, tmp_path):
    settings = {"hidden_size": 24, "intermediate_size": 40, "heads": 3, "initialisation": "blank"}
    folder = write_student(teacher, tmp_path / "s", 4, **settings)
    model = load_masked_model(folder)
    assert model.config.hidden_size == 24 and model.config.num_attention_heads == 3
    assert longest_sequence(model) == longest_sequence(load_masked_model(teacher)) == 64
    again = write_student(teacher, tmp_path / "again", 4, **settings)
    other = write_student(teacher, tmp_path / "other", 4, **settings, seed=2)
    model_bytes = [(one / "model.safetensors").read_bytes() for one in (folder, again, other)]
    assert model_bytes[0] == model_bytes[1] != model_bytes[2]


# Teachers


def test_a_teacher_has_the_positions_that_it_says(teacher):
    model = load_masked_model(teacher)
    for length, fits in ((64, True), (65, False)):
        inputs = {"input_ids": torch.full((1, length), 7)}
        if fits:
            model(**inputs)
        else:
            with pytest.raises((IndexError, RuntimeError)):
                model(**inputs)


def test_fetch_from_a_folder(teacher, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(teacher, source)
    (source / "README.md").write_text("terms")
    (source / "optimizer.pt").write_text("not to be copied")
    torch.save(load_masked_model(teacher).state_dict(), source / "pytorch_model.bin")
    folder = stage_run(fetch, model=source, output=tmp_path / "out")
    assert (folder / "model.safetensors").exists() and (folder / "README.md").exists()
    assert not list(folder.glob("*.pt")) and not list(folder.glob("*.bin"))
    for name, found in weights(folder).items():
        assert torch.equal(found, weights(teacher)[name])
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(teacher).get_vocab()
    shutil.move(source, tmp_path / "elsewhere")
    assert str(tmp_path) not in (folder / "provenance.json").read_text()


@pytest.mark.parametrize("revision", [None, "main", "3f076fdb"])
def test_a_hub_id_needs_its_commit(tmp_path, revision):
    given = {} if revision is None else {"revision": revision}
    with pytest.raises(stage.InputError, match="give the commit as revision"):
        stage_run(fetch, model="bert-base-multilingual-cased", output=tmp_path / "out", **given)
    assert not list(tmp_path.iterdir())


def test_a_model_without_an_mlm_head_cannot_teach(teacher, tmp_path):
    for maker, name in (
        (transformers.AutoModel, "Model has no head"),
        (transformers.AutoModelForSequenceClassification, "ForSequenceClassification has no head"),
    ):
        folder = tmp_path / maker.__name__
        maker.from_pretrained(teacher).save_pretrained(folder)
        AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)
        for tried in (
            lambda folder=folder: write_student(folder, tmp_path / "s"),
            lambda folder=folder: stage_run(fetch, model=folder, output=tmp_path / "out"),
        ):
            with pytest.raises(stage.InputError, match=name):
                tried()
        arguments = fetch.parser().parse_args(
            ["--any-model", *options({"model": folder, "output": tmp_path / "any"})]
        )
        fetch.run(arguments)
        assert (tmp_path / "any/model.safetensors").exists()


def test_damaged_models_are_refused_in_words(teacher, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(teacher, folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(stage.InputError, match="broken: does not load"):
        load_masked_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(stage.InputError, match="broken: does not load"):
        load_masked_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(stage.InputError, match=r"config\.json, line 1: not JSON"):
        load_masked_model(folder)
    with pytest.raises(stage.InputError, match="no such model folder"):
        load_tokenizer(tmp_path / "nowhere")


# Tokenizers


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_nothing_of_the_corpus_is_unknown(worlds, kind):
    world = worlds[kind]
    words = load_tokenizer(world.tokenizer)
    assert len(words) <= 900
    vocabulary = words.get_vocab()
    backend = words.backend_tokenizer
    for document in documents.read(world.documents):
        for paragraph in document.text.splitlines():
            encoding = backend.encode(paragraph)
            unknown = [
                paragraph[begin:end]
                for number, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
                if number == words.unk_token_id
            ]
            # WordPiece gives up on a word of more than a hundred characters.
            assert all(len(word) > 100 for word in unknown), unknown
            characters = set(backend.normalizer.normalize_str(paragraph)) - set(" ")
            assert all(character in vocabulary for character in characters)
            if kind == "wordpiece":
                assert all(f"##{character}" in vocabulary for character in characters)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_fresh_processes_learn_the_same_bytes(worlds, kind, tmp_path):
    world = worlds[kind]
    values = {"documents": world.documents, "kind": kind, "vocabulary-size": 900}
    made = [world.tokenizer]
    for seed in ("1", "2"):
        made.append(tmp_path / seed)
        subprocess.run(
            [sys.executable, "-m", tokenizer.__name__, *options(values | {"output": made[-1]})],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert len({(folder / name).read_bytes() for folder in made}) == 1


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@pytest.mark.parametrize("size", [4, 60])
def test_a_vocabulary_that_cannot_hold_the_characters(worlds, kind, size, tmp_path):
    with pytest.raises(stage.InputError, match=f"vocabulary_size: {size} is too small"):
        stage_run(
            tokenizer,
            documents=worlds[kind].documents,
            kind=kind,
            vocabulary_size=size,
            output=tmp_path / "out",
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_names_of_special_tokens_in_a_text_are_no_second_entries(kind, tmp_path):
    quiet()
    texts = [text + " <s> <mask> [MASK] <unk> </s> ▁ ▅ a##b" for text in articles("uk", 20_000)]
    folder = write_documents(tmp_path / "documents", texts)
    stage.write_json(folder / "report.json", {"documents": len(texts)})
    output = stage_run(
        tokenizer, documents=folder, kind=kind, vocabulary_size=800, output=tmp_path / "out"
    )
    words = load_tokenizer(output)
    assert sorted(words.get_vocab().values()) == list(range(len(words)))
    specials = tokenizer.WORDPIECE_SPECIALS if kind == "wordpiece" else tokenizer.UNIGRAM_SPECIALS
    assert words.convert_tokens_to_ids(specials) == list(range(5))
