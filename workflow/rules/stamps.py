"""Times of results that stay right when a project is copied, and when the clock jumps.

Snakemake makes again what is older than its inputs. It compares files by their content; of a folder
it knows the time of ``.snakemake_timestamp`` in it, and nothing else. `cp -r`, rsync without
``--times`` and an archive give that file another time. So its right time is written into it, and a
run that finds it otherwise sets it right. A time in the future becomes the present one: Snakemake
takes no result that is older than its input.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("results", "resources")
STAMP = ".snakemake_timestamp"
A_SECOND = 10**9  # in nanoseconds


def settle() -> None:
    """Set the times of results right, where they are not what they were.

    In a copy, whose folders get the times that are written in them, any file is younger than those,
    and a folder of a run that was killed, in which nothing is written yet, is the youngest.
    """
    now = time.time_ns()
    times = {file: (file.stat().st_mtime_ns, written_in(file)) for file in files()}
    is_copy = any(written not in (None, found) for found, written in times.values())
    for file, (found, written) in times.items():
        right = min(written or found, now)
        if is_copy and written is None:
            right = now if file.name == STAMP else now - A_SECOND
        if found != right:
            with contextlib.suppress(OSError):
                os.utime(file, ns=(right, right))


def record() -> None:
    """Write into each folder's stamp what its time is, at the end of a run."""
    for file in files():
        with contextlib.suppress(OSError):
            if file.name == STAMP and written_in(file) != (found := file.stat().st_mtime_ns):
                file.write_text(f"{found}\n", encoding="ascii")
                os.utime(file, ns=(found, found))


def files() -> Iterator[Path]:
    """Yield every file that is a result, and of a folder that is one, its stamp."""
    for top in FOLDERS:
        for folder, inside, names in os.walk(top):
            is_result = STAMP in names
            inside[:] = [name for name in inside if not (is_result or name.startswith("."))]
            paths = (Path(folder, name) for name in ([STAMP] if is_result else names))
            yield from (path for path in paths if path.is_file())


def written_in(file: Path) -> int | None:
    """Return the time in a stamp, in nanoseconds; None where nothing is written in it."""
    if file.name != STAMP:
        return None
    written = re.fullmatch(r"([0-9]+)\n", file.read_text(encoding="ascii", errors="replace"))
    return int(written[1]) if written else None
