"""The report of an experiment, one HTML file that needs nothing beside it; and a short table."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter

from eliquare.config.load import dump
from eliquare.io import atomic_write, existing, read_json
from eliquare.reporting import examples, frontier, graph, overview, results, sections
from eliquare.reporting.formats import ABSENT, Table, aligned, render
from eliquare.reporting.results import Experiment, ExperimentOptions, metric_label


class ReportOptions(ExperimentOptions):
    """Options of the report."""

    tables: Path = Field(description="Folder of the stage `tables`.")
    figures: Path = Field(description="Folder of the stage `figures`.")
    output: Path = Field(description="HTML file to write.")


def write_report(options: ReportOptions) -> None:
    """Write the report of an experiment."""
    experiment = results.read(options)
    made = TypeAdapter(list[Table]).validate_python(read_json(options.tables / "tables.json", list))
    own = (
        frontier.table(experiment),
        frontier.forms(experiment),
        sections.corpora(experiment),
        sections.vocabularies(experiment),
        sections.vocabulary_sizes(experiment),
        sections.scripts(experiment),
        sections.verifications(experiment),
        sections.recipes(experiment),
        sections.distillations(experiment),
        sections.costs(experiment),
        sections.checksums(experiment),
    )
    trained = [
        read_json(experiment.paths.student(*names) / "provenance.json")
        for names in experiment.paths.distillations()
    ]
    warned = overview.warnings(experiment)
    written = render(
        "report.html.j2",
        experiment=experiment,
        headline=sections.headline(experiment),
        answers=overview.answers(experiment, sum(map(len, warned.values()))),
        warnings=warned,
        tables={table.name: table for table in (*made, *own) if table and table.rows},
        figures=figures(options.figures),
        frontiers=frontier.pictures(experiment),
        long_words=examples.long_words(experiment),
        masked=examples.masked_sentences(experiment),
        errors=examples.task_errors(experiment),
        graph=graph.draw(graph.rules_that_ran(experiment)),
        configuration=yaml.safe_dump(
            dump(experiment.settings), allow_unicode=True, sort_keys=False, width=100
        ),
        versions=distinct(each["versions"] for each in trained),
        hardware=distinct(each["hardware"] for each in trained),
        benchmark_versions=distinct(each["versions"] for each in experiment.benchmarks.values()),
    )
    with atomic_write(options.output) as partial:
        partial.write_text(written, encoding="utf-8")


def print_summary(options: ExperimentOptions) -> None:
    """Print the main table, the result in a sentence, and the path of the report."""
    experiment = results.read(options)
    print(f"{experiment.title}\n\n{summary(experiment)}\n\n{sections.headline(experiment)}")
    print(f"\nReport: {options.settings.parent / 'report.html'}")


def figures(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the figures of the figures stage by kind, each with its PNG as a data address."""
    kinds: dict[str, list[dict[str, str]]] = {}
    for figure in read_json(folder / "figures.json", list):
        picture = existing(folder / f"{figure['name']}.png", "figure").read_bytes()
        address = "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
        kinds.setdefault(figure["kind"], []).append({**figure, "address": address})
    return kinds


def distinct(values: Iterable[dict[str, Any]]) -> list[str]:
    """Return each mapping in words, once."""
    words = (", ".join(f"{key} {value}" for key, value in each.items()) for each in values)
    return list(dict.fromkeys(filter(None, words)))


def summary(experiment: Experiment) -> str:
    """Return mean scores of each system and its parameters (the mean over languages), aligned.

    Without any task, bits per character stand in place of the scores.
    """
    tasks = experiment.tasks if experiment.scored_tasks else []
    titles = [experiment.task_title(task) for task in tasks]
    metrics = [metric_label(experiment.metric(task)) for task in tasks]
    lines = [["System", *titles, "Parameters"], ["", *metrics, "(millions)"]]
    if not tasks:
        lines = [["System", "Bits per", "Parameters"], ["", "character", "(millions)"]]
    for system in experiment.systems:
        scores = [experiment.score(system, task) for task in tasks]
        shown = [f"{score.mean:.4f}" if score else ABSENT for score in scores]
        if not tasks:
            bits = experiment.mean_bits(system)
            shown = [ABSENT if bits is None else f"{bits:.3f}"]
        total = experiment.parameters(system)
        million = ABSENT if total is None else f"{total / 1e6:,.2f}"
        lines.append([experiment.label(system), *shown, million])
    return aligned(lines, head=2)
