"""Trainings that are killed, stopped or starved, really, and go on to the same bytes."""

import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from corpus_helpers import needs_data
from training_helpers import (
    STEPS,
    arguments_of,
    distil,
    history_of,
    in_a_process,
    options,
    state_folder,
    stop_at_first_checkpoint,
    wait_for,
    weights_of,
    write_model,
)
from transformers import AutoTokenizer

from eliquare import stage
from eliquare.distillation import training
from eliquare.distillation.objective import Distillation
from eliquare.distillation.terms import SETTINGS
from eliquare.models import mlm
from eliquare.training import checkpoints, run, stopping
from eliquare.training.history import History, whole_lines
from eliquare.training.terms import Losses

pytestmark = needs_data


def untimed(lines: list[dict]) -> list[dict]:
    """A history without what a clock says."""
    timed = ("seconds", "tokens_per_second")
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def test_two_cold_runs_give_the_same_bytes(world, tmp_path):
    again = distil(world, tmp_path / "again")
    for name in ("model.safetensors", "provenance.json", "config.json", "README.md"):
        assert (again / name).read_bytes() == (world.whole / name).read_bytes()
    assert not list(tmp_path.glob("again-checkpoints")), "the state is gone with the last step"
    assert str(world.folder) not in (again / "provenance.json").read_text()
    other = distil(world, tmp_path / "other", seed=2)
    assert weights_of(other) != weights_of(world.whole)


@pytest.mark.parametrize("module", [training, mlm], ids=["distillation", "mlm"])
def test_the_command_killed_and_given_again_makes_the_same_bytes(world, tmp_path, module):
    whole = world.whole if module is training else distil(world, tmp_path / "whole", mlm)
    output = tmp_path / "killed"
    values = arguments_of(world, output, module)
    process = subprocess.Popen(
        [sys.executable, "-m", module.__name__, *options(values)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not list(state_folder(output).glob("checkpoint-*/state.json")):
        assert time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not output.exists()
    assert weights_of(distil(world, output, module)) == weights_of(whole)
    steps = [line["step"] for line in history_of(output) if "loss" in line]
    assert steps == list(range(1, STEPS + 1))


def steps_done(folder) -> int:
    """The last step in the history of a training under way."""
    lines = whole_lines(folder / "history.jsonl")
    return lines[-1]["step"] if lines else 0


def last_checkpoint(folder) -> int:
    whole = [path.parent for path in folder.glob("checkpoint-*/state.json")]
    return max(map(checkpoints.step_of, whole), default=0)


@pytest.mark.parametrize("interval", [1, 3, 5])
def test_killed_again_and_again_it_gives_the_same_bytes(world, tmp_path, interval):
    """Killed soon after each interval, until it is done: a kill costs at most one interval."""
    output, folder, kills, seen = tmp_path / "out", state_folder(tmp_path / "out"), 0, 0
    while not output.exists():
        begin = last_checkpoint(folder)
        process = in_a_process(world, output, checkpoint_steps=interval, checkpoint_minutes=1e9)
        caught = wait_for(lambda begin=begin: steps_done(folder) >= begin + interval + 2, process)
        process.kill()
        process.join(120)
        if caught:
            kills += 1
            seen = max(seen, steps_done(folder))
            # After the last step of an interval its checkpoint may still be under way.
            assert seen - last_checkpoint(folder) <= interval + 1
        assert kills < 20
    assert kills >= 3
    assert weights_of(output) == weights_of(world.whole)
    assert untimed(history_of(output)) == untimed(history_of(world.whole))


def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_the_one_before(world, tmp_path):
    output, folder, caught = tmp_path / "out", state_folder(tmp_path / "out"), 0
    for _ in range(20):
        process = in_a_process(world, output, checkpoint_steps=1)
        wait_for(
            lambda: last_checkpoint(folder) and list(folder.glob(".checkpoint-*.partial")), process
        )
        process.kill()
        process.join(120)
        caught += bool(list(folder.glob(".checkpoint-*.partial")))
        if caught == 2:
            break
    assert caught, "no kill came while a checkpoint was being written"
    assert weights_of(distil(world, output)) == weights_of(world.whole)


def test_stopped_by_sigterm_and_started_again_it_gives_the_same_bytes(world, tmp_path):
    output, folder = tmp_path / "out", state_folder(tmp_path / "out")
    process = in_a_process(world, output, checkpoint_minutes=1e9)
    assert wait_for(lambda: steps_done(folder) >= 2, process)
    os.kill(process.pid, signal.SIGTERM)
    process.join(120)
    assert process.exitcode == stage.EXIT_STOPPED and not output.exists()
    assert steps_done(folder) == last_checkpoint(folder), "SIGTERM loses no step"
    assert weights_of(distil(world, output)) == weights_of(world.whole)


def test_time_is_kept_for_saving(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    stop = stopping.StopInTime(max_minutes=60)
    now[0] += 58.9 * 60
    assert not stop.due(), "a minute is kept where nothing was measured"
    now[0] += 6.1
    assert stop.due()
    now[0] -= 10 * 60
    assert not stop.due()
    stop.longest_step, stop.longest_save = 200.0, 300.0
    assert stop.due(), "11 minutes are left: less than a step and two saves take"
    short = stopping.StopInTime(max_minutes=1)
    now[0] += 50
    assert not short.due()
    now[0] += 5
    assert short.due(), "a tenth of a minute is kept"
    assert not stopping.StopInTime(None).due()


def test_stopped_by_its_deadline_it_goes_on_to_the_same_bytes(world, tmp_path, capsys):
    """Three steps, each in a run of its own, none of which is a step of validation."""
    for step in (1, 2, 3):
        with pytest.raises(stage.StoppedEarly, match="the same command goes on"):
            distil(world, tmp_path / "out", max_minutes=1e-9)
        assert (tmp_path / f"out-checkpoints/checkpoint-{step}").exists()
    output = distil(world, tmp_path / "out")
    assert "going on from" in capsys.readouterr().err
    assert weights_of(output) == weights_of(world.whole)
    assert untimed(history_of(output)) == untimed(history_of(world.whole))


@pytest.mark.parametrize("damage", ["cut", "missing", "no weights"])
def test_a_checkpoint_that_is_not_whole_is_not_loaded(world, tmp_path, damage):
    folder = stop_at_first_checkpoint(world, tmp_path / "out")
    checkpoint = max(folder.glob("checkpoint-*"), key=checkpoints.step_of)
    state = checkpoint / "state.json"
    if damage == "cut" and state.exists():
        state.write_bytes(state.read_bytes()[:100])
    elif damage == "missing":
        state.unlink(missing_ok=True)
    else:
        (checkpoint / "model.safetensors").unlink(missing_ok=True)
    assert weights_of(distil(world, tmp_path / "out")) == weights_of(world.whole)


def begun(world, output) -> None:
    """A training stopped after its first step."""
    with pytest.raises(stage.StoppedEarly):
        distil(world, output, steps=2, validations=1, max_minutes=1e-9)


@pytest.mark.parametrize("what", ["temperature", "teacher", "student", "sequences", "masking"])
def test_another_objective_or_input_starts_clean_and_says_so(world, tmp_path, capsys, what):
    begun(world, tmp_path / "out")
    if what == "temperature":
        change = {"temperature": 1.0}
    elif what in ("teacher", "student"):
        change = {what: write_model(world.tokenizer, tmp_path / "other", seed=5, layers=2)}
    else:
        change = {what: tmp_path / "other"}
        shutil.copytree(getattr(world, what), tmp_path / "other")
        # The same data, and one byte more beside it: what matters there is not the loop's to judge.
        (tmp_path / "other/more").write_text("x")
    expected = distil(world, tmp_path / "cold", steps=2, validations=1, **change)
    capsys.readouterr()
    output = distil(world, tmp_path / "out", steps=2, validations=1, **change)
    said = capsys.readouterr().err
    assert f"left by a training with other {what}; starting clean" in said
    assert "going on from" not in said
    assert weights_of(output) == weights_of(expected)


def test_the_same_inputs_elsewhere_go_on(world, tmp_path, capsys):
    begun(world, tmp_path / "out")
    shutil.copytree(world.sequences, tmp_path / "moved")
    distil(world, tmp_path / "out", steps=2, validations=1, sequences=tmp_path / "moved")
    assert "going on from" in capsys.readouterr().err


def test_two_processes_never_train_one_model(world, tmp_path, monkeypatch, capfd):
    """The second waits for the first, and then makes the model anew: the first took its state."""
    monkeypatch.setattr(run, "SECONDS_BETWEEN_TRIES", 0.01)
    output, folder = tmp_path / "out", state_folder(tmp_path / "out")
    first = in_a_process(world, output)
    assert wait_for(lambda: steps_done(folder) >= 1, first)
    os.kill(first.pid, signal.SIGSTOP)
    second = in_a_process(world, output, max_minutes=0.02)
    second.join(120)
    assert second.exitcode == stage.EXIT_STOPPED
    assert "another process trained this model all the time" in capfd.readouterr().err
    os.kill(first.pid, signal.SIGCONT)
    first.join(120)
    assert first.exitcode == 0
    assert weights_of(output) == weights_of(world.whole)


def test_a_history_cut_by_a_kill_is_read_to_its_last_whole_line(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1, "tokens": 5}\n{"step": 2, "tokens": 9}\n{"step": 2, "val')
    history = History(path)
    history.go_back_to(2)
    assert [line["step"] for line in history.lines] == [1, 2]
    history.go_back_to(1)
    assert history.tokens == 5
    history.begin()
    assert path.read_text() == '{"step": 1, "tokens": 5}\n'


# What goes wrong


def test_a_loss_that_is_not_a_number_ends_in_one_line(world, tmp_path, capfd):
    process = in_a_process(world, tmp_path / "out", learning_rate=1e10, clip=1e10)
    process.join(120)
    assert process.exitcode == stage.EXIT_FAILED and not (tmp_path / "out").exists()
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("step")]
    assert len(lines) == 2 and "24 steps of 4 sequences" in lines[0]
    assert lines[1].startswith("failed: step") and "not a number" in lines[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("term", [*SETTINGS, "the gradient's norm"])
def test_a_poisoned_term_is_named_with_its_step(world, tmp_path, monkeypatch, term, value):
    """At step 3; the last checkpoint before it stays, and from there it goes on when cured."""
    every = dict.fromkeys(SETTINGS, 1.0) | {"relations": '{"heads": 4}'}
    settings = every | {"steps": 4, "validations": 1}
    compute = Distillation.__call__

    def poisoned(self, model, batch, progress=0.0):
        losses = compute(self, model, batch, progress)
        assert set(losses.terms) == set(SETTINGS)
        if progress != 2 / 4:
            return losses
        broken = losses.loss * value
        if term not in losses.terms:
            return Losses(broken, losses.terms)
        total, count = losses.terms[term]
        return Losses(broken, losses.terms | {term: (total * value, count)})

    with monkeypatch.context() as patched:
        patched.setattr(Distillation, "__call__", poisoned)
        with pytest.raises(stage.Failure, match=f"^step 3: {term} is not a number"):
            distil(world, tmp_path / "out", checkpoint_steps=1, **settings)
    assert not (tmp_path / "out").exists()
    assert last_checkpoint(state_folder(tmp_path / "out")) == 2
    if term == "kl" and math.isnan(value):
        cured = distil(world, tmp_path / "out", **settings)
        assert weights_of(cured) == weights_of(distil(world, tmp_path / "whole", **settings))


def test_the_last_whole_checkpoint_outlives_a_full_disk(world, tmp_path, capfd):
    """Files may grow no more, as under a quota, once the first checkpoint is there."""
    output, folder = tmp_path / "out", state_folder(tmp_path / "out")
    process = in_a_process(world, output, checkpoint_steps=4)
    assert wait_for(lambda: last_checkpoint(folder), process)
    size = (folder / f"checkpoint-{last_checkpoint(folder)}/training.pt").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    process.join(120)
    assert process.exitcode == stage.EXIT_FAILED and not output.exists()
    said = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"failed: .*checkpoint-\d+ cannot be written .*Make room", said), said
    kept = last_checkpoint(folder)
    assert kept and not list(folder.glob(".checkpoint-*"))
    assert weights_of(distil(world, output)) == weights_of(world.whole)


def test_a_full_disk_at_the_end_loses_nothing(world, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", str(tmp_path / "out/README.md"))

    monkeypatch.setattr(training, "card", full)
    with pytest.raises(stage.Failure, match=r"out/README.md: No space left.*Make room"):
        distil(world, tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    assert weights_of(distil(world, tmp_path / "out")) == weights_of(world.whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "--batch-size: expected 1 or more, found 0"),
        ({"fraction": 1.5}, "--fraction: expected at most 1"),
        ({"epochs": 1}, "either --steps or --epochs"),
        ({"temperature": 0}, "--kl.temperature"),
        ({"kl": -1}, "--kl"),
        ({"kl": 0, "cosine": 0, "mlm": 0}, "nothing to train for"),
        ({"sequences": "nowhere"}, "nowhere"),
        ({"teacher": "nowhere"}, "nowhere: no model here"),
    ],
)
def test_settings_that_no_training_can_have(world, tmp_path, change, message):
    with pytest.raises(stage.InputError, match=message):
        distil(world, tmp_path / "out", **change)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_together_is_refused(world, tmp_path):
    short = write_model(world.tokenizer, tmp_path / "short", max_positions=20)
    with pytest.raises(
        stage.InputError, match="the longest has 48 sub-words, and the model takes 20"
    ):
        distil(world, tmp_path / "out", student=short, teacher=short)
    other = AutoTokenizer.from_pretrained(world.student)
    other.backend_tokenizer.model = type(other.backend_tokenizer.model)(
        {word: len(other) - 1 - number for word, number in other.get_vocab().items()},
        unk_token=other.unk_token,
    )
    for path in world.student.iterdir():
        (tmp_path / "short" / path.name).write_bytes(path.read_bytes())
    other.save_pretrained(tmp_path / "short")
    with pytest.raises(stage.InputError, match="different sub-words"):
        distil(world, tmp_path / "out", student=tmp_path / "short")
