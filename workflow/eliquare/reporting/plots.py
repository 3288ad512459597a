"""Figures of an experiment: loss curves of each distillation, scores, size against score.

Each is written as PNG and SVG; the same results give the same bytes.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from eliquare import stage
from eliquare.reporting import results
from eliquare.reporting.results import METRICS, Curve, Experiment

VERSION = 1

# Okabe and Ito's colours, told apart with any kind of colour vision.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A7A7A", "#B8A800"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "eliquare",
}
TERMS = (("kl", "Distillation loss (KL)"), ("mlm", "MLM loss"))


def save(figure, folder: Path, name: str) -> None:
    """Write PNG and SVG without dates or versions."""
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def look(position: int) -> dict[str, str]:
    """Colour and marker of the system in this row."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "marker": MARKERS[position % len(MARKERS)],
    }


def curve(experiment: Experiment, history: Curve):
    """Distillation loss on the left, MLM loss on the right, over optimiser steps."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    for axis, (term, title) in zip(axes, TERMS, strict=True):
        train = [row for row in history.rows if row.get(term) is not None]
        checked = [row for row in history.rows if row.get(f"validation_{term}") is not None]
        axis.set_title(title)
        axis.set_xlabel("Step")
        if not train and not checked:
            axis.text(0.5, 0.5, "not in this objective", ha="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        axis.plot(
            [row["step"] for row in train],
            [row[term] for row in train],
            color=COLOURS[0],
            linewidth=0.9,
            alpha=0.75,
            label="training",
        )
        axis.plot(
            [row["step"] for row in checked],
            [row[f"validation_{term}"] for row in checked],
            color=COLOURS[5],
            marker="o",
            markersize=4.5,
            linewidth=1.2,
            label="validation",
        )
        axis.set_ylim(bottom=0)
        axis.legend()
    axes[0].set_ylabel("Nats per position")
    names = " / ".join(experiment.label(name) for name in history.students)
    figure.suptitle(f"{names} · {experiment.language(history.corpus)}", fontsize=12)
    return figure


def task_scores(experiment: Experiment, task: str):
    """A bar for each system, its deviation over seeds as error bar."""
    found = [
        (position, system, score)
        for position, system in enumerate(experiment.systems)
        if (score := experiment.score(system, task))
    ]
    height = 1.3 + 0.42 * len(found)
    figure, axis = pyplot.subplots(figsize=(8, height), layout="constrained")
    for row, (position, _, score) in enumerate(found):
        axis.barh(
            row,
            score.mean,
            xerr=score.deviation,
            color=look(position)["color"],
            height=0.68,
            capsize=3,
            ecolor="#333333",
        )
        end = score.mean + (score.deviation or 0)
        axis.text(end + 0.012, row, f"{score.mean:.4f}", va="center", fontsize=10)
    axis.set_yticks(range(len(found)), [experiment.label(system) for _, system, _ in found])
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set_xlim(0, 1.12)
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    metric = experiment.metric(task)
    n = len(experiment.seeds)
    bars = f", bars: mean, lines: deviation over {n} seeds" if n > 1 else ", one seed"
    axis.set_xlabel(METRICS.get(metric, metric) + bars)
    axis.set_title(experiment.task_title(task), loc="left")
    return figure


def size_against_score(experiment: Experiment):
    """Parameters against the mean of the main metrics, a panel for each language."""
    languages = [code for code in experiment.languages if experiment.tasks_of(code)]
    columns = min(len(languages), 3)
    rows = -(-len(languages) // columns)
    size = (max(3.6 * columns + 2.6, 6.5), 3.7 * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    drawn = {}
    for axis, language in zip(axes.flat, languages, strict=False):
        tasks = experiment.tasks_of(language)
        for position, system in enumerate(experiment.systems):
            mean = experiment.mean_score(system, tasks)
            if mean is None or (system, language) not in experiment.measured:
                continue
            million = experiment.measured[system, language]["parameters"]["total"] / 1e6
            drawn[position] = axis.plot(
                million, mean, **look(position), markersize=9, linestyle="", alpha=0.85
            )[0]
        axis.set_xlim(left=0)
        axis.margins(x=0.12, y=0.15)
        axis.set_xlabel("Parameters (millions)")
        counted = "1 task" if len(tasks) == 1 else f"mean of {len(tasks)} tasks"
        axis.set_title(f"{experiment.language(language)} ({counted})")
    for axis in list(axes.flat)[len(languages) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("Score")
    labels = [experiment.label(experiment.systems[position]) for position in sorted(drawn)]
    handles = [drawn[position] for position in sorted(drawn)]
    figure.legend(handles, labels, loc="outside right upper")
    return figure


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m eliquare.reporting.plots", description=__doc__
    )
    options.add_argument("--settings", required=True, type=Path, help="resolved settings (JSON)")
    options.add_argument("--results", required=True, type=Path, help="folder of all results")
    options.add_argument("--output", required=True, type=Path, help="folder of figures to make")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Draw every figure, and list them in plots.json."""
    experiment = results.read(arguments.settings, arguments.results)
    listed = []

    def keep(figure, kind: str, name: str, title: str) -> None:
        save(figure, folder, name)
        listed.append({"kind": kind, "name": name, "title": title})

    with stage.whole_folder(arguments.output) as folder, pyplot.rc_context(STYLE):
        if any(experiment.tasks_of(code) for code in experiment.languages):
            title = "Parameters against the mean score of each system"
            keep(size_against_score(experiment), "size", "size-against-score", title)
        for task in experiment.tasks:
            title = f"Scores of each system: {experiment.task_title(task)}"
            keep(task_scores(experiment, task), "scores", f"scores-{task}", title)
        for history in experiment.curves:
            names = ", ".join(experiment.label(name) for name in history.students)
            title = f"Loss curves of {names} on {experiment.language(history.corpus)}"
            name = f"curves-{history.student}-{history.corpus}"
            keep(curve(experiment, history), "curves", name, title)
        stage.write_json(folder / "plots.json", listed)


if __name__ == "__main__":
    stage.main(parser(), run)
