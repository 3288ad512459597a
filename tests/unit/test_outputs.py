"""An output is complete or as it was: replaced only by the stage that made it, whatever happens."""

import errno
import json
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from eliquare import cli, interrupts, io, outputs
from eliquare.corpus.sources import TextOptions
from eliquare.io import Failure, InputError, atomic_dir, atomic_write

LINES = "".join(f"{n * 7919 % 10007} {n * 104729 % 1009} {n} is a sentence.\n" for n in range(40))
FILTER = ["--processes", "1", "--min-characters", "1", "--no-near-duplicates"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a text, the current one."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/text.txt").write_text(LINES)
    monkeypatch.chdir(tmp_path / "a/b")
    return tmp_path


def read_text(output, *options):
    """Run `corpus text`; return its exit code."""
    words = ["--files", "../text.txt", *FILTER, "--output", str(output), *options]
    with pytest.raises(SystemExit) as end:
        cli.main(["corpus", "text", *words])
    return end.value.code


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("output", ["..", ".", "", "../..", "mine", "mine/note.txt", "/"])
def test_what_the_stage_did_not_make_stays(here, capsys, output):
    mine = here / "a/b/mine"
    mine.mkdir()
    (mine / "note.txt").write_text("mine")
    before = content(here)
    assert read_text(output) == cli.EXIT_INPUT
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: --output")
    assert content(here) == before


def test_a_pipe_or_a_device_stays(here, capsys):
    os.mkfifo("pipe")
    assert read_text("pipe") == cli.EXIT_INPUT
    assert capsys.readouterr().err.startswith("error: --output pipe: is there already")
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_a_result_is_not_put_into_an_input(here, capsys):
    (here / "a/config.json").touch()
    assert outputs.problem_of("corpus text", here / "a/new", [here / "a"]) == (
        f"lies in an input, {here / 'a'}"
    )
    assert outputs.problem_of("corpus text", here / "new", [here / "a"]) == ""


def test_two_outputs_are_two_places(here):
    with (
        pytest.raises(InputError, match="--counts new: is also another output; name another"),
        outputs.claimed("corpus tokenize", {"output": Path("new"), "counts": Path("new")}),
    ):
        pass


def test_a_stage_replaces_what_it_made_and_an_empty_folder(here):
    (here / "a/b/out/empty").mkdir(parents=True)
    assert read_text("out") == 0
    made = content(here / "a/b/out")
    assert "empty" not in made
    assert read_text("out", "--max-documents", "20") == 0
    assert content(here / "a/b/out") != made
    # The link stays, and so does what it leads to.
    (here / "disk").mkdir()
    os.rename(here / "a/b/out", here / "disk/out")
    (here / "a/b/out").symlink_to(here / "disk/out")
    assert read_text("out") == 0
    assert (here / "a/b/out").is_symlink()
    assert content(here / "disk/out") == made
    # A link in the way is somebody's, and what it leads to stays.
    (here / "disk/.out.partial").symlink_to(here / "a")
    assert read_text("out") == 0
    assert (here / "a/text.txt").exists()


def test_a_lock_in_a_folder_is_nothing_that_could_be_lost(here):
    (here / "out").mkdir()
    (here / "out/.cy.lock").write_text("corpus text\n")
    assert not outputs.is_there(here / "out")
    (here / "out/kept.txt").touch()
    assert outputs.is_there(here / "out")


def test_another_stage_and_an_input_are_refused(here, capsys):
    assert read_text("documents") == 0
    before = content(here)
    with pytest.raises(SystemExit) as end:
        cli.main(["corpus", "mixture", "--documents", "documents", "--output", "documents"])
    assert end.value.code == cli.EXIT_INPUT
    assert "also an input" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["corpus", "mixture", "--documents", "documents", "--output", "../b/documents/.."])
    words = ["corpus", "sample", "--documents", "documents", "--output", "documents"]
    with pytest.raises(SystemExit):
        cli.main(words)
    assert content(here) == before


def test_a_file_is_replaced_by_the_stage_that_made_it_alone(tmp_path):
    path = tmp_path / "scores.json"

    def write(stage, text):
        with outputs.claimed(stage, {"output": path}), atomic_write(path) as partial:
            partial.write_text(text)

    write("evaluation finetune", "1")
    write("evaluation finetune", "2")
    with pytest.raises(InputError, match="evaluation benchmark` did not make it"):
        write("evaluation benchmark", "3")
    assert path.read_text() == "2"
    # A file of the user's, where nothing was made before.
    (tmp_path / "mine.json").write_text("mine")
    path = tmp_path / "mine.json"
    with pytest.raises(InputError, match="did not make it"):
        write("evaluation finetune", "4")
    assert path.read_text() == "mine"


def test_inputs_and_outputs_are_told_apart():
    for room, stages in cli.STAGES.items():
        for stage, where in stages.items():
            function = cli.load(where)
            options = next(iter(function.__annotations__.values()))
            written = {
                name
                for name, field in options.model_fields.items()
                if "Path" in str(field.annotation)
                and re.search(" to (write|make)", f" {field.description}")
            }
            expected = set() if (room, stage) == ("corpus", "dump") else set(options.outputs)
            assert written - {"output"} == expected - {"output"}, (room, stage)


def test_the_old_result_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    output = tmp_path / "model"
    with atomic_dir(output) as folder:
        (folder / "weights").write_text("old")
    synced = []
    replace = os.replace

    def record(source, target):
        synced.append((source.name, target.name))
        replace(source, target)
        if len(synced) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(io.os, "replace", record)
    for stop, stands in ((1, "old"), (2, "new")):  # noqa: B007
        synced.clear()
        with pytest.raises(KeyboardInterrupt), atomic_dir(output) as folder:
            (folder / "weights").write_text("new")
        monkeypatch.setattr(io.os, "replace", replace)
        # The next start finds it under its name, and says nothing of what a kill left.
        with pytest.raises(ZeroDivisionError), atomic_dir(output):
            1 / 0  # noqa: B018
        assert (output / "weights").read_text() == stands
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        monkeypatch.setattr(io.os, "replace", record)


def test_everything_is_on_the_disk_before_it_has_its_name_or_the_old_one_goes(
    tmp_path, monkeypatch
):
    done = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def call(*arguments, name=name, original=original):
            first = arguments[0]
            path = os.readlink(f"/proc/self/fd/{first}") if name == "fsync" else str(first)
            done.append((name, path.removeprefix(str(tmp_path))))
            return original(*arguments)

        monkeypatch.setattr(io.os, name, call)
    for _ in range(2):
        done.clear()
        with atomic_dir(tmp_path / "new/folder/model") as folder:
            (folder / "part").mkdir()
            (folder / "part/weights").write_text("x")
        renamed = next(n for n, (what, _) in enumerate(done) if what == "replace")
        partial = "/new/folder/.model.partial"
        before = {path for what, path in done[:renamed] if what == "fsync"}
        assert before >= {partial, f"{partial}/part", f"{partial}/part/weights"}
        assert done[-1] == ("fsync", "/new/folder")
    assert not list(tmp_path.rglob(".*"))


def test_what_a_kill_left_of_a_work_folder_goes_with_the_next_run(tmp_path):
    left = tmp_path / ".out.work/left"
    left.parent.mkdir()
    left.touch()
    with io.work_folder(tmp_path / "out") as work:
        assert not any(work.iterdir())
        (work / "file").touch()
    assert not any(tmp_path.iterdir())


def in_a_child(target, *arguments):
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def slow_stage(path, text):
    with outputs.claimed("corpus text", {"output": path}), atomic_dir(path) as folder:
        (folder / "began").touch()
        for _ in range(20):
            time.sleep(0.02)
            with (folder / "text").open("a") as file:
                file.write(text)


@pytest.mark.parametrize("kill", [None, 0, 1])
def test_two_runs_into_one_output_wait_for_each_other(tmp_path, kill):
    output = tmp_path / "out"
    runs = []
    for text in "ab":
        runs.append(in_a_child(slow_stage, output, text))
        while not (tmp_path / ".out.partial/began").exists():
            time.sleep(0.001)
    if kill is not None:
        runs[kill].kill()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [-signal.SIGKILL if n == kill else 0 for n in range(2)]
    assert (output / "text").read_text() == ("a" if kill == 1 else "b") * 20


class Opaque(Exception):
    """What a library makes of the interruption of its callback."""


@pytest.mark.parametrize("number", interrupts.SIGNALS)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_ends_a_stage_in_one_line(here, monkeypatch, capfd, number, swallowed):
    # The tests themselves may run where a signal is ignored, as in the background of a shell.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)

    def stage(options):
        """Write half of its output."""
        with atomic_dir(options.output) as folder:
            (folder / "half").touch()
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGTERM)  # while it cleans up
                raise Opaque from None if swallowed else KeyboardInterrupt

    stage.__annotations__ = {"options": TextOptions, "return": None}
    monkeypatch.setattr(cli, "load", lambda _: stage)
    assert read_text("out") == 128 + number
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert said[0].startswith(f"interrupted: by {name}; nothing half-made is left")
    assert content(here / "a/b") == {}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    signal.signal(number, before)


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interrupts.in_one_line():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        Exception("No space left on device (os error 28)"),  # tokenizers
        RuntimeError("[enforce fail at inline_container.cc:672] . [Errno 28] No space left"),
    ],
)
def test_a_full_disk_is_one_line_whoever_meets_it(tmp_path, error):
    output = tmp_path / "out"

    def fill():
        with atomic_dir(output) as folder:
            (folder / "half").write_text("x")
            raise error

    with pytest.raises(Failure, match=r"out: cannot be written \(.*(space|quota)"):
        fill()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_small_disk(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        text = tmp_path / "text.txt"
        text.write_text("".join(f"{n * 7919 % 10007} {n} a sentence.\n" for n in range(9000)))
        words = ["corpus", "text", *FILTER, "--files", str(text)]
        out = tmp_path / "out"
        with pytest.raises(SystemExit) as end:
            cli.main([*words, "--output", str(out)])
        assert end.value.code == cli.EXIT_FAILED
        assert not out.exists()
        assert not (tmp_path / ".out.partial").exists()
        subprocess.run(["mount", "-o", "remount,size=16m", str(tmp_path)], check=True)
        with pytest.raises(SystemExit) as end:
            cli.main([*words, "--output", str(out)])
        assert end.value.code == 0
        assert json.loads((out / "report.json").read_text())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
