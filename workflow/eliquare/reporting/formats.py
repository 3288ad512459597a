"""One table, written as CSV (full precision), Markdown and LaTeX (as people read it)."""

import csv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
    """What stands in one cell; ``value`` is its number where it is one."""

    text: str = ABSENT
    value: float | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """``rows`` are for reading, ``records`` for the CSV; notes stand below the table."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    records: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON and templates."""
        return asdict(self)

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers (and is set to the right)."""
        columns = zip(*self.rows, strict=True)
        return [any(cell.value is not None for cell in column) for column in columns]


def text(value: Any) -> Cell:
    """A cell of words."""
    return Cell(str(value)) if value not in (None, "") else Cell()


def number(value: float | None, form: str = ",.0f") -> Cell:
    """A cell of one number, or an empty one."""
    return Cell() if value is None else Cell(format(value, form).replace("-", "−"), value)


def write(table: Table, folder: Path) -> None:
    """Write NAME.csv (RFC 4180), NAME.md and NAME.tex."""
    with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
        columns = list(table.records[0]) if table.records else table.header
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table.records)
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def markdown(table: Table) -> str:
    """A Markdown table with its caption above and its notes below."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = ["---:" if numeric else "---" for numeric in table.numeric or [False]]
    body = [[f"**{c.text}**" if c.bold else c.text for c in row] for row in table.rows]
    lines = [table.caption, "", line(table.header), line(rule), *map(line, body)]
    notes = [part for note in table.notes for part in ("", note)]
    return "\n".join([*lines, *notes]) + "\n"


def latex(table: Table) -> str:
    """A LaTeX table; needs the package booktabs."""

    def plain(words: str) -> str:
        return words.translate(LATEX)

    def line(cells: list[str]) -> str:
        return "    " + " & ".join(cells) + r" \\"

    def cell(content: Cell) -> str:
        return rf"\textbf{{{plain(content.text)}}}" if content.bold else plain(content.text)

    notes = [rf"  \par\smallskip\footnotesize {plain(note)}" for note in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{plain(table.caption)}}}",
            rf"  \label{{tab:{table.name}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if n else 'l' for n in table.numeric)}}}",
            r"    \toprule",
            line([plain(head) for head in table.header]),
            r"    \midrule",
            *(line([cell(content) for content in row]) for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )
