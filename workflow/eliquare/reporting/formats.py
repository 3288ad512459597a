"""One table for people and programs: CSV in full precision, Markdown, LaTeX, and a terminal."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

ABSENT = "–"
LATEX = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
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


@dataclass(frozen=True)
class Cell:
    """The text of one cell; ``value`` is its number if it has one."""

    text: str = ABSENT
    value: float | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """``rows`` are for reading, ``records`` for the CSV; ``notes`` are printed below the table."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    records: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the table as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Table":
        """Return the table that ``as_dict`` gave."""
        rows = [[Cell(**cell) for cell in row] for row in values["rows"]]
        return cls(**{**values, "rows": rows})

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are aligned to the right."""
        if not self.rows:
            return [False] * len(self.header)
        columns = zip(*self.rows, strict=True)
        return [any(cell.value is not None for cell in column) for column in columns]


# A format of a number, or a function that makes a cell or its words out of the value.
Form = str | Callable[[Any], Cell | str]
Column = tuple[str, str, Form]


def text(value: Any) -> Cell:
    """Return a cell of words; empty for None and the empty string."""
    return Cell(str(value)) if value not in (None, "") else Cell()


def number(value: float | None, form: str = ",.0f") -> Cell:
    """Return a cell of one number; empty for None."""
    return Cell() if value is None else Cell(format(value, form).replace("-", "−"), value)


def millions(value: float) -> Cell:
    """Return a cell of a number in millions."""
    return number(value / 1e6, ",.2f")


def tabulate(
    name: str,
    caption: str,
    columns: Sequence[Column],
    records: list[dict[str, Any]],
    notes: Iterable[str] = (),
) -> Table:
    """Return a table with a row for each record, made of (head, key of the record, form)."""
    rows = [[cell(record.get(key), form) for _, key, form in columns] for record in records]
    return Table(name, caption, [head for head, *_ in columns], rows, records, list(notes))


def cell(value: Any, form: Form) -> Cell:
    """Return a cell of a value in a form; empty for None."""
    if value is None:
        return Cell()
    made = number(value, form) if isinstance(form, str) else form(value)
    return made if isinstance(made, Cell) else text(made)


def write(table: Table, folder: Path) -> None:
    """Write NAME.csv, NAME.md and NAME.tex."""
    columns = list(table.records[0]) if table.records else table.header
    # dtype=object: a column of whole numbers stays one where a value is missing.
    frame = pd.DataFrame(table.records, columns=columns, dtype=object)
    frame.to_csv(folder / f"{table.name}.csv", index=False)
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def markdown(table: Table) -> str:
    """Return a Markdown table, its caption above and its notes below."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    body = [[f"**{c.text}**" if c.bold else c.text for c in row] for row in table.rows]
    lines = [table.caption, "", line(table.header), line(rule), *map(line, body)]
    notes = [part for note in table.notes for part in ("", note)]
    return "\n".join([*lines, *notes]) + "\n"


def latex(table: Table) -> str:
    """Return a LaTeX table, which needs the package booktabs."""

    def escaped(words: str) -> str:
        return words.translate(LATEX)

    def line(cells: list[str]) -> str:
        return "    " + " & ".join(cells) + r" \\"

    def cell(content: Cell) -> str:
        return rf"\textbf{{{escaped(content.text)}}}" if content.bold else escaped(content.text)

    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(table.caption)}}}",
            rf"  \label{{tab:{table.name}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if n else 'l' for n in table.numeric)}}}",
            r"    \toprule",
            line([escaped(head) for head in table.header]),
            r"    \midrule",
            *(line([cell(content) for content in row]) for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(rf"  \par\smallskip\footnotesize {escaped(note)}" for note in table.notes),
            r"\end{table}",
            "",
        ]
    )


def width(words: str) -> int:
    """Return the columns of a terminal that the words take: 2 per wide character, 0 per mark."""
    columns = 0
    for character in words:
        if unicodedata.category(character) not in ("Mn", "Me", "Cf"):
            columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return columns


def aligned(lines: list[list[str]], head: int) -> str:
    """Return lines of cells in columns, the first to the left, with a rule below the head."""
    sizes = [max(map(width, column)) for column in zip(*lines, strict=True)]

    def padded(cells: list[str]) -> str:
        spaces = [" " * (size - width(cell)) for cell, size in zip(cells, sizes, strict=True)]
        first = cells[0] + spaces[0]
        rest = [space + cell for cell, space in zip(cells[1:], spaces[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    drawn = [padded(line) for line in lines]
    return "\n".join([*drawn[:head], "  ".join("─" * size for size in sizes), *drawn[head:]])
