"""The processes that train together: one alone, or those that torchrun started on any machines."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

SECONDS_TO_GIVE_BACK = 1.0


class Processes:
    """How many there are, which of them this is, its device, and what they say to each other.

    What the processes agree on travels on the processor (gloo), so that no step waits for a GPU;
    gradients travel between GPUs by NCCL.
    """

    def __init__(self):
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.count > 1 else 0
        gpu = torch.cuda.is_available()
        local = int(os.environ.get("LOCAL_RANK", "0")) if self.count > 1 else 0
        self.device = torch.device("cuda", local) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(self.device)
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self.count == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values.bool().tolist()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the processes."""
        if self.count > 1:
            distributed.all_reduce(values, distributed.ReduceOp.SUM)
        return values

    def least(self, values: torch.Tensor) -> torch.Tensor:
        """The least of each number over the processes."""
        if self.count > 1:
            distributed.all_reduce(values, distributed.ReduceOp.MIN)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def of_the_first(self, value: Any) -> Any:
        """The first process's value, in every process."""
        return self.gather(value)[0]

    def share(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over the processes; the model itself if alone."""
        if self.count == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            # Each objective reaches every parameter; looking for unused ones would misjudge those
            # that the loss reaches outside the model's forward, as the cosine term's projection.
            find_unused_parameters=False,
        )

    def end(self) -> None:
        """Leave the group, once all have done their work."""
        if self.count > 1 and distributed.is_initialized():
            distributed.barrier()
            # Gloo's thread still gives back the barrier's tensors. For that it needs Python's lock,
            # which the next line holds while it waits for the thread: both would wait for ever.
            time.sleep(SECONDS_TO_GIVE_BACK)
            distributed.destroy_process_group()


@contextlib.contextmanager
def without_averaging(model: nn.Module, condition: bool) -> Iterator[None]:
    """Gradients add up in this process alone, as on every pass of a step but its last."""
    if condition and isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield
