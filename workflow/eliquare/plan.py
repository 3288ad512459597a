"""The table of a plan: for each step how many to run, how many are there, and why."""

from collections import Counter
from collections.abc import Iterable

NOT_THERE = "not there yet"
HALF_MADE = "left half-made"
ASKED = "asked for again"
NEWER_INPUT = "an input is newer"
OTHER_INPUTS = "other inputs than before"
SETTINGS = "other settings"
VERSION = "a new version of the step"
ENVIRONMENT = "another environment"
UPSTREAM = "its input is made again"
UNKNOWN = "Snakemake asks for it"


class Plan:
    """Counts of jobs by step, in the order of each step's last job."""

    def __init__(self) -> None:
        self.run: Counter[str] = Counter()
        self.there: Counter[str] = Counter()
        self.why: dict[str, Counter[str]] = {}

    def add_run(self, step: str, why: str) -> None:
        """One job to run, and the reason in words."""
        self.run[step] += 1
        self._last(step)[why] += 1

    def add_there(self, step: str) -> None:
        """One result that is there and stays."""
        self.there[step] += 1
        self._last(step)

    def _last(self, step: str) -> Counter[str]:
        """The reasons of a step, which becomes the last of all."""
        self.why[step] = self.why.pop(step, Counter())
        return self.why[step]

    def rows(self) -> Iterable[tuple[str, str, str, str]]:
        """(step, to run, there, why) of each step, and of all together."""
        for step, reasons in self.why.items():
            yield step, f"{self.run[step]:,}", f"{self.there[step]:,}", words(reasons)
        yield "total", f"{self.run.total():,}", f"{self.there.total():,}", ""

    def table(self) -> str:
        """The table as text, in columns."""
        rows = [("step", "to run", "there", "why"), *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{step:<{widths[0]}}  {run:>{widths[1]}}  {there:>{widths[2]}}  {why}".rstrip()
            for step, run, there, why in rows
        ]
        rule = "  ".join("-" * width for width in [*widths, len("why")])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def words(reasons: Counter[str]) -> str:
    """Reasons in words, most frequent first; with their counts where there are several."""
    if len(reasons) == 1:
        return next(iter(reasons))
    return ", ".join(f"{count:,} {why}" for why, count in reasons.most_common())
