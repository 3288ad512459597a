"""What an earlier run of the workflow left when it was killed: its lock, and its jobs on a cluster.

Each run signs in with the process that holds it and signs out at its end. A run that was killed is
one whose process, on this machine, is no more: then its lock is nobody's, and what it submitted
still runs unwatched. To submit the same work beside it would do it twice.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from eliquare import stage

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_OF_A_QUESTION = 60
COMMENT = "rule_"
NOT_BEGUN = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def started(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks; None if there is none.

    With it a number of a process names one process for good. Where there is no /proc, any text.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "unknown"
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else fields[18]


def sign_in(signed: Path) -> Path:
    """Say that this process runs the workflow; returns the file to remove at the end."""
    signed.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    mark = signed / f"{socket.gethostname()}-{pid}.json"
    stage.write_json(mark, {"host": socket.gethostname(), "pid": pid, "started": started(pid)})
    return mark


def is_over(mark: Path) -> bool:
    """Whether the process of a mark is certainly gone; that of another machine never is."""
    try:
        signed = json.loads(mark.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    if signed["host"] != socket.gethostname():
        return False
    return started(signed["pid"]) != signed["started"]


def clear(signed: Path, locks: Path, folder: Path | None) -> None:
    """Remove the lock of killed runs, and see to the jobs that they left in the queue.

    ``signed`` holds the marks of runs, ``locks`` Snakemake's locks; ``folder`` is the working
    folder of the jobs, None where nothing is submitted. Nothing is done while a run may be alive.
    """
    marks = sorted(signed.glob("*.json"))
    killed = [mark for mark in marks if is_over(mark)]
    if len(killed) < len(marks):
        return
    locked = locks.exists() and any(locks.iterdir())
    if locked and not killed:
        return
    if folder is not None and shutil.which("squeue"):
        settle(folder)
    if locked:
        stage.say("An earlier run was killed; its lock is removed.")
        shutil.rmtree(locks)
        locks.mkdir()
    for mark in killed:
        mark.unlink(missing_ok=True)


def settle(folder: Path, look: Callable[[Path], dict[str, str]] | None = None) -> None:
    """Cancel this folder's jobs that have not begun, and wait for those that run."""
    look = look or jobs_of
    said = set()
    while jobs := look(folder):
        waiting = sorted(job for job, state in jobs.items() if state in NOT_BEGUN)
        if waiting:
            stage.say(f"Cancelled, not begun, of an earlier run: {', '.join(waiting)}.")
            subprocess.run(["scancel", *waiting], timeout=SECONDS_OF_A_QUESTION, check=False)
        running = sorted(set(jobs) - set(waiting))
        if running and not said.issuperset(running):
            stage.say(
                f"Still running, of an earlier run: {', '.join(running)}. Waiting for their end, "
                "so that nothing is done twice. `scancel` ends them: a training goes on from its "
                "last checkpoint, another step from its start."
            )
            said.update(running)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def jobs_of(folder: Path) -> dict[str, str]:
    """State of each of this user's jobs that Snakemake submitted from a folder, by its number.

    Its comment tells such a job from one of the user's own, in which Snakemake itself may run.
    Raises Failure where Slurm does not answer: what runs is then not known.
    """
    answer = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i|%T|%k|%Z"],
        capture_output=True,
        text=True,
        timeout=SECONDS_OF_A_QUESTION,
    )
    if answer.returncode:
        raise stage.Failure(f"squeue: {answer.stderr.strip()}")
    jobs = {}
    for line in answer.stdout.splitlines():
        job, state, comment, where = line.split("|")
        if comment.startswith(COMMENT) and where == str(folder):
            jobs[job] = state
    return jobs
