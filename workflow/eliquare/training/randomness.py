"""Random numbers (dropout's) of each training's own, whatever else is trained beside it."""

import contextlib
from collections.abc import Iterator

import torch


class Randomness:
    """A stream of torch's random numbers that no other training in the process moves on."""

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        with torch.random.fork_rng(devices=self._gpus()):
            torch.manual_seed(seed)
            self.state = self._current()

    def _gpus(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def _current(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._gpus())]

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw from this stream inside the block, and go on from there the next time."""
        torch.set_rng_state(self.state[0])
        for gpu, state in zip(self._gpus(), self.state[1:], strict=True):
            torch.cuda.set_rng_state(state, gpu)
        try:
            yield
        finally:
            self.state = self._current()
