"""Tables of an experiment: scores, sizes, speed, published numbers, differences and tests.

Each table is written as CSV, Markdown and LaTeX; ``tables.json`` holds all of them for the report.
"""

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from scipy.stats import wilcoxon

from eliquare.io import atomic_dir, write_json
from eliquare.reporting import published, results
from eliquare.reporting.formats import Cell, Column, Table, millions, number, tabulate, text, write
from eliquare.reporting.results import (
    STEADY,
    Benchmarks,
    Experiment,
    ExperimentOptions,
    Score,
    metric_label,
    within_spread,
)

FEWEST_PAIRS = 5
CONDITION = ("device", "threads", "precision", "sequence_length")
DRAW = "Differences in parentheses are within the spread of seeds (the pooled deviation)."


class TablesOptions(ExperimentOptions):
    """Options of the tables."""

    output: Path = Field(description="Folder of tables to write.")


def write_tables(options: TablesOptions) -> None:
    """Write the tables of an experiment as CSV, Markdown and LaTeX."""
    made = tables(results.read(options))
    with atomic_dir(options.output) as folder:
        for table in made:
            write(table, folder)
        write_json(folder / "tables.json", [table.as_dict() for table in made])


def tables(experiment: Experiment) -> list[Table]:
    """Return every table of the experiment that has rows, in the order of the report."""
    made = [
        scores(experiment, experiment.tasks),
        all_metrics(experiment),
        sizes(experiment, experiment.benchmarks),
        speed(experiment, experiment.benchmarks),
        against_published(experiment),
        against_baseline(experiment),
        significance(experiment),
        by_vocabulary(experiment),
    ]
    return [table for table in made if table.rows]


# Scores


def spread(experiment: Experiment, score: Score | None) -> Cell:
    """Return mean and deviation; the deviations apart where there are distillation seeds."""
    if score is None:
        return Cell()
    words = f"{score.mean:.4f}"
    if not experiment.has_distillation_seeds:
        words += "" if score.deviation is None else f" ± {score.deviation:.4f}"
        return Cell(words, score.mean)
    for letter, deviation in (
        ("D", score.distillation_deviation),
        ("F", score.finetuning_deviation),
    ):
        words += "" if deviation is None else f" ± {deviation:.4f} {letter}"
    return Cell(words, score.mean)


def over_seeds(experiment: Experiment) -> str:
    """Return what the numbers of ``spread`` are taken over."""
    n = len(experiment.settings.experiment.seeds)
    fine = f"{n} fine-tuning seeds" if n > 1 else "1 fine-tuning seed"
    if experiment.has_distillation_seeds:
        many = max(map(len, experiment.members.values()))
        return (
            f"mean over up to {many} distillation seeds, each with {fine}; D: sample standard "
            "deviation over distillation seeds; F: over fine-tuning seeds, pooled"
        )
    return f"mean ± sample standard deviation over {fine}" if n > 1 else fine


def score_record(column: str, score: Score | None) -> dict[str, Any]:
    """Return the columns of one score in a CSV."""
    return {
        column: score and score.mean,
        f"{column} deviation": score and score.deviation,
        f"{column} distillation deviation": score and score.distillation_deviation,
        f"{column} fine-tuning deviation": score and score.finetuning_deviation,
        f"{column} n": score.n if score else 0,
    }


def task_heads(experiment: Experiment, tasks: list[str]) -> list[str]:
    """Return a head for each task, with its language and main metric."""
    return [f"{experiment.task_title(t)} ({metric_label(experiment.metric(t))})" for t in tasks]


def scores(experiment: Experiment, tasks: list[str]) -> Table:
    """Main metric of each system on some tasks; bold what is within the spread of the best."""
    columns = [[experiment.score(s, task) for s in experiment.systems] for task in tasks]
    bests = [max(filter(None, column), key=lambda score: score.mean) for column in columns]
    records, rows = [], []
    for system, *row in zip(experiment.systems, *columns, strict=True):
        if not any(row):
            continue
        record: dict[str, Any] = {"system": system}
        cells = [text(experiment.label(system))]
        for task, score, best in zip(tasks, row, bests, strict=True):
            record |= score_record(f"{experiment.task(task).language}/{task} {best.metric}", score)
            bold = score is not None and (score == best or within_spread(score, best) is True)
            cells.append(replace(spread(experiment, score), bold=bold))
        records.append(record)
        rows.append(cells)
    caption = (
        f"Scores on the test splits: {over_seeds(experiment)}. Bold: the best of a column, and "
        "what is within its spread of seeds."
    )
    alone = len(experiment.settings.experiment.seeds) == 1
    notes = ["With one fine-tuning seed its spread is unknown."] if alone else []
    return Table(
        "scores", caption, ["System", *task_heads(experiment, tasks)], rows, records, notes
    )


def all_metrics(experiment: Experiment) -> Table:
    """Every metric of every system on every task, a row each."""
    found = {
        (task, system, metric): score
        for task in experiment.tasks
        for system in experiment.systems
        for metric in experiment.metrics_of(system, task)
        if (score := experiment.score(system, task, metric))
    }
    records = [
        {
            "task": task,
            "system": system,
            "metric": metric,
            "mean": score.mean,
            "deviation": score.deviation,
            "distillation_deviation": score.distillation_deviation,
            "finetuning_deviation": score.finetuning_deviation,
            "n": score.n,
            "min": min(score.runs.values()),
            "max": max(score.runs.values()),
        }
        for (task, system, metric), score in found.items()
    ]
    columns: list[Column] = [
        ("Task", "task", experiment.task_label),
        ("System", "system", experiment.label),
        ("Metric", "metric", metric_label),
        ("Mean", "mean", ".4f"),
        ("Deviation", "deviation", ".4f"),
        ("Over distillation seeds", "distillation_deviation", ".4f"),
        ("Over fine-tuning seeds", "finetuning_deviation", ".4f"),
        ("n", "n", ",.0f"),
        ("Lowest", "min", ".4f"),
        ("Highest", "max", ".4f"),
    ]
    return tabulate("scores_all_metrics", "Every metric on the test splits.", columns, records)


# Sizes and speed


def sizes(experiment: Experiment, benchmarks: Benchmarks) -> Table:
    """Parameters, vocabulary and size on disk, absolute and relative to the teacher."""
    records = []
    for (system, language), benchmark in benchmarks.items():
        parameters = benchmark["parameters"]
        teacher = experiment.benchmark(experiment.teacher(system), language)
        share = parameters["total"] / teacher["parameters"]["total"] if teacher else None
        records.append(
            {"language": language, "system": system}
            | {f"parameters_{part}": count for part, count in parameters.items()}
            | {key: benchmark[key] for key in ("tied_embeddings", "vocab_size", "weights_mb")}
            | {"share_of_teacher": share}
        )
    columns: list[Column] = [
        ("Language", "language", experiment.language),
        ("System", "system", experiment.label),
        ("Parameters (M)", "parameters_total", millions),
        ("Embeddings (M)", "parameters_embeddings", millions),
        ("Encoder (M)", "parameters_encoder", millions),
        ("MLM head (M)", "parameters_head", millions),
        ("Tokens", "vocab_size", ",.0f"),
        ("On disk (MB)", "weights_mb", ",.1f"),
        ("Share of the teacher's parameters", "share_of_teacher", ".1%"),
    ]
    caption = "Sizes. The MLM head is counted without the matrix it shares with the embeddings."
    return tabulate("sizes", caption, columns, records)


def speed(experiment: Experiment, benchmarks: Benchmarks) -> Table:
    """Latency, throughput and memory for each batch size, without and with the MLM head."""
    records, rows, conditions = [], [], set()
    for (system, language), benchmark in benchmarks.items():
        threads = "1 thread" if benchmark["threads"] == 1 else f"{benchmark['threads']} threads"
        conditions.add(
            f"Measured on {benchmark['device']}, {threads}, {benchmark['precision']}, sequences "
            f"of {benchmark['sequence_length']} tokens."
        )
        conditions.add(f"Peak memory: {benchmark['peak_memory_method']}.")
        by_batch: dict[int, list[Cell]] = {}
        for row in benchmark["measurements"]:
            latency, speedup = row["latency_ms"], experiment.speedup(system, language, row)
            records.append(
                {
                    "language": language,
                    "system": system,
                    "batch_size": row["batch_size"],
                    "part": row["part"],
                    **{f"latency_ms_{name}": value for name, value in latency.items()},
                    "sequences_per_second": row["sequences_per_second"],
                    "tokens_per_second": row["tokens_per_second"],
                    "peak_memory_mb": row["peak_memory_mb"],
                    "speedup_over_teacher": speedup,
                    **{key: benchmark[key] for key in CONDITION},
                }
            )
            throughput = number(row["sequences_per_second"], ",.1f")
            by_batch.setdefault(row["batch_size"], []).extend(
                [
                    quartiles(latency),
                    Cell() if speedup is None else Cell(f"{speedup:.2f}×", speedup),
                    *([throughput] if row["part"] == "encoder" else []),
                    number(row["peak_memory_mb"], ",.1f"),
                ]
            )
        names = [text(experiment.language(language)), text(experiment.label(system))]
        rows += [[*names, number(size), *cells] for size, cells in by_batch.items()]
    header = ["Language", "System", "Batch size", "Encoder (ms)", "Speed-up", "Sequences/s"]
    header += ["Memory (MB)", "With MLM head (ms)", "Speed-up", "Memory (MB)"]
    caption = (
        "Speed and peak memory. Latency of a batch: median (quartiles). Speed-up: latency of the "
        "teacher divided by that of the system; absent where other work disturbed a measurement "
        f"(upper quartile above {STEADY:g} times the lower)."
    )
    return Table("speed", caption, header, rows, records, sorted(conditions))


def quartiles(latency: dict[str, float]) -> Cell:
    """Return the median followed by the quartiles."""
    median, low, high = (latency[key] for key in ("median", "lower_quartile", "upper_quartile"))
    form = ",.0f" if high >= 100 else ".1f"
    return Cell(f"{median:{form}} ({low:{form}}–{high:{form}})", median)


# Comparisons


def against_published(experiment: Experiment) -> Table:
    """For each score that a paper prints too: ours, the printed one, and their difference.

    Ours is the metric that the printed number most probably is. A number that no metric of ours
    compares with has no difference.
    """
    numbers = published.read()
    records, shown = [], []
    for task in experiment.tasks:
        printed, language = experiment.task(task).published_as, experiment.task(task).language
        for system in experiment.systems:
            known_as = experiment.entry(system).published_as
            if not printed or not known_as or not experiment.paths.is_for(system, language):
                continue
            names = (known_as, printed.language or language, printed.task)
            for row in published.find(numbers, *names, experiment.settings.experiment.papers):
                metric = row.comparable
                ours = experiment.score(system, task, metric) if metric else None
                record = {
                    "system": system,
                    "language": language,
                    "task": task,
                    "metric": ours and ours.metric,
                    "ours": ours and ours.mean,
                    "deviation": ours and ours.deviation,
                    "n": ours.n if ours else 0,
                    "published": row.value,
                    "published_metric": row.metric,
                    "difference": ours.mean - row.value if ours else None,
                    "paper": row.paper,
                    "table": row.table,
                    "published_system": row.system,
                    "published_dataset": row.dataset,
                    "note": row.note if ours else "no metric of ours compares with it",
                }
                records.append(record)
                source = f"{row.paper}, table {row.table}"
                shown.append(record | {"score": spread(experiment, ours), "source": source})
    columns: list[Column] = [
        ("System", "system", experiment.label),
        ("Language", "language", experiment.language),
        ("Task", "task", experiment.task_label),
        ("Ours", "score", lambda score: score),
        ("Our metric", "metric", metric_label),
        ("Published", "published", ".4f"),
        ("Published metric", "published_metric", published.short),
        ("Difference", "difference", "+.4f"),
        ("Source", "source", str),
        ("Published data", "published_dataset", str),
        ("Note", "note", str),
    ]
    notes = [
        "The papers do not state their number of seeds nor all of their settings, and data of the "
        "same name may be another release."
    ]
    table = tabulate("published", "Our scores and the published ones.", columns, shown, notes)
    return replace(table, records=records)


def against_baseline(experiment: Experiment) -> Table:
    """Differences to the baseline, each run paired with the baseline's of the same seed."""
    baseline = experiment.settings.experiment.baseline or ""
    records, rows = [], []
    for system in experiment.systems if baseline else []:
        if system == baseline:
            continue
        row = [text(experiment.label(system))]
        for task in experiment.tasks:
            ours, other = experiment.score(system, task), experiment.score(baseline, task)
            if ours is None or other is None:
                row.append(Cell())
                continue
            differences = paired_differences(ours, other)
            mean = statistics.fmean(differences)
            deviation = statistics.stdev(differences) if len(differences) > 1 else None
            draw = within_spread(ours, other)
            shown = f"{mean:+.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
            shown = shown.replace("-", "−")
            row.append(Cell(f"({shown})" if draw else shown, mean))
            records.append(
                {
                    "system": system,
                    "baseline": baseline,
                    "task": task,
                    "metric": ours.metric,
                    "difference": mean,
                    "deviation": deviation,
                    "n": len(differences),
                    "lowest": min(differences),
                    "highest": max(differences),
                    "within_spread": draw,
                }
            )
        rows.append(row)
    caption = (
        f"Differences to {experiment.label(baseline)}: mean ± sample standard deviation, paired "
        "by fine-tuning seed."
        if baseline
        else ""
    )
    header = ["System", *map(experiment.task_title, experiment.tasks)]
    return Table("differences", caption, header, rows, records, [DRAW])


def paired_differences(ours: Score, other: Score) -> list[float]:
    """Return each run minus the other's mean with the same fine-tuning seed."""
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in other.runs.items():
        by_seed.setdefault(seed, []).append(value)
    return [value - statistics.fmean(by_seed[seed]) for (_, seed), value in ours.runs.items()]


def signed_rank(teacher: list[float], student: list[float]) -> tuple[float | None, str]:
    """Return p of Wilcoxon's signed-rank test that the teacher scores below, or why there is none.

    Left-tailed on teacher minus student, one pair per task, as electronics2023 has it: on its
    Table 4 this gives its p = 0.017 for Eliquare-mBERT.
    """
    pairs = len(teacher)
    if pairs < FEWEST_PAIRS:
        return None, f"not given: {pairs} pairs, at least {FEWEST_PAIRS} are needed"
    if teacher == student:
        return None, "not given: no pair differs"
    # Rounded, or differences that are equal in print would rank apart in the last binary digit.
    differences = [round(a - b, 10) for a, b in zip(teacher, student, strict=True)]
    return float(wilcoxon(differences, alternative="less").pvalue), ""


def significance(experiment: Experiment) -> Table:
    """Each student against its teacher over all tasks that both have."""
    records = []
    for student in experiment.students:
        teacher = experiment.teacher(student)
        if teacher not in experiment.systems:
            continue
        pairs = [
            (theirs.mean, ours.mean)
            for task in experiment.tasks
            if (ours := experiment.score(student, task))
            and (theirs := experiment.score(teacher, task))
        ]
        p, remark = signed_rank([theirs for theirs, _ in pairs], [ours for _, ours in pairs])
        higher = sum(ours > theirs for theirs, ours in pairs)
        record = {"student": student, "teacher": teacher, "n": len(pairs)}
        records.append(record | {"student_higher": higher, "p": p, "remark": remark})
    columns: list[Column] = [
        ("Student", "student", experiment.label),
        ("Teacher", "teacher", experiment.label),
        ("Tasks (n)", "n", ",.0f"),
        ("Tasks with a higher mean", "student_higher", ",.0f"),
        ("p", "p", ".3f"),
        ("Remark", "remark", str),
    ]
    caption = (
        "Wilcoxon signed-rank test, left-tailed, teacher minus student, one pair per task: "
        "a small p means that the student scores above its teacher."
    )
    return tabulate("significance", caption, columns, records)


def vocabulary_kind(experiment: Experiment, student: str) -> str:
    """Return how a student's vocabulary relates to its teacher's."""
    recipe = experiment.settings.students[student]
    if recipe.extension:
        return "extended"
    if recipe.reduced_from:
        return "reduced after"
    return "reduced before" if recipe.vocabulary else "full"


def by_vocabulary(experiment: Experiment) -> Table:
    """Tokens, parameters, fertility and scores of each student, by language.

    Without rows if all students of the experiment have one kind of vocabulary.
    """
    kinds = {student: vocabulary_kind(experiment, student) for student in experiment.students}
    records, rows = [], []
    for language in experiment.languages if len(set(kinds.values())) > 1 else []:
        for student, kind in kinds.items():
            benchmark = experiment.benchmark(student, language)
            if benchmark is None:
                continue
            new, fertility = vocabulary_effect(experiment, student, language)
            record = {
                "language": language,
                "system": student,
                "vocabulary": kind,
                "tokens": benchmark["vocab_size"],
                "new_tokens": new,
                "parameters": benchmark["parameters"]["total"],
                "fertility": fertility,
            }
            row = [
                text(experiment.language(language)),
                text(experiment.label(student)),
                text(kind),
                number(benchmark["vocab_size"]),
                number(new),
                millions(benchmark["parameters"]["total"]),
                number(fertility, ".3f"),
            ]
            for task in experiment.tasks:
                own = experiment.task(task).language == language
                score = experiment.score(student, task) if own else None
                record |= score_record(f"{task} {experiment.metric(task)}", score)
                row.append(spread(experiment, score))
            records.append(record)
            rows.append(row)
    header = ["Language", "System", "Vocabulary", "Tokens", "New", "Parameters (M)", "Fertility"]
    header += task_heads(experiment, experiment.tasks)
    caption = (
        "The students by vocabulary: size, fertility (tokens per word) on the corpus, and scores "
        f"on the test splits ({over_seeds(experiment)})."
    )
    return Table("vocabulary_comparison", caption, header, rows, records)


def vocabulary_effect(
    experiment: Experiment, student: str, language: str
) -> tuple[int, float | None]:
    """Return the new tokens of a student's vocabulary and its fertility on the corpus.

    The fertility of a full vocabulary is that of any report of the same corpus before its change.
    """
    recipe = experiment.settings.students[student]
    own = recipe.extension or recipe.vocabulary
    corpora = (language, experiment.paths.corpus_of(student, language))
    for report in experiment.vocabularies:
        if report["teacher"] != recipe.teacher or report["corpus"] not in corpora:
            continue
        fertility = report["texts"]["corpus"]
        if own and report["vocabulary"] == own:
            return report["tokens"].get("new") or 0, fertility["after"]["fertility"]
        if not own and report["corpus"] == language:
            return 0, fertility["before"]["fertility"]
    return 0, None
