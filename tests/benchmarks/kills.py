"""Kill and interrupt stages, and whole runs, at random moments; print what was amiss, as JSON.

    python tests/benchmarks/kills.py --kills 50 --interrupts 20 --folder /tmp/kills

SIGKILL comes so many times, SIGINT and SIGTERM each as often as ``--interrupts`` says, to stages
by hand (all that the workflow runs, and most that it does not), and again to runs of Snakemake.

Where: SIGKILL goes to the process itself, to it with all its descendants, or, of a stage by hand,
to one of these; SIGINT to its process group, as Ctrl-C does; SIGTERM to it, or to its group. When:
one trial in eight while Python starts; two as soon as a first output has its final name; the others
over the time that the stage works, which begins when it holds the lock of its output. Three stages
in four are forked from a Python that has imported torch and the like, so that a trial takes
seconds; of the others, what they import after the lock is left out. In a run of Snakemake, the
stages are programs as users start them, without ``--warm``, and the time is that of the job that
began last. A trial whose stage ends before the signal is taken again.

Amiss are: under a final name, another file than that of an undisturbed run, or one that did not get
its name by a rename; a process that is left after half a minute, whoever its parent is; an
interrupted stage that says more than a line; and, after the same command has run to its end, other
bytes, a missing file, or a hidden file beside the results. Exit code 1 if anything was amiss.

``--folder`` keeps the undisturbed run, and the measured times, for further calls with another
``--seed``. Not tried: what needs a host (`models fetch` of a hub, `export push`).
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "workflow")]

import warm_python  # noqa: E402
from eliquare.io import MARK, lock_of, remove  # noqa: E402
from every_stage import Stage, make  # noqa: E402
from tiny_project import Project  # noqa: E402
from watched import (  # noqa: E402
    SECONDS_TO_END,
    Started,
    descendants,
    serve,
    wait_until_left,
    watch_all,
)

RESULTS = ("results", "resources", "by-hand")
OF_SNAKEMAKE = "results/costs/"
# Hold times of the clock: a training's history at two keys; a measurement anywhere; and whatever is
# made of these, which has the bytes of the undisturbed run once it is made of its measurements.
HISTORY, AT_KEYS = "history.jsonl", re.compile(r'"(seconds|tokens_per_second)": [-+.e\d]+')
MEASURED = re.compile(r"/benchmarks/|(?:/exports|^by-hand/onnx)/.*\.json$|time\.json$")
OF_MEASURED = re.compile(
    r"/kills/(?:tables|figures|models)/.*\.(?!safetensors|onnx)\w+$|report\.html$"
)
NUMBER = re.compile(r"-?\d[\d.,]*(?:e[-+]?\d+)?")
SECONDS_TO_ANSWER = 10
ANSWER = "Terminating processes on user request"
TRIES = 5
# Seconds that a job in a run is given, where nothing was measured.
UNKNOWN = 3.0
IN_CREATE = 0x100
STAMP = ".snakemake_timestamp"
# Share of the stages that are forked, not started; their names in what is printed.
FORKED = 0.75
KINDS = {True: "forked", False: "cold"}

Trial = dict[str, Any]
# Of a stage: by kind of Python, until it holds its lock, and from there on.
Seconds = dict[str, dict[str, dict[str, float]]]


def main() -> None:
    """Run all trials; print each as it ends, and what they found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs, by hand and in runs each")
    parser.add_argument("--interrupts", type=int, default=20, help="SIGINTs, and SIGTERMs, each")
    parser.add_argument("--only", choices=["stages", "runs"], help="the one or the other")
    parser.add_argument("--stages", default="", help="only stages whose command has this in it")
    parser.add_argument("--warm", action="store_true", help="in runs too, stages are forked")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--folder", type=Path, help="of the undisturbed run, made or taken over")
    options = parser.parse_args()
    watch_all()
    # In the background of a shell it is ignored, also by what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in warm_python.IMPORTS:
        import_module(name)
    draw = random.Random(options.seed)
    wanted = {signal.SIGKILL: options.kills}
    wanted |= dict.fromkeys((signal.SIGINT, signal.SIGTERM), options.interrupts)
    signals = [number for number, times in wanted.items() for _ in range(times)]
    draw.shuffle(signals)
    trials = []
    # No TemporaryDirectory: each process that is forked would remove it.
    folder = tempfile.mkdtemp(prefix="kills")
    try:
        undisturbed, config, stages = make(options.folder or Path(folder) / "undisturbed")
        seconds_file = undisturbed.folder / "seconds.json"
        seconds = json.loads(seconds_file.read_text()) if seconds_file.exists() else {}
        chosen = [stage for stage in stages if options.stages in stage.command]
        parts = {
            "stages": lambda: of_stages(
                Project(Path(folder) / "stages", undisturbed), undisturbed, chosen, signals, draw,
                seconds,
            ),
            "runs": lambda: of_runs(
                Path(folder) / "runs", undisturbed, config, stages, signals, draw, seconds,
                options.warm,
            ),
        }  # fmt: skip
        for name, part in parts.items():
            if options.only in (None, name):
                for trial in part():
                    trials.append(trial)
                    print(json.dumps(trial), file=sys.stderr, flush=True)
                    seconds_file.write_text(json.dumps(seconds))
    finally:
        shutil.rmtree(folder)
    amiss = [trial for trial in trials if trial["amiss"]]
    print(json.dumps({"trials": len(trials), "amiss": len(amiss), "each": trials}, indent=1))
    sys.exit(bool(amiss))


# Stages by hand


def of_stages(
    project: Project,
    undisturbed: Project,
    stages: list[Stage],
    signals: list[int],
    draw: random.Random,
    seconds: Seconds,
) -> Iterator[Trial]:
    """Yield a trial for each signal, over the stages in turn, each with one of its commands."""
    names = sorted({stage.name for stage in stages})
    draw.shuffle(names)
    for name, number in zip(itertools.cycle(names), signals, strict=False):
        stage = draw.choice([stage for stage in stages if stage.name == name])
        forked = draw.random() < FORKED
        known = seconds.setdefault(stage.command, {})
        for each in {True, forked}:
            if KINDS[each] not in known:
                known[KINDS[each]] = measure(project, stage, each)
        yield of_stage(project, undisturbed, stage, number, draw, known, forked)
        # Times of the clock in what it made would be in what others make of it.
        for output in stage.outputs:
            take_away(project, [output])
            copy(undisturbed.folder / output, project.folder / output)


def measure(project: Project, stage: Stage, forked: bool) -> dict[str, float]:
    """Return the seconds until a stage holds the lock of its output, and from there on."""
    take_away(project, stage.outputs)
    begun = time.monotonic()
    with Started(project, stage.arguments, stage.variables, forked) as process:
        assert process.wait_for(has_begun(project, stage)), process.printed()
        started = time.monotonic()
        code = process.ended(SECONDS_TO_END)
        assert code == 0, process.printed()
    return {"start": started - begun, "work": time.monotonic() - started}


def of_stage(
    project: Project,
    undisturbed: Project,
    stage: Stage,
    number: int,
    draw: random.Random,
    seconds: Mapping[str, Mapping[str, float]],
    forked: bool,
) -> Trial:
    """Return a trial of one stage."""
    start, work = (seconds[KINDS[forked]][name] for name in ("start", "work"))
    for _ in range(TRIES):
        take_away(project, stage.outputs)
        before = set(descendants())
        when = draw.choices(["start", "work", "named"], [1, 5, 2])[0]
        with Started(project, stage.arguments, stage.variables, forked) as process:
            if when == "start":
                at = draw.uniform(0, start)
            elif when == "work":
                process.wait_for(has_begun(project, stage))
                # What it imports meanwhile, if it was not forked, comes first.
                at = work - draw.uniform(0, min(work, seconds[KINDS[True]]["work"]))
            else:
                names = [project.folder / output for output in stage.outputs]
                process.wait_for(lambda names=names: any(map(os.path.exists, names)))
                at = draw.uniform(0, 0.02)
            ended_first = process.ended(at) is not None
            to = process.send(number, draw, one=True)
            code = process.ended(SECONDS_TO_END)
            printed = process.printed()
            left, leaving = wait_until_left(before)
        # One that ends with 0 was over, or about to be.
        ended_first |= code == 0 and to != "a descendant"
        if not ended_first:
            break
        # Others had the machine when it was measured.
        if when == "work":
            work = min(work, at)
    half = different(project, undisturbed, stage.outputs)
    over = not different(project, undisturbed, stage.outputs, all_there=True)
    with (
        made_in_place(project, undisturbed, stage) as in_place,
        Started(project, stage.arguments, stage.variables, forked=True) as process,
    ):
        code_again = process.ended(SECONDS_TO_END)
        said_again = process.printed()
    amiss = {
        "hangs": ["its process"] if code is None else [],
        "left": left,
        "half": half,
        "in_place": in_place,
        "again": said_again[-2000:] if code_again else "",
        "differs": different(project, undisturbed, stage.outputs, all_there=True),
        "hidden": hidden(project, stage.outputs),
        "said": printed[-2000:] if not is_fine(number, to, code, printed, over) else "",
    }
    return {
        "stage": stage.name,
        "output": str(stage.outputs[0]),
        "signal": signal.Signals(number).name,
        "to": to,
        "when": when,
        "at": round(at, 3),
        "of": round(start if when == "start" else work, 2),
        "python": KINDS[forked],
        "ended_first": ended_first,
        "code": code,
        "leaving": round(leaving, 2),
        "said": printed.strip().splitlines()[-1:],
        "amiss": {name: found for name, found in amiss.items() if found},
    }


@contextlib.contextmanager
def made_in_place(project: Project, undisturbed: Project, stage: Stage) -> Iterator[list[str]]:
    """Yield a list that gets the outputs that did not get their name complete, by a rename."""
    places = [
        output
        for output in stage.outputs
        if (undisturbed.folder / output).is_file() or (undisturbed.folder / output / MARK).exists()
    ]
    found: list[str] = []
    libc = ctypes.CDLL(None)
    watches = {}
    for output in places:
        watches[output] = watch = libc.inotify_init1(os.O_NONBLOCK)
        libc.inotify_add_watch(watch, bytes((project.folder / output).parent), IN_CREATE)
    yield found
    for output, watch in watches.items():
        with open(watch, "rb", buffering=0) as events:
            said = events.read(1 << 20) or b""
        # An event is four numbers of four bytes, and a name that ends with a zero.
        if re.search(rb"\0" + re.escape(output.name.encode()) + rb"\0", said):
            found.append(str(output))


def has_begun(project: Project, stage: Stage) -> Callable[[], bool]:
    """Return what says whether a stage holds the lock of its output, which was taken away."""
    lock = lock_of(project.folder / stage.outputs[0])
    return lock.exists


def is_fine(number: int, to: str, code: int | None, printed: str, over: bool) -> bool:
    """Return whether a stage ended as it says that it does; ``over``, if its results are there."""
    if code == 0:
        return True
    if number == signal.SIGKILL:
        # Of a killed helper, one line as of any fault of the moment.
        in_one_line = code == 1 and "failed: " in printed and "Traceback" not in printed
        return code == -number or (to == "a descendant" and in_one_line)
    # Before Python has read the first line of ours, and after the last, a signal needs no words.
    outside = code == -number and (over or not printed.strip())
    return (outside or code in (75, 128 + number)) and "Traceback" not in printed


def take_away(project: Project, outputs: Iterable[Path]) -> None:
    """Remove outputs, and what stages keep beside them: locks, checkpoints."""
    for output in outputs:
        path = project.folder / output
        for each in (path, *path.parent.glob(f".{path.name}.*")):
            remove(each)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, with its lock."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
    if lock_of(source).exists():
        shutil.copy2(lock_of(source), lock_of(target))


# Whole runs


def of_runs(
    folder: Path,
    undisturbed: Project,
    config: Path,
    stages: list[Stage],
    signals: list[int],
    draw: random.Random,
    seconds: Seconds,
    warm: bool,
) -> Iterator[Trial]:
    """Yield a trial for each signal, in one run after the other, each gone on with to its end.

    After the last trial the run is completed. A run that a trial found complete begins anew.
    """
    # Its imports are no work of a job.
    work = {
        lock_of(stage.outputs[0]): max(each["work"] for each in known.values())
        for stage in stages
        if (known := seconds.get(stage.command))
    }
    ignored = shutil.ignore_patterns(*RESULTS, ".snakemake", "logs")
    shutil.copytree(undisturbed.folder, folder, symlinks=True, ignore=ignored)
    project = Project(folder)
    arguments = ["--cores", "2", "--configfile", str(Path("config", config.name))]
    made = [Path(name) for name in RESULTS[:2]]
    of_bash = serve(project) if warm else {}
    numbers = list(signals)
    while numbers:
        number, at = numbers.pop(), 0.0
        before, begun = set(descendants()), locks(project)
        with Started(project, ["-m", "snakemake", *arguments], of_bash, forked=True) as run:
            last = Path()
            for _ in range(draw.randint(1, 2)):
                if run.wait_for(lambda begun=begun: locks(project) != begun, 0.1):
                    new = locks(project)
                    last = max(new.items() - begun.items(), key=lambda each: each[1])[0]
                    begun = new
            at = draw.uniform(0, work.get(last, UNKNOWN))
            ended_first = run.ended(at) is not None
            to = run.send(number, draw)
            # Snakemake loses a Ctrl-C that comes while it prints a line; a person presses again.
            again = number == signal.SIGINT and run.ended(SECONDS_TO_ANSWER) is None
            if again := again and ANSWER not in run.printed():
                run.send(number, draw)
            code = run.ended(SECONDS_TO_END)
            printed = run.printed()
            # Of Snakemake killed alone, a job goes on; the same command follows at once.
            goes_on = number == signal.SIGKILL and to == "itself" and not ended_first
            left, leaving = ([], 0.0) if goes_on else wait_until_left(before)
            half = [] if goes_on else different(project, undisturbed, made, loose=True)
            run.forget = goes_on
        over = ended_first and code == 0
        amiss = {
            "hangs": ["Snakemake"] if code is None else [],
            "left": left,
            "half": half,
            "said": printed[-3000:] if ended_first and code else "",
        }
        if over:
            numbers.insert(0, number)
        if over or not numbers:
            serve(project)
            done = project.run(*arguments)
            differs = different(project, undisturbed, made, all_there=True, loose=True)
            if not done.returncode:
                take_over_measurements(project, undisturbed)
                done = project.run(*arguments)
                differs += different(project, undisturbed, made, all_there=True)
            amiss |= {
                "again": done.stdout[-3000:] if done.returncode else "",
                "left": left + wait_until_left(set())[0],
                "differs": sorted(set(differs)),
                "hidden": hidden(project, made),
            }
            for name in (*RESULTS, ".snakemake", "logs"):
                remove(project.folder / name)
        yield {
            "run": "over" if over else "goes on",
            "stages": "forked" if warm else "cold",
            "job": str(last),
            "signal": signal.Signals(number).name,
            "to": to,
            "at": round(at, 3),
            "ended_first": ended_first,
            "sent_again": again,
            "code": code,
            "leaving": round(leaving, 2),
            "amiss": {name: found for name, found in amiss.items() if found},
        }


def take_over_measurements(project: Project, undisturbed: Project) -> None:
    """Copy every measurement of the undisturbed run, and remove what is made of them."""
    for name in set().union(*(files(undisturbed.folder, Path(top)) for top in RESULTS[:2])):
        if OF_MEASURED.search(name):
            remove(project.folder / name)
        elif MEASURED.search(name) or name.endswith(HISTORY):
            # With the time of now, since Snakemake makes again what is older than its inputs.
            shutil.copy(undisturbed.folder / name, project.folder / name)
    for costs in (undisturbed.folder / OF_SNAKEMAKE).glob("*/*"):
        shutil.copy(costs, project.folder / costs.relative_to(undisturbed.folder))


def locks(project: Project) -> dict[Path, int]:
    """Return when each output's lock was last written, which a stage does when it begins."""
    found = {}
    for top in RESULTS[:2]:
        for folder, _, names in os.walk(project.folder / top):
            for name in names:
                if name.startswith(".") and name.endswith(".lock"):
                    path = Path(folder, name)
                    found[path.relative_to(project.folder)] = path.stat().st_mtime_ns
    return found


# Files


def different(
    project: Project,
    undisturbed: Project,
    outputs: Iterable[Path],
    all_there: bool = False,
    loose: bool = False,
) -> list[str]:
    """Return the files under final names that are not those of an undisturbed run.

    Args:
        project: where stages were disturbed.
        undisturbed: the project of the undisturbed run.
        outputs: the files and folders to look at.
        all_there: whether a file that is missing is another one.
        loose: whether of what is made of other measurements, only the end is compared.
    """
    found = []
    for output in outputs:
        here, right = (files(each.folder, output) for each in (project, undisturbed))
        # Folders are published as a whole: one that is there has all its files.
        expected = {name for name in right if all_there or is_published(name, project, undisturbed)}
        found += [
            name
            for name in sorted(here | expected)
            if name not in here
            or name not in right
            or not same(project.folder / name, undisturbed.folder / name, name, loose)
        ]
    return found


def is_published(name: str, project: Project, undisturbed: Project) -> bool:
    """Return whether the folder that a file of the undisturbed run is published with is there."""
    for folder in Path(name).parents:
        if (undisturbed.folder / folder / MARK).exists():
            # Of files that a rule lists one by one, Snakemake leaves the mark when it deletes them.
            return bool(files(project.folder, folder))
    return False


def same(file: Path, right: Path, name: str, loose: bool) -> bool:
    """Return whether a file has the bytes of the undisturbed run, but for times."""
    found, expected = file.read_bytes(), right.read_bytes()
    if found == expected:
        return True
    if file.name == HISTORY:
        number = AT_KEYS
    elif MEASURED.search(name):
        number = NUMBER
    else:
        return loose and bool(OF_MEASURED.search(name)) and found[-1:] == expected[-1:]
    texts = [number.sub("#", each.decode(errors="replace")) for each in (found, expected)]
    return texts[0] == texts[1]


def files(folder: Path, output: Path) -> set[str]:
    """Return the files of an output that a stage made, relative to the project."""
    place = folder / output
    paths = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    names = {path.relative_to(folder) for path in paths}
    return {
        str(name)
        for name in names
        if not any(part.startswith(".") for part in name.parts)
        and not str(name).startswith(OF_SNAKEMAKE)
    }


def hidden(project: Project, outputs: Iterable[Path]) -> list[str]:
    """Return what is left beside results that are complete, apart from locks and marks."""
    found = []
    for output in outputs:
        place = project.folder / output
        inside = place.rglob(".*") if place.is_dir() else ()
        for path in (*place.parent.glob(f".{place.name}.*"), *inside):
            if path.suffix not in (".lock", ".kept") and path.name not in (MARK, STAMP):
                found.append(str(path.relative_to(project.folder)))
    return sorted(set(found))


if __name__ == "__main__":
    main()
