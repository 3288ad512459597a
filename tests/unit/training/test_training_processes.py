"""Several processes train as one: the same weights, and gradients sent once a step."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import trainings
from eliquare import cli
from eliquare.config.model import Training
from eliquare.config.options import launcher
from trainings import history_of, in_processes, last_step

# The default, and one whose terms reach neither the last layer nor the head.
OBJECTIVES = {
    "electronics2023": {},
    "first layer": {"preset": "none", "attention": {"weight": 1.0, "layers": {"1": 1}}},
}


@pytest.fixture(scope="module")
def still(world, tmp_path_factory):
    """A student without dropout, whose random numbers each process draws for itself."""
    folder = tmp_path_factory.mktemp("still") / "student"
    return trainings.write_model(world.tokenizer, folder, seed=2, num_hidden_layers=2, dropout=0)


def assert_alike(single, several):
    """The same weights and history, up to sums in another order."""
    weights = load_file(several / "model.safetensors")
    for name, expected in load_file(single / "model.safetensors").items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=1e-5)
    for line, other in zip(history_of(single), history_of(several), strict=True):
        assert set(line) == set(other)
        assert line.get("tokens") == other.get("tokens")
        for name in set(line) - {"seconds", "tokens_per_second"}:
            assert other[name] == pytest.approx(line[name], rel=1e-4), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_processes_are_as_one_with_four_micro_batches(world, still, tmp_path, objective):
    settings = {"student": still, "objective": OBJECTIVES[objective]}
    settings |= {"max_steps": 3, "num_evals": 1, "per_device_train_batch_size": 2}
    single = world.distill(tmp_path / "one", gradient_accumulation_steps=4, **settings)
    several = world.options(tmp_path / "four", **settings)
    assert in_processes(several, 4) == [0] * 4
    assert_alike(single, several.output)


def launched(options):
    """Run two processes as a rule does that trains on two GPUs."""
    command = launcher(Training(max_steps=1, gpus=2))
    return subprocess.run(
        [sys.executable, *command[1:], "distillation", "distill", *trainings.words(options)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_exit_codes_of_processes_are_those_of_their_launcher(world, still, tmp_path):
    """75 puts a job back into its queue, 2 says that nothing will help but other input."""
    settings = {"student": still, "max_steps": 3, "num_evals": 1, "per_device_train_batch_size": 2}
    stopped = launched(world.options(tmp_path / "out", max_minutes=1e-9, **settings))
    assert stopped.returncode == cli.EXIT_INTERRUPTED, stopped.stderr[-2000:]
    refused = launched(world.options(tmp_path / "out", sequences=tmp_path / "none", **settings))
    assert refused.returncode == cli.EXIT_INPUT, refused.stderr[-2000:]
    assert "Traceback" not in stopped.stderr + refused.stderr


def test_torchrun_and_a_resume(world, still, tmp_path):
    """Stopped after a step by a deadline that is over at once, then resumed by torchrun."""
    settings = {"student": still, "max_steps": 3, "num_evals": 1, "per_device_train_batch_size": 2}
    single = world.distill(tmp_path / "one", gradient_accumulation_steps=4, **settings)
    settings["gradient_accumulation_steps"] = 2
    output = tmp_path / "two"
    stopped = in_processes(world.options(output, max_minutes=1e-9, **settings), 2)
    assert stopped == [cli.EXIT_INTERRUPTED] * 2
    assert last_step(output) == 1
    done = launched(world.options(output, **settings))
    assert done.returncode == 0, done.stderr[-2000:]
    assert_alike(single, output)
    assert done.stderr.count("resuming from") == 1, "one process speaks for all"


def test_gradients_are_sent_once_a_step(world, still, tmp_path, monkeypatch):
    """Counted in each process: a hook on what DistributedDataParallel sends."""
    initialize = DistributedDataParallel.__init__

    def counted(self, *arguments, **keywords):
        initialize(self, *arguments, **keywords)

        def hook(state, bucket):
            with (tmp_path / f"sent-{os.environ['RANK']}").open("a") as file:
                file.write("x")
            return allreduce_hook(None, bucket)

        self.register_comm_hook(None, hook)

    monkeypatch.setattr(DistributedDataParallel, "__init__", counted)

    def sent(micro_batches):
        options = world.options(
            tmp_path / f"out-{micro_batches}",
            student=still,
            max_steps=2,
            num_evals=1,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=micro_batches,
        )
        assert in_processes(options, 2) == [0, 0]
        files = [tmp_path / f"sent-{rank}" for rank in range(2)]
        counts = [len(file.read_text()) for file in files]
        for file in files:
            file.unlink()
        return counts

    once = sent(1)
    assert once[0] == once[1] >= 2
    assert sent(3) == once
