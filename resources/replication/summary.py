"""Write the result tables of the replication from what a run of it left.

    python resources/replication/summary.py results resources/replication/tables

`encoders.csv` and `claims.csv` have a row for each language, system and seed of distillation;
`finetuned.csv` for each seed of fine-tuning; `differences.csv` compares systems with their teacher
by the paired bootstrap of the report. What a run has not made is not there.
"""

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eliquare.io import read_json
from eliquare.reporting import bootstrap

# name/intrinsic/language/system@seed.json
RESULT = re.compile(r"(?P<language>[\w-]+)/(?P<system>[^/@]+)(?:@(?P<seed>\d+))?\.json$")
TEACHERS = {"encoders": "e5", "claims": "mlm"}
DIGITS = 4


def results(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return language, system and seed of each result of a folder, and the result."""
    found = []
    for path in sorted(folder.glob("*/*.json")):
        if named := RESULT.search(path.as_posix()):
            names: dict[str, Any] = {**named.groupdict(), "seed": int(named["seed"] or 1)}
            found.append((names, read_json(path)))
    return found


def frozen(results_folder: Path, name: str) -> list[dict[str, Any]]:
    """Return what is scored without fine-tuning: embeddings, and bits per character."""
    rows = []
    for names, report in results(results_folder / name / "intrinsic"):
        row = names | {"fertility": report["fertility"], "unknown_share": report["unknown_share"]}
        row["bits_per_character"] = report["bits_per_character"]
        for task, scored in report["embeddings"]["topics"].items():
            kind = task.partition("-")[2]
            for split in ("validation", "test"):
                row[f"{kind} {split}"] = scored[split]["macro_f1"]
        retrieval = report["embeddings"]["retrieval"] or {}
        row |= {"retrieval": retrieval.get("top_1"), "pairs": retrieval.get("pairs")}
        rows.append(row)
    return rows


def finetuned(results_folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the scores of each seed of fine-tuning."""
    return [
        names
        | {
            "task": task,
            "metric": scored["metric"],
            "finetuning_seed": int(seed),
            "learning_rate": run["learning_rate"],
            "validation": run["validation"][scored["metric"]],
            "test": run["test"][scored["metric"]],
        }
        for names, report in results(results_folder / name / "scores")
        for task, scored in report["tasks"].items()
        for seed, run in scored["seeds"].items()
    ]


def differences(results_folder: Path, name: str) -> list[dict[str, Any]]:
    """Return each system's difference to its teacher in topics, the mean over seeds."""
    answers: dict[tuple[str, str], dict[str, list[bootstrap.Answers]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for names, report in results(results_folder / name / "intrinsic"):
        for task, scored in report["embeddings"]["topics"].items():
            kept = bootstrap.answers("classification", scored["labels"], scored["predicted"])
            answers[names["language"], task][names["system"]].append(kept)
    rows = []
    for (language, task), answered in answers.items():
        teacher = TEACHERS[name]
        pairs = [(system, teacher) for system in answered if system != teacher]
        for each in bootstrap.compared(pairs, answered):
            rows.append({"experiment": name, "language": language, "task": task, **each})
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as a table whose columns are all their keys."""
    rows = list(rows)
    columns = dict.fromkeys(key for row in rows for key in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(columns), lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow(
                {k: round(v, DIGITS) if isinstance(v, float) else v for k, v in row.items()}
            )
    print(f"{path}: {len(rows)} rows")


def main(source: Path, target: Path) -> None:
    """Write the tables of both experiments."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TEACHERS:
        write(target / f"{name}.csv", frozen(source, name))
    write(target / "finetuned.csv", [row for name in TEACHERS for row in finetuned(source, name)])
    rows = [row for name in TEACHERS for row in differences(source, name)]
    write(target / "differences.csv", rows)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
