"""One table for people and programs: CSV in full precision, Markdown, LaTeX, and a terminal."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from eliquare.reporting.results import STEADY, Experiment, Score, metric_label

ABSENT = "–"
LINE_ENDS = dict.fromkeys("\n\r\t\x0b\x0c\x85\u2028\u2029", " ")
# Of text in a line or a cell; what a language would take for its own is written out.
MARKDOWN = str.maketrans(
    {sign: f"\\{sign}" for sign in "\\`*_~[]|"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    | LINE_ENDS
)
LATEX = str.maketrans(
    {sign: rf"\{sign}" for sign in "&%$#_{}"}
    # After the end of a row, these would be its options.
    | {sign: f"{{{sign}}}" for sign in "[]*"}
    | LINE_ENDS
    | {
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "–": "--",
        "−": "$-$",
        "…": r"\ldots{}",
        "→": r"$\to$",
    }
)
# How text begins that a spreadsheet computes.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Cell:
    """The text of one cell; ``value`` is its number if it has one."""

    text: str = ABSENT
    value: float | None = None
    bold: bool = False


NOTHING = (None, Cell())


@dataclass(frozen=True)
class Table:
    """``rows`` are for reading, ``records`` for the CSV; ``notes`` are printed below the table."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    records: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are aligned to the right."""
        columns = zip(*self.rows, strict=True)
        return [any(cell.value is not None for cell in column) for column in columns]


SPECIFICATIONS = yaml.safe_load(
    (resources.files("eliquare.reporting") / "templates/tables.yaml").read_text(encoding="utf-8")
)
# Head, key of the record, and form: a format of a number, or a name in tables.yaml's list. There
# also, perhaps, the key that the column needs.
Column = tuple[str, str, str]


def tabulate(
    experiment: Experiment,
    name: str,
    records: Sequence[dict[str, Any]],
    columns: Sequence[Column] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Return a table of tables.yaml with a row for each record, and these columns and notes too.

    A record may hold ready cells, which do not go to the CSV. A column that needs a key is left out
    for readers where no record has anything there; the CSV keeps it.
    """
    specification = SPECIFICATIONS[name]
    filled = {key for record in records for key, value in record.items() if value not in NOTHING}
    every: list[Column] = [
        (head, key, form)
        for head, key, form, *needed in specification["columns"]
        if filled.issuperset(needed)
    ]
    every += columns
    words: dict[str, Callable[[Any], str]] = {
        "text": str,
        "system": experiment.label,
        "language": experiment.language,
        "task": experiment.task_title,
        "metric": metric_label,
    }

    def cell(value: Any, form: str) -> Cell:
        if value is None or isinstance(value, Cell):
            return value or Cell()
        if form == "millions":
            value, form = value / 1e6, ",.2f"
        if form in words:
            return Cell(words[form](value) or ABSENT)
        return Cell(format(value, form).replace("-", "−"), value)

    return Table(
        name,
        specification["caption"].format(experiment=experiment, STEADY=STEADY),
        [head for head, *_ in every],
        [[cell(record.get(key), form) for _, key, form in every] for record in records],
        [{k: v for k, v in record.items() if not isinstance(v, Cell)} for record in records],
        [*specification.get("notes", []), *notes],
    )


def no_formula(value: Any) -> Any:
    """Return the value of a CSV cell; an apostrophe keeps a spreadsheet from computing text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def spread(experiment: Experiment, score: Score | None) -> Cell:
    """Return mean and deviation; the deviations apart where there are distillation seeds."""
    if score is None:
        return Cell()
    deviations = {"": score.deviation}
    if experiment.has_distillation_seeds:
        deviations = {" D": score.distillation_deviation, " F": score.finetuning_deviation}
    found = [f" ± {value:.4f}{mark}" for mark, value in deviations.items() if value is not None]
    return Cell(f"{score.mean:.4f}" + "".join(found), score.mean)


def write(table: Table, folder: Path) -> None:
    """Write NAME.csv, NAME.md and NAME.tex, which needs the LaTeX package booktabs."""
    records = [{key: no_formula(value) for key, value in row.items()} for row in table.records]
    # dtype=object: a column of whole numbers stays one where a value is missing.
    pd.DataFrame(records, dtype=object).to_csv(folder / f"{table.name}.csv", index=False)
    for suffix in ("md", "tex"):
        written = render(f"table.{suffix}.j2", table=table)
        (folder / f"{table.name}.{suffix}").write_text(written, encoding="utf-8")


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; a name without a value is an error."""
    environment = Environment(
        loader=PackageLoader("eliquare.reporting"),
        undefined=StrictUndefined,
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["latex"] = lambda words: str(words).translate(LATEX)
    environment.filters["markdown"] = lambda words: str(words).translate(MARKDOWN)
    return environment.get_template(template).render(**values)


def width(words: str) -> int:
    """Return the columns of a terminal that the words take: 2 per wide character, 0 per mark."""
    return sum(
        1 + (unicodedata.east_asian_width(character) in "WF")
        for character in words
        if unicodedata.category(character) not in ("Mn", "Me", "Cf")
    )


def aligned(lines: list[list[str]], head: int) -> str:
    """Return lines of cells in columns, the first to the left, with a rule below the head."""
    sizes = [max(map(width, column)) for column in zip(*lines, strict=True)]
    drawn = []
    for line in [*lines[:head], ["─" * size for size in sizes], *lines[head:]]:
        spaces = [" " * (size - width(cell)) for cell, size in zip(line, sizes, strict=True)]
        rest = [space + cell for cell, space in zip(line[1:], spaces[1:], strict=True)]
        drawn.append("  ".join([line[0] + spaces[0], *rest]).rstrip())
    return "\n".join(drawn)
