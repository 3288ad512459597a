"""One live run per folder, and no job twice: seen to where a run really starts.

A killed Snakemake leaves its lock, and its jobs in the queue of a cluster. With the lock removed by
hand, the next run would submit the same work beside them. Here (the profiles say ``nolock``)
the operating system holds the lock, so it goes with its process; and a run that finds jobs of an
earlier one first cancels those that wait, waits for those that run, and takes over what they make.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = FileLock(".snakemake/run.lock")
HOLDER = Path(".snakemake/run.txt")
SECONDS_BETWEEN_LOOKS = 5
SECONDS_FOR_AN_ANSWER = 60
# How the comment of a job begins that Snakemake submitted; no other job of the user has it.
COMMENT = "rule_"
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def begin(submits: bool, directory: str | Path | None = None) -> None:
    """Take the lock of this folder for this process; exit with one line if a live run has it.

    Args:
        submits: Whether the run submits jobs to a cluster.
        directory: Snakemake's ``--directory``, which it has changed to.
    """
    try:
        LOCK.acquire(timeout=0)
    except Timeout:
        holder = HOLDER.read_text()
        sys.exit(f"error: another run is at work in this folder ({holder}); wait for its end")
    HOLDER.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    if submits and settle(Path.cwd()):
        say("The jobs of the earlier run have ended; starting anew with what they made.")
        restart(directory)


def restart(directory: str | Path | None) -> None:
    """Start this program again: what is to be done was decided before the jobs ended."""
    if directory is not None:
        os.chdir(os.environ.get("PWD", "."))
    sys.stdout.flush()
    os.execv(sys.executable, sys.orig_argv)


def settle(folder: Path) -> bool:
    """Cancel a folder's jobs that wait, wait for those that run; return whether there were any."""
    told: set[str] = set()
    while jobs := jobs_of(folder):
        waiting = sorted(job for job, state in jobs.items() if state in WAITING)
        if waiting:
            say(f"Cancelled, left waiting by an earlier run: {', '.join(waiting)}.")
            subprocess.run(["scancel", *waiting], timeout=SECONDS_FOR_AN_ANSWER, check=False)
        running = sorted(set(jobs) - set(waiting))
        if not told.issuperset(running):
            say(
                f"Still running, left by an earlier run: {', '.join(running)}. Waiting for their "
                "end, so that nothing is done twice. `scancel` ends them: a training resumes from "
                "its last checkpoint, another step starts again."
            )
        told.update(waiting, running)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return bool(told)


def jobs_of(folder: Path) -> dict[str, str]:
    """Return the state of each job that Snakemake submitted from a folder, by its number.

    Exit with one line if Slurm does not answer: what runs is not known then.
    """
    answer = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i|%T|%k|%Z"],
        capture_output=True,
        text=True,
        timeout=SECONDS_FOR_AN_ANSWER,
        check=False,
    )
    if answer.returncode:
        sys.exit(f"failed: squeue: {answer.stderr.strip()}")
    jobs = {}
    for line in answer.stdout.splitlines():
        # Comments of other jobs are any text, of several lines too.
        job, _, rest = line.partition("|")
        state, _, rest = rest.partition("|")
        if rest.startswith(COMMENT) and rest.endswith(f"|{folder}"):
            jobs[job] = state
    return jobs


def say(line: str) -> None:
    """Print a line where Snakemake prints its own."""
    print(line, file=sys.stderr, flush=True)
