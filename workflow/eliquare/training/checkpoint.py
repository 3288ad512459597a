"""Checkpoints that are complete or not there: atomic, synced, checked when a training resumes.

The state of a training lies beside its output in ``.<output>.checkpoints``: not an output, so that
no workflow deletes it. There ``settings.json`` says what decides the result, ``history.jsonl`` is
what was logged so far, and each ``checkpoint-<step>`` is a checkpoint of transformers' Trainer plus
what `MaskedTrainer` adds, with ``manifest.json``, the sizes of all files, written last.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from eliquare.io import Failure, atomic_write, fsync, link_or_copy, make_readable, write_json

SETTINGS = "settings.json"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
BEST = "best"
KEPT = 2

logger = logging.getLogger(__name__)


def folder_of(output: Path) -> Path:
    """Return the folder of a training's checkpoints."""
    return output.with_name(f".{output.name}.checkpoints")


def open_folder(folder: Path, provenance: Mapping[str, Any]) -> Path | None:
    """Make the folder ready for a training; return the last intact checkpoint of the same one.

    The folder of a training with other settings or inputs is emptied, and so are remains of a kill.

    Args:
        folder: the folder of the checkpoints.
        provenance: ``settings`` and ``inputs`` decide whether a training is the same.
    """
    decisive = {name: provenance[name] for name in ("settings", "inputs")}
    text = json.dumps(decisive, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    mark = folder / SETTINGS
    if mark.exists() or any(folder.glob("checkpoint-*")):
        left = _read(mark)
        if left.get("digest") != digest:
            changed = ", ".join(changes(left, decisive)) or "settings or inputs"
            logger.info("%s: left by a training with other %s; starting clean", folder, changed)
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        with atomic_write(mark) as partial:
            write_json(partial, {"digest": digest, **json.loads(text)})
    for remains in folder.glob(".checkpoint-*"):
        shutil.rmtree(remains)
    return next((each for each in reversed(checkpoints_in(folder)) if is_intact(each)), None)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings and inputs that differ."""
    names = set()
    for part in ("settings", "inputs"):
        before, after = old.get(part, {}), json.loads(json.dumps(new[part], default=str))
        names |= {name for name in {**before, **after} if before.get(name) != after.get(name)}
    return sorted(names)


def is_made(output: Path, provenance: Mapping[str, Any]) -> bool:
    """Return whether an output was made with these settings from these inputs."""
    made = _read(output / "provenance.json")
    return bool(made) and not changes(made, provenance)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def is_intact(checkpoint: Path) -> bool:
    """Return whether every file of a checkpoint is there in full; remove it if not."""
    sizes = _read(checkpoint / MANIFEST)
    files = {name: checkpoint / name for name in sizes}
    if sizes and all(
        file.is_file() and file.stat().st_size == sizes[name] for name, file in files.items()
    ):
        return True
    logger.warning("%s: not intact; going back to the one before", checkpoint)
    shutil.rmtree(checkpoint)
    return False


def hidden_folder(folder: Path, step: int) -> Path:
    """Return the folder in which the checkpoint of a step is written before it is published."""
    return folder / f".checkpoint-{step}.partial"


@contextlib.contextmanager
def writing(folder: Path, step: int) -> Iterator[Path]:
    """Yield a hidden folder, whose ``checkpoint-<step>`` is published when the block succeeds.

    A checkpoint is on the disk in full before it has its name; only then are older ones removed,
    all but one.
    """
    hidden = hidden_folder(folder, step)
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        yield hidden
        made, checkpoint = hidden / f"checkpoint-{step}", folder / f"checkpoint-{step}"
        files = sorted(file for file in made.rglob("*") if file.is_file())
        write_json(
            made / MANIFEST, {str(file.relative_to(made)): file.stat().st_size for file in files}
        )
        make_readable(made)
        for path in [*made.rglob("*"), made]:
            fsync(path)
        shutil.rmtree(checkpoint, ignore_errors=True)
        os.replace(made, checkpoint)
        fsync(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    for old in checkpoints_in(folder)[:-KEPT]:
        shutil.rmtree(old)


def keep_best(checkpoint: Path, *, source: Path) -> None:
    """Link the best weights, those of the checkpoint ``source``, into a new checkpoint.

    They lie in ``best/``, a second name for the same bytes where the file system has links.
    """
    best = source / WEIGHTS if source == checkpoint else source / BEST / WEIGHTS
    (checkpoint / BEST).mkdir()
    link_or_copy(best, checkpoint / BEST / WEIGHTS)


@contextlib.contextmanager
def disk_full_is_a_failure(what: str) -> Iterator[None]:
    """Turn an error while ``what`` is written, a full disk as a rule, into a Failure."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch and safetensors raise their own errors where the disk is full.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise Failure(
            f"{what} cannot be written ({reason}); the last intact checkpoint is kept. Make room, "
            "then start the same command again"
        ) from error


def write_history(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write ``history.jsonl``: one line for each logged step and each evaluation."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "history.jsonl").write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
