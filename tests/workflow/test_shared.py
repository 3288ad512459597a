"""Two clones with one output cache: the second takes over what the first has made."""

import json
import os
from pathlib import Path

import pytest

from tiny_project import Project, tiny

# All that stands before the trainings, in the teacher's whole vocabulary.
TARGET = "results/corpora/qaa/teacher/full/masking"
SHARED = {
    "eliquare.corpus.dump": 3,
    "eliquare.corpus.articles": 3,
    "eliquare.corpus.mixture": 1,
    "eliquare.corpus.sequences": 1,
    "eliquare.corpus.counts": 1,
}
# Cheap, or made from nothing: each clone makes them itself.
OWN = {"eliquare.demo.world": 1, "eliquare.models.tokenizer": 1, "eliquare.masking": 1}


def ran(project: Project) -> dict[str, int]:
    """How often each stage really ran, by what the stages wrote down."""
    counts: dict[str, int] = {}
    for file in (project.folder / "results/costs").rglob("*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            if line.get("done"):
                counts[line["stage"]] = counts.get(line["stage"], 0) + 1
    return counts


def files_in(project: Project) -> dict[str, bytes]:
    """What the flow has made, without logs and costs."""
    files = (
        Path(folder, name)
        for top in ("resources/dumps", "results/corpora", "results/teachers")
        # What was taken from the cache are links.
        for folder, _, names in os.walk(project.folder / top, followlinks=True)
        for name in names
        if name != ".snakemake_timestamp"
    )
    return {str(file.relative_to(project.folder)): file.read_bytes() for file in files}


@pytest.fixture
def clones(tmp_path_factory, monkeypatch):
    """Two clones and where their cache is."""
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path_factory.mktemp("cache")))
    return [Project(tmp_path_factory.mktemp(name)) for name in ("first", "second", "alone")]


def test_a_second_clone_takes_over_what_the_first_made(clones):
    first, second, alone = clones
    paths = {clone: clone.configure(tiny("shared")) for clone in clones}
    for clone in (first, second):
        clone.make(paths[clone], "--cache", target=TARGET)
    assert ran(first) == SHARED | OWN
    assert ran(second) == OWN
    # What was taken is what would have been made.
    alone.make(paths[alone], target=TARGET)
    assert files_in(first) == files_in(second) == files_in(alone)
    assert len(files_in(alone)) > 20
    # And it stays: neither clone finds the other's work newer than its own.
    for clone in (first, second):
        assert clone.planned(paths[clone], "--cache", "--", TARGET) == {}
        assert clone.planned(paths[clone], "--", TARGET) == {}
