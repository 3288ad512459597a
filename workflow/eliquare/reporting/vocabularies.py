"""What the vocabulary alone does: whole, cut before or after, with new sub-words, side by side."""

from typing import Any

from eliquare.reporting import comparisons
from eliquare.reporting.formats import Cell, Table, number, text
from eliquare.reporting.results import METRICS, Experiment

MILLION = 1_000_000
IN_WORDS = {
    "full": "whole",
    "pre": "cut before",
    "post": "cut after",
    "amplified": "with new sub-words",
}


def compared(experiment: Experiment) -> Table | None:
    """Sub-words, parameters, sub-words a word and scores of each student, by language.

    None where all students of the experiment have one kind of vocabulary.
    """
    kinds = {experiment.entry(student)["vocabulary"] for student in experiment.students}
    if len(kinds) < 2:
        return None
    records, cells = [], []
    for language in experiment.languages:
        for student in experiment.students:
            if (student, language) not in experiment.measured:
                continue
            measured = experiment.measured[student, language]
            report = report_of(experiment, student, language)
            kind = experiment.entry(student)["vocabulary"]
            record = {
                "language": language,
                "system": student,
                "vocabulary": kind,
                "sub_words": measured["vocabulary_size"],
                "new": report["sub_words"].get("new", 0) if report else 0,
                "parameters": measured["parameters"]["total"],
                "sub_words_per_word": words_cost(experiment, student, language, report),
            }
            row = [
                text(experiment.language(language)),
                text(experiment.label(student)),
                text(IN_WORDS[kind]),
                number(record["sub_words"]),
                number(record["new"]),
                number(record["parameters"] / MILLION, ",.2f"),
                number(record["sub_words_per_word"], ".3f"),
            ]
            for task in experiment.tasks:
                score = experiment.score(student, task)
                here = score is not None and experiment.task(task)["language"] == language
                column = f"{task} {experiment.metric(task)}"
                record[column] = score.mean if here else None
                record[f"{column} deviation"] = score.deviation if here else None
                record[f"{column} n"] = score.n if here else 0
                row.append(comparisons.spread(score) if here else Cell())
            records.append(record)
            cells.append(row)
    header = ["Language", "System", "Vocabulary", "Sub-words", "New", "Parameters (M)"]
    header.append("Sub-words a word")
    for task in experiment.tasks:
        metric = experiment.metric(task)
        header.append(f"{experiment.task_title(task)} ({METRICS.get(metric, metric)})")
    caption = (
        "The students by their vocabulary: its size, what it costs the corpus, and the scores on "
        f"the test splits over {len(experiment.seeds)} seed(s)."
    )
    return Table("vocabulary_comparison", caption, header, cells, records)


def report_of(experiment: Experiment, student: str, language: str) -> dict[str, Any] | None:
    """The report of a student's own vocabulary; None for a whole one."""
    layout, entry = experiment.layout, experiment.entry(student)
    name = entry["amplification"] if entry["vocabulary"] == "amplified" else entry["rule"]
    corpora = (language, layout.corpus_of(student, language))
    for report in experiment.vocabularies:
        if (report["teacher"], report["rule"]) == (entry["teacher"], name) and (
            report["corpus"] in corpora
        ):
            return report
    return None


def words_cost(
    experiment: Experiment, student: str, language: str, report: dict[str, Any] | None
) -> float | None:
    """Sub-words a word of the corpus; of a whole vocabulary as any report of the corpus has it."""
    if report is not None:
        return report["texts"]["corpus"]["after"]["sub_words_per_word"]
    for other in experiment.vocabularies:
        same = (other["corpus"], other["teacher"]) == (language, experiment.teacher(student))
        if same and experiment.entry(student)["vocabulary"] == "full":
            return other["texts"]["corpus"]["before"]["sub_words_per_word"]
    return None
