"""What makes a sentence encoder: written, read and loaded by sentence-transformers alike."""

import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import trainings
from eliquare.io import InputError, read_json, write_json
from eliquare.models.hub import FetchOptions, fetch
from eliquare.models.loading import load_model, load_tokenizer
from eliquare.models.sentence import (
    POOLINGS,
    Sentence,
    read_sentence,
    require_pooling,
    write_sentence,
)
from eliquare.vocabulary.reduce import ReduceOptions, reduce

TEXTS = ["ba ko lu ti", "ba", "ko lu ba ba ti ko"]


@pytest.fixture(scope="module")
def encoder(world, tmp_path_factory):
    """A bare encoder, without a head and without a word on pooling."""
    folder = tmp_path_factory.mktemp("encoder")
    trainings.write_model(world.tokenizer, folder / "with-head")
    load_model(folder / "with-head").base_model.save_pretrained(folder / "bare")
    load_tokenizer(folder / "with-head").save_pretrained(folder / "bare")
    return folder / "bare"


def fetched(encoder, output, **options):
    fetch(FetchOptions(model=str(encoder), output=output, **options))
    return output


def embeddings(folder, texts):
    """Return what this project makes of texts."""
    sentence, tokenizer = read_sentence(folder), load_tokenizer(folder)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = load_model(folder, torch.float32)(**batch).last_hidden_state
    return sentence.pool(states, batch["attention_mask"]).numpy()


def test_what_a_folder_says_beside_its_pooling_stays(encoder, tmp_path):
    said = Sentence("mean", prompts={"query": "ti: "}, prompt="query", max_length=16)
    folder = tmp_path / "theirs"
    shutil.copytree(encoder, folder)
    write_sentence(folder, said, 32)
    options = {"pooling": "mean", "prompts": {"query": "lu: "}}
    assert read_sentence(fetched(folder, tmp_path / "a", **options)) == said._replace(
        prompts={"query": "lu: "}
    )
    assert read_sentence(fetched(folder, tmp_path / "b", pooling="mean")).prompt is None


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_sentence_transformers_makes_the_same_embeddings(encoder, tmp_path, pooling, normalize):
    prompts = {"query": "ti: ", "passage": "lu: "}
    options = {"pooling": pooling, "normalize": normalize, "prompts": prompts}
    folder = fetched(encoder, tmp_path / "model", **options)
    loaded = SentenceTransformer(str(folder), device="cpu")
    found = loaded.encode(TEXTS)
    np.testing.assert_allclose(found, embeddings(folder, TEXTS), atol=1e-5)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5) == normalize
    asked = loaded.encode(TEXTS, prompt_name="query")
    with_prompt = embeddings(folder, [f"ti: {text}" for text in TEXTS])
    np.testing.assert_allclose(asked, with_prompt, atol=1e-5)
    assert np.array_equal(asked, loaded.encode_query(TEXTS))
    assert np.array_equal(
        loaded.encode(TEXTS, prompt_name="passage"), loaded.encode_document(TEXTS)
    )


@pytest.mark.parametrize(
    ("prompts", "query", "document", "text", "training"),
    [
        ({"passage": "p: ", "query": "q: "}, "q: ", "p: ", "q: ", ["p: ", "q: "]),
        # BGE: documents, and texts that are neither, have none.
        ({"query": "find: "}, "find: ", "", "", ["find: ", ""]),
        ({"passage": "p: "}, "", "p: ", "", ["p: ", ""]),
        ({"corpus": "c: ", "document": "d: "}, "", "d: ", "", ["c: ", "d: ", ""]),
        ({}, "", "", "", [""]),
    ],
)
def test_a_text_has_the_prompt_of_what_it_is(prompts, query, document, text, training):
    sentence = Sentence("mean", prompts=prompts)
    found = sentence.query_prompt, sentence.document_prompt, sentence.text_prompt
    assert found == (query, document, text)
    assert sentence.training_prompts == training


def test_what_is_written_is_read(tmp_path):
    sentence = Sentence("cls", False, {"document": "p: "}, "document", 128)
    write_sentence(tmp_path, sentence, 16)
    assert read_sentence(tmp_path) == sentence


def test_a_folder_that_says_nothing(encoder):
    assert read_sentence(encoder) is None


def test_the_form_of_newer_releases_is_read(tmp_path):
    write_sentence(tmp_path, Sentence("mean"), 16)
    write_json(tmp_path / "1_Pooling/config.json", {"pooling_mode": "cls"})
    assert read_sentence(tmp_path).pooling == "cls"


def test_a_module_after_the_pooling_is_refused(tmp_path):
    write_sentence(tmp_path, Sentence("cls"), 16)
    modules = read_json(tmp_path / "modules.json", list)
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    write_json(tmp_path / "modules.json", [*modules, dense])
    with pytest.raises(InputError, match=r"modules\.json: the module Dense"):
        read_sentence(tmp_path)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"pooling_mode_lasttoken": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": ["mean"]},
    ],
)
def test_a_pooling_that_is_not_known_is_refused(tmp_path, said):
    write_sentence(tmp_path, Sentence("mean"), 16)
    write_json(tmp_path / "1_Pooling/config.json", said)
    with pytest.raises(InputError, match="expected one pooling of mean, cls, max"):
        read_sentence(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", [1], "modules.json: 0: expected a valid dictionary"),
        ("modules.json", [{"type": "a.Transformer"}], "modules.json: 0.path: missing"),
        (
            "modules.json",
            [{"type": 5, "path": ""}],
            "0.type: expected a valid string",
        ),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "prompts: expected"),
        ("config_sentence_transformers.json", {"prompts": {"a": 5}}, "prompts.a: expected"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "max_seq_length: expected"),
    ],
)
def test_files_of_another_form_are_one_line(tmp_path, file, content, said):
    write_sentence(tmp_path, Sentence("mean"), 16)
    write_json(tmp_path / file, content)
    with pytest.raises(InputError, match=said):
        read_sentence(tmp_path)


def test_an_encoder_without_its_pooling_is_no_teacher(encoder, tmp_path):
    with pytest.raises(InputError, match="give the pooling of a sentence encoder"):
        fetched(encoder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_pooling_that_the_model_does_not_have_is_refused(encoder, tmp_path):
    folder = fetched(encoder, tmp_path / "model", pooling="cls")
    with pytest.raises(InputError, match=r"^pooling: mean is asked for, and .* says cls; write"):
        fetched(folder, tmp_path / "again", pooling="mean")
    assert not (tmp_path / "again").exists()
    # A model that says nothing, whose texts begin with the first word's token.
    with pytest.raises(InputError, match=r"^pooling: cls is the state of a token before") as error:
        require_pooling(encoder, "cls", has_first=False)
    assert "\n" not in str(error.value)


def test_a_reduced_encoder_is_one_too(encoder, tmp_path):
    folder = fetched(encoder, tmp_path / "model", pooling="mean")
    tokens = [token for token in load_tokenizer(folder).get_vocab() if len(token) < 4]
    (tmp_path / "tokens.txt").write_text("\n".join(tokens))
    (tmp_path / "sample.txt").write_text("\n".join(TEXTS))
    options = {"vocabulary": tmp_path / "tokens.txt", "sample": tmp_path / "sample.txt"}
    reduce(ReduceOptions(model=str(folder), output=tmp_path / "reduced", **options))
    assert read_sentence(tmp_path / "reduced") == read_sentence(folder)
    SentenceTransformer(str(tmp_path / "reduced"), device="cpu").encode(TEXTS)
