"""Several processes train as one: the same weights, and nothing sent but once a step."""

import os
import subprocess
import sys

import pytest
import torch
from corpus_helpers import needs_data
from safetensors.torch import load_file
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from training_helpers import (
    arguments_of,
    distil,
    history_of,
    in_processes,
    options,
)

from eliquare import stage
from eliquare.distillation import training
from eliquare.training.processes import Processes

pytestmark = needs_data


def alike(one, other) -> None:
    """The same weights and the same history, within the tolerance of sums in another order."""
    weights = load_file(other / "model.safetensors")
    for name, expected in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=1e-5)
    for single, several in zip(history_of(one), history_of(other), strict=True):
        assert single["step"] == several["step"]
        assert single.get("tokens") == several.get("tokens")
        for name in ("loss", "kl", "cosine", "mlm", "validation_loss"):
            if name in single:
                assert several[name] == pytest.approx(single[name], rel=1e-4)


def test_four_processes_are_as_one_with_four_passes(world, still, tmp_path):
    settings = {"student": still, "steps": 4, "validations": 2, "batch_size": 2}
    one = distil(world, tmp_path / "one", accumulation=4, **settings)
    values = arguments_of(world, tmp_path / "four", **settings)
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "4", "--standalone"]
    done = subprocess.run(
        [sys.executable, *command, "-m", training.__name__, *options(values)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    alike(one, tmp_path / "four")
    # One process speaks for all.
    assert done.stderr.count("step 4 of 4: tokens") == 1


def test_two_processes_with_passes_and_a_checkpoint_go_on_alike(world, still, tmp_path):
    """Stopped after a step by a deadline that is over at once, then gone on with."""
    settings = {"student": still, "steps": 4, "validations": 2, "batch_size": 2}
    one = distil(world, tmp_path / "one", accumulation=4, **settings)
    several = settings | {"accumulation": 2}
    stopped = in_processes(world, tmp_path / "two", 2, max_minutes=1e-9, **several)
    assert stopped == [stage.EXIT_STOPPED] * 2
    assert (tmp_path / "two-checkpoints/checkpoint-1/state.json").exists()
    assert in_processes(world, tmp_path / "two", 2, **several) == [0, 0]
    alike(one, tmp_path / "two")


def test_gradients_are_sent_once_a_step_however_many_its_passes(
    world, still, tmp_path, monkeypatch
):
    """Counted in each process: a hook on what DistributedDataParallel sends."""
    share = Processes.share

    def counted(processes, model):
        wrapped = share(processes, model)

        def hook(state, bucket):
            with (tmp_path / f"sent-{processes.rank}").open("a") as file:
                file.write("x")
            return allreduce_hook(None, bucket)

        wrapped.register_comm_hook(None, hook)
        return wrapped

    monkeypatch.setattr(Processes, "share", counted)

    def sent(accumulation: int) -> list[int]:
        settings = {"steps": 3, "validations": 1, "batch_size": 2, "accumulation": accumulation}
        ended = in_processes(world, tmp_path / f"out-{accumulation}", 2, student=still, **settings)
        assert ended == [0, 0]
        files = [tmp_path / f"sent-{rank}" for rank in range(2)]
        counts = [len(file.read_text()) for file in files]
        for file in files:
            file.unlink()
        return counts

    once = sent(1)
    assert once[0] == once[1] >= 3
    assert sent(4) == once
