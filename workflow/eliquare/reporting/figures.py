"""Figures of an experiment: loss curves of each distillation, scores, size against score.

Each is written as PNG and SVG; the same results give the same bytes. ``figures.json`` lists them.
"""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from pydantic import Field

from eliquare.io import atomic_dir, write_json
from eliquare.reporting import results
from eliquare.reporting.results import Curve, Experiment, ExperimentOptions, metric_label
from eliquare.reporting.sections import count_tasks

# Colours of Okabe and Ito, which people with any colour vision can tell apart.
COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A7A7A", "#B8A800"]
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


class FiguresOptions(ExperimentOptions):
    """Options of the figures."""

    output: Path = Field(description="Folder of figures to write.")


def write_figures(options: FiguresOptions) -> None:
    """Draw the figures of an experiment as PNG and SVG, and list them in figures.json."""
    experiment = results.read(options)
    listed: list[dict[str, str]] = []

    def add(figure: Figure, kind: str, name: str, title: str) -> None:
        # Lay out once for both files. No dates and versions: same results, same bytes.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        listed.append({"kind": kind, "name": name, "title": title})

    with atomic_dir(options.output) as folder, rc_context(STYLE):
        if experiment.tasks:
            title = "Parameters against the mean score of each system"
            add(size_against_score(experiment), "size", "size-against-score", title)
        for task in experiment.tasks:
            title = f"Scores of each system: {experiment.task_title(task)}"
            add(task_scores(experiment, task), "scores", f"scores-{task}", title)
        for curve in experiment.curves:
            title = f"Loss curves: {curve_title(experiment, curve)}"
            name = f"curves-{curve.student}-{curve.corpus}"
            add(loss_curves(experiment, curve), "curves", name, title)
        write_json(folder / "figures.json", listed)


def look(index: int) -> dict[str, str]:
    """Return color and marker of the system in this row."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def curve_title(experiment: Experiment, curve: Curve) -> str:
    """Return the students of a distillation, its seed where there are several, and its corpus."""
    seed = experiment.member_label(curve.student).partition(", seed ")[2]
    names = " / ".join(map(experiment.label, curve.students))
    return f"{names} · {experiment.language(curve.corpus)}" + (f" · seed {seed}" if seed else "")


def loss_curves(experiment: Experiment, curve: Curve) -> Figure:
    """Draw the distillation loss on the left, the MLM loss on the right, by step."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (term, title) in zip(axes, TERMS, strict=True):
        train = [(row["step"], row[term]) for row in curve.rows if row.get(term) is not None]
        key = f"eval_{term}"
        evaluated = [(row["step"], row[key]) for row in curve.rows if row.get(key) is not None]
        axis.set_title(title)
        axis.set_xlabel("Step")
        if not train and not evaluated:
            axis.text(0.5, 0.5, "not in this objective", ha="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        line: dict[str, Any] = {"color": COLORS[0], "linewidth": 0.9, "alpha": 0.75}
        axis.plot(*zip(*train, strict=True), **line, label="training")
        line = {"color": COLORS[5], "marker": "o", "markersize": 4.5, "linewidth": 1.2}
        axis.plot(*zip(*evaluated, strict=True), **line, label="validation")
        axis.set_ylim(bottom=0)
        axis.legend()
    axes[0].set_ylabel("Nats per position")
    figure.suptitle(curve_title(experiment, curve), fontsize=12)
    return figure


def task_scores(experiment: Experiment, task: str) -> Figure:
    """Draw a bar for each system, with its deviation over seeds as error bar."""
    found = [
        (index, system, score)
        for index, system in enumerate(experiment.systems)
        if (score := experiment.score(system, task))
    ]
    figure = Figure(figsize=(8, 1.3 + 0.42 * len(found)), layout="constrained")
    axis = figure.subplots()
    for row, (index, _, score) in enumerate(found):
        color = look(index)["color"]
        bar: dict[str, Any] = {"height": 0.68, "capsize": 3, "ecolor": "#333333"}
        axis.barh(row, score.mean, xerr=score.deviation, color=color, **bar)
        end = score.mean + (score.deviation or 0)
        axis.text(end + 0.012, row, f"{score.mean:.4f}", va="center", fontsize=10)
    axis.set_yticks(range(len(found)), [experiment.label(system) for _, system, _ in found])
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set_xlim(0, 1.12)
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    several = any(score.n > 1 for *_, score in found)
    bars = ": mean, with the deviation over seeds" if several else " (one seed)"
    axis.set_xlabel(metric_label(experiment.metric(task)) + bars)
    axis.set_title(experiment.task_title(task), loc="left")
    return figure


def size_against_score(experiment: Experiment) -> Figure:
    """Draw parameters against the mean of the main metrics, a panel for each language."""
    languages = [code for code in experiment.languages if experiment.paths.tasks([code])]
    columns = min(len(languages), 3)
    rows = -(-len(languages) // columns)
    size = (max(3.6 * columns + 2.6, 6.5), 3.7 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn = {}
    for axis, language in zip(axes.flat, languages, strict=False):
        tasks = experiment.paths.tasks([language])
        for index, system in enumerate(experiment.systems):
            score = experiment.mean_score(system, tasks)
            benchmark = experiment.benchmark(system, language)
            if score is None or benchmark is None:
                continue
            millions = benchmark["parameters"]["total"] / 1e6
            (drawn[index],) = axis.plot(
                millions, score.mean, **look(index), markersize=9, linestyle="", alpha=0.85
            )
        axis.margins(x=0.12, y=0.15)
        axis.set_xlim(0, axis.get_xlim()[1])
        axis.set_xlabel("Parameters (millions)")
        axis.set_title(f"{experiment.language(language)} (mean of {count_tasks(tasks)})")
    for axis in list(axes.flat)[len(languages) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("Score")
    labels = [experiment.label(experiment.systems[index]) for index in sorted(drawn)]
    handles = [drawn[index] for index in sorted(drawn)]
    figure.legend(handles, labels, loc="outside right upper")
    return figure
