"""history.jsonl: every term of the loss while a model is trained, kept across resumes."""

import json
import time
from pathlib import Path

from eliquare import stage


class History:
    """One line for each logged step and each validation, in memory and, if ``writing``, on disk.

    Of several processes only one writes. ``name`` stands before each line that is said, to tell
    models apart that train side by side.
    """

    def __init__(self, path: Path, writing: bool = True, name: str = ""):
        self.path = path
        self.writing = writing
        self.name = name
        self.go_back_to(0)

    def go_back_to(self, step: int) -> None:
        """Drop the lines after ``step``: the steps behind them are trained again."""
        self.lines = [line for line in whole_lines(self.path) if line["step"] <= step]
        self.tokens = max((line.get("tokens", 0) for line in self.lines), default=0)
        self.seconds = max((line.get("seconds", 0.0) for line in self.lines), default=0.0)
        self.started = time.monotonic() - self.seconds

    def begin(self) -> None:
        """Write what was kept, before the first new line."""
        if self.writing:
            with stage.whole_file(self.path) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def pace(self, tokens: int) -> dict[str, float]:
        """Tokens and seconds in all, and the tokens a second since the last call."""
        before = self.seconds
        self.tokens += tokens
        self.seconds = time.monotonic() - self.started
        return {
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(tokens / max(self.seconds - before, 1e-9), 1),
        }

    def add(self, line: dict, steps: int) -> None:
        """Append one line of a training of ``steps`` steps, and say it."""
        self.lines.append(line)
        if self.writing:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            stage.say(f"{self.name}{readable(line, steps)}")


def whole_lines(path: Path) -> list[dict]:
    """The lines of a history; a kill can cut the last one short, which is then left out."""
    try:
        lines = path.read_text().split("\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[:-1]]


def readable(line: dict, steps: int) -> str:
    """A line of the history in words, for a log."""
    shown = {name: value for name, value in line.items() if name not in ("step", "seconds")}
    values = ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"
        for name, value in shown.items()
        if value is not None
    )
    return f"step {line['step']:,} of {steps:,}: {values}"
