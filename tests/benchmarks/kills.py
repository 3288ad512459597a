"""Kill and interrupt stages, and whole runs, at random moments; print what was amiss, as JSON.

    python tests/benchmarks/kills.py --kills 50 --interrupts 20

SIGKILL comes so many times, SIGINT and SIGTERM each as often as ``--interrupts`` says, over all
stages by hand, and again over runs of Snakemake: to all its processes, to Snakemake alone. After
each, three things are amiss: a result under its final name that is not the one of an undisturbed
run, a process that is left, and, of an interrupted stage by hand, more than a line or a traceback.
In the end the same command has to make the same bytes. Exit code 1 if anything was amiss.

Trials of whole runs are two minutes each on two cores, those of stages half a minute.
"""

import argparse
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "workflow")]

from eliquare.io import MARK  # noqa: E402
from tiny_project import SNAKEMAKE, Project, tiny  # noqa: E402

# In the environment of every process of a trial.
MARKER = "ELIQUARE_TRIAL"
COMMAND = re.compile(r"((?:\w+=\d+ )?python -m (?:eliquare|demo_languages) .*?) > \S+ 2>&1")
OUTPUTS = ("--output", "--counts")
# Hold times of the clock, or what was made of them.
TIMED = ("history.jsonl", "benchmarks", "costs", "tables", "figures", "report.html", "models")
SECONDS_TO_END = 30
# Long enough to be caught in.
STEPS = 60

Trial = dict[str, Any]


def main() -> None:
    """Run all trials and print what they found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs, by hand and in runs each")
    parser.add_argument("--interrupts", type=int, default=20, help="SIGINTs, and SIGTERMs, each")
    parser.add_argument("--only", choices=["stages", "runs"], help="the one or the other")
    parser.add_argument("--stages", default="", help="only stages whose command has this in it")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    wanted = {signal.SIGKILL: options.kills}
    wanted |= dict.fromkeys((signal.SIGINT, signal.SIGTERM), options.interrupts)
    signals = [number for number, times in wanted.items() for _ in range(times)]
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        undisturbed = Project(Path(folder) / "undisturbed")
        config = undisturbed.configure(configuration())
        printed = undisturbed.make(config, "--printshellcmds")
        trials = []
        if options.only != "runs":
            commands = [each for each in COMMAND.findall(printed) if options.stages in each]
            trials += list(of_stages(undisturbed, commands, signals, draw))
        if options.only != "stages":
            trials += list(of_runs(undisturbed, config, signals, draw))
    amiss = [trial for trial in trials if trial["amiss"]]
    print(json.dumps({"trials": len(trials), "amiss": len(amiss), "each": trials}, indent=1))
    sys.exit(bool(amiss))


def configuration() -> dict[str, Any]:
    """Return a small project with every stage that makes a model."""
    config = tiny("kills")
    for training in (
        config["teachers"]["teacher"]["training"],
        config["students"]["pre"]["training"],
    ):
        training |= {"max_steps": STEPS, "checkpoint_minutes": 1e-3}
    config["finetuning"]["num_train_epochs"] = 5
    return config


# Stages by hand


def of_stages(
    undisturbed: Project, commands: list[str], signals: list[int], draw: random.Random
) -> Iterator[Trial]:
    """Yield a trial for each signal, over the stages in turn."""
    project = Project(undisturbed.folder.with_name("stages"), undisturbed)
    # How long a stage takes says nothing wrong, and is another number each time.
    commands = [each for each in commands if "evaluation benchmark" not in each]
    draw.shuffle(commands)
    seconds: dict[str, float] = {}
    for command, number in zip(itertools.cycle(commands), signals, strict=False):
        words = shlex.split(command)
        outputs = [project.folder / words[words.index(o) + 1] for o in OUTPUTS if o in words]
        if command not in seconds:
            take_away(outputs)
            seconds[command] = time_of(project, command)
        take_away(outputs)
        at = draw.uniform(0, seconds[command])
        with Started(project.folder, ["bash", "-c", f"exec env {command}"]) as stage:
            ended_first = stage.ends_within(at)
            # Ctrl-C goes to all processes of a terminal.
            stage.send(number, to_all=number == signal.SIGINT)
            code, said = stage.end()
            left = stage.left()
        half = different(project, undisturbed, outputs)
        again = subprocess.run(
            ["bash", "-c", command], cwd=project.folder, env=environment(), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        told = said.strip().splitlines()[-1:] if said.strip() else []
        amiss = {
            "left": left,
            "half": half,
            "differs": different(project, undisturbed, outputs, all_there=True),
            "again": again.stderr[-2000:] if again.returncode else "",
            "said": said[-2000:] if not is_fine(number, code, said) else "",
        }
        yield {
            "stage": " ".join(w for w in words if not w.startswith("-"))[:60],
            "signal": signal.Signals(number).name,
            "at": round(at, 2),
            "of": round(seconds[command], 2),
            "ended_first": ended_first,
            "code": code,
            "told": told,
            "amiss": {name: found for name, found in amiss.items() if found},
        }


def is_fine(number: int, code: int, said: str) -> bool:
    """Return whether a stage ended as it says that it does."""
    if number == signal.SIGKILL or code == 0:
        return True
    # Before Python has read the first line of ours, a signal ends it without a word.
    early = code == -number and not said.strip()
    return early or (code in (75, 128 + number) and "Traceback" not in said)


def time_of(project: Project, command: str) -> float:
    """Return the seconds that a command takes."""
    begun = time.monotonic()
    subprocess.run(
        ["bash", "-c", command], cwd=project.folder, env=environment(), check=True,
        capture_output=True,
    )  # fmt: skip
    return time.monotonic() - begun


def take_away(outputs: list[Path]) -> None:
    """Remove outputs, and what a training keeps beside its own."""
    for output in outputs:
        for path in (output, *output.parent.glob(f".{output.name}.*")):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


# Whole runs


def of_runs(
    undisturbed: Project, config: Path, signals: list[int], draw: random.Random
) -> Iterator[Trial]:
    """Yield a trial for each signal, over one run after the other, each to its end in the end."""
    numbers = draw.sample(signals, len(signals))
    project = Project(undisturbed.folder.with_name("runs"))
    command = [SNAKEMAKE, "--cores", "2", "--configfile", str(config)]
    outputs = [project.folder / "results", project.folder / "resources"]
    while numbers:
        number, alone = numbers.pop(), draw.random() < 0.5
        at = draw.uniform(5, 60)
        with Started(project.folder, command) as run:
            ended_first = run.ends_within(at)
            run.send(number, to_all=not alone)
            code, said = run.end(patient=number != signal.SIGKILL)
            # Of Snakemake killed alone, a job goes on; the same command follows at once.
            runs_on = alone and number == signal.SIGKILL
            left = [] if runs_on else run.left()
            half = different(project, undisturbed, outputs)
            over = ended_first and code == 0
            final = ""
            if over or not numbers:
                done = subprocess.run(
                    command, cwd=project.folder, env=environment(), capture_output=True,
                    text=True, check=False,
                )  # fmt: skip
                final = (done.stdout + done.stderr)[-3000:] if done.returncode else ""
            amiss = {
                "left": left,
                "half": half,
                "again": final,
                "differs": different(project, undisturbed, outputs, all_there=True)
                if over or not numbers
                else [],
                "said": said[-3000:] if ended_first and code else "",
            }
        yield {
            "run": "Snakemake alone" if alone else "all processes",
            "signal": signal.Signals(number).name,
            "at": round(at, 2),
            "ended_first": ended_first,
            "code": code,
            "amiss": {name: found for name, found in amiss.items() if found},
        }
        if over:
            take_away(outputs)


# Processes and bytes


class Started:
    """A command in a session of its own, whose processes are found again, wherever they hang."""

    def __init__(self, folder: Path, command: list[str]):
        self.name = f"{os.getpid()}-{time.monotonic_ns()}"
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment() | {MARKER: self.name},
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()

    def ends_within(self, seconds: float) -> bool:
        """Wait so long; return whether it ended before."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: int, to_all: bool) -> None:
        """Send a signal to the command, or to all its processes."""
        for pid in self.pids() if to_all else [self.process.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def end(self, patient: bool = True) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was printed."""
        code = self.process.wait(600 if patient else SECONDS_TO_END)
        self.output.seek(0)
        return code, self.output.read()

    def left(self) -> list[str]:
        """Return the commands of the processes that are left after a while."""
        end = time.monotonic() + SECONDS_TO_END
        while (pids := self.pids()) and time.monotonic() < end:
            time.sleep(0.2)
        return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids]

    def pids(self) -> list[int]:
        """Return the processes of this command that run."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARKER}={self.name}\0".encode() in (place / "environ").read_bytes():
                    found.append(int(place.name))
            except OSError:
                continue
        return found


def environment() -> dict[str, str]:
    """Return the environment of a stage as a rule calls it."""
    path = f"{Path(SNAKEMAKE).parent}{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ) | {
        "PATH": path,
        "PYTHONPATH": "workflow",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def different(
    project: Project, undisturbed: Project, outputs: list[Path], all_there: bool = False
) -> list[str]:
    """Return the files under final names that are not those of an undisturbed run.

    Args:
        project: where stages were disturbed.
        undisturbed: the project of the undisturbed run.
        outputs: the files and folders to look at.
        all_there: whether a file that is missing is another one.
    """
    found = []
    for output in outputs:
        place = output.relative_to(project.folder)
        here, right = (files(each.folder / place) for each in (project, undisturbed))
        # Folders are published as a whole: one that is there has all its files.
        expected = {
            name
            for name in right
            if all_there or is_published(undisturbed.folder / place / name, project, undisturbed)
        }
        found += [
            str(place / name)
            for name in sorted(here | expected)
            if name not in here
            or name not in right
            or (output / name).read_bytes() != (undisturbed.folder / place / name).read_bytes()
        ]
    return found


def is_published(file: Path, project: Project, undisturbed: Project) -> bool:
    """Return whether the folder that a file of the undisturbed run is published with is there."""
    for folder in file.parents:
        if (folder / MARK).exists():
            there = project.folder / folder.relative_to(undisturbed.folder)
            return any(path.is_file() for path in there.rglob("*"))
    return False


def files(output: Path) -> set[str]:
    """Return the files of an output that are the same in each run, relative to it."""
    if output.is_file():
        return {"."}
    return {
        str(path.relative_to(output))
        for path in output.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(output).parts)
        and not set(TIMED) & {*path.parts}
    }


if __name__ == "__main__":
    main()
