"""A short table for the terminal: systems against tasks."""

import argparse
import unicodedata
from pathlib import Path

from eliquare import stage
from eliquare.reporting import results
from eliquare.reporting.formats import ABSENT
from eliquare.reporting.headline import headline
from eliquare.reporting.results import METRICS, Experiment


def width(words: str) -> int:
    """Columns that the words take on a terminal: two for wide characters, none for marks."""
    columns = 0
    for character in words:
        if unicodedata.category(character) in ("Mn", "Me", "Cf"):
            continue
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return columns


def padded(words: str, columns: int, right: bool) -> str:
    """The words, filled with spaces to so many columns."""
    space = " " * (columns - width(words))
    return space + words if right else words + space


def summary(experiment: Experiment) -> str:
    """Mean scores of each system, and its parameters (the mean over languages), aligned."""
    heads = [["System", ""]]
    heads += [
        [
            experiment.task_title(task),
            METRICS.get(experiment.metric(task), experiment.metric(task)),
        ]
        for task in experiment.tasks
    ]
    heads.append(["Parameters", "(millions)"])
    lines = [list(line) for line in zip(*heads, strict=True)]
    for system in experiment.systems:
        scores = (experiment.score(system, task) for task in experiment.tasks)
        shown = [f"{score.mean:.4f}" if score else ABSENT for score in scores]
        million = experiment.parameters(system) / 1e6
        lines.append([experiment.label(system), *shown, f"{million:,.2f}"])
    columns = [max(map(width, column)) for column in zip(*lines, strict=True)]
    drawn = [
        "  ".join(
            padded(words, size, right=place > 0)
            for place, (words, size) in enumerate(zip(line, columns, strict=True))
        ).rstrip()
        for line in lines
    ]
    drawn.insert(2, "  ".join("─" * size for size in columns))
    return "\n".join(drawn)


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path, help="settings of the experiment")
    parser.add_argument("--results", default="results", type=Path, help="folder of all results")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print title, table, headline, and where the report is."""
    experiment = results.read(arguments.settings, arguments.results)
    print(f"{experiment.title}\n\n{summary(experiment)}\n\n{headline(experiment)}")
    print(f"\nReport: {arguments.settings.parent / 'report.html'}")


if __name__ == "__main__":
    stage.main(parser(), run)
