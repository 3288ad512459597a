"""A released model goes to the hub as it is, and bad input is refused before anything is sent."""

import logging

import huggingface_hub
import pytest
from huggingface_hub import ModelCard, constants

import hub_stand_in
from eliquare.cli import EXIT_FAILED, EXIT_INPUT, main
from eliquare.export import hub

CARD = """---
language:
- cy
license: mit
library_name: transformers
pipeline_tag: fill-mask
base_model: some/teacher
model-index:
- name: small-cy
  results:
  - task: {type: token-classification}
    dataset: {name: UD, type: cy-pos, split: test}
    metrics: [{type: accuracy, value: 0.9}]
---

# A model

    pipeline("fill-mask", model="small-cy")
"""
WEIGHTS = bytes(range(256)) * 100


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "small-cy"
    for name, content in {
        "README.md": CARD.encode(),
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "onnx/model.onnx": WEIGHTS[::-1],
        "tasks/cy-pos/README.md": CARD.encode(),
        ".cache/file": b"hidden",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
    monkeypatch.setattr(huggingface_hub._commit_api, "is_xet_available", lambda: False)
    with hub_stand_in.Hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.root)
        yield found


def push(model, *options, repository="owner/welsh"):
    """Run the command; return its exit code."""
    given = ["--model", str(model), "--repository", repository, *options]
    with pytest.raises(SystemExit) as ended:
        main(["export", "push", *given])
    return ended.value.code


def test_everything_of_the_model_goes_and_its_tasks_stay(model, server, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    assert push(model) == 0
    sent = server.repositories["owner/welsh"]
    assert sorted(sent) == ["README.md", "config.json", "model.safetensors", "onnx/model.onnx"]
    assert sent["model.safetensors"] == WEIGHTS
    assert sent["onnx/model.onnx"] == WEIGHTS[::-1]
    assert len(server.objects) == 2
    card = ModelCard(sent["README.md"].decode())
    assert 'model="owner/welsh"' in card.text
    assert card.data.eval_results[0].metric_value == 0.9
    assert card.data.to_dict() == ModelCard(CARD).data.to_dict()
    assert ("POST", "/api/validate-yaml") in server.asked
    # What the folder holds is not changed, and the token stands nowhere.
    assert (model / "README.md").read_text() == CARD
    said = caplog.text + "".join(capfd.readouterr())
    assert "tasks/ stays here" in said
    assert hub_stand_in.TOKEN not in said
    assert all(hub_stand_in.TOKEN.encode() not in content for content in sent.values())


def test_a_dry_run_says_what_would_go_and_asks_nobody(model, server, caplog, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(hub, "get_token", lambda: None)
    caplog.set_level(logging.INFO)
    assert push(model, "--dry-run", "--private") == 0
    for part in ("owner/welsh: private", "model.safetensors  25,600 bytes", "4 files", "language:"):
        assert part in caplog.text
    assert server.asked == []


def test_a_private_repository_and_a_second_commit(model, server):
    assert push(model, "--private") == 0
    assert server.visibility["owner/welsh"] == "private"
    (model / "config.json").write_text('{"new": 1}')
    assert push(model, "--update") == 0
    assert server.repositories["owner/welsh"]["config.json"] == b'{"new": 1}'


@pytest.mark.parametrize(
    ("prepare", "options", "repository", "said"),
    [
        ("exists", [], "owner/welsh", "owner/welsh: this repository exists; choose another name"),
        ("", ["--update"], "owner/welsh", "owner/welsh: no such repository"),
        ("exists", ["--update", "--private"], "owner/welsh", "--update --private: a repository"),
        ("", [], "somebody-else/welsh", "this token may not write there"),
        ("token", [], "owner/welsh", "the hub does not know this token"),
        ("no token", [], "owner/welsh", "no token: run `hf auth login`"),
        ("", [], "welsh", "--repository: expected owner/name"),
        ("", [], "a/b/c", "--repository: expected owner/name"),
        ("no licence", [], "owner/welsh", "names no licence, since the teacher's card has none"),
        ("", ["--licence", "apache-2.0"], "owner/welsh", "README.md says mit"),
        ("no card", [], "owner/welsh", "README.md: no such card"),
        ("no head", [], "owner/welsh", "its head has no pipeline_tag, library_name"),
        ("bad results", [], "owner/welsh", "README.md: no card of a model"),
        ("no YAML", [], "owner/welsh", "README.md: no card of a model"),
        ("a link", [], "owner/welsh", "secret: a link to "),
    ],
)
def test_bad_input_is_one_line(
    model, server, monkeypatch, capfd, prepare, options, repository, said
):
    readme = model / "README.md"
    if prepare == "exists":
        server.repositories[repository] = {}
    elif prepare == "token":
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    elif prepare == "no token":
        monkeypatch.setattr(hub, "get_token", lambda: None)
    elif prepare == "no licence":
        readme.write_text(CARD.replace("license: mit\n", ""))
    elif prepare == "no card":
        readme.unlink()
    elif prepare == "no head":
        readme.write_text("# A model\n")
    elif prepare == "bad results":
        readme.write_text(CARD.replace("type: accuracy, ", ""))
    elif prepare == "no YAML":
        readme.write_text(CARD.replace("license: mit", "license: !!python/name:os.system"))
    elif prepare == "a link":
        (model.parent / "secret").touch()
        (model / "secret").symlink_to(model.parent / "secret")
    assert push(model, *options, repository=repository) == EXIT_INPUT
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "hf_" not in lines[0]
    assert not any("/commit/" in path for _, path in server.asked)


def test_a_licence_that_the_card_lacks_is_given(model, server):
    (model / "README.md").write_text(CARD.replace("license: mit\n", ""))
    assert push(model, "--licence", "cc-by-sa-4.0") == 0
    assert b"license: cc-by-sa-4.0" in server.repositories["owner/welsh"]["README.md"]


def test_a_hub_that_does_not_answer_is_a_failure_of_the_moment(model, server, monkeypatch, capfd):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(model) == EXIT_FAILED
    assert "failed: owner/welsh: the hub cannot be reached" in capfd.readouterr().err
