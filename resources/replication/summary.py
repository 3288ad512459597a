"""Write the result tables of the replication from what a run of it left.

    python resources/replication/summary.py results resources/replication/tables

For each recipe that was run, `NAME.csv` has a row for each language, system and seed of
distillation, and `NAME-finetuned.csv` for each seed of fine-tuning. `NAME-differences.csv` compares
systems with their teacher, and those of COMPARED with each other, by the paired bootstrap of the
report: over test items, in the mean over seeds and draws (of the run of `claims` only the
differences to the teacher were kept). `NAME-seeds.csv`, made from `NAME.csv`, has those of COMPARED
over seeds of distillation: the mean difference of students with the same seed, and the 95% interval
of Student's t. What a run has not made is not there.
"""

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import ttest_1samp

from eliquare.io import read_json
from eliquare.reporting import bootstrap

# name/intrinsic/language/system@seed.json
RESULT = re.compile(r"(?P<language>[\w-]+)/(?P<system>[^/@]+)(?:@(?P<seed>\d+))?\.json$")
TEACHERS = {
    "real": "e5",
    "encoders": "e5",
    "sentences": "e5",
    "documents": "e5",
    "claims": "mlm",
    "claims-small": "mlm",
    "names-small": "e5",
}
# What is compared, each system with one beside it: for the papers' claims, and for more text.
COMPARED = [
    ("post", "pre"),
    ("no-mlm", "equal"),
    ("no-kl", "equal"),
    ("no-cosine", "equal"),
    ("tau-0.5", "pre"),
    ("tau-1", "pre"),
    ("tau-4", "pre"),
    ("pre", "mlm"),
    ("pre", "reduced"),
    ("pre", "adapted"),
    ("scratch", "embeddings"),
    ("pre-adapted", "pre"),
    ("data-80", "pre"),
    ("data-50", "pre"),
    ("tiny", "scratch"),
    ("both", "pre"),
    ("no-dropout", "pre"),
    ("small-steps", "no-dropout"),
    ("six", "start"),
    ("more-nl", "six"),
    ("more-hi", "six"),
    ("more-fr", "six"),
    ("most-sw", "most-sw-start"),
    ("most-nl", "most-nl-start"),
    ("most-hi", "most-hi-start"),
    ("most-fr", "most-fr-start"),
]
# Of these one model is compared with the students of every seed.
ONCE = ("mlm", "reduced", "adapted", *(beside for _, beside in COMPARED if "start" in beside))
RENAMED = {
    "student": "system",
    "teacher": "beside",
    "student_score": "score",
    "teacher_score": "beside_score",
}
MEASURES = ("bits_per_character", "topics validation", "topics test", "news test")
DIGITS = 4
HELD_OUT = {bootstrap.TITLES: "retrieval", bootstrap.TEXT: "held-out"}


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
        for task, scored in report["embeddings"].get("pairs", {}).items():
            row[task.partition("-")[2]] = scored.get("top_1", scored.get("spearman"))
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
    """Return the difference of systems without fine-tuning, by the bootstrap over test items."""
    answers: dict[tuple[str, str], dict[str, list[bootstrap.Answers]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for names, report in results(results_folder / name / "intrinsic"):
        embedded = report["embeddings"]
        for task in (*embedded["topics"], *embedded.get("pairs", ()), *HELD_OUT):
            if kept := bootstrap.reported(report, task):
                named = HELD_OUT.get(task, task)
                answers[names["language"], named][names["system"]] += kept
    rows = []
    for (language, task), answered in answers.items():
        teacher = TEACHERS[name]
        pairs = dict.fromkeys((system, teacher) for system in answered if system != teacher)
        pairs |= dict.fromkeys(pair for pair in COMPARED if answered.keys() >= set(pair))
        for each in bootstrap.compared(list(pairs), answered):
            named = {RENAMED.get(key, key): value for key, value in each.items()}
            rows.append({"language": language, "task": task, **named})
    return rows


def seeds(table: Path) -> list[dict[str, Any]]:
    """Return the differences of COMPARED over seeds of distillation, from `NAME.csv`.

    Those of ONCE have one seed, which is compared with each seed of a student: an interval holds
    for this one.
    """
    with table.open(newline="", encoding="utf-8") as file:
        scored = list(csv.DictReader(file))
    rows = []
    for language, measure in product(dict.fromkeys(row["language"] for row in scored), MEASURES):
        scores: dict[str, dict[str, float]] = defaultdict(dict)
        for row in scored:
            if row["language"] == language and row.get(measure):
                scores[row["system"]][row["seed"]] = float(row[measure])
        for system, beside in COMPARED:
            ours, theirs = scores[system], scores[beside]
            if beside in ONCE and theirs:
                theirs = dict.fromkeys(ours, next(iter(theirs.values())))
            paired = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
            if len(paired) < 2:
                continue
            low, high = ttest_1samp(paired, 0).confidence_interval()
            names = {"language": language, "measure": measure, "system": system, "beside": beside}
            interval = {"low": float(low), "high": float(high), "seeds": len(paired)}
            rows.append(names | {"difference": fmean(paired)} | interval)
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as a table whose columns are all their keys; remove the table of no rows."""
    rows = list(rows)
    if not rows:
        path.unlink(missing_ok=True)
        return
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
    """Write the tables of each recipe that was run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TEACHERS:
        table = target / f"{name}.csv"
        if (source / name / "intrinsic").is_dir():
            write(table, frozen(source, name))
            write(target / f"{name}-differences.csv", differences(source, name))
        if (source / name / "scores").is_dir():
            write(target / f"{name}-finetuned.csv", finetuned(source, name))
        if table.exists():
            write(target / f"{name}-seeds.csv", seeds(table))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
