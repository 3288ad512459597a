"""When to stop before the work is done, so that the same command goes on later."""

import signal
import time

LEAST_SECONDS_KEPT = 60.0
LEAST_SHARE_KEPT = 0.1


class StopInTime:
    """Says when to save and stop: after SIGTERM, or so long before a deadline that saving fits in.

    What is kept for saving is the longest step (with its validation) so far and twice the longest
    save; at least a minute, or a tenth of the time if that is less.
    """

    def __init__(self, max_minutes: float | None):
        self.seconds = None if max_minutes is None else 60 * max_minutes
        self.begun = time.monotonic()
        self.longest_step = 0.0
        self.longest_save = 0.0
        self.terminated = False
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, *_):
        self.terminated = True

    def due(self) -> bool:
        """Whether to save and stop now."""
        if self.terminated or self.seconds is None:
            return self.terminated
        needed = self.longest_step + 2 * self.longest_save
        kept = max(needed, min(LEAST_SECONDS_KEPT, LEAST_SHARE_KEPT * self.seconds))
        return time.monotonic() - self.begun > self.seconds - kept
