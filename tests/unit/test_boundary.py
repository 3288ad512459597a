"""The boundary of a command: one plain line and the exit code of its kind, and nothing run."""

import ast
import errno
import http.client
import io
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import requests
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors import SafetensorError

import eliquare
from eliquare import cli
from eliquare.io import Failure, InputError, Interrupted

PACKAGE = Path(eliquare.__file__).parent


def numbered(number: int, *names: str) -> OSError:
    """Return an error of the operating system as Python raises it."""
    return OSError(number, os.strerror(number), *names)


def damaged_json() -> Exception:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("<html>")
    return caught.value


# What is raised below a stage, and how the command ends.
FAULTS = {
    "input": (InputError("a: x\nb: y"), 2, "error: a: x\nerror: b: y"),
    "failure": (Failure("a NaN"), 1, "failed: a NaN"),
    "interrupted": (Interrupted("saved"), 75, "interrupted: saved"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted: by Ctrl-C"),
    "disk full": (numbered(errno.ENOSPC, "out/x"), 1, "failed: out/x: No space left on device"),
    "quota": (numbered(errno.EDQUOT, "x"), 1, "failed: x: Disk quota exceeded; make room"),
    "file size": (numbered(errno.EFBIG), 1, "failed: File too large"),
    "tokenizers' full disk": (Exception("No space left on device (os error 28)"), 1, "make room"),
    "safetensors' full disk": (
        SafetensorError("Error while serializing: I/O error: no space (os error 28)"),
        1,
        "failed: No space left on device",
    ),
    "disk fails": (numbered(errno.EIO, "x"), 1, "failed: x: Input/output error"),
    "read-only": (numbered(errno.EROFS, "x"), 1, "failed: x: Read-only file system"),
    "no folder": (numbered(errno.ENOENT, "/proc/x"), 2, "error: /proc/x: No such file"),
    "a file": (numbered(errno.ENOTDIR, "x"), 2, "error: x: Not a directory"),
    "a folder": (numbered(errno.EISDIR, "x"), 2, "error: x: Is a directory"),
    "long name": (numbered(errno.ENAMETOOLONG, "x"), 2, "error: x: File name too long"),
    "links in a circle": (numbered(errno.ELOOP, "x"), 2, "error: x: Too many levels"),
    "forbidden": (numbered(errno.EACCES, "x"), 2, "error: x: Permission denied"),
    "memory": (MemoryError(), 1, "failed: out of memory"),
    "memory of torch": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        1,
        "failed: out of memory",
    ),
    "memory of a GPU": (torch.OutOfMemoryError("CUDA out of memory."), 1, "failed: out of memory"),
    "threads": (RuntimeError("can't start new thread"), 1, "failed: out of memory"),
    "host down": (requests.ConnectionError("refused"), 1, "failed: refused; check the connection"),
    "redirects": (requests.TooManyRedirects("Exceeded 30 redirects."), 1, "failed: Exceeded 30"),
    "bad length": (requests.exceptions.InvalidHeader("two lengths"), 1, "failed: two lengths"),
    "hangs up": (http.client.IncompleteRead(b""), 1, "failed: IncompleteRead"),
    "time-out": (TimeoutError("timed out"), 1, "failed: timed out"),
    "hub": (OfflineModeIsEnabled("off"), 1, "failed: off"),
    "other scheme": (requests.exceptions.InvalidSchema("file:///x"), 2, "error: file:///x; check"),
    "proxy": (requests.exceptions.InvalidProxyURL("bad proxy"), 2, "error: bad proxy; check"),
    "certificates": (OSError("no CA bundle, invalid path: /x"), 2, "error: no CA bundle"),
    "weights": (SafetensorError("HeaderTooLarge"), 2, "error: weights that are damaged"),
    "tokenizer": (Exception("WordPiece error: Missing [UNK]"), 2, "error: a tokenizer"),
    "page for JSON": (damaged_json(), 2, "error: a damaged file (Expecting value"),
    "no UTF-8": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"), 2, "error: a damaged file"),
    "pickle": (pickle.UnpicklingError("Weights only load failed"), 2, "error: a damaged file"),
    "nested": (RecursionError("maximum depth"), 2, "error: nested too deeply"),
    "password": (
        Failure("https://me:s3cr3t@host/x: down"),
        1,
        "failed: https://host/x: down",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_an_exit_code(name, capsys):
    error, code, said = FAULTS[name]
    with pytest.raises(SystemExit) as ended, cli.boundary():
        raise error
    printed = capsys.readouterr().err
    assert ended.value.code == code
    assert said in printed
    assert printed.count("\n") == said.count("\n") + 1
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("models fetch --model m --prompts {}", "prompts: this is of a sentence encoder"),
        ("models fetch --model m --no-normalize", "normalize: this is of a sentence encoder"),
        ("models fetch --model m --any-model --pooling mean", "pooling: any model is taken"),
        ("export onnx --model m --no-int8 --margin 0.1", "margin: int8 is not tried"),
        (
            "evaluation finetune --model m --system s --language sw --seeds 1 --unlabelled u"
            " --tasks {}",
            "unlabelled: nothing is taught on it",
        ),
    ],
)
def test_an_option_without_effect_is_refused(command, message, tmp_path, capsys):
    task = {"name": "t", "kind": "upos", "language": "sw", "train": "t.conllu"}
    value = json.dumps({"query": "q: "} if "prompts" in command else task)
    words = [value if word == "{}" else word for word in command.split()]
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--output", str(tmp_path / "made")])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_name_that_is_no_utf_8_is_one_line(capsys):
    word = os.fsdecode(b"caf\xe9.txt")
    with pytest.raises(SystemExit) as ended:
        cli.main(["corpus", "text", "--files", word, "--output", "x"])
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == "error: caf\\udce9.txt: not UTF-8; rename the file or the folder\n"
    )


def test_a_bug_shows_its_traceback():
    with pytest.raises(KeyError), cli.boundary():
        raise KeyError("a bug")


def test_debug_shows_the_traceback_of_any_error(tmp_path, capsys):
    for debug, count in (([], 0), (["--debug"], 1)):
        with pytest.raises(SystemExit) as ended:
            cli.main([*debug, "reporting", "summary", "--settings", str(tmp_path / "none")])
        printed = capsys.readouterr().err
        assert ended.value.code == 2
        assert printed.count("Traceback") == count
        assert printed.splitlines()[-1].startswith("error: ")


@pytest.fixture(scope="module")
def calls() -> list[tuple[str, dict[str, str]]]:
    """What the package calls, and with which named arguments."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                words = {each.arg or "**": ast.unparse(each.value) for each in node.keywords}
                found.append((ast.unparse(node.func), words))
    return found


def test_no_code_of_a_model_is_trusted(calls):
    """Each call that loads one says so; `datasets` has no such option any more."""
    loading = [
        (name, words)
        for name, words in calls
        if name.endswith((".from_pretrained", ".from_config")) or name == "pipeline"
    ]
    assert len(loading) >= 5
    assert [name for name, words in loading if words.get("trust_remote_code") != "False"] == []


def test_of_a_pickle_tensors_alone_are_read(calls):
    pickled = [
        (name, words)
        for name, words in calls
        if name.split(".")[0] in ("pickle", "joblib", "dill") or name == "torch.load"
    ]
    assert len(pickled) >= 1
    assert [name for name, words in pickled if words.get("weights_only") != "True"] == []
    assert not any(words.get("allow_pickle") == "True" for _, words in calls)


def test_text_in_any_script_is_printed_in_an_ascii_locale(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sys.stdout.buffer, encoding="ascii"))
    monkeypatch.setattr(cli, "new_configuration", lambda argv: "češčina \ud800\n")
    with pytest.raises(SystemExit):
        cli.main(["new", "cs"])
    sys.stdout.flush()
    assert capfd.readouterr().out == "češčina \\ud800\n"
