"""A project whose stages only write down how they were called: for what Snakemake decides."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_project import Project

# In place of the package's command line. A stage that finds `slow` in the folder takes its time.
STUB = """
import sys
import time
from pathlib import Path

words = sys.argv[1:]
print(*words, flush=True)
if Path("slow").exists():
    time.sleep(600)
second = {"tokenize": ["--counts"], "sample": ["--pairs"]}
for name in ["--output", *second.get(words[1], [])]:
    output = Path(words[words.index(name) + 1])
    file = output if output.suffix else output / "made"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(" ".join(words))
"""


def configuration() -> dict[str, Any]:
    """Return two languages, three students and one that is reduced afterwards, two tasks."""
    codes = ("qaa", "qab")
    dump = {"source": "dump", "date": "20260101"}
    return {
        "name": "stubs",
        "languages": {code: {"corpus": dict(dump)} for code in codes},
        "teachers": {"teacher": {"source": "hub", "model": "a/teacher", "revision": "0" * 40}},
        "vocabularies": {"sentences": {"min_sentence_fraction": 0.0005}},
        "extensions": {"more": {"vocabulary": "sentences", "num_tokens": 50}},
        "students": {
            "pre": {
                "teacher": "teacher",
                "vocabulary": "sentences",
                "training": {"max_steps": 100},
            },
            "full": {"extends": "pre", "vocabulary": None},
            "post": {"reduced_from": "full", "vocabulary": "sentences"},
            "longer": {"extends": "pre", "vocabulary": None, "extension": "more"},
        },
        "tasks": {
            f"{code}-{kind}": {"language": code, "kind": kind, "train": f"tasks/{code}.txt"}
            for code in codes
            for kind in ("upos", "ner")
        },
        "experiment": {
            "languages": list(codes),
            "systems": ["pre", "post", "longer"],
            "tasks": ["qaa-upos", "qab-ner"],
            "seeds": [1],
            "release": ["pre"],
        },
    }


def stub(project: Project) -> None:
    """Put stubs in place of a project's stages."""
    (project.folder / "workflow/eliquare/__main__.py").write_text(STUB)


class Stubs(Project):
    """A project with stubs for stages, and a configuration that tests change."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        stub(self)
        (folder / "tasks").mkdir()
        for code in ("qaa", "qab", "qac"):
            (folder / "tasks" / f"{code}.txt").write_text(code)
        self.config = configuration()
        self.path = self.configure(self.config)

    def changed(self, change: Callable[[dict[str, Any]], object], *options: str) -> dict[str, int]:
        """Return the jobs planned after ``change(config)``."""
        other = copy.deepcopy(self.config)
        change(other)
        return self.planned(self.configure(other, "changed.yaml"), *options)
