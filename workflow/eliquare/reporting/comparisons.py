"""Ours against the published number, against the baseline, and students against their teachers."""

import statistics

from scipy.stats import wilcoxon

from eliquare.reporting import published
from eliquare.reporting.formats import Cell, Table, number, text
from eliquare.reporting.results import METRICS, Experiment, Score

FEWEST_PAIRS = 5


def spread(score: Score) -> Cell:
    """Mean and sample standard deviation over seeds."""
    deviation = "" if score.deviation is None else f" ± {score.deviation:.4f}"
    return Cell(f"{score.mean:.4f}{deviation}", score.mean)


def against_published(experiment: Experiment, rows: list[published.Published]) -> Table:
    """For each cell that a paper has too: ours, the printed number, and their difference.

    Ours is the metric that the printed number most probably is; a number that no metric of ours
    can be compared with stands without a difference.
    """
    records, cells = [], []
    for task in experiment.tasks:
        task_as = experiment.task(task).get("published_as")
        for system in experiment.systems:
            system_as = experiment.entry(system).get("published_as")
            if not task_as or not system_as or (system, task) not in experiment.finetuned:
                continue
            language = task_as.get("language") or experiment.task(task)["language"]
            names = (system_as, language, task_as["task"])
            for row in published.find(rows, *names, experiment.papers):
                metric = published.comparable(row)
                ours = experiment.score(system, task, metric) if metric else None
                difference = ours.mean - row.value if ours else None
                note = published.note(row) if ours else "no metric of ours compares with it"
                records.append(
                    {
                        "system": system,
                        "language": experiment.task(task)["language"],
                        "task": task,
                        "metric": ours.metric if ours else None,
                        "ours": ours.mean if ours else None,
                        "deviation": ours.deviation if ours else None,
                        "n": ours.n if ours else 0,
                        "published": row.value,
                        "published_metric": row.metric,
                        "difference": difference,
                        "paper": row.paper,
                        "table": row.table,
                        "published_system": row.system,
                        "published_dataset": row.dataset,
                        "note": note,
                    }
                )
                cells.append(
                    [
                        text(experiment.label(system)),
                        text(experiment.language(experiment.task(task)["language"])),
                        text(experiment.task_label(task)),
                        spread(ours) if ours else Cell(),
                        text(METRICS.get(ours.metric, ours.metric) if ours else None),
                        number(row.value, ".4f"),
                        text(published.short(row.metric)),
                        number(difference, "+.4f"),
                        text(f"{row.paper}, table {row.table}"),
                        text(row.dataset),
                        text(note),
                    ]
                )
    header = ["System", "Language", "Task", "Ours", "Our metric", "Published", "Labelled"]
    header += ["Difference", "Source", "Published data", "Note"]
    notes = [
        "The papers do not state their number of seeds, and some of their settings; "
        "data of the same name may be another release."
    ]
    caption = "Ours and the published numbers."
    return Table("published", caption, header, cells, records, notes if cells else [])


def against_baseline(experiment: Experiment) -> Table:
    """Differences to the baseline, each seed paired with the same seed of the baseline."""
    baseline = experiment.baseline
    records, cells = [], []
    for system in experiment.systems:
        if system == baseline:
            continue
        row = [text(experiment.label(system))]
        for task in experiment.tasks:
            ours, theirs = experiment.score(system, task), experiment.score(baseline, task)
            if ours is None or theirs is None:
                row.append(Cell())
                continue
            seeds = sorted(set(ours.by_seed) & set(theirs.by_seed))
            paired = [ours.by_seed[seed] - theirs.by_seed[seed] for seed in seeds]
            mean = statistics.fmean(paired)
            deviation = statistics.stdev(paired) if len(paired) > 1 else None
            shown = f"{mean:+.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
            row.append(Cell(shown.replace("-", "−"), mean))
            records.append(
                {
                    "system": system,
                    "baseline": baseline,
                    "task": task,
                    "metric": ours.metric,
                    "difference": mean,
                    "deviation": deviation,
                    "n": len(paired),
                    "lowest": min(paired),
                    "highest": max(paired),
                }
            )
        cells.append(row)
    header = ["System", *(experiment.task_title(task) for task in experiment.tasks)]
    caption = f"Differences to {experiment.label(baseline)}: mean ± deviation of the paired seeds."
    return Table("differences", caption, header, cells, records)


def signed_rank(teacher: list[float], student: list[float]) -> tuple[float | None, str]:
    """p of Wilcoxon's signed-rank test that the teacher scores below the student, or why not.

    Left-tailed on teacher minus student, as electronics2023 has it: on its Table 4 this gives its
    p = 0.017 for Eliquare-mBERT. One pair a task.
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
    records, cells = [], []
    for student in experiment.students:
        teacher = experiment.teacher(student)
        if teacher not in experiment.systems:
            continue
        tasks = [
            task
            for task in experiment.tasks
            if experiment.score(student, task) and experiment.score(teacher, task)
        ]
        theirs = [experiment.score(teacher, task).mean for task in tasks]
        ours = [experiment.score(student, task).mean for task in tasks]
        p, reason = signed_rank(theirs, ours)
        higher = sum(a > b for a, b in zip(ours, theirs, strict=True))
        records.append(
            {
                "student": student,
                "teacher": teacher,
                "n": len(tasks),
                "student_higher": higher,
                "p": p,
                "remark": reason,
            }
        )
        cells.append(
            [
                text(experiment.label(student)),
                text(experiment.label(teacher)),
                number(len(tasks)),
                number(higher),
                number(p, ".3f") if p is not None else text(reason),
            ]
        )
    header = ["Student", "Teacher", "Tasks (n)", "Student higher on", "p"]
    caption = (
        "Wilcoxon signed-rank test, left-tailed, teacher minus student, one pair a task: "
        "a small p says that the student scores above its teacher."
    )
    return Table("significance", caption, header, cells, records)
