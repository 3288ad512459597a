"""Tables of an experiment: scores, sizes, speed, and ours beside the published numbers.

Each table is written as CSV, Markdown and LaTeX; tables.json holds them all for the report. What
is timed (speed) stands apart from what is the same on every run (all others).
"""

import argparse
from pathlib import Path

from eliquare import stage
from eliquare.reporting import comparisons, published, results, vocabularies
from eliquare.reporting.formats import Cell, Table, number, text, write
from eliquare.reporting.results import METRICS, STEADY, Experiment, is_steady

VERSION = 3

MILLION = 1_000_000


def scores(experiment: Experiment) -> Table:
    """Main metric of each system on each task: mean and deviation over seeds, best in bold."""
    best = {}
    for task in experiment.tasks:
        found = [experiment.score(system, task) for system in experiment.systems]
        best[task] = max(round(score.mean, 4) for score in found if score)
    records, cells = [], []
    for system in experiment.systems:
        record, row = {"system": system}, [text(experiment.label(system))]
        for task in experiment.tasks:
            score = experiment.score(system, task)
            column = f"{experiment.task(task)['language']}/{task} {experiment.metric(task)}"
            record[column] = score.mean if score else None
            record[f"{column} deviation"] = score.deviation if score else None
            record[f"{column} n"] = score.n if score else 0
            if score is None:
                row.append(Cell())
                continue
            shown = comparisons.spread(score)
            row.append(Cell(shown.text, shown.value, round(score.mean, 4) == best[task]))
        records.append(record)
        cells.append(row)
    header = ["System"]
    for task in experiment.tasks:
        metric = experiment.metric(task)
        header.append(f"{experiment.task_title(task)} ({METRICS.get(metric, metric)})")
    n = len(experiment.seeds)
    over = f"mean ± sample standard deviation over n = {n} seeds" if n > 1 else "n = 1 seed"
    caption = f"Scores on the test splits: {over}; best of a column in bold."
    notes = [] if n > 1 else ["One seed: how far the scores vary from seed to seed is not known."]
    return Table("scores", caption, header, cells, records, notes)


def all_metrics(experiment: Experiment) -> Table:
    """Every metric of every system on every task, one a row."""
    records = []
    for task in experiment.tasks:
        for system in experiment.systems:
            by_seed = experiment.finetuned.get((system, task), {})
            names = next(iter(by_seed.values()))["test"] if by_seed else {}
            for metric, example in names.items():
                score = experiment.score(system, task, metric)
                if score is None or not isinstance(example, int | float):
                    continue
                records.append(
                    {
                        "task": task,
                        "system": system,
                        "metric": metric,
                        "mean": score.mean,
                        "deviation": score.deviation,
                        "n": score.n,
                        "min": min(score.by_seed.values()),
                        "max": max(score.by_seed.values()),
                    }
                )
    cells = [
        [
            text(experiment.task_label(record["task"])),
            text(experiment.label(record["system"])),
            text(METRICS.get(record["metric"], record["metric"])),
            *(number(record[key], ".4f") for key in ("mean", "deviation")),
            number(record["n"]),
            *(number(record[key], ".4f") for key in ("min", "max")),
        ]
        for record in records
    ]
    header = ["Task", "System", "Metric", "Mean", "Deviation", "n", "Lowest", "Highest"]
    caption = "Every metric on the test splits."
    return Table("scores_all_metrics", caption, header, cells, records)


def sizes(experiment: Experiment) -> Table:
    """Parameters, vocabulary and size on disk, as they are and relative to the teacher."""
    records, cells = [], []
    for (system, language), measured in experiment.measured.items():
        parameters = measured["parameters"]
        teacher = experiment.measured.get((experiment.teacher(system), language))
        share = parameters["total"] / teacher["parameters"]["total"] if teacher else None
        records.append(
            {
                "language": language,
                "system": system,
                **{f"parameters_{part}": count for part, count in parameters.items()},
                "tied_embeddings": measured["tied_embeddings"],
                "vocabulary_size": measured["vocabulary_size"],
                "weights_mb": measured["weights_mb"],
                "share_of_teacher": share,
            }
        )
        cells.append(
            [
                text(experiment.language(language)),
                text(experiment.label(system)),
                *(
                    number(parameters[part] / MILLION, ",.2f")
                    for part in ("total", "embeddings", "encoder", "head")
                ),
                number(measured["vocabulary_size"]),
                number(measured["weights_mb"], ",.1f"),
                number(share, ".1%"),
            ]
        )
    header = ["Language", "System", "Parameters (M)", "Embeddings (M)", "Encoder (M)"]
    header += ["MLM head (M)", "Sub-words", "On disk (MB)", "Of the teacher's parameters"]
    caption = "Sizes. The MLM head is counted without the matrix it shares with the embeddings."
    return Table("sizes", caption, header, cells, records)


def speed(experiment: Experiment) -> Table:
    """Latency, throughput and memory at each batch size, without and with the MLM head."""
    records, cells, conditions = [], [], {}
    for (system, language), measured in experiment.measured.items():
        teacher = experiment.measured.get((experiment.teacher(system), language))
        condition = {key: measured[key] for key in ("device", "threads", "precision", "length")}
        conditions[
            "Measured on {device}, {threads} threads, {precision}, "
            "sequences of {length} sub-words.".format(**condition)
        ] = None
        conditions[f"Peak memory: {measured['peak_memory_method']}."] = None
        shown: dict[int, list[Cell]] = {}
        for row in measured["measurements"]:
            times = times_faster(row, teacher)
            records.append(
                {
                    "language": language,
                    "system": system,
                    "batch_size": row["batch_size"],
                    "part": row["part"],
                    **{f"latency_ms_{name}": value for name, value in row["latency_ms"].items()},
                    "sequences_per_second": row["sequences_per_second"],
                    "tokens_per_second": row["tokens_per_second"],
                    "peak_memory_mb": row["peak_memory_mb"],
                    "times_faster_than_teacher": times,
                    **condition,
                }
            )
            throughput = number(row["sequences_per_second"], ",.1f")
            shown.setdefault(row["batch_size"], []).extend(
                [
                    quartiles(row["latency_ms"]),
                    Cell() if times is None else Cell(f"{times:.2f}×", times),
                    *([throughput] if row["part"] == "encoder" else []),
                    number(row["peak_memory_mb"], ",.1f"),
                ]
            )
        names = [text(experiment.language(language)), text(experiment.label(system))]
        cells += [[*names, number(size), *rest] for size, rest in shown.items()]
    header = ["Language", "System", "Batch"]
    header += ["Encoder (ms)", "Times as fast", "Sequences/s", "Memory (MB)"]
    header += ["With MLM head (ms)", "Times as fast", "Memory (MB)"]
    caption = (
        "Speed and peak memory. Latency of a batch: median (quartiles). "
        "Times as fast: the teacher's latency over this one's; none where other work disturbed "
        f"one of them (upper quartile above {STEADY:g} times the lower)."
    )
    return Table("speed", caption, header, cells, records, sorted(conditions))


def times_faster(row: dict, teacher: dict | None) -> float | None:
    """The teacher's latency over this one's, at the same batch size and for the same part.

    None without a teacher, and where one of the two latencies is not steady.
    """
    for other in teacher["measurements"] if teacher else []:
        if (other["batch_size"], other["part"]) == (row["batch_size"], row["part"]):
            theirs, own = other["latency_ms"], row["latency_ms"]
            if is_steady(theirs) and is_steady(own):
                return theirs["median"] / own["median"]
    return None


def quartiles(latency: dict[str, float]) -> Cell:
    """Median with the quartiles behind it."""
    median, low, high = (latency[key] for key in ("median", "lower_quartile", "upper_quartile"))
    form = ",.0f" if high >= 100 else ".1f"
    return Cell(f"{median:{form}} ({low:{form}}–{high:{form}})", median)


def tables(experiment: Experiment, rows: list[published.Published]) -> list[Table]:
    """Every table of the experiment, in the order that the report shows them."""
    made = [scores(experiment), all_metrics(experiment), sizes(experiment), speed(experiment)]
    made.append(comparisons.against_published(experiment, rows))
    if experiment.baseline:
        made.append(comparisons.against_baseline(experiment))
    made.append(comparisons.significance(experiment))
    by_vocabulary = vocabularies.compared(experiment)
    if by_vocabulary:
        made.append(by_vocabulary)
    return made


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m eliquare.reporting.tables", description=__doc__
    )
    options.add_argument("--settings", required=True, type=Path, help="resolved settings (JSON)")
    options.add_argument("--results", required=True, type=Path, help="folder of all results")
    options.add_argument(
        "--published", type=Path, default=published.FILE, help="CSV of published numbers"
    )
    options.add_argument("--output", required=True, type=Path, help="folder of tables to make")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write every table in every format."""
    experiment = results.read(arguments.settings, arguments.results)
    made = tables(experiment, published.read(arguments.published))
    with stage.whole_folder(arguments.output) as folder:
        for table in made:
            write(table, folder)
        stage.write_json(folder / "tables.json", [table.as_dict() for table in made])


if __name__ == "__main__":
    stage.main(parser(), run)
