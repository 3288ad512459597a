"""Seconds and peak memory of `snakemake -n` for 25, 50 and 100 languages.

    python tests/benchmarks/plan.py [--languages 25 50 100] [--project FOLDER]

Each language has 6 students, 2 tasks and 3 seeds; nothing is made yet, so that every job is
planned. Prints JSON. Memory is the peak of the resident set of the snakemake process; on a machine
with other work, cpu_seconds (of this one process) is what to go by.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LINKED = ("Snakefile", "workflow", "envs", "resources/published.csv")


def configuration(languages: int) -> dict:
    """Six students of one teacher in each language: two tasks, three seeds."""
    codes = [f"q{LETTERS[number // 26]}{LETTERS[number % 26]}" for number in range(languages)]
    like = {"like": "pre"}
    return {
        "name": "plan",
        "languages": {code: {"corpus": {"source": "dump"}} for code in codes},
        "teachers": {"teacher": {"source": "hub", "model": "a/teacher", "revision": "0" * 40}},
        "vocabularies": {"sentences": {"share_of_sentences": 0.0005}},
        "students": {
            "pre": {
                "teacher": "teacher",
                "vocabulary": "pre",
                "rule": "sentences",
                "training": {"epochs": 10},
            },
            "full": like | {"vocabulary": "full", "rule": None},
            "post": {"vocabulary": "post", "of": "full", "rule": "sentences"},
            "four": like | {"layers": 4},
            "hotter": like | {"objective": {"temperature": 4.0}},
            "scratch": like | {"initialisation": "blank"},
        },
        "tasks": {
            f"{code}-{kind}": {"language": code, "kind": kind}
            | {split: f"tasks/{code}.txt" for split in ("train", "validation", "test")}
            for code in codes
            for kind in ("upos", "ner")
        },
        "experiment": {
            "systems": ["pre", "full", "post", "four", "hotter", "scratch"],
            "seeds": [1, 2, 3],
        },
    }


def project(folder: Path, root: Path, config: dict) -> None:
    """A folder with the workflow, a configuration and the files that it names."""
    for name in LINKED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((root / name).resolve())
    (folder / "config").mkdir()
    (folder / "config" / "plan.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "tasks").mkdir()
    for code in config["languages"]:
        (folder / "tasks" / f"{code}.txt").touch()


def measure(folder: Path, printed: Path) -> dict[str, float]:
    """Plan once: jobs, seconds, and peak memory in MB."""
    snakemake = Path(sys.executable).parent / "snakemake"
    command = [str(snakemake), "--dry-run", "--cores", "2", "--configfile", "config/plan.yaml"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    begin, peak = time.perf_counter(), 0
    with (
        printed.open("w") as output,
        subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, text=True
        ) as child,
    ):
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.perf_counter() - begin
    text = printed.read_text()
    if child.returncode:
        raise SystemExit(f"snakemake ended with {child.returncode}:\n{text[-3000:]}")
    jobs = int(re.findall(r"^total +([\d,]+)", text, flags=re.M)[-1].replace(",", ""))
    return {
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime - before, 1),
        "megabytes": round(peak / 1e6),
        "cpu_milliseconds_a_job": round(1000 * (used.ru_utime + used.ru_stime - before) / jobs, 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--languages", type=int, nargs="+", default=[25, 50, 100])
    options.add_argument("--project", type=Path, default=ROOT, help="the workflow to plan with")
    arguments = options.parse_args()
    results = []
    for languages in arguments.languages:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            project(folder, arguments.project, configuration(languages))
            results.append({"languages": languages} | measure(folder, folder / "printed.txt"))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
