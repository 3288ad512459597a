"""Loading and fetching: what is checked, and what is refused in plain words."""

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
)

from eliquare.corpus.tokenization import CorpusTokenizer
from eliquare.io import Failure, InputError, read_json, why_unavailable, write_json
from eliquare.models import loading
from eliquare.models.hub import FetchOptions, fetch, local_folder
from families import make_teacher
from hosts import Hosts, commit_of


@pytest.fixture(scope="module", params=["bert", "distilbert", "xlmr", "roberta"])
def teacher(request, tmp_path_factory):
    return make_teacher(request.param, tmp_path_factory.mktemp("teachers") / "it")


def test_a_model_has_the_positions_that_it_says(teacher):
    model = loading.load_masked_lm(teacher)
    longest = loading.max_sequence_length(model)
    model(input_ids=torch.full((1, longest), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))
    model.config.max_position_embeddings = -1
    assert loading.max_sequence_length(model) == sys.maxsize


def test_parameters_are_counted_as_they_are(teacher):
    model = loading.load_masked_lm(teacher)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert loading.parameter_count(model.config) == count
    encoder = sum(parameter.numel() for parameter in model.base_model.parameters())
    assert loading.parameter_count(model.config, head=False) == encoder


def test_fetch_from_a_folder(teacher, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(teacher, source)
    (source / "README.md").write_text("terms")
    (source / "optimizer.pt").write_text("not to be copied")
    torch.save(loading.load_masked_lm(teacher).state_dict(), source / "pytorch_model.bin")
    fetch(FetchOptions(model=str(source), output=tmp_path / "out"))
    folder = tmp_path / "out"
    assert {"model.safetensors", "README.md"} <= {path.name for path in folder.iterdir()}
    assert not [*folder.glob("*.pt"), *folder.glob("*.bin")]
    before, after = (load_file(each / "model.safetensors") for each in (teacher, folder))
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    vocabularies = [loading.load_tokenizer(each).get_vocab() for each in (folder, teacher)]
    assert vocabularies[0] == vocabularies[1]
    shutil.move(source, tmp_path / "elsewhere")
    assert str(tmp_path) not in (folder / "provenance.json").read_text()


@pytest.mark.parametrize("revision", [None, "main", "3f076fdb"])
def test_a_hub_id_needs_its_commit(tmp_path, revision):
    options = FetchOptions(model="owner/model", revision=revision, output=tmp_path / "out")
    with pytest.raises(InputError, match="give the commit as revision"):
        fetch(options)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    """A fault of the moment: one plain line, and the next run tries again."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    options = FetchOptions(
        model="owner/model",
        revision="0" * 40,
        any_model=True,
        allow_unavailable=True,
        output=tmp_path / "out",
    )
    with pytest.raises(Failure, match="owner/model: cannot be fetched"):
        fetch(options)
    with pytest.raises(Failure, match="owner/model: cannot be fetched"):
        local_folder("owner/model")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one model, lab/small."""
    from huggingface_hub import constants

    make_teacher("bert", tmp_path / "hosts/hub/models/lab/small/main")
    with Hosts(tmp_path / "hosts") as hosts:
        template = hosts.root + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hosts.root)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hosts


def fetch_any(output, model, **options):
    fetch(FetchOptions(model=model, any_model=True, output=output, **options))


def test_without_a_revision_the_newest_commit_is_taken_and_recorded(hub, tmp_path):
    fetch_any(tmp_path / "out", "lab/small")
    newest = commit_of(hub.folder / "hub/models/lab/small/main")
    settings = read_json(tmp_path / "out/provenance.json")["settings"]
    assert settings == {"model": "lab/small", "revision": newest}
    assert (tmp_path / "out/model.safetensors").exists()


def test_a_file_is_no_model_and_a_folder_has_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").touch()
    with pytest.raises(InputError, match=r"text\.txt: is a file; give the folder of a model"):
        local_folder("text.txt")
    with pytest.raises(ValueError, match="this is of a hub's model"):
        FetchOptions(model=str(tmp_path), revision="main", output=tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "revision", "said"),
    [
        ("lab/none", None, "lab/none: no such model on the hub, or a private one"),
        ("lab/small", "0" * 40, "lab/small: it has no revision '0000"),
        ("resources/models/small", None, "there is no such folder; put the model's files into it"),
    ],
    ids=["model", "revision", "folder"],
)
def test_a_model_that_is_not_there_says_why_where_that_is_allowed(
    hub, tmp_path, model, revision, said
):
    output = tmp_path / "out"
    with pytest.raises(InputError, match=said):
        fetch_any(output, model, revision=revision)
    assert not output.exists()
    fetch_any(output, model, revision=revision, allow_unavailable=True)
    assert said in why_unavailable(output)
    assert [file.name for file in output.iterdir()] == ["unavailable.json"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"html": True}, "Expecting value"),
        ({"cut": 100}, "peer closed connection"),
        ({"instead_of_the_first": "../../../PWNED.json"}, r"cannot contain a '..' path segment"),
    ],
    ids=["page", "cut", "path out of the folder"],
)
def test_odd_answers_of_the_hub_are_one_line_and_write_nothing(hub, tmp_path, how, said):
    for name, value in how.items():
        setattr(hub, name, value)
    with pytest.raises(Failure, match=f"lab/small: cannot be fetched .*{said}") as error:
        fetch_any(tmp_path / "out", "lab/small")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("PWNED*"))


def test_a_repository_without_a_model_is_not_there_either(hub, tmp_path):
    (hub.folder / "hub/models/lab/small/main/config.json").unlink()
    fetch_any(tmp_path / "out", "lab/small", allow_unavailable=True)
    assert "config.json is missing" in why_unavailable(tmp_path / "out")


@pytest.mark.parametrize("maker", ["AutoModel", "AutoModelForSequenceClassification"])
def test_a_model_without_an_mlm_head_cannot_teach(teacher, tmp_path, maker):
    folder = tmp_path / "source"
    getattr(transformers, maker).from_pretrained(teacher).save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)
    with pytest.raises(InputError, match="has no head for masked language modelling"):
        loading.load_masked_lm(folder)
    with pytest.raises(InputError, match="has no head"):
        fetch(FetchOptions(model=str(folder), output=tmp_path / "out"))
    fetch(FetchOptions(model=str(folder), any_model=True, output=tmp_path / "any"))
    assert (tmp_path / "any/model.safetensors").exists()
    assert not loading.has_mlm_head(loading.load_model(folder))


def test_damaged_models_are_refused(teacher, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(teacher, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="broken"):
        loading.load_masked_lm(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="broken: no model loads"):
        loading.load_masked_lm(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json, line 1: not JSON"):
        loading.load_masked_lm(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        loading.load_masked_lm(folder)
    with pytest.raises(InputError, match="no such model folder"):
        loading.load_tokenizer(tmp_path / "nowhere")


def test_weights_of_another_model_are_refused(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    other = make_teacher("distilbert", tmp_path / "other")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(InputError, match="the weights lack"):
        loading.load_model(folder)


def test_a_configuration_without_a_vocabulary_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "vit"})
    with pytest.raises(InputError, match="has no vocab_size"):
        loading.load_config(tmp_path)


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="has no mask_token_id"):
        loading.load_tokenizer(folder)


def test_an_empty_model_has_the_shapes_of_a_vocabulary():
    config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = loading.empty_model(config, 60)
    assert {tuple(t.shape) for t in loading.vocabulary_tensors(model).values()} == {(60, 8), (60,)}
    assert config.vocab_size == 50


def test_a_saved_tokenizer_is_the_same_with_and_without_a_network(teacher, tmp_path, monkeypatch):
    """On a compute node HF_HUB_OFFLINE is set, and the checksum of a model enters the next one."""
    saved = set()
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        loading.load_tokenizer(teacher).save_pretrained(tmp_path / str(offline))
        saved.add((tmp_path / str(offline) / "tokenizer_config.json").read_text())
    assert len(saved) == 1
    assert "local_files_only" not in saved.pop()


def test_code_in_a_model_folder_is_not_run(tmp_path, monkeypatch):
    """Nor is anyone asked: a `y` that waits on a pipe is for something else."""
    folder = make_teacher("bert", tmp_path / "teacher")
    (folder / "code.py").write_text("from pathlib import Path\nPath('PWNED').touch()\n")
    code = {"AutoConfig": "code.C", "AutoModelForMaskedLM": "code.M", "AutoTokenizer": ["code.T"]}
    for file, type_of in (
        ("config.json", {"model_type": "unheard-of"}),
        ("tokenizer_config.json", {}),
    ):
        write_json(folder / file, read_json(folder / file) | {"auto_map": code} | type_of)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    for load in (loading.load_masked_lm, loading.load_config):
        with pytest.raises(InputError):
            load(folder)
    with contextlib.suppress(InputError):
        loading.load_fast_tokenizer(folder)
    assert sys.stdin.tell() == 0
    assert not (tmp_path / "PWNED").exists()


class Touch:
    """A pickle of it writes a file where it is read."""

    def __reduce__(self):
        return os.mkdir, ("PWNED",)


@pytest.mark.parametrize("content", ["plain", "in torch's zip", "empty", "list"])
def test_a_pickle_that_is_no_weights_is_refused(tmp_path, monkeypatch, content):
    folder = make_teacher("bert", tmp_path / "teacher")
    (folder / "model.safetensors").unlink()
    weights = folder / "pytorch_model.bin"
    if content == "plain":
        weights.write_bytes(pickle.dumps({"a": Touch()}))
    elif content == "empty":
        weights.touch()
    else:
        torch.save([torch.ones(2)] if content == "list" else {"a": Touch()}, weights)
    monkeypatch.chdir(tmp_path)
    for load in (loading.load_masked_lm, loading.map_weights):
        with pytest.raises(InputError, match="teacher"):
            load(folder)
    assert not (tmp_path / "PWNED").exists()


def test_a_link_out_of_a_model_folder_is_refused(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    (tmp_path / "secret").write_text("secret")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    (folder / "README.md").symlink_to("LICENSE.txt")
    (folder / "LICENSE.txt").write_text("terms")
    for any_model in (False, True):
        with pytest.raises(InputError, match=r"LICENSE: a link to .*secret, outside") as caught:
            fetch(FetchOptions(model=str(folder), any_model=any_model, output=tmp_path / "out"))
        assert "README" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_hubs_cache_is_what_the_hub_says(hub, tmp_path):
    fetch_any(tmp_path / "out", "lab/small")
    (blob,) = {
        path.resolve() for path in (tmp_path / "cache").rglob("config.json") if path.is_symlink()
    }
    blob.chmod(0o644)
    blob.write_text(blob.read_text().replace("bert", "Bert", 1))
    with pytest.raises(InputError, match=rf"config.json: damaged or changed.*delete {blob}"):
        fetch_any(tmp_path / "again", "lab/small")
    assert not (tmp_path / "again").exists()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_teacher("bert", tmp_path_factory.mktemp("bert") / "it")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nan", "query.weight is not finite"),
        ("missing", "the weights lack bert.encoder.layer.0.attention.self.query.weight"),
        ("shape", "the weights have other shapes for bert.encoder.layer.0"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(bert, tmp_path, change, said):
    folder = tmp_path / "model"
    shutil.copytree(bert, folder)
    tensors = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    if change == "nan":
        tensors[name][0, 0] = float("nan")
    elif change == "shape":
        tensors[name] = tensors[name][:2].clone()
    else:
        del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loads = (
        lambda: loading.load_masked_lm(folder),
        lambda: loading.load_for_task(folder, ["a", "b"], per_token=False),
    )
    for load in loads:
        with pytest.raises(InputError, match=said):
            load()


@pytest.mark.parametrize("per_token", [False, True])
def test_the_head_of_another_task_is_left_out(bert, tmp_path, per_token):
    kind = AutoModelForTokenClassification if per_token else AutoModelForSequenceClassification
    stored = kind.from_pretrained(bert, num_labels=3, problem_type="multi_label_classification")
    stored.save_pretrained(tmp_path)
    before = stored.base_model.state_dict()
    heads = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = loading.load_for_task(tmp_path, ["a", "b", "c"], per_token=per_token)
        assert not model.training
        after = model.base_model.state_dict()
        assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
        heads.append(model.classifier.weight)
    assert not torch.equal(*heads)
    assert not any(torch.equal(head, stored.classifier.weight) for head in heads)
    inputs = {"input_ids": torch.tensor([[5, 6]]), "labels": torch.tensor([[0, 1]])}
    inputs["labels"] = inputs["labels"] if per_token else torch.tensor([2])
    assert model(**inputs).loss.isfinite()


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "nope"), ("num_attention_heads", 5)])
def test_a_configuration_of_no_model_is_one_line(bert, tmp_path, key, value):
    shutil.copytree(bert, tmp_path / "model")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=r"config\.json makes no model"):
        loading.empty_model(loading.load_config(tmp_path / "model"))


def test_an_id_beyond_memory_is_refused(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "model")
    path = tmp_path / "model/tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["zzz"] = 10**9
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="ids of tokens up to"):
        CorpusTokenizer.load(tmp_path / "model")
