"""Checkpoints that are complete or not there: atomic, synced, checked when a training resumes.

The state of a training lies beside its output in ``.<output>.checkpoints``: not an output, so that
no workflow deletes it. There ``settings.json`` says what decides the result, ``history.jsonl`` is
what was logged so far, and each ``checkpoint-<step>`` is a checkpoint of transformers' Trainer plus
what `MaskedTrainer` adds, with ``manifest.json``, written last: the checksums of all files, and the
digest of what decides the result.

A trained model is linked into ``.<output>.kept`` as well: a workflow deletes its outputs before it
makes them again, and here the model outlives that until its successor is complete.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from eliquare.io import (
    Failure,
    atomic_dir,
    atomic_write,
    checksum,
    link_or_copy,
    make_folder,
    publish,
    remove,
    write_json,
)

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
    decisive = decisive_of(provenance)
    digest = digest_of(provenance)
    for stray in folder.glob("checkpoint-*"):
        if not is_checkpoint(stray):
            logger.warning("%s: not a checkpoint of this training; ignored", stray)
    intact = next((each for each in reversed(checkpoints_in(folder)) if is_intact(each)), None)
    left = _read(folder / SETTINGS)
    of = _read(intact / MANIFEST).get("training") if intact else left.get("digest", digest)
    if of != digest:
        changed = ", ".join(changes(left, decisive)) or "settings or inputs"
        logger.info("%s: left by a training with other %s; starting clean", folder, changed)
        shutil.rmtree(folder)
        intact = None
    make_folder(folder)
    if left.get("digest") != digest:
        with atomic_write(folder / SETTINGS) as partial:
            write_json(partial, {"digest": digest, **decisive})
    for remains in folder.glob(".checkpoint-*"):
        remove(remains)
    return intact


def digest_of(provenance: Mapping[str, Any]) -> str:
    """Return the digest of what decides the result of a training."""
    text = json.dumps(decisive_of(provenance), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def decisive_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a provenance that decides the result, as JSON has it."""
    decisive = {name: provenance[name] for name in ("settings", "inputs")}
    plain: dict[str, Any] = json.loads(json.dumps(decisive, default=str))
    return plain


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


def finish(folder: Path, output: Path, provenance: Mapping[str, Any]) -> None:
    """Keep a model that is made, and remove its checkpoints; again where a kill came between.

    It is kept beside its output, a second name for the same bytes where there are links.
    """
    if not is_made(kept_of(output), provenance):
        _link(output, kept_of(output))
    remove(folder)


def take_back(output: Path, provenance: Mapping[str, Any]) -> bool:
    """Put a model that was kept in its place again, if it was made with these settings."""
    if not is_made(kept_of(output), provenance):
        return False
    _link(kept_of(output), output)
    return True


def kept_of(output: Path) -> Path:
    """Return where a model is kept when its output is deleted."""
    return output.with_name(f".{output.name}.kept")


def _link(source: Path, target: Path) -> None:
    with atomic_dir(target) as folder:
        for file in (path for path in source.rglob("*") if path.is_file()):
            if not file.name.startswith("."):
                place = folder / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(file, place)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the oldest first."""
    return sorted(filter(is_checkpoint, folder.glob("checkpoint-*")), key=step_of)


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is that of a checkpoint, and not of a copy that somebody made."""
    return path.is_dir() and re.fullmatch(r"checkpoint-[0-9]+", path.name) is not None


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def is_intact(checkpoint: Path) -> bool:
    """Return whether every file of a checkpoint is as it was written; remove it if not."""
    files = _read(checkpoint / MANIFEST).get("files")
    sums = files if isinstance(files, dict) else {}
    damaged = [name for name in sums if not _is_as_written(checkpoint / name, sums[name])]
    if sums and not damaged:
        return True
    what = ", ".join(damaged) or MANIFEST
    logger.warning("%s: damaged (%s); going back to the one before", checkpoint, what)
    shutil.rmtree(checkpoint)
    return False


def _is_as_written(file: Path, sha256: str) -> bool:
    return file.is_file() and checksum(file) == sha256


def hidden_folder(folder: Path, step: int) -> Path:
    """Return the folder in which the checkpoint of a step is written before it is published."""
    return folder / f".checkpoint-{step}.partial"


@contextlib.contextmanager
def writing(folder: Path, step: int, training: str) -> Iterator[Path]:
    """Yield a hidden folder, whose ``checkpoint-<step>`` is published when the block succeeds.

    A checkpoint is on the disk in full before it has its name; only then are older ones removed,
    all but one.

    Args:
        folder: the folder of the checkpoints.
        step: the steps done.
        training: the digest of what decides the result.
    """
    hidden = hidden_folder(folder, step)
    remove(hidden)
    hidden.mkdir(parents=True)
    try:
        yield hidden
        made = hidden / f"checkpoint-{step}"
        files = sorted(file for file in made.rglob("*") if file.is_file())
        sums = {str(file.relative_to(made)): checksum(file) for file in files}
        write_json(made / MANIFEST, {"training": training, "files": sums})
        publish(made, folder / made.name)
    finally:
        remove(hidden)
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
    # Sorted, as those that come back from a checkpoint are.
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    (folder / "history.jsonl").write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
