"""Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): one line, never a traceback.

A training takes them in its loop, saves its state and ends with exit code 75
(`eliquare.training.progress.Clock`). Any other stage ends at once, with the exit code of a shell.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_BY_SIGNAL = 128
SECONDS_TO_SAVE = 120


@contextlib.contextmanager
def handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` with the number of a signal while the block runs.

    A signal that is ignored, as SIGHUP under nohup, stays so.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, _: handle(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outlive(_: int) -> None:
    """Keep a worker that reads data alive after a signal, so that its training can save first.

    All processes of a job have the signal, and a training whose worker dies ends with it. What
    still runs after SECONDS_TO_SAVE ends.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: signal.alarm(SECONDS_TO_SAVE))


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """End the process with one line when a signal comes, once what is half-made is removed.

    A second Ctrl-C does not wait for that.
    """
    received: list[int] = []

    def stop(number: int) -> None:
        if received and number == signal.SIGINT:
            os._exit(EXIT_BY_SIGNAL + number)
        if not received:
            received.append(number)
            raise KeyboardInterrupt

    try:
        with handled(stop):
            yield
    except BaseException as error:
        # Whatever it became: some libraries make errors of their own out of it.
        if isinstance(error, KeyboardInterrupt) and not received:
            received.append(signal.SIGINT)
        if not received:
            raise
        number = signal.Signals(received[0])
        name = "Ctrl-C" if number == signal.SIGINT else number.name
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(
                f"interrupted: by {name}; nothing half-made is left, and the same command goes on",
                file=sys.stderr,
                flush=True,
            )
        sys.exit(EXIT_BY_SIGNAL + number)
