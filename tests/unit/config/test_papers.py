"""The experiments of the papers: as many distillations, and every published score repeated."""

from pathlib import Path

import pytest

from eliquare.config.checks import made_by
from eliquare.config.load import load
from eliquare.config.model import Configuration
from eliquare.paths import Paths
from eliquare.reporting import published

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("name", "expected"), [("coling2022", 6), ("electronics2023", 34), ("cruz2024", 7)]
)
def test_experiments_distil_as_often_as_their_papers(name, expected):
    """electronics2023: 6 from mBERT, 6 from XLM-R, 6 reduced before, 16 of the two ablations."""
    assert len(Paths(load(f"config/experiments/{name}.yaml")).distillations()) == expected


def repeated(settings: Configuration) -> set[tuple[str, str, str, str]]:
    """Return (table, system, language, task) of each published score that is repeated."""
    systems = {**settings.teachers, **settings.students, **settings.systems}
    rows, found, paths = published.read(), set(), Paths(settings)
    runs = [(task, name) for code, name in paths.evaluations() for task in paths.tasks([code])]
    for task, system in runs:
        name, entry = systems[system].published_as, settings.tasks[task]
        if name and entry.published_as:
            language = entry.published_as.language or entry.language
            of_task = entry.published_as.task
            for row in published.find(rows, name, language, of_task, settings.experiment.papers):
                found.add((row.table, row.system, row.language, row.task))
    return found


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [
        ("coling2022", {"upper_bound"}),
        # These two rows print the students reduced before once more, with the numbers of Table 5.
        ("electronics2023", {"upper_bound", "loss_ce5_cos1_mlm2", "tau_2.0"}),
        # And these the numbers of dbert_base in Table 2.
        ("cruz2024", {"roberta_tagalog", "dbert", "dbert_at_100pct"}),
    ],
)
def test_experiments_repeat_every_published_score(name, elsewhere):
    settings = load(f"config/experiments/{name}.yaml")
    tables = [(each.paper, each.table) for each in settings.experiment.papers]
    scores = {
        (row.table, row.system, row.language, row.task)
        for row in published.read()
        if (row.paper, row.table) in tables and row.task_kind in published.COMPARABLE
    }
    assert {system for _, system, _, _ in scores - repeated(settings)} == elsewhere


def test_the_first_run_shares_all_but_its_students_with_the_experiment():
    first = made_by(load("config/config.yaml"), "results")
    experiment = made_by(load("config/experiments/electronics2023.yaml"), "results")
    own = {path for path, names in first.items() if any("students." in name for name in names)}
    assert not own & experiment.keys()
    assert {path: names for path, names in first.items() if path not in own}.items() <= (
        experiment.items()
    )


def test_the_first_run_differs_from_the_paper_in_its_budget_alone():
    first = load("config/config.yaml").students["small"]
    paper = load("config/experiments/electronics2023.yaml").students["eliquare-mbert"]
    budget = {"training", "languages", "label"}
    assert first.model_dump(exclude=budget) == paper.model_dump(exclude=budget)
    differing = {name for name, value in first.training if value != getattr(paper.training, name)}
    assert differing == {
        "min_steps",
        "max_steps",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
    }
