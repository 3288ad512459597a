"""Trainings that are killed, stopped or starved, really, and resume to the same bytes."""

import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

import trainings
import worlds
from eliquare import cli
from eliquare.config.objective import Objective
from eliquare.distillation.objective import Distillation
from eliquare.io import Failure, Interrupted
from eliquare.training import checkpoint, progress
from eliquare.training.trainer import Losses, MaskedTrainer
from trainings import (
    STEPS,
    history_of,
    in_a_process,
    last_step,
    provenance_of,
    state_of,
    untimed,
    wait_for,
    weights_of,
    write_model,
)

SHORT = {"max_steps": 3, "num_evals": 1}
EACH_STEP = {"checkpoint_minutes": 1e-9}


def interrupt(world, output, **changes):
    """Stop a training after one more step."""
    with pytest.raises(Interrupted):
        world.distill(output, max_minutes=1e-9, **changes)


def steps_logged(output):
    return max((line["step"] for line in history_of(state_of(output))), default=0)


def test_two_cold_runs_give_the_same_bytes(world, trained, tmp_path):
    again = world.distill(tmp_path / "again")
    for name in ("model.safetensors", "provenance.json", "config.json", "README.md"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()
    assert str(world.folder) not in (again / "provenance.json").read_text()
    assert provenance_of(again)["threads"] == world.options(again).threads
    other = world.distill(tmp_path / "other", seed=2)
    assert weights_of(other) != weights_of(trained)


def test_the_command_killed_and_given_again_makes_the_same_bytes(world, trained, tmp_path):
    output = tmp_path / "killed"
    options = world.options(output, **EACH_STEP)
    command = ["-m", "eliquare", "distillation", "distill", *trainings.words(options)]
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | worlds.BARE,
        stderr=subprocess.DEVNULL,
        umask=0o077,
    )
    end = time.monotonic() + 600
    while last_step(output) < 2:
        assert time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    assert weights_of(world.distill(output)) == weights_of(trained)
    assert untimed(output) == untimed(trained)


def test_a_pretraining_resumes_to_the_same_bytes(world, tmp_path):
    straight = world.pretrain(tmp_path / "straight", **SHORT)
    with pytest.raises(Interrupted):
        world.pretrain(tmp_path / "out", max_minutes=1e-9, **SHORT)
    assert weights_of(world.pretrain(tmp_path / "out", **SHORT)) == weights_of(straight)


def test_killed_again_and_again_it_gives_the_same_bytes(world, trained, tmp_path):
    """Killed at any moment, checkpoints under way included: a kill costs at most one step."""
    output, kills, caught = tmp_path / "out", 0, 0
    while not output.exists():
        begin = last_step(output)
        process = in_a_process(world.options(output, **EACH_STEP))
        wait_for(lambda begin=begin: last_step(output) > begin + 1, process)
        wait_for(lambda: list(state_of(output).glob(".checkpoint-*")), process)
        process.kill()
        process.join(120)
        kills += process.exitcode == -signal.SIGKILL
        caught += bool(list(state_of(output).glob(".checkpoint-*")))
        assert steps_logged(output) - last_step(output) <= 1 or output.exists()
        assert kills < 20
    assert kills >= 3
    assert caught, "no kill came while a checkpoint was being written"
    assert weights_of(output) == weights_of(trained)
    assert untimed(output) == untimed(trained)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_stops(world, trained, tmp_path, number, capfd):
    """SIGTERM is tried where clusters send it, in tests/slurm, and with the others below."""
    output = tmp_path / "out"
    process = in_a_process(world.options(output))
    assert wait_for(lambda: steps_logged(output) >= 2, process)
    os.kill(process.pid, number)
    # As Snakemake does after a Ctrl-C that went to both.
    os.kill(process.pid, signal.SIGTERM)
    process.join(120)
    assert process.exitcode == cli.EXIT_INTERRUPTED
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == f"interrupted: the state is saved in {state_of(output)}; " + (
        "the same command resumes"
    )
    assert not output.exists()
    assert steps_logged(output) == last_step(output), "a signal loses no step"
    assert weights_of(world.distill(output)) == weights_of(trained)


def test_the_deadline_saves_and_stops(world, trained, tmp_path, caplog):
    """Three steps, each in a run of its own, none of which evaluates."""
    caplog.set_level("INFO")
    for step in (1, 2, 3):
        interrupt(world, tmp_path / "out")
        assert last_step(tmp_path / "out") == step
    kept = sorted(path.name for path in state_of(tmp_path / "out").glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-3"]
    output = world.distill(tmp_path / "out")
    assert "resuming from" in caplog.text
    assert weights_of(output) == weights_of(trained)
    assert untimed(output) == untimed(trained)


def test_time_is_reserved_for_saving(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def clock(minutes):
        options = SimpleNamespace(checkpoint_minutes=15, max_minutes=minutes)
        return progress.Clock(options, progress.Processes())

    hour = clock(60)
    now[0] += 58.9 * 60
    assert not hour.is_over(), "a minute is reserved where nothing was measured"
    now[0] += 6.1
    assert hour.is_over()
    now[0] -= 10 * 60
    assert not hour.is_over()
    hour.longest_step, hour.longest_save = 200.0, 300.0
    assert hour.is_over(), "11 minutes are left: less than a step and two checkpoints take"
    minute = clock(1)
    now[0] += 50
    assert not minute.is_over()
    now[0] += 5
    assert minute.is_over(), "a tenth of a minute is reserved"
    assert not clock(None).is_over()


def test_a_damaged_checkpoint_is_not_loaded(world, tmp_path, caplog, monkeypatch):
    straight = world.distill(tmp_path / "straight", **SHORT)
    output = tmp_path / "out"
    for _ in range(2):
        interrupt(world, output, **SHORT)
    flip(state_of(output) / "checkpoint-2/model.safetensors")
    shutil.copytree(state_of(output) / "checkpoint-2", state_of(output) / "checkpoint-5.bak")
    # As a power cut of older versions left it.
    (state_of(output) / "settings.json").write_bytes(b"")
    caplog.clear()
    caplog.set_level("INFO")
    assert weights_of(world.distill(output, **SHORT)) == weights_of(straight)
    assert "checkpoint-2: damaged (model.safetensors)" in caplog.text
    assert f"resuming from {state_of(output)}/checkpoint-1" in caplog.text
    assert "checkpoint-5.bak: not a checkpoint" in caplog.text

    # A workflow deletes its outputs before it makes them again.
    def never(*arguments, **keywords):
        raise Failure("trained again")

    monkeypatch.setattr(MaskedTrainer, "train", never)
    shutil.rmtree(output)
    assert weights_of(world.distill(output, **SHORT)) == weights_of(straight)
    shutil.rmtree(output)
    with pytest.raises(Failure, match="trained again"):
        world.distill(output, **SHORT, seed=2)
    assert weights_of(world.distill(output, **SHORT)) == weights_of(straight)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", ["zeros", "a flipped bit", "cut", "gone", "no manifest", "empty manifest", "no sums"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, caplog, damage):
    provenance = {"settings": {"seed": 1}, "inputs": {"teacher": "0"}}
    assert checkpoint.open_folder(tmp_path, provenance) is None
    for step in (5, 10):
        with checkpoint.writing(tmp_path, step, checkpoint.digest_of(provenance)) as hidden:
            (hidden / f"checkpoint-{step}/best").mkdir(parents=True)
            for name in ("model.safetensors", "optimizer.pt", "best/model.safetensors"):
                (hidden / f"checkpoint-{step}" / name).write_bytes(os.urandom(1000))
    assert checkpoint.open_folder(tmp_path, provenance) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-11").write_text("a file")
    (tmp_path / "checkpoint-12 (copy)").mkdir()
    (tmp_path / ".checkpoint-15.partial/checkpoint-15").mkdir(parents=True)
    last = tmp_path / "checkpoint-10"
    what, manifest = last / "optimizer.pt", last / "manifest.json"
    if damage == "zeros":
        what.write_bytes(bytes(1000))
    elif damage == "a flipped bit":
        flip(last / "best/model.safetensors")
    elif damage == "cut":
        what.write_bytes(what.read_bytes()[:100])
    elif damage == "no sums":
        manifest.write_text('{"files": []}')
    elif damage == "empty manifest":
        manifest.write_text("")
    else:
        (what if damage == "gone" else manifest).unlink()
    assert checkpoint.open_folder(tmp_path, provenance) == tmp_path / "checkpoint-5"
    assert "checkpoint-10: damaged" in caplog.text
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"settings.json", "checkpoint-5", "checkpoint-11", "checkpoint-12 (copy)"}
    # Of another training none is taken, with or without what says so first.
    for settings in ("", None):
        if settings is not None:
            (tmp_path / "settings.json").write_text(settings)
        assert checkpoint.open_folder(tmp_path, provenance | {"inputs": {}}) is None
        assert not (tmp_path / "checkpoint-5").exists()


@pytest.mark.parametrize("what", ["objective", "learning_rate", "teacher", "start_from", "masking"])
def test_another_objective_setting_or_input_starts_clean_and_says_so(world, tmp_path, caplog, what):
    caplog.set_level("INFO")
    output = tmp_path / "out"
    interrupt(world, output, **SHORT)
    if what == "objective":
        change = {"objective": {"kl": {"temperature": 1.0}}}
    elif what == "learning_rate":
        change = {what: 1e-3}
    elif what == "masking":
        shutil.copytree(world.masking, tmp_path / "other")
        # The same data and one more file: what matters there is not the training's to judge.
        (tmp_path / "other/more").write_text("x")
        change = {what: tmp_path / "other"}
    else:
        other = write_model(world.tokenizer, tmp_path / "other", seed=5, num_hidden_layers=2)
        change = {"teachers": [other]} if what == "teacher" else {"student": other}
    caplog.clear()
    interrupt(world, output, **SHORT, **change)
    assert f"left by a training with other {what}; starting clean" in caplog.text
    assert "resuming from" not in caplog.text
    assert last_step(output) == 1


def test_the_same_training_elsewhere_and_run_otherwise_resumes(world, tmp_path, caplog):
    """Paths, threads and checkpoints decide nothing; nor does the way to write the objective."""
    caplog.set_level("INFO")
    interrupt(world, tmp_path / "out", **SHORT)
    shutil.copytree(world.sequences, tmp_path / "moved")
    written_out = Objective().written_out()
    interrupt(
        world,
        tmp_path / "out",
        sequences=tmp_path / "moved",
        checkpoint_minutes=1,
        objective=written_out,
        **SHORT,
    )
    assert "resuming from" in caplog.text
    assert last_step(tmp_path / "out") == 2


def test_two_processes_never_train_one_model(world, trained, tmp_path, capfd):
    """The second waits for the first, and then finds the model made."""
    output = tmp_path / "out"
    first = in_a_process(world.options(output))
    assert wait_for(lambda: steps_logged(output) >= 1, first)
    os.kill(first.pid, signal.SIGSTOP)
    step = steps_logged(output)
    second = in_a_process(world.options(output))
    said = []
    assert wait_for(
        lambda: said.append(capfd.readouterr().err) or "waiting" in "".join(said), second
    )
    assert steps_logged(output) == step
    os.kill(first.pid, signal.SIGCONT)
    for process in (first, second):
        process.join(120)
        assert process.exitcode == 0
    assert "made already" in "".join(said) + capfd.readouterr().err
    assert weights_of(output) == weights_of(trained)
    assert not state_of(output).exists()


def test_what_a_kill_left_of_a_training_that_is_made_goes(world, trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    (state_of(output) / "checkpoint-5").mkdir(parents=True)
    world.distill(output)
    assert not state_of(output).exists()
    assert weights_of(checkpoint.kept_of(output)) == weights_of(trained)


# What goes wrong


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("term", ["kl", "relations", "the gradient's norm"])
def test_what_is_not_a_number_is_named_with_its_step(world, tmp_path, monkeypatch, term, value):
    """Poisoned at step 3; the last checkpoint before it stays, and from there it resumes."""
    settings = {"objective": {"relations": {"heads": 4}}, "max_steps": 4, "num_evals": 1}
    compute, calls = Distillation.__call__, []

    def poisoned(self, model, batch, scales):
        losses = compute(self, model, batch, scales)
        calls.append(1)
        if len(calls) != 3:
            return losses
        sums = {
            name: total * value if name == term else total for name, total in losses.sums.items()
        }
        return Losses(losses.loss * value, sums)

    with monkeypatch.context() as patched:
        patched.setattr(Distillation, "__call__", poisoned)
        with pytest.raises(Failure, match=f"step 3: {re.escape(term)} is not a number"):
            world.distill(tmp_path / "out", **settings, **EACH_STEP)
    assert not (tmp_path / "out").exists()
    assert last_step(tmp_path / "out") == 2
    if term == "kl" and math.isnan(value):
        cured = world.distill(tmp_path / "out", **settings)
        assert weights_of(cured) == weights_of(world.distill(tmp_path / "straight", **settings))


def test_an_evaluation_that_is_not_a_number_is_named(world, tmp_path, monkeypatch):
    compute = Distillation.__call__

    def poisoned(self, model, batch, scales):
        losses = compute(self, model, batch, scales)
        if torch.is_grad_enabled():
            return losses
        return losses._replace(sums=losses.sums | {"mlm": losses.sums["mlm"] * math.nan})

    monkeypatch.setattr(Distillation, "__call__", poisoned)
    with pytest.raises(Failure, match="step 1: eval_mlm is not a number"):
        world.distill(tmp_path / "out", max_steps=1)


def test_a_loss_that_explodes_ends_in_one_line(world, tmp_path, capfd):
    process = in_a_process(world.options(tmp_path / "out", learning_rate=4e9, max_grad_norm=4e9))
    process.join(120)
    assert process.exitcode == cli.EXIT_FAILED
    assert not (tmp_path / "out").exists()
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("failed: step")
    assert "not a number" in last


def test_the_last_checkpoint_outlives_a_full_disk(world, trained, tmp_path, capfd):
    """Files may grow no more, as under a quota, once the first checkpoint is there."""
    output = tmp_path / "out"
    process = in_a_process(world.options(output, **EACH_STEP))
    assert wait_for(lambda: last_step(output), process)
    size = (state_of(output) / f"checkpoint-{last_step(output)}/optimizer.pt").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    process.join(120)
    assert process.exitcode == cli.EXIT_FAILED
    assert not output.exists()
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("failed: ")
    assert "cannot be written" in last
    assert last_step(output)
    assert not list(state_of(output).glob(".checkpoint-*"))
    assert weights_of(world.distill(output)) == weights_of(trained)


def test_a_full_disk_at_the_end_loses_nothing(world, trained, tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(MaskedTrainer, "load_best", full)
        with pytest.raises(OSError, match="No space"):
            world.distill(tmp_path / "out")
        patched.undo()
        patched.setattr("eliquare.training.trainer.write_json", full)
        patched.setattr("eliquare.training.trainer.checkpoint.write_history", full)
        with pytest.raises(Failure, match="Make room"):
            world.distill(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert last_step(tmp_path / "out") == STEPS
    assert weights_of(world.distill(tmp_path / "out")) == weights_of(trained)
