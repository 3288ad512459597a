"""What a killed run leaves: its lock goes, that of a living run or of another machine stays."""

import json
import os
import socket
import subprocess
import sys

import pytest

from eliquare import earlier_run


@pytest.fixture
def locked(tmp_path):
    """Folders of marks and of locks, with one lock."""
    signed, locks = tmp_path / "runs", tmp_path / "locks"
    locks.mkdir()
    (locks / "0.output.lock").write_text("results/x\n")
    return signed, locks


def killed_run(signed) -> None:
    """Let another process sign in and be killed."""
    code = (
        "import os, pathlib; from eliquare import earlier_run; "
        f"earlier_run.sign_in(pathlib.Path({str(signed)!r})); os.abort()"
    )
    subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert len(list(signed.glob("*.json"))) == 1


def test_the_lock_of_a_killed_run_is_removed(locked, capsys):
    signed, locks = locked
    killed_run(signed)
    earlier_run.clear(signed, locks, None)
    assert not list(locks.iterdir())
    assert not list(signed.iterdir())
    assert "lock is removed" in capsys.readouterr().err


def test_the_lock_of_a_living_run_stays(locked):
    signed, locks = locked
    killed_run(signed)
    earlier_run.sign_in(signed)
    earlier_run.clear(signed, locks, None)
    assert list(locks.iterdir())


def test_the_lock_of_another_machine_stays(locked):
    signed, locks = locked
    mark = earlier_run.sign_in(signed)
    mark.write_text(json.dumps({"host": f"not-{socket.gethostname()}", "pid": 1, "started": "1"}))
    earlier_run.clear(signed, locks, None)
    assert list(locks.iterdir())


def test_a_lock_that_nobody_signed_for_stays(locked):
    signed, locks = locked
    earlier_run.clear(signed, locks, None)
    assert list(locks.iterdir())


def test_a_number_used_again_is_another_process(locked):
    signed, locks = locked
    mark = earlier_run.sign_in(signed)
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"started": "1"}))
    assert earlier_run.started(os.getpid()) != "1"
    earlier_run.clear(signed, locks, None)
    assert not list(locks.iterdir())


def test_jobs_not_begun_are_cancelled_and_running_ones_awaited(tmp_path, monkeypatch, capsys):
    looks = iter([{"7": "RUNNING", "8": "PENDING"}, {"7": "RUNNING"}, {"7": "COMPLETING"}, {}])
    commands = []
    monkeypatch.setattr(earlier_run.subprocess, "run", lambda words, **_: commands.append(words))
    monkeypatch.setattr(earlier_run.time, "sleep", lambda seconds: None)
    earlier_run.settle(tmp_path, lambda folder: next(looks))
    assert commands == [["scancel", "8"]]
    said = capsys.readouterr().err
    assert said.count("Still running, of an earlier run: 7.") == 1
    assert next(looks, "all seen") == "all seen"
