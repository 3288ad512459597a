"""The outputs of a stage: its alone while it works, and never what something else made.

A stage replaces what the same stage made before, and nothing else. It knows a folder by the mark
that `io.atomic_dir` leaves in it, a file by the lock beside it, which names the stage.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eliquare.io import MADE_BY, MARK, InputError, disk_faults, lock_of, locked, read_json

# Files of a folder that is one result: what is put into it goes when it is made again.
OF_RESULT = (MARK, "config.json")
# Options that are text, since a model or a dataset may also be that of a hub.
MAY_BE_PATHS = ("model", "dataset", "mirror")


@contextlib.contextmanager
def claimed(stage: str, outputs: Mapping[str, Path], inputs: Sequence[Path] = ()) -> Iterator[None]:
    """Hold the outputs of a stage while it works; wait where another process makes one of them.

    Args:
        stage: the stage, as "corpus tokenize".
        outputs: its outputs, by the name of the option.
        inputs: its inputs.

    Raises:
        InputError: an output is an input, holds one, or was made by something else.
    """
    token = MADE_BY.set(stage)
    try:
        refuse(stage, outputs, inputs)
        with contextlib.ExitStack() as locks:
            # Of several processes that train together, the first waits for all.
            if os.environ.get("RANK", "0") == "0":
                for path in sorted(map(real, outputs.values())):
                    with disk_faults(path):
                        locks.enter_context(locked(path, "output"))
                        lock_of(path).write_text(f"{stage}\n", encoding="utf-8")
                refuse(stage, outputs, inputs)
            yield
    finally:
        MADE_BY.reset(token)


def refuse(stage: str, outputs: Mapping[str, Path], inputs: Sequence[Path] = ()) -> None:
    """Raise InputError, with a line for each output that the stage must not replace."""
    lines = [
        f"--{name} {path}: {problem}; name another place"
        for name, path in outputs.items()
        if (problem := problem_of(stage, path, inputs))
    ]
    places = [real(path) for path in outputs.values()]
    lines += [
        f"--{name} {path}: is also another output; name another place"
        for number, (name, path) in enumerate(outputs.items())
        if real(path) in places[:number]
    ]
    if lines:
        raise InputError("\n".join(lines))


def problem_of(stage: str, path: Path, inputs: Sequence[Path]) -> str:
    """Return why a stage must not replace what stands at a path; empty if it may."""
    place = real(path)
    if Path.cwd().is_relative_to(place):
        return "is the folder that this command was started in, or holds it"
    for given in inputs:
        if real(given) == place:
            return "is also an input"
        if real(given).is_relative_to(place):
            return f"holds an input, {given}"
        is_result = any((given / name).is_file() for name in OF_RESULT)
        if is_result and place.is_relative_to(real(given)):
            return f"lies in an input, {given}"
    if is_there(place) and made_by(place) not in (stage, ""):
        return f"is there already, and `eliquare {stage}` did not make it"
    return ""


def is_there(path: Path) -> bool:
    """Return whether something stands at a path that could be lost.

    A file, a device or a pipe, or one in a folder, but for locks that others left there.
    """
    if not path.is_dir():
        return os.path.lexists(path)
    return any(not (file.is_dir() or file.match(".*.lock")) for file in path.rglob("*"))


def made_by(path: Path) -> str:
    """Return the stage that made a file or a folder, "" for a model of an older version of ours.

    What nothing says of is "something else".
    """
    if path.is_dir():
        if (path / MARK).is_file():
            return str(read_json(path / MARK).get("stage"))
        origin = path / "provenance.json"
        known = read_json(origin) if origin.is_file() else {}
        versions = known.get("versions")
        ours = isinstance(versions, dict) and "eliquare" in versions
        return "" if ours else "something else"
    lock = lock_of(path)
    text = lock.read_text(encoding="utf-8", errors="replace") if lock.is_file() else ""
    return text.strip() or "something else"


def outputs_of(options: BaseModel, names: Sequence[str]) -> dict[str, Path]:
    """Return the outputs among the options, by name."""
    found = {name: getattr(options, name, None) for name in names}
    return {name: Path(path) for name, path in found.items() if path is not None}


def inputs_of(options: BaseModel, outputs: Sequence[str]) -> list[Path]:
    """Return the paths among the options that are no outputs."""
    values = {name: getattr(options, name) for name in type(options).model_fields}
    named = [values.get(name) for name in MAY_BE_PATHS]
    found = [Path(value) for value in named if isinstance(value, str) and os.path.exists(value)]
    return [*found, *(p for name in values if name not in outputs for p in paths_in(values[name]))]


def paths_in(value: Any) -> Iterator[Path]:
    """Yield the paths in a value, and in the values of a list or a mapping."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from paths_in(each)


def real(path: Path) -> Path:
    """Return a path without links and dots."""
    return Path(os.path.realpath(path))
