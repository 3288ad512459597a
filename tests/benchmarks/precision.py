"""Does training in bf16 end where training in float32 ends? The demo's student, three seeds each.

    python tests/benchmarks/precision.py [--results results] [--seeds 1 2 3]

Needs a finished demo (`make demo`). Trains its student `pre` of the language qaa again, with the
demo's own settings, and prints JSON: for each precision the last evaluation losses, their mean and
standard deviation, and the difference of the means in standard deviations.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from eliquare.config import load, options
from eliquare.io import read_json, read_json_lines
from eliquare.paths import Paths

ROOT = Path(__file__).parents[2]
STUDENT, LANGUAGE = "pre", "qaa"
PRECISIONS = ("float32", "bf16")


def train(paths: Paths, seed: int, precision: str) -> dict[str, float]:
    """Return the last evaluation of one training, and its tokens per second in the median."""
    teacher, vocabulary = paths.teachers_of(STUDENT)[0], paths.vocabulary_of(STUDENT)
    prepared = Path(paths.prepared(LANGUAGE, teacher, vocabulary))
    recipe = paths.settings.students[STUDENT]
    training = recipe.training.model_copy(update={"seed": seed, "precision": precision})
    changed = recipe.model_copy(update={"training": training})
    with tempfile.TemporaryDirectory() as folder:
        command = {
            "--teachers": paths.teacher_models(STUDENT, LANGUAGE)[0],
            "--sequences": prepared / "sequences",
            "--masking": prepared / "masking",
            "--output": Path(folder) / "student",
        }
        settings = paths.settings.model_copy(
            update={"students": {**paths.settings.students, STUDENT: changed}}
        )
        words = [str(word) for pair in command.items() for word in pair]
        words += options.distillation(settings, STUDENT)
        stage = [sys.executable, "-m", "eliquare", "distillation", "distill"]
        subprocess.run([*stage, *words], check=True, stderr=subprocess.DEVNULL)
        lines = read_json_lines(Path(folder) / "student/history.jsonl")
    last = [line for line in lines if "eval_loss" in line][-1]
    speed = statistics.median(
        line["tokens_per_second"] for line in lines if "tokens_per_second" in line
    )
    return {name: value for name, value in last.items() if name != "step"} | {
        "tokens_per_second": speed
    }


def main() -> None:
    """Train with each seed and precision, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="of a finished demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of training")
    arguments = parser.parse_args()
    settings = load.restore(read_json(arguments.results / "demo/settings.json"))
    paths = Paths(settings, results=arguments.results)
    runs: dict[str, list[dict[str, float]]] = {precision: [] for precision in PRECISIONS}
    for seed in arguments.seeds:
        for precision in PRECISIONS:
            runs[precision].append(train(paths, seed, precision))
    table = {}
    for name in runs["float32"][0]:
        row: dict[str, Any] = {}
        for precision in PRECISIONS:
            values = [run[name] for run in runs[precision]]
            row[precision] = {
                "values": [round(value, 4) for value in values],
                "mean": round(statistics.mean(values), 4),
                "deviation": round(statistics.stdev(values), 4),
            }
        if name.startswith("eval"):
            single, half = row["float32"], row["bf16"]
            noise = ((single["deviation"] ** 2 + half["deviation"] ** 2) / 2) ** 0.5
            row["difference_in_deviations"] = round((half["mean"] - single["mean"]) / noise, 2)
        table[name] = row
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
