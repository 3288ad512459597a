"""Files and folders: written whole or not at all, read with plain errors, traced to their origin.

Also the three ways in which a stage ends without a result, which every room raises.
"""

import contextlib
import csv
import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

from filelock import FileLock, Timeout
from tqdm import tqdm

T = TypeVar("T")
LOG_EVERY_SECONDS = 30
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
PROVENANCE_PACKAGES = ("eliquare", "torch", "transformers", "tokenizers", "datasets", "numpy")

logger = logging.getLogger(__name__)


class InputError(Exception):
    """Input or settings that a stage cannot use; exit code 2.

    The message names the file, line or key, what was expected and what to do. Several problems of
    one kind are several lines.
    """


class Interrupted(Exception):
    """Stopped before the end with the state saved; the same command resumes; exit code 75."""


class Failure(Exception):
    """Work that failed through no mistake of the user (a NaN loss, a full disk); exit code 1."""


UNAVAILABLE = "unavailable.json"
# The stage at work, which `cli.main` names; it is written into each folder that the stage makes.
MADE_BY: ContextVar[str] = ContextVar("made_by", default="")
MARK = ".eliquare.json"
SYSTEM_ERROR = re.compile(r"\b(?:os error|Errno|errno:?) (\d+)\b")
DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


@contextlib.contextmanager
def or_unavailable(output: Path, wanted: bool) -> Iterator[None]:
    """Where what is to be fetched is not at its source, write why into ``output``, if wanted.

    InputError of the block is taken as such; a host that is down is a Failure, which stays one.
    """
    try:
        yield
    except InputError as error:
        if not wanted:
            raise
        reason = " ".join(str(error).split())
        with atomic_dir(output) as folder:
            write_json(folder / UNAVAILABLE, {"reason": reason})
        logger.warning("unavailable: %s", reason)


def why_unavailable(folder: str | Path) -> str:
    """Return why nothing could be fetched into a folder; empty if something was."""
    path = Path(folder) / UNAVAILABLE
    return str(read_json(path)["reason"]) if path.exists() else ""


def format_suffix(path: str | Path) -> str:
    """Return the ending that names the format: ".csv" for "train.csv.gz"."""
    suffixes = [suffix for suffix in Path(path).suffixes if suffix.lower() not in COMPRESSED]
    return suffixes[-1].lower() if suffixes else ""


def existing(path: str | Path, what: str) -> Path:
    """Return the path; raise InputError, saying ``what`` was expected, if nothing is there."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}")
    return path


def existing_file(path: str | Path, what: str = "file") -> Path:
    """Return the path as ``existing`` does; raise InputError for a folder too."""
    path = existing(path, what)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a {what}")
    return path


@contextlib.contextmanager
def open_text(path: str | Path, what: str, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file in UTF-8; InputError where it is missing, or what the block reads is not."""
    with existing_file(path, what).open(encoding="utf-8", newline=newline) as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert it"
            ) from None
        except csv.Error as error:
            raise InputError(f"{path}: not a table that can be read ({error})") from None


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, published as it if the block succeeds.

    What is there already stays until the new is complete and on the disk. Of a symbolic link, the
    target is replaced. Raises Failure where the disk is full or refuses what the block writes.
    """
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.partial")
    with disk_faults(path):
        make_folder(path.parent)
        restore(path)
        remove(partial)
        try:
            yield partial
            if partial.is_dir() and MADE_BY.get():
                write_json(partial / MARK, {"stage": MADE_BY.get()})
            publish(partial, path)
        finally:
            remove(partial)


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``, published as it if the block succeeds."""
    with atomic_write(path) as partial:
        partial.mkdir()
        yield partial


@contextlib.contextmanager
def work_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` for what is needed meanwhile, and remove it.

    It always has the same name, so that what a kill left in it goes with the next run.
    """
    path = Path(path)
    folder = path.with_name(f".{path.name}.work")
    remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def remove(path: Path) -> None:
    """Remove a file, a folder or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def publish(partial: Path, path: Path) -> None:
    """Give what is complete its name: it is on the disk before that, and the old one goes after."""
    make_readable(partial)
    sync(partial)
    if partial.is_dir() and path.exists():
        os.replace(path, former(path))
    os.replace(partial, path)
    fsync(path.parent)
    remove(former(path))


def restore(path: Path) -> None:
    """Undo what a kill left between the old and the new bearer of a name."""
    if former(path).exists() and not path.exists():
        os.replace(former(path), path)
    remove(former(path))


def former(path: Path) -> Path:
    """Return where a folder is while another takes its name."""
    return path.with_name(f".{path.name}.former")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and wait until their names are on the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    for inside in path.rglob("*"):
        if not inside.is_symlink():
            fsync(inside)
    fsync(path)


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_faults(path: str | Path, advice: str = "") -> Iterator[None]:
    """Turn a full disk, and one that refuses to be written, into a Failure that names ``path``."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        if not (reason := disk_fault(error)):
            raise
        advice = advice or "nothing was left half-made. Make room, or name another place"
        raise Failure(f"{path}: cannot be written ({reason}); {advice}") from error


def disk_fault(error: BaseException) -> str:
    """Return what a disk refused, in words; empty if it is another error."""
    number = system_error(error)
    if number not in DISK_FAULTS:
        return ""
    where = getattr(error, "filename", None)
    return f"{os.strerror(number)}: {where}" if where else os.strerror(number)


def system_error(error: BaseException) -> int | None:
    """Return the number of the system's error that an error stands for, if it names one.

    torch, safetensors, tokenizers and WikiExtractor raise their own errors, which name it in their
    text only.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := SYSTEM_ERROR.search(str(error))):
        number = int(found[1])
    return number


def make_readable(folder: Path) -> None:
    """Let everyone who may read the folder read its files: some libraries write private ones."""
    mode = folder.stat().st_mode & 0o444
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode | mode)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def lock_of(path: Path) -> Path:
    """Return the file whose lock whoever makes an output holds."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def locked(path: str | Path, what: str) -> Iterator[None]:
    """Hold the lock of ``path`` (``.<name>.lock`` beside it); log once if another process has it.

    The operating system releases the lock when the process ends, however it ends.
    """
    path = Path(path)
    make_folder(path.parent)
    lock = FileLock(lock_of(path))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: another process works on this %s; waiting for it", path, what)
        held = lock.acquire()
    with held:
        yield


def write_json(path: str | Path, value: Any) -> None:
    """Write readable JSON, keys in the given order, floats in full."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


class Content(dict[str, Any]):
    """The object in a JSON file; InputError, which names the file, for a key that it lacks."""

    def __init__(self, values: Mapping[str, Any], path: str | Path) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{self.path}: has no {key!r}; damaged, or made by another version")


def read_json(path: str | Path, kind: type = dict) -> Any:
    """Read JSON of a kind; raise InputError naming file and line if it is not."""
    try:
        found = json.loads(existing_file(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, endless digits or brackets
        raise InputError(f"{path}: not JSON that can be read ({error})") from None
    if not isinstance(found, kind):
        expected = "a list" if kind is list else "an object"
        raise InputError(f"{path}: expected {expected} of JSON, found {type(found).__name__}")
    return Content(found, path) if isinstance(found, dict) else found


def read_as(path: str | Path, kind: Any) -> Any:
    """Read JSON as a type that pydantic knows; InputError with a line for each mistake in it."""
    from pydantic import TypeAdapter, ValidationError

    from eliquare.config.errors import explain

    try:
        return TypeAdapter(kind).validate_python(read_json(path, object))
    except ValidationError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in explain(error))) from None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read the complete lines of a file of JSON lines; a last line cut by a kill is left out."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[:-1]]


def progress(
    items: Iterable[T], description: str, total: int | None = None, unit: str = ""
) -> Iterator[T]:
    """Yield the items, with a bar on a terminal and a log line every half minute elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, unit=unit, unit_scale=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > LOG_EVERY_SECONDS:
            last = time.monotonic()
            of_total = f" of {total:,}" if total else ""
            logger.info("%s: %s%s %s", description, f"{done:,}", of_total, unit)


def checksum(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files.

    Hidden files are left out, and ``history.jsonl``, which holds times and decides nothing.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if file.is_file() and not hidden and file.name != "history.jsonl":
            digest.update(os.fsencode(f"{relative.as_posix()} {checksum(file)}\n"))
    return digest.hexdigest()


def provenance(
    settings: Mapping[str, Any], inputs: Mapping[str, str | Path], threads: int | None = None
) -> dict[str, Any]:
    """Return the origin of a result: settings, checksums of inputs, versions, hardware.

    ``threads``, where their number changes the last digits: sums are rounded otherwise.
    """
    return {
        "settings": dict(settings),
        "inputs": {name: checksum(path) for name, path in inputs.items()},
        "versions": {package: metadata.version(package) for package in PROVENANCE_PACKAGES}
        | {"python": platform.python_version()},
        "hardware": {
            "machine": platform.machine(),
            "processor": processor_name(),
            **gpu_name(),
        },
    } | ({"threads": threads} if threads else {})


def gpu_name() -> dict[str, str]:
    """Return ``{"gpu": its name}`` where this process computes on one, which torch knows."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name()}


def processor_name() -> str:
    """Return the processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:(.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()
