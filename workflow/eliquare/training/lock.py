"""A lock on a training's state, so that no two processes go on with it at the same time."""

import contextlib
import fcntl
import os
from pathlib import Path

from eliquare import stage

LOCK_FILE = "in-use.lock"


def take(folder: Path, held: contextlib.ExitStack) -> bool:
    """Lock a folder until ``held`` is closed; False where another process holds it.

    A file system that cannot lock is warned about: nothing then guards the folder.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOCK_FILE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            stage.warn(f"{path}: this file system has no locks ({error.strerror})")
        if is_at(path, descriptor):
            held.callback(os.close, descriptor)
            return True
        # The process before removed the folder when it was done: lock the new one.
        os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one with this path."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
