"""What a run could not fetch, by the logs of the rules that fetch, in one list at its end."""

import sys
from pathlib import Path

FETCHING = (
    "download_dump",
    "read_dataset",
    "fetch_teacher",
    "fetch_system",
    "fetch_task",
    "fetch_optional_task",
)


def print_missing(since: float) -> None:
    """Print what the logs written since a time (of the clock, in seconds) say is missing."""
    files = [file for rule in FETCHING for file in sorted(Path("logs").glob(f"**/{rule}/*.log"))]
    lines = [
        line
        for file in files
        if file.stat().st_mtime > since
        for line in file.read_text(errors="replace").splitlines()
        if line.startswith(("error: ", "failed: "))
    ]
    if lines:
        print("Not fetched:", *lines, sep="\n", file=sys.stderr)
