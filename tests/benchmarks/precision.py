"""Does training in bf16 end where training in float32 ends? The demo's student, three seeds each.

    python tests/benchmarks/precision.py [--results results] [--seeds 1 2 3]

Needs a finished demo (`make demo`). Trains its student `pre` of the language qaa again, with the
demo's own settings, and prints JSON: for each precision the last validation losses, their mean and
standard deviation, and the difference of the means in standard deviations.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def train(results: Path, settings: dict, seed: int, precision: str) -> dict[str, float]:
    """The last validation of one training, and its tokens a second in the median."""
    prepared = results / "corpora/qaa/teacher/sentences"
    training = settings["students"]["pre"]["training"]
    command = {
        "teacher": prepared / "model",
        "student": results / "students/pre/qaa/initial",
        "sequences": prepared / "sequences",
        "masking": prepared / "masking",
        "steps": training["steps"],
        "batch-size": training["batch_size"],
        "learning-rate": training["learning_rate"],
        "warmup-share": training["warmup_share"],
        "validations": training["validations"],
        "threads": training["threads"],
        "precision": precision,
        "seed": seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        words = [word for name, value in command.items() for word in (f"--{name}", str(value))]
        module = [sys.executable, "-m", "eliquare.distillation.training"]
        output = ["--output", f"{folder}/student"]
        subprocess.run([*module, *words, *output], check=True, stderr=subprocess.DEVNULL)
        history = Path(folder, "student/history.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in history]
    last = [line for line in lines if "validation_loss" in line][-1]
    speed = statistics.median(
        line["tokens_per_second"] for line in lines if "tokens_per_second" in line
    )
    return {name: value for name, value in last.items() if name != "step"} | {
        "tokens_per_second": speed
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument(
        "--results", type=Path, default=ROOT / "results", help="of a finished demo"
    )
    options.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of training"
    )
    arguments = options.parse_args()
    settings = json.loads((arguments.results / "demo/settings.json").read_text())
    precisions = ("float32", "bf16")
    runs = {precision: [] for precision in precisions}
    for seed in arguments.seeds:
        for precision in precisions:
            runs[precision].append(train(arguments.results, settings, seed, precision))
    table = {}
    for name in runs["float32"][0]:
        row = {}
        for precision in precisions:
            values = [run[name] for run in runs[precision]]
            row[precision] = {
                "values": [round(value, 4) for value in values],
                "mean": round(statistics.mean(values), 4),
                "deviation": round(statistics.stdev(values), 4),
            }
        if name.startswith("validation"):
            one, other = row["float32"], row["bf16"]
            noise = ((one["deviation"] ** 2 + other["deviation"] ** 2) / 2) ** 0.5
            row["difference_in_deviations"] = round((other["mean"] - one["mean"]) / noise, 2)
        table[name] = row
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
