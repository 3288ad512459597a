"""Figures of an experiment: scores, size against score, loss curves, sizes of vocabularies.

Each is written as PNG and SVG, as wide as the text of a page in LaTeX; the same results give the
same bytes. ``figures.json`` lists them.
"""

import logging
import warnings
from collections.abc import Iterable
from importlib import resources
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from eliquare.io import atomic_dir, write_json
from eliquare.reporting import paper_figures, results
from eliquare.reporting.fonts import lay_out
from eliquare.reporting.paper_figures import WIDTH
from eliquare.reporting.results import Curve, Experiment, OutputOptions, metric_label
from eliquare.reporting.sections import count_tasks

# Colours of Okabe and Ito, which people with any colour vision can tell apart.
COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A7A7A", "#B8A800"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
STYLE = resources.files("eliquare.reporting") / "templates/figures.mplstyle"
# Inches of a legend's mark with its distances, and of a letter, at most.
LEGEND_MARK, LEGEND_LETTER = 0.6, 0.062
TERMS = {"kl": "Distillation loss (KL)", "mlm": "MLM loss"}

logger = logging.getLogger(__name__)


def write_figures(options: OutputOptions) -> None:
    """Draw the figures of an experiment as PNG and SVG, and list them in figures.json."""
    experiment = results.read(options)
    listed: list[dict[str, str]] = []
    missing: set[str] = set()

    def add(figure: Figure, kind: str, name: str, title: str) -> None:
        # Lay out once for both files. No dates and versions: same results, same bytes.
        missing.update(lay_out(figure))
        figure.set_layout_engine("none")
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        listed.append({"kind": kind, "name": name, "title": title})

    # Letters without a font are reported once, in one line.
    warnings.filterwarnings("ignore", "Glyph .* missing from font")
    with atomic_dir(options.output) as folder, rc_context(fname=str(STYLE)):
        if experiment.scored_tasks:
            title = "Parameters against the mean score of each system"
            add(size_against_score(experiment), "size", "size-against-score", title)
        for task in experiment.scored_tasks:
            title = f"Scores of each system: {experiment.task_title(task)}"
            add(task_scores(experiment, task), "scores", f"scores-{task}", title)
        for curve in experiment.curves:
            title = f"Loss curves: {curve_title(experiment, curve)}"
            name = f"curves-{curve.student}-{curve.corpus}"
            add(loss_curves(experiment, curve), "curves", name, title)
        for report in experiment.vocabularies:
            if sizes := report.get("curve"):
                title = vocabulary_title(experiment, report)
                names = "-".join(report[key] for key in ("corpus", "teacher", "vocabulary"))
                figure = vocabulary_curve(sizes, title)
                add(figure, "vocabulary", f"vocabulary-{names}", f"Size of the vocabulary: {title}")
        for drawn in paper_figures.draw(experiment, COLORS):
            add(*drawn)
        write_json(folder / "figures.json", listed)
    if missing:
        logger.warning(
            "figures show boxes, since no installed font has %s; install fonts (on Debian and "
            "Ubuntu, fonts-noto-core and fonts-noto-cjk) and remove %s to draw them again",
            " ".join(sorted(missing)[:10]),
            options.output,
        )


def curve_title(experiment: Experiment, curve: Curve) -> str:
    """Return the students of a distillation, its corpus, and its seed where there are several."""
    seed = experiment.member_label(curve.student).partition(", seed ")[2]
    names = " / ".join(map(experiment.label, curve.students))
    return f"{names} · {experiment.language(curve.corpus)}" + (f" · seed {seed}" if seed else "")


def loss_curves(experiment: Experiment, curve: Curve) -> Figure:
    """Draw the distillation loss on the left, the MLM loss on the right, by step.

    Of an objective without the two, its first two terms.
    """
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    axes = figure.subplots(1, 2)
    rows = pd.DataFrame(curve.rows).set_index("step")
    names = [name.removeprefix("eval_") for name in rows if name.startswith("eval_")]
    own = {name: name for name in names if name != "loss"}
    terms = TERMS if TERMS.keys() & own.keys() else dict([*own.items()][:2])
    columns = [f"{prefix}{term}" for term in terms for prefix in ("", "eval_")]
    rows = rows.reindex(columns=columns)
    for axis, (term, title) in zip(axes, terms.items(), strict=False):
        train, evaluated = rows[term].dropna(), rows[f"eval_{term}"].dropna()
        axis.set(title=title, xlabel="Step")
        if train.empty and evaluated.empty:
            axis.text(0.5, 0.5, "not in this objective", ha="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        axis.plot(train, color=COLORS[0], lw=0.9, alpha=0.75, label="training")
        axis.plot(evaluated, color=COLORS[5], marker="o", ms=3, lw=1, label="validation")
        axis.set_ylim(bottom=0)
        axis.legend()
    for axis in axes[len(terms) :]:
        axis.set_axis_off()
    if terms is TERMS:
        axes[0].set_ylabel("Nats per position")
    figure.suptitle(curve_title(experiment, curve))
    return figure


def vocabulary_title(experiment: Experiment, report: dict[str, Any]) -> str:
    """Return the teacher, the corpus and the rule of a reduced vocabulary."""
    names = experiment.label(report["teacher"]), experiment.language(report["corpus"])
    return " · ".join([*names, report["vocabulary"]])


def vocabulary_curve(curve: list[dict[str, Any]], title: str) -> Figure:
    """Draw token coverage on the left, tokens per word on the right, by number of tokens."""
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    rows = pd.DataFrame(curve).set_index("tokens")
    (chosen,) = rows.index[rows["chosen"]]
    labels = {"coverage": "Token coverage", "fertility": "Tokens per word"}
    for axis, (key, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        axis.plot(rows[~rows["chosen"]][key], color=COLORS[0], marker="o", ms=3, lw=1)
        look = {"color": COLORS[5], "marker": "D", "ms": 5, "ls": ""}
        axis.plot(chosen, rows[key][chosen], **look, label=f"chosen: {chosen:,}")
        axis.set(title=label, xlabel="Tokens")
        axis.legend()
    figure.suptitle(title)
    return figure


def task_scores(experiment: Experiment, task: str) -> Figure:
    """Draw a bar for each system, with its deviation over seeds as error bar."""
    scores = {system: experiment.score(system, task) for system in experiment.systems}
    found = [(system, score) for system, score in scores.items() if score]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(found)), layout="constrained")
    axis = figure.subplots()
    colors = dict(zip(experiment.systems, cycle(COLORS), strict=False))
    look: dict[str, Any] = {"height": 0.68, "capsize": 2, "ecolor": "#333333"}
    for row, (system, score) in enumerate(found):
        axis.barh(row, score.mean, xerr=score.deviation, color=colors[system], **look)
        end = score.mean + (score.deviation or 0)
        axis.text(end + 0.012, row, f"{score.mean:.4f}", va="center")
    axis.set_yticks(range(len(found)), [experiment.label(system) for system, _ in found])
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set(xlim=(0, 1.12), xticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0])
    several = any(len(score.runs) > 1 for _, score in found)
    bars = ": mean, with the deviation over seeds" if several else " (one seed)"
    axis.set_xlabel(metric_label(experiment.metric(task)) + bars)
    axis.set_title(experiment.task_title(task), loc="left")
    return figure


def size_against_score(experiment: Experiment) -> Figure:
    """Draw parameters against the mean of the main metrics, a panel for each language."""
    panels = {
        code: experiment.scored(experiment.paths.tasks([code])) for code in experiment.languages
    }
    panels = {code: tasks for code, tasks in panels.items() if tasks}
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    beside = legend_columns(map(experiment.label, experiment.systems))
    lines = -(-len(experiment.systems) // beside)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.17 * lines), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn = {}
    for axis, (language, tasks) in zip(axes.flat, panels.items(), strict=False):
        looks = zip(experiment.systems, cycle(COLORS), cycle(MARKERS), strict=False)
        for system, color, marker in looks:
            score = experiment.mean_score(system, tasks)
            benchmark = experiment.benchmark(system, language)
            if score and benchmark:
                point = benchmark["parameters"]["total"] / 1e6, score.mean
                # Hollow, since points of one size and score lie on each other.
                look = {"color": color, "marker": marker, "mfc": "none", "mew": 1.5}
                (drawn[system],) = axis.plot(*point, **look, ms=6, ls="")
        axis.margins(x=0.12, y=0.15)
        axis.set(xlim=(0, axis.get_xlim()[1]), xlabel="Parameters (millions)")
        axis.set_title(f"{experiment.language(language)} (mean of {count_tasks(tasks)})")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("Score")
    order = sorted(drawn, key=experiment.systems.index)
    handles, labels = [drawn[system] for system in order], list(map(experiment.label, order))
    figure.legend(handles, labels, loc="outside lower center", ncols=beside)
    return figure


def legend_columns(labels: Iterable[str]) -> int:
    """Return how many labels of a legend fit beside each other, 3 at most."""
    longest = LEGEND_MARK + LEGEND_LETTER * max(map(len, labels))
    return min(max(int(WIDTH / longest), 1), 3)
