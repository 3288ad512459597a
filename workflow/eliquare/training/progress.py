"""How far a training is: agreement of its processes, sums since the last log line, the clock."""

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from eliquare.interrupts import handled
from eliquare.training.options import TrainingOptions

# Kept free before a deadline, besides the time that a step and a checkpoint have taken.
SECONDS_RESERVED, SHARE_RESERVED = 60.0, 0.1
SECONDS_TO_RETURN = 1.0
NEVER = 2**62


class Processes:
    """The processes that train together, and what they tell each other.

    It travels on the processor (gloo), so that no step waits for a GPU; gradients travel between
    GPUs by NCCL, which is the Trainer's.
    """

    def __init__(self) -> None:
        together = dist.is_initialized()
        self.count = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0
        self._gloo = dist.new_group(backend="gloo") if self.count > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def add(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sum of each value over the processes."""
        if self._gloo is None:
            return dict(values)
        sums = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(sums, dist.ReduceOp.SUM, group=self._gloo)
        return dict(zip(values, sums.tolist(), strict=True))

    def least(self, values: torch.Tensor) -> torch.Tensor:
        """Return the least of each number over the processes."""
        if self._gloo is not None:
            dist.all_reduce(values, dist.ReduceOp.MIN, group=self._gloo)
        return values

    def from_main(self, value: Any) -> Any:
        """Return the main process's value, in every process."""
        values = [value]
        if self._gloo is not None:
            dist.broadcast_object_list(values, src=0, group=self._gloo)
        return values[0]

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self._gloo is not None:
            dist.barrier(group=self._gloo)

    def leave(self) -> None:
        """Leave the group, once all have done their work."""
        if self._gloo is not None:
            self.wait()
            # Gloo's thread still gives back the barrier's tensors. For that it needs Python's lock,
            # which the next line holds while it waits for the thread: both would wait for ever.
            time.sleep(SECONDS_TO_RETURN)
            dist.destroy_process_group()


@dataclass
class Passed:
    """What has passed since the last logged step, in all processes."""

    steps: int = 0
    tokens: int = 0
    positions: int = 0
    seconds: float = 0.0


class StepSums:
    """Sums of loss and terms since the last logged step, and the first step that broke one.

    They stay on the device, so that no step waits for a number to reach the processor.
    """

    def __init__(self, terms: Sequence[str], device: torch.device, group: Processes):
        self.terms = list(terms)
        self.group = group
        self.totals = torch.zeros(1 + len(terms), dtype=torch.float64, device=device)
        # For each term and the gradient's norm: the first step at which it was not a number.
        self.first_broken = torch.full((len(terms) + 1,), NEVER, device=device)
        self.passed = Passed()
        self.begun = time.monotonic()

    def add_step(self, tokens: int, positions: int) -> None:
        """Count a step: its real tokens, and its positions with padding."""
        self.passed.steps += 1
        self.passed.tokens += tokens
        self.passed.positions += positions

    def add(self, loss: torch.Tensor, means: Mapping[str, torch.Tensor], step: int) -> None:
        """Add a micro-batch's part of a step's loss and of each term's mean."""
        values = [loss, *(means[name] for name in self.terms)]
        added = torch.stack([value.detach().to(self.totals.dtype) for value in values])
        self.totals += added
        self._watch(added[1:], slice(len(self.terms)), step)

    def watch_gradient(self, norm: torch.Tensor, step: int) -> None:
        """Note whether the norm of a step's gradient is a number."""
        self._watch(norm.detach(), slice(len(self.terms), None), step)

    def _watch(self, values: torch.Tensor, where: slice, step: int) -> None:
        now = torch.where(torch.isfinite(values), NEVER, step)
        self.first_broken[where] = torch.minimum(self.first_broken[where], now)

    def broken(self) -> tuple[int, list[str]]:
        """Return the first step at which something was not a number, and its names."""
        steps: list[int] = self.group.least(self.first_broken.cpu()).tolist()
        first = min(steps)
        if first == NEVER:
            return first, []
        names = [name for name, step in zip(self.terms, steps, strict=False) if step == first]
        return first, names or ["the gradient's norm"]

    def state(self) -> dict[str, Any]:
        """Return everything, for a checkpoint."""
        names = ["loss", *self.terms]
        totals = self.group.add(dict(zip(names, self.totals.tolist(), strict=True)))
        self.passed.seconds += time.monotonic() - self.begun
        self.begun = time.monotonic()
        return {"totals": totals, "passed": vars(self.passed)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint holds; one process has the sums of all."""
        if self.group.is_main:
            totals = [state["totals"][name] for name in ("loss", *self.terms)]
            self.totals.copy_(torch.tensor(totals, dtype=self.totals.dtype))
        self.passed = Passed(**state["passed"])
        self.begun = time.monotonic()

    def take(self) -> tuple[dict[str, float], Passed]:
        """Return means per step of the loss and each term, and what has passed; start anew."""
        state, passed = self.state(), self.passed
        self.totals.zero_()
        self.passed = Passed()
        return {name: total / passed.steps for name, total in state["totals"].items()}, passed


class Clock(TrainerCallback):  # type: ignore[misc]
    """Says after each step whether to save, or to save and stop.

    A checkpoint is due every few minutes; the end, after a signal or so long before the deadline
    that another step (with its evaluation) and two checkpoints still fit in, at least a minute, or
    a tenth of the time if that is less. All processes agree.
    """

    def __init__(self, options: TrainingOptions, group: Processes):
        self.group = group
        self.seconds_between_saves = 60 * options.checkpoint_minutes
        self.deadline = math.inf if options.max_minutes is None else 60 * options.max_minutes
        self.terminated = False
        self.saved_step = -1
        self.begun = self.last_save = time.monotonic()
        self.step_begun: float | None = None
        self.longest_step = self.longest_save = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the step before, its evaluation and checkpoint included."""
        now = time.monotonic()
        if self.step_begun is not None:
            self.longest_step = max(self.longest_step, now - self.step_begun)
        self.step_begun = now

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Ask for a checkpoint, or for one and the end."""
        save = time.monotonic() - self.last_save >= self.seconds_between_saves
        agreed = self.group.add({"stop": self.is_over(), "save": save})
        control.should_training_stop |= agreed["stop"] > 0
        control.should_save |= agreed["stop"] > 0 or agreed["save"] > 0
        return control

    def is_over(self) -> bool:
        """Return whether to save and stop now."""
        if self.terminated or self.deadline == math.inf:
            return self.terminated
        needed = self.longest_step + 2 * self.longest_save
        reserved = max(needed, min(SECONDS_RESERVED, SHARE_RESERVED * self.deadline))
        return time.monotonic() - self.begun > self.deadline - reserved

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[None]:
        """Measure a checkpoint."""
        begun = time.monotonic()
        yield
        self.last_save = time.monotonic()
        self.longest_save = max(self.longest_save, self.last_save - begun)
        self.saved_step = step

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take Ctrl-C, SIGTERM and SIGHUP as the wish to save and stop; a second Ctrl-C aborts."""
        interrupted = False

        def stop(number: int) -> None:
            nonlocal interrupted
            if interrupted and number == signal.SIGINT:
                raise KeyboardInterrupt
            interrupted |= number == signal.SIGINT
            self.terminated = True
            with contextlib.suppress(OSError):  # not through a file that may be in the midst of it
                os.write(2, f"{signal.Signals(number).name}: saving after this step\n".encode())

        with handled(stop):
            yield
