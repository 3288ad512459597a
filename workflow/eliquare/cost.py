"""What an attempt at a stage cost: a line when it begins, another when it ends, however it ends.

The workflow names the folder in the environment variable ELIQUARE_COSTS; without it nothing is
written. An attempt at ``results/students/pre/sl/distilled`` is told in
``students/pre/sl/distilled.jsonl`` below that folder, which is no output of a rule: what was spent
on attempts that failed or stopped early stays.

An input that a stage cannot use is no better at the next attempt. The workflow names its run in
ELIQUARE_RUN; what was refused in a run is refused again there without work, and tried anew in the
next run.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

FOLDER = "ELIQUARE_COSTS"
RUN = "ELIQUARE_RUN"
# Stages whose rules ask for GPUs; any other has none, whatever its job holds.
GPU_STAGES = (
    "eliquare.models.mlm",
    "eliquare.distillation.training",
    "eliquare.distillation.paired",
    "eliquare.tasks.finetune",
    "eliquare.measure",
)


@contextlib.contextmanager
def recorded(arguments: argparse.Namespace) -> Iterator[dict]:
    """Write down what the block costs, by the ``output`` of a stage's arguments.

    ``seconds`` are the process's since its start, ``cpu_seconds`` its processor's and its
    children's, ``gpus`` those that it was given. What the block adds to the dictionary that it is
    given is written down too. A file that cannot be written costs no result.
    """
    file = file_of(getattr(arguments, "output", None))
    more: dict = {}
    if file is None:
        yield more
        return
    stage = getattr(sys.modules["__main__"].__spec__, "name", "")
    gpus = gpus_given() if stage in GPU_STAGES else 0
    attempt = {
        "attempt": uuid.uuid4().hex,
        "stage": stage,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": os.environ.get("SLURM_JOB_ID"),
        "run": os.environ.get(RUN),
    }
    add(file, attempt)
    done = False
    try:
        yield more
        done = True
    finally:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        spent = {
            "done": done,
            "seconds": round(time.time() - psutil.Process().create_time(), 2),
            "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in used), 2),
            "gpus": gpus,
        }
        add(file, attempt | spent | more)


def refused_before(arguments: argparse.Namespace) -> str | None:
    """Why the last attempt of this run at the same output was refused; None if it was not."""
    file, run = file_of(getattr(arguments, "output", None)), os.environ.get(RUN)
    if file is None or not run:
        return None
    try:
        last = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, IndexError, json.JSONDecodeError):
        return None
    return last.get("refused") if last.get("run") == run else None


def file_of(output: str | Path | None) -> Path | None:
    """Where the attempts at an output are told; None where nobody asked, or it lies elsewhere."""
    folder = os.environ.get(FOLDER)
    if not folder or output is None:
        return None
    parts = Path(os.path.relpath(output)).parts
    if len(parts) < 2 or ".." in parts:
        return None
    # Processes of one training may run on several nodes: each has a file of its own.
    rank = os.environ.get("RANK", "0")
    suffix = ".jsonl" if rank == "0" else f".process-{rank}.jsonl"
    return Path(folder, *parts[1:-1], parts[-1] + suffix)


def gpus_given() -> int:
    """GPUs of this process: one of torchrun's, those that Slurm shows, or those of the machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        count = len([device for device in visible.split(",") if device.strip()])
    else:
        import torch

        count = torch.cuda.device_count()
    return min(count, 1) if "RANK" in os.environ else count


def add(file: Path, line: dict) -> None:
    """Append one line; a failure is told, and is nobody's reason to stop."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
    except OSError as error:
        print(f"warning: {file}: what this cost is not written ({error})", file=sys.stderr)
