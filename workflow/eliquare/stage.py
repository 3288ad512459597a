"""What every stage shares: exit codes, plain errors, whole-or-nothing output, progress.

A stage is a module with a ``VERSION``, a ``parser()`` and a ``run(arguments)``; its last lines are
``if __name__ == "__main__": stage.main(parser(), run)``. VERSION is raised when the stage's results
change; its rule passes it as a parameter, so that only then are results made again.
"""

import argparse
import ast
import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from eliquare import cost

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_STOPPED = 75
LOG_EVERY_SECONDS = 30


class InputError(Exception):
    """Input or settings that a stage cannot use.

    The message is one plain line: the file, line or key; what was expected; what to do.
    """


class StoppedEarly(Exception):
    """Stopped with the state saved; the same command goes on."""


class Failure(Exception):
    """Work that went wrong through nobody's mistake (a loss that is not a number, a full disk)."""


def main(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> NoReturn:
    """Run a stage as a command and exit with its code.

    0 done, 1 Failure, 2 InputError, 75 StoppedEarly; any other exception is a bug. What ended
    with 2 does so again, without work, when the same run of the workflow retries it.
    """
    arguments = parser.parse_args()
    try:
        if reason := cost.refused_before(arguments):
            raise InputError(reason)
        with cost.recorded(arguments) as attempt:
            try:
                run(arguments)
            except InputError as error:
                attempt["refused"] = str(error)
                raise
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_INPUT)
    except Failure as error:
        print(f"failed: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except StoppedEarly as reason:
        print(f"stopped: {reason}", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    sys.exit(0)


def version(module: str) -> int:
    """The VERSION of a stage, by its module name, read without importing it (or torch)."""
    relative = Path(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse((Path(__file__).parent / relative).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "VERSION":
            return ast.literal_eval(node.value)
    raise KeyError(f"{module} has no VERSION")


def warn(message: str) -> None:
    """Print one plain line that does not stop the stage."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """Print one plain line of progress."""
    print(message, file=sys.stderr, flush=True)


def use_one_gpu() -> None:
    """Show torch one GPU, unless torchrun started several processes; call it before torch is used.

    With several in sight, transformers falls back on DataParallel, which changes the batch size.
    """
    if "WORLD_SIZE" not in os.environ:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]


def existing(path: str | Path, what: str) -> Path:
    """The path, or an InputError that names it and says what was expected there."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}")
    return path


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    beside.unlink(missing_ok=True)
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def share(folder: Path) -> None:
    """Let whoever may read the folder read its files: some libraries write them for one user."""
    mode = folder.stat().st_mode & 0o444
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode | mode)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; it becomes ``path`` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        share(beside)
        if path.exists():
            shutil.rmtree(path)
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write readable JSON, keys in the given order, floats in full."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON, or raise an InputError that names the file."""
    try:
        return json.loads(existing(path, "file").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None


def progress(
    items: Iterable, description: str, total: int | None = None, unit: str = ""
) -> Iterator:
    """Pass items on, with a bar on a terminal and a plain line now and then in a log."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, unit=unit, unit_scale=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > LOG_EVERY_SECONDS:
            last = time.monotonic()
            of_total = f" of {total:,}" if total else ""
            say(f"{description}: {done:,}{of_total} {unit}".rstrip())


def checksum(path: str | Path) -> str:
    """The sha256 of a file, or of a folder's file names and contents.

    Hidden files are left out, and history.jsonl, which holds times and decides nothing.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if file.is_file() and not hidden and file.name != "history.jsonl":
            digest.update(f"{relative.as_posix()} {checksum(file)}\n".encode())
    return digest.hexdigest()


def provenance(settings: dict[str, Any], inputs: dict[str, str | Path]) -> dict[str, Any]:
    """What a trained model came from: settings, checksums of inputs, versions, hardware."""
    packages = ["eliquare", "torch", "transformers", "tokenizers", "datasets", "numpy"]
    return {
        "settings": settings,
        "inputs": {name: checksum(path) for name, path in inputs.items()},
        "versions": {package: metadata.version(package) for package in packages}
        | {"python": platform.python_version()},
        "hardware": {"machine": platform.machine(), "processor": processor_name()},
    }


def processor_name() -> str:
    """The processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
