"""Tables of an experiment: scores, sizes, speed, published numbers, differences and tests.

Each table is written as CSV, Markdown and LaTeX; ``tables.json`` holds all of them for the report.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import product
from typing import Any

from scipy.stats import wilcoxon

from eliquare.evaluation.data import WORD_KINDS
from eliquare.io import atomic_dir, write_json
from eliquare.reporting import bootstrap, papers, results, segmentation
from eliquare.reporting.formats import Cell, Column, Table, spread, tabulate, write
from eliquare.reporting.results import (
    Benchmarks,
    Experiment,
    OutputOptions,
    Score,
    conditions,
    flat,
    in_words,
    metric_label,
    paired_differences,
    unavailable,
    within_spread,
)

FEWEST_PAIRS = 5
# A larger share of truncated texts is reported.
TRUNCATED_SHARE = 0.01


def write_tables(options: OutputOptions) -> None:
    """Write the tables of an experiment as CSV, Markdown and LaTeX."""
    experiment = results.read(options)
    made = (
        scores(experiment, experiment.tasks),
        all_metrics(experiment),
        sizes(experiment, experiment.benchmarks),
        speed(experiment, experiment.benchmarks),
        papers.against_published(experiment),
        *papers.as_printed(experiment),
        against_baseline(experiment),
        significance(experiment),
        bootstrap.table(experiment),
        intrinsic(experiment, experiment.systems, experiment.languages),
        embeddings(experiment, experiment.systems, experiment.languages),
        by_vocabulary(experiment),
        segmentation.scripts_table(experiment),
        segmentation.words_table(experiment),
    )
    with_rows = [table for table in made if table.rows]
    with atomic_dir(options.output) as folder:
        for table in with_rows:
            write(table, folder)
        write_json(folder / "tables.json", [asdict(table) for table in with_rows])


# Scores


def score_record(
    experiment: Experiment, task: str, column: str, score: Score | None, *, bold: bool = False
) -> dict[str, Any]:
    """Return the cell of a task's score, and its columns in a CSV."""
    return {
        f"{task} cell": replace(spread(experiment, score), bold=bold),
        column: score and score.mean,
        f"{column} deviation": score and score.deviation,
        f"{column} distillation deviation": score and score.distillation_deviation,
        f"{column} fine-tuning deviation": score and score.finetuning_deviation,
        f"{column} n": len(score.runs) if score else 0,
    }


def score_columns(experiment: Experiment, tasks: list[str]) -> list[Column]:
    """Return a column of cells for each task, headed by its language and main metric."""
    heads = [f"{experiment.task_title(t)} ({metric_label(experiment.metric(t))})" for t in tasks]
    return [(head, f"{task} cell", "text") for head, task in zip(heads, tasks, strict=True)]


def scores(experiment: Experiment, tasks: list[str]) -> Table:
    """Main metric of each system on some tasks; bold what is within the spread of the best."""
    systems = [
        system
        for system in experiment.systems
        if any(experiment.score(system, t) or experiment.why_unscored(system, t) for t in tasks)
    ]
    records: dict[str, dict[str, Any]] = {system: {"system": system} for system in systems}
    for task in tasks:
        found = {system: experiment.score(system, task) for system in systems}
        known = list(filter(None, found.values()))
        best = max(known, key=lambda score: score.mean, default=None)
        column = f"{experiment.settings.tasks[task].language}/{task} {experiment.metric(task)}"
        for system, score in found.items():
            is_best = score and best and (score == best or within_spread(score, best))
            bold = is_best is True
            records[system] |= score_record(experiment, task, column, score, bold=bold)
    alone = len(experiment.settings.experiment.seeds) == 1
    notes = ["With one fine-tuning seed its spread is unknown."] if alone else []
    notes += [note for task in tasks for note in task_notes(experiment, task)]
    lacking = (experiment.why_unscored(*pair) for pair in product(systems, tasks))
    notes += dict.fromkeys(filter(None, lacking))
    columns = score_columns(experiment, tasks)
    return tabulate(experiment, "scores", list(records.values()), columns, notes)


def task_notes(experiment: Experiment, task: str) -> Iterator[str]:
    """Yield what limits the scores of a task: unseen labels, seen texts, texts truncated."""
    found = {s: facts for s in experiment.systems if (facts := experiment.evaluated(s, task))}
    title = experiment.task_title(task)
    for split, unseen in next(iter(found.values()), {}).get("unseen_labels", {}).items():
        if unseen:
            words = ", ".join(f"{label} ({n:,})" for label, n in unseen.items())
            lack = f"training never had these {split} labels, which count as errors"
            yield f"{title}: {lack}: {words}."
    seen = next(iter(found.values()), {}).get("seen_share", {}).get("test")
    if seen:
        yield f"{title}: {seen:.1%} of the test texts are in train too."
    if experiment.settings.tasks[task].kind in WORD_KINDS:
        return
    longest = max(found, key=lambda system: found[system]["long_share"]["test"], default=None)
    if longest and (share := found[longest]["long_share"]["test"]) > TRUNCATED_SHARE:
        length, system = found[longest]["max_length"], experiment.label(longest)
        words = f"{share:.1%} of the test texts are truncated to {length:,} tokens"
        yield f"{title}: {words} ({system}, the largest share)."


def all_metrics(experiment: Experiment) -> Table:
    """Every metric of every system on every task, a row each."""
    records = [
        {
            "task": task,
            "system": system,
            "metric": metric,
            "mean": score.mean,
            "deviation": score.deviation,
            "distillation_deviation": score.distillation_deviation,
            "finetuning_deviation": score.finetuning_deviation,
            "n": len(score.runs),
            "min": min(score.runs.values()),
            "max": max(score.runs.values()),
        }
        for task in experiment.tasks
        for system in experiment.systems
        for metric in next(iter(experiment.runs(system, task, "test").values()), ())
        if (score := experiment.score(system, task, metric))
    ]
    return tabulate(experiment, "scores_all_metrics", records)


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
            | {f"parameters_{part}": count or None for part, count in parameters.items()}
            | {key: benchmark[key] for key in ("tied_embeddings", "vocab_size", "weights_mb")}
            | {"share_of_teacher": share}
        )
    return tabulate(experiment, "sizes", records)


def speed(experiment: Experiment, benchmarks: Benchmarks) -> Table:
    """Latency, throughput and memory for each batch size, without and with the MLM head."""
    records: list[dict[str, Any]] = []
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for (system, language), benchmark in benchmarks.items():
        for row in benchmark["measurements"]:
            size, part = row["batch_size"], row["part"]
            speedup = experiment.speedup(system, language, row)
            names = {"language": language, "system": system, "batch_size": size}
            records.append(
                {**names, **flat(row), "speedup_over_teacher": speedup} | conditions(benchmark)
            )
            rows.setdefault((system, language, size), names).update(
                {
                    f"latency {part}": quartiles(row["latency_ms"]),
                    f"speedup {part}": speedup and Cell(f"{speedup:.2f}×", speedup),
                    f"throughput {part}": row["sequences_per_second"],
                    f"memory {part}": row["peak_memory_mb"],
                }
            )
    notes = {f"Measured on {in_words(each)}." for each in benchmarks.values()}
    notes |= {f"Peak memory: {each['peak_memory_method']}." for each in benchmarks.values()}
    table = tabulate(experiment, "speed", list(rows.values()), notes=sorted(notes))
    return replace(table, records=records)


def quartiles(latency: dict[str, float]) -> Cell:
    """Return the median followed by the quartiles."""
    median, low, high = (latency[key] for key in ("median", "lower_quartile", "upper_quartile"))
    form = ",.0f" if high >= 100 else ".1f"
    return Cell(f"{median:{form}} ({low:{form}}–{high:{form}})", median)


# Comparisons


def against_baseline(experiment: Experiment) -> Table:
    """Differences to the baseline, each run paired with the baseline's of the same seed."""
    baseline = experiment.settings.experiment.baseline
    others = [system for system in experiment.systems if baseline and system != baseline]
    records = []
    shown: dict[str, dict[str, Any]] = {system: {"system": system} for system in others}
    for system, task in product(others, experiment.tasks):
        ours, other = experiment.score(system, task), experiment.score(baseline or "", task)
        if ours is None or other is None:
            continue
        paired, draw = paired_differences(ours, other), within_spread(ours, other)
        words = f"{paired.mean:+.4f}" + (
            f" ± {paired.deviation:.4f}" if paired.deviation is not None else ""
        )
        words = words.replace("-", "−")
        shown[system][f"{task} cell"] = Cell(f"({words})" if draw else words, paired.mean)
        records.append(
            {
                "system": system,
                "baseline": baseline,
                "task": task,
                "metric": paired.metric,
                "difference": paired.mean,
                "deviation": paired.deviation,
                "n": len(paired.runs),
                "lowest": min(paired.runs.values()),
                "highest": max(paired.runs.values()),
                "within_spread": draw,
            }
        )
    columns = [(experiment.task_title(task), f"{task} cell", "text") for task in experiment.tasks]
    rows = list(shown.values()) if records else []
    return replace(tabulate(experiment, "differences", rows, columns), records=records)


def signed_rank(teacher: list[float], student: list[float]) -> tuple[float | None, str]:
    """Return p of Wilcoxon's signed-rank test that the teacher scores below, or why there is none.

    Left-tailed on teacher minus student, one pair per task, as electronics2023 has it: on its
    Table 4 this gives its p = 0.017 for Eliquare-mBERT.
    """
    # Rounded, or differences that are equal in print would rank apart in the last binary digit.
    differences = [round(a - b, 10) for a, b in zip(teacher, student, strict=True)]
    differing = [each for each in differences if each]
    if len(differing) < FEWEST_PAIRS:
        return None, f"not given: {len(differing)} pairs differ, at least {FEWEST_PAIRS} are needed"
    return float(wilcoxon(differing, alternative="less").pvalue), ""


def significance(experiment: Experiment) -> Table:
    """Each student against its teacher over all tasks that both have."""
    records = []
    for student in experiment.students:
        teacher = experiment.teacher(student)
        if teacher not in experiment.systems or not experiment.tasks:
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
    return tabulate(experiment, "significance", records)


# Without labels


def intrinsic(experiment: Experiment, systems: Iterable[str], languages: list[str]) -> Table:
    """Bits per character, fertility, unknown tokens and minimal pairs, by language and system."""
    tasks = experiment.paths.minimal_pairs(languages)
    records = []
    notes: dict[str, None] = {}
    remarks: dict[str, dict[str, None]] = {}
    sizes: dict[str, int] = {}
    for language, system in product(languages, systems):
        reports = list(experiment.intrinsic(system, language).values())
        if not reports:
            continue
        first, label = reports[0], experiment.label(system)
        if "unavailable" in first:
            notes[unavailable(label, first["unavailable"])] = None
            records.append({"language": language, "system": system})
            continue
        text = "{sentences:,} sentences, {characters:,} characters".format_map(first)
        notes[f"Held-out text, {experiment.language(language)}: {text}."] = None
        if first["remark"]:
            remarks.setdefault(first["remark"], {})[label] = None
        if first["windowed_texts"]:
            notes[f"{label}: {first['windowed_texts']} long texts were read in windows."] = None
        bits = experiment.intrinsic_score(system, language)
        teacher = experiment.intrinsic_score(experiment.teacher(system), language)
        record = {
            "language": language,
            "system": system,
            "bits cell": spread(experiment, bits),
            "bits_per_character": bits and bits.mean,
            "bits_deviation": bits and bits.deviation,
            "more_than_teacher": bits.mean / teacher.mean - 1 if bits and teacher else None,
            "fertility": first["fertility"],
            "unknown_share": first["unknown_share"],
        }
        for task in first["minimal_pairs"]:
            right = experiment.intrinsic_score(system, language, task)
            sizes[task] = first["minimal_pairs"][task]["pairs"]
            if reason := first["minimal_pairs"][task].get("unavailable"):
                notes[unavailable(experiment.task_title(task), reason)] = None
            record |= {
                f"{task} cell": spread(experiment, right),
                f"{task} accuracy": right and right.mean,
                f"{task} deviation": right and right.deviation,
                f"{task} pairs": sizes[task],
            }
        records.append(record)
    columns = [
        (titled(experiment.task_title(task), sizes[task]), f"{task} cell", "text")
        for task in tasks
        if task in sizes
    ]
    said = [f"{'; '.join(labels)}: {remark}." for remark, labels in remarks.items()]
    return tabulate(experiment, "intrinsic", records, columns, [*notes, *said])


def embeddings(experiment: Experiment, systems: Iterable[str], languages: list[str]) -> Table:
    """The scores of frozen embeddings, and the share of the teacher's that is kept.

    A row for each language and system; the share is the mean over the language's columns, but for
    correlations.
    """
    tasks = experiment.paths.embedded(languages)
    records: list[dict[str, Any]] = []
    heads: dict[str | None, str] = {}
    notes: dict[str, None] = {}
    for language, system in product(languages, systems):
        reports = list(experiment.intrinsic(system, language).values())
        if not reports or "embeddings" not in reports[0]:
            continue
        found = reports[0]["embeddings"]
        record = {"language": language, "system": system, "pooling": found["pooling"]}
        kept = []
        for task in (*experiment.paths.embedded([language]), None):
            score = experiment.embedding_score(system, language, task)
            if not score:
                continue
            heads[task] = (
                f"{experiment.task_title(task)} ({metric_label(score.metric)})" if task else ""
            )
            teacher = experiment.embedding_score(experiment.teacher(system), language, task)
            # A correlation may be 0 or less: no share of it is kept.
            if teacher and teacher.mean and score.metric != "spearman":
                kept.append(score.mean / teacher.mean)
            name = task or bootstrap.TITLES
            record |= {
                f"{name} cell": spread(experiment, score),
                f"{name} {score.metric}": score.mean,
                f"{name} deviation": score.deviation,
            }
        sizes = [(experiment.task_title(name), each) for name, each in found["pairs"].items()]
        sizes.append((f"Retrieval, {experiment.language(language)}", found["retrieval"]))
        for title, each in sizes:
            if each and "unavailable" in each:
                notes[unavailable(title, each["unavailable"])] = None
            elif each:
                notes[f"{title}: {counted(each)}."] = None
        records.append(record | {"kept": statistics.fmean(kept) if kept else None})
    columns = [(heads[task], f"{task} cell", "text") for task in tasks if task in heads]
    columns += [("Retrieval (top 1)", f"{bootstrap.TITLES} cell", "text")] if None in heads else []
    columns += (
        [("Mean share of the teacher's", "kept", ".1%")] if any(r["kept"] for r in records) else []
    )
    return tabulate(experiment, "embeddings", records, columns, list(notes))


def counted(scored: Mapping[str, Any]) -> str:
    """Return on how much a score of embeddings rests."""
    if "documents" in scored:
        return "{pairs:,} queries, {documents:,} documents".format_map(scored)
    return "{pairs:,} pairs".format_map(scored)


def titled(title: str, pairs: int) -> str:
    """Return the title of a task of minimal pairs, with their number if there are any."""
    return f"{title} ({pairs:,} pairs)" if pairs else title


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
    if len(set(kinds.values())) < 2:
        return tabulate(experiment, "vocabulary_comparison", [])
    benchmarks = experiment.benchmarks_of(kinds, experiment.languages)
    records = []
    for (student, language), benchmark in benchmarks.items():
        record = {
            "language": language,
            "system": student,
            "vocabulary": kinds[student],
            "tokens": benchmark["vocab_size"],
            "new_tokens": 0,
            "parameters": benchmark["parameters"]["total"],
            "fertility": None,
            **vocabulary_effect(experiment, student, language),
        }
        for task in experiment.tasks:
            own = experiment.settings.tasks[task].language == language
            score = experiment.score(student, task) if own else None
            record |= score_record(experiment, task, f"{task} {experiment.metric(task)}", score)
        records.append(record)
    columns = score_columns(experiment, experiment.tasks)
    return tabulate(experiment, "vocabulary_comparison", records, columns)


def vocabulary_effect(experiment: Experiment, student: str, language: str) -> dict[str, float]:
    """Return the new tokens of a student's vocabulary and its fertility on the corpus.

    The fertility of a full vocabulary is that of any report of the same corpus before its change;
    without such a report nothing is known.
    """
    recipe = experiment.settings.students[student]
    own = recipe.extension or recipe.vocabulary
    # What is reduced after its distillation, and what is not reduced, is of the language alone.
    whole = own and not recipe.reduced_from
    corpus = experiment.paths.corpus_of(student, language) if whole else language
    for report in experiment.vocabularies:
        if report["teacher"] != recipe.teacher or report["corpus"] != corpus:
            continue
        fertility = report["texts"]["corpus"]
        if own and report["vocabulary"] == own:
            new = report["tokens"].get("new", 0)
            return {"new_tokens": new, "fertility": fertility["after"]["fertility"]}
        if not own:
            return {"fertility": fertility["before"]["fertility"]}
    return {}
