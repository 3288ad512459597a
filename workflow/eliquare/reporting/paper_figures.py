"""The figures of electronics2023: scripts, long words, drops by loss and by temperature."""

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eliquare.config.published import BASELINES
from eliquare.reporting.fonts import fonts_for, is_right_to_left
from eliquare.reporting.papers import ROWS, comparisons
from eliquare.reporting.results import Experiment, Score, paired_differences
from eliquare.reporting.segmentation import (
    COMMON,
    Segmented,
    published_scripts,
    script_label,
    scripts,
    segmented,
)

# Inches: the text of a page of A4 or letter paper in LaTeX's usual margins.
WIDTH = 6.2
# Of the figure of long words, also in inches; and the letters of a label.
MARGIN, LINE, TOKENS, LABEL = 0.1, 0.21, 2.3, 33
# Of a vocabulary: as many scripts by name, the others as one.
SCRIPTS = 9
# The printed figure of each table's differences.
DROPS = {("electronics2023", "6"): "4", ("electronics2023", "7"): "5"}


class Drawn(NamedTuple):
    """A figure, its kind for the report, the name of its files, and its title."""

    figure: Figure
    kind: str
    name: str
    title: str


def draw(experiment: Experiment, colors: list[str]) -> Iterator[Drawn]:
    """Yield the figures, each where the experiment has what it shows."""
    for teacher, counts in scripts(experiment).items():
        printed = published_scripts(experiment, teacher)
        title = f"Scripts in the full vocabulary of {experiment.label(teacher)}"
        figure = scripts_figure(counts, printed, title, colors)
        yield Drawn(figure, "scripts", f"scripts-{teacher}", title)
    for language in experiment.languages:
        if words := segmented(experiment, language):
            title = f"Segmentation of long words: {experiment.language(language)}"
            figure = words_figure(experiment, words, title, colors)
            yield Drawn(figure, "segmentation", f"segmentation-{language}", title)
    asked = dict.fromkeys(
        (each.paper, each.table) for each in experiment.settings.experiment.papers
    )
    for paper, table in asked:
        if number := DROPS.get((paper, table)):
            base = ROWS[BASELINES[paper, table]]
            title = f"Differences to {base} (Figure {number} of {paper})"
            figure = drops_figure(experiment, paper, table, title, colors)
            yield Drawn(figure, "drops", f"{paper}-figure-{number}", title)


# Scripts


def scripts_figure(
    counts: dict[str, int], printed: dict[str, int], title: str, colors: list[str]
) -> Figure:
    """Draw the share of each script in a vocabulary, with the printed numbers of tokens beside."""
    total = sum(counts.values())
    named = [name for name in counts if name != COMMON]
    shown = [*named[:SCRIPTS], *(name for name in named[SCRIPTS:] if name.lower() in printed)]
    rows = {name: counts[name] for name in shown}
    if rest := sum(counts[name] for name in named if name not in shown):
        rows["other scripts"] = rest
    rows |= {COMMON: counts[COMMON]} if COMMON in counts else {}
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.barh(range(len(rows)), [each / total for each in rows.values()], color=colors[0])
    stated = {place: printed.get(script.lower()) for place, script in enumerate(rows)}
    for place, tokens in enumerate(rows.values()):
        words = f"{tokens:,} ({tokens / total:.1%})"
        words += f"; published: {stated[place]:,}" if stated[place] is not None else ""
        axis.text(tokens / total + 0.005, place, words, va="center")
    points = {place: number / total for place, number in stated.items() if number is not None}
    if points:
        places, shares = list(points), list(points.values())
        axis.plot(shares, places, color=colors[5], marker="D", ms=4, ls="", label="published")
        axis.legend(loc="lower right")
    axis.set_yticks(range(len(rows)), list(map(script_label, rows)))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set_xlim(0, 1.45 * max(rows.values()) / total)
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.set(xlabel=f"Share of {total:,} tokens", title=title)
    return figure


# Long words


def words_figure(
    experiment: Experiment, words: list[Segmented], title: str, colors: list[str]
) -> Figure:
    """Draw a block for each long word: the word, and its tokens by each tokenizer as boxes."""
    letters = "".join(token for each in words for line in each.tokens.values() for token in line)
    # The boxes are measured as they are drawn.
    with rc_context({"font.family": fonts_for(letters + title)[0]}):
        figure = Figure(figsize=(WIDTH, WIDTH))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set_axis_off()
        # Data are inches; the height follows from what was written.
        axis.set(xlim=(0, WIDTH), ylim=(WIDTH, 0))
        axis.text(MARGIN, 0.2, title, va="center", fontsize="large")
        below = 0.5
        for each in words:
            axis.text(MARGIN, below, each.word, va="center", fontsize="large")
            for (role, tokens), color in zip(each.tokens.items(), colors, strict=False):
                below += LINE
                name = experiment.label(each.systems[role])
                label = textwrap.shorten(name, LABEL, placeholder="…")
                axis.text(2.5 * MARGIN, below, label, va="center", color="#444444")
                below = boxes(axis, tokens, below, color)
            below += 1.4 * LINE
        figure.set_size_inches(WIDTH, below)
        axis.set_ylim(below, 0)
    return figure


def boxes(axis: Axes, tokens: list[str], height: float, color: str) -> float:
    """Write tokens one after the other, each in a box; return the height of the last line.

    In the order of reading: from the right where the script runs that way, as far as one line goes.
    """
    place = TOKENS
    tokens = tokens[::-1] if is_right_to_left("".join(tokens)) else tokens
    for token in tokens:
        look = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": color, "lw": 0.8}
        text = axis.text(place, height, token, va="center", bbox=look, fontsize="small")
        wide = axis.transData.inverted().transform((text.get_window_extent().width, 0))[0]
        if place > TOKENS and place + wide > WIDTH - MARGIN:
            place, height = TOKENS, height + LINE
            text.set_position((place, height))
        place += wide + MARGIN
    return height


# Drops


def drops_figure(
    experiment: Experiment, paper: str, table: str, title: str, colors: list[str]
) -> Figure:
    """Draw the difference of each row of a table to its baseline on each task, ours and printed."""
    base = BASELINES[paper, table]
    found = [each for each in comparisons(experiment, paper, table) if each.row.is_score]
    tasks = dict.fromkeys((each.row.language, each.row.task) for each in found)
    names = [name for name in dict.fromkeys(each.row.system for each in found) if name != base]
    printed = {(each.row.system, each.row.language, each.row.task): each for each in found}
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    wide = 0.8 / max(len(names), 1)
    bars = {"elinewidth": 0.8, "capsize": 2, "ecolor": "#333333"}
    for order, name in enumerate(names):
        for place, task in enumerate(tasks):
            row, reference = printed[name, *task], printed[base, *task]
            x = place + (order - (len(names) - 1) / 2) * wide
            look = {"width": wide * 0.9, "color": colors[order], "zorder": 2}
            label = ROWS[name] if place == 0 else None
            axes[1].bar(x, row.row.value - reference.row.value, **look, label=label)
            ours = difference(row.ours.score, reference.ours.score)
            if ours:
                axes[0].bar(x, ours.mean, yerr=ours.deviation, error_kw=bars, **look)
    for axis, words in zip(axes, ("Ours", "Published"), strict=True):
        heads = [f"{experiment.language(code)}\ntask {task}" for code, task in tasks]
        axis.set_xticks(range(len(tasks)), heads)
        axis.set_xlim(-0.6, len(tasks) - 0.4)
        axis.axhline(0, color="#444444", lw=0.8)
        axis.grid(visible=False, axis="x")
        axis.set_title(words)
        if not axis.patches:
            axis.text(0.5, 0.5, "not scored", ha="center", transform=axis.transAxes)
    axes[0].set_ylabel(f"Difference to {ROWS[base]}")
    figure.legend(loc="outside lower center", ncols=4)
    figure.suptitle(title)
    return figure


def difference(ours: Score | None, other: Score | None) -> Score | None:
    """Return the differences of two scores, run by run; None if one is missing."""
    return paired_differences(ours, other) if ours and other else None
