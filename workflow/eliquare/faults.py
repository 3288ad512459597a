"""Faults that libraries and the operating system raise, as one plain line each.

What a stage itself finds wrong is an InputError or a Failure where it stands. What comes up from
below, a full disk or a host that hangs up, is put into words here, once for all stages.
"""

import contextlib
import errno
import json
import os
import pickle
import re
from collections.abc import Iterator

from eliquare.io import Failure, InputError, Interrupted, system_error

# Packages whose errors are those of a connection.
NETWORK = frozenset(
    {"requests", "urllib", "urllib3", "http", "httpx", "httpx2", "httpcore", "httpcore2"}
) | {"socket", "ssl"}
# Of these, the errors of an address or a proxy that the user gave.
ADDRESS = frozenset(
    {"InvalidURL", "InvalidSchema", "MissingSchema", "LocationParseError", "UnsupportedProtocol"}
)
# What a path that the user gave can be; any other number is a fault of the moment.
WRONG_PATH = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EACCES,
        errno.EPERM,
    }
)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|could not create a primitive"
    r"|can't start new thread|Cannot allocate memory",
)
DAMAGED = (json.JSONDecodeError, UnicodeDecodeError, pickle.UnpicklingError, EOFError)
PASSWORD = re.compile(r"(?<=://)[^/\s@]+:[^/\s@]*@")


def plain(error: BaseException) -> Failure | InputError | Interrupted | None:
    """Return the end of a stage that an error stands for; None for one that is a bug."""
    if isinstance(error, Failure | InputError | Interrupted):
        return error
    said = first_line(error)
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_memory or (isinstance(error, RuntimeError) and NO_MEMORY.search(said)):
        advice = "give more memory, or use smaller batches or fewer processes"
        return Failure(f"out of memory ({said}); {advice}")
    kinds = type(error).__mro__
    if NETWORK & {each.__module__.partition(".")[0] for each in kinds}:
        if ADDRESS & {each.__name__ for each in kinds}:
            return InputError(f"{said}; check the address, and HTTP_PROXY, HTTPS_PROXY, ALL_PROXY")
        return Failure(f"{said}; check the connection, and run the same command again")
    if is_panic(error):
        return Failure(f"a library gave up ({said}); --debug shows which")
    if isinstance(error, RecursionError):
        return InputError("nested too deeply to be read; --debug shows where")
    if isinstance(error, OSError) or system_error(error) is not None:
        return of_system(error, said)
    if type(error).__name__ == "SafetensorError":
        return InputError(f"weights that are damaged or cut short ({said}); fetch them again")
    if type(error) is Exception:
        # The library of tokenizers has no narrower class.
        return InputError(f"a tokenizer that cannot be used ({said})")
    if isinstance(error, DAMAGED):
        return InputError(f"a damaged file ({said}); --debug shows where it is read")
    return None


def of_system(error: BaseException, said: str) -> Failure | InputError:
    """Return what an error of the operating system stands for, by its number."""
    number = system_error(error)
    if number is None:
        moment = isinstance(error, TimeoutError | ConnectionError)
        return Failure(said) if moment else InputError(said)
    place = getattr(error, "filename2", None) or getattr(error, "filename", None)
    reason = f"{place}: {os.strerror(number)}" if place is not None else os.strerror(number)
    if number in WRONG_PATH:
        return InputError(reason)
    if number in FULL:
        reason += "; make room, and run the same command again"
    return Failure(reason)


@contextlib.contextmanager
def refused(before: str, after: str = "") -> Iterator[None]:
    """Raise InputError for whatever a library raises at foreign input, its reason in the middle.

    A fault of the moment, as no memory, stays one.
    """
    try:
        yield
    except BaseException as error:
        own = isinstance(error, Failure | InputError | Interrupted)
        if own or not (isinstance(error, Exception) or is_panic(error)):
            raise
        if isinstance(fault := plain(error), Failure) and not is_panic(error):
            raise fault from None
        raise InputError(f"{before} ({first_line(error)}){after}") from None


def is_panic(error: BaseException) -> bool:
    """Return whether Rust code gave up: not an Exception, and of no class that can be imported."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    if isinstance(error, pickle.UnpicklingError):
        # Torch's own message says how to run what the file holds.
        return "a pickle that is damaged, or holds more than tensors"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def without_passwords(text: str) -> str:
    """Return a text whose addresses show no user and password."""
    return PASSWORD.sub("", text)
