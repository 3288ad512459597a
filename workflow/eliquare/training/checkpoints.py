"""Checkpoint folders: which belong to these settings, and which are whole.

A checkpoint holds ``model.safetensors``, ``training.pt`` (optimizer, random numbers, sums since the
last logged step), ``best.safetensors`` (the best validated weights so far) and, written last,
``state.json`` with the sizes of the others. It is written beside and renamed.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eliquare import stage

SETTINGS_FILE = "settings.json"
STATE_FILE = "state.json"
KEPT = 2
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_folder(folder: Path, settings: dict[str, Any]) -> list[Path]:
    """Make the folder ready for these settings; return its whole checkpoints, the last one first.

    A folder left by other settings is emptied, and said so; so is what a kill cut short.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    mark = folder / SETTINGS_FILE
    if any(folder.glob("checkpoint-*")) or mark.exists():
        try:
            found = json.loads(mark.read_text())
            same = found["digest"] == digest
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            found, same = {}, False
        if not same:
            changed = changes(found.get("settings", {}), settings)
            stage.say(f"{folder}: left by a training with other {changed}; starting clean")
            empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        with stage.whole_file(mark) as partial:
            stage.write_json(partial, {"digest": digest, "settings": settings})
    for partial in folder.glob(".checkpoint-*"):
        shutil.rmtree(partial)
    found = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    return [checkpoint for checkpoint in found if is_whole(checkpoint)]


def changes(old: dict[str, Any], new: dict[str, Any], path: str = "") -> str:
    """The names of the settings and inputs that differ, for a message."""
    names = []
    for part in ("settings", "inputs"):
        one, other = old.get(part, {}), new.get(part, {})
        names += [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(sorted(names)) or "settings or inputs"


def empty(folder: Path) -> None:
    """Remove what a training left, but for the lock of the one that is beginning."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".lock":
            path.unlink()


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there in full; what is not whole is removed."""
    try:
        sizes = json.loads((checkpoint / STATE_FILE).read_text())["sizes"]
        whole = all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        stage.say(f"{checkpoint}: not whole; going back to the one before")
        shutil.rmtree(checkpoint)
    return whole


@contextlib.contextmanager
def writing(folder: Path, step: int, state: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder; with ``state`` it becomes the checkpoint of a step.

    It is on the disk in full before it has its name; only then are older ones removed, all but one.
    """
    partial = folder / f".checkpoint-{step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        stage.write_json(partial / STATE_FILE, state | {"sizes": sizes})
        stage.share(partial)
        for file in partial.iterdir():
            onto_disk(file)
        checkpoint = folder / f"checkpoint-{step}"
        if checkpoint.exists():
            shutil.rmtree(checkpoint)
        os.replace(partial, checkpoint)
        onto_disk(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in sorted(folder.glob("checkpoint-*"), key=step_of)[:-KEPT]:
        shutil.rmtree(old)


def onto_disk(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk, not only on their way to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(file: Path, name: Path) -> None:
    """Give a file a second name without a second copy, where the file system can."""
    try:
        os.link(file, name)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        shutil.copy(file, name)


def state_of(checkpoint: Path) -> dict[str, Any]:
    """What ``writing`` was given for a checkpoint."""
    return json.loads((checkpoint / STATE_FILE).read_text())


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps done at a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])
