"""WikiExtractor beside a stage: pages that stop it, processes that are killed, none left."""

import errno
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import psutil
import pytest

from eliquare.corpus import documents, extractor
from eliquare.corpus.extractor import Extractor, PageError, TooSlow
from eliquare.io import Failure

# Answers each page with its text; some words stop it.
STAND_IN = """
import json, os, sys, time
page = []
for line in sys.stdin:
    page.append(line)
    if "</page>" in line:
        text = "".join(page).partition("<text>")[2].partition("</text>")[0]
        page = []
        if text == "slow":
            os.fork()
            while True: pass
        if text == "broken": raise ValueError("no text")
        if text == "killed": os.kill(os.getpid(), 9)
        print(json.dumps({"text": text}), flush=True)
"""
BESIDE = f"""
import sys
from eliquare.corpus import extractor
extractor.PROGRAM = [sys.executable, "-c", {STAND_IN!r}]
pages = extractor.Extractor("", []).texts([("", "a"), ("", "slow")])
for text in pages:
    print(text)
"""


@pytest.fixture
def stand_in(monkeypatch):
    """A program that answers as WikiExtractor does."""
    monkeypatch.setattr(extractor, "PROGRAM", [sys.executable, "-c", STAND_IN])
    monkeypatch.setattr(extractor, "PAGE_SECONDS", 1)
    program = Extractor("", [])
    yield program
    program.close()


def ended(processes, seconds=30):
    """Wait until processes have ended; their parent need not have noticed."""
    deadline = time.monotonic() + seconds
    while not all(map(extractor.is_dead, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return all(map(extractor.is_dead, processes))


def ask(program, *texts):
    return list(program.texts(("", text) for text in texts))


def test_a_page_that_takes_too_long_or_breaks_it_costs_that_page_alone(stand_in):
    a, slow, b, broken, c = ask(stand_in, "a", "slow", "b", "broken", "c")
    assert [a, b, c] == ["a", "b", "c"]
    assert isinstance(slow, TooSlow)
    assert str(slow) == "took more than 1 s"
    assert isinstance(broken, PageError)
    assert str(broken) == "ValueError: no text"
    stand_in.close()
    assert not [each for each in psutil.Process().children() if "watch" in each.cmdline()]


def test_many_pages_come_in_order(stand_in):
    texts = [f"{number} & more" for number in range(200)]
    assert ask(stand_in, *texts) == [text.replace("&", "&amp;") for text in texts]


def test_a_killed_process_is_a_failure(stand_in):
    with pytest.raises(Failure, match=r"a process of WikiExtractor was killed.*more memory"):
        ask(stand_in, "a", "killed", "b")


def test_a_killed_worker_of_wikiextractor_is_a_failure():
    program = Extractor("Template", ["--no-templates"])
    pages = (("-", text) for text in iter(["a", "b"]))
    assert ask(program, "a") == ["a"]
    workers = psutil.Process(program._program.pid).children()
    assert len(workers) == 2
    workers[-1].kill()
    with pytest.raises(Failure, match="a process of WikiExtractor was killed"):
        list(program.texts(pages))
    program.close()
    assert ended(workers)


def test_no_shared_memory_is_named(monkeypatch):
    """As in a container with none, or one that is read-only: the system names no file."""
    code = f"raise OSError({errno.EROFS}, 'Read-only file system')"
    monkeypatch.setattr(extractor, "PROGRAM", [sys.executable, "-c", code])
    with pytest.raises(Failure, match=r"Read-only file system; shared memory is needed: /dev/shm"):
        ask(Extractor("", []), "a")
    refused = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(documents, "ProcessPoolExecutor", Mock(side_effect=refused))
    with pytest.raises(Failure, match=r"cannot start .*; shared memory is needed: /dev/shm"):
        list(documents.in_order(Mock(), ["a"], processes=2))


def test_a_killed_worker_of_the_stage_is_a_failure():
    with pytest.raises(Failure, match="a worker process was killed"):
        list(documents.in_order(end_at_once, ["a"], processes=2))


def end_at_once(items):
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_program_ends_when_its_process_is_killed():
    with subprocess.Popen([sys.executable, "-c", BESIDE], stdout=subprocess.PIPE) as beside:
        # The page "slow" makes it run for ever, in two processes.
        deadline = time.monotonic() + 60
        started = []
        while len(started) < 3 and time.monotonic() < deadline:
            started = psutil.Process(beside.pid).children(recursive=True)
            time.sleep(0.05)
        assert len(started) == 3  # the program, its fork, and the shell that waits
        os.kill(beside.pid, signal.SIGKILL)
    assert ended(started)
