"""The experiments of the papers: their distillations, and every published score, need no file.

The matrix of what the papers print is the package's own, published.csv.
"""

from pathlib import Path

import pytest

from eliquare.config.checks import check_files, made_by
from eliquare.config.load import load
from eliquare.config.model import Configuration
from eliquare.paths import Paths
from eliquare.reporting import published

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


NAMES = ("coling2022", "electronics2023", "cruz2024")
# Rows that print a model of another row once more: they are distilled once.
PRINTED_AGAIN = {
    "loss_ce5_cos1_mlm2": "eliquare_mbert_pre_vocabreduce",
    "tau_2.0": "eliquare_mbert_pre_vocabreduce",
    "eliquare_mbert_post_vocabreduce": "eliquare_mbert",
    "dbert": "dbert_base",
    "dbert_at_100pct": "dbert_base",
}
NOT_DISTILLED = {
    "mbert",
    "mbert_conditioned",
    "xlmr",
    "distilmbert",
    "upper_bound",
    "roberta_tagalog",
    "from_scratch",
}


def experiment(name: str) -> Configuration:
    return load(f"config/experiments/{name}.yaml")


def distilled(settings: Configuration) -> list[tuple[str, str]]:
    """Return (name in the papers, language) of each distillation that is planned."""
    found = []
    for (student, language), systems in Paths(settings).distillations().items():
        names = {settings.students[name].published_as for name in (student, *systems)}
        (name,) = {PRINTED_AGAIN.get(each, each) for each in names if each}
        found.append((name, language))
    return found


def test_the_plans_have_the_41_distillations_that_the_papers_print():
    """coling2022 prints the models of electronics2023, and states another budget for its six."""
    printed = {
        (PRINTED_AGAIN.get(row.system, row.system), row.language)
        for row in published.read()
        if row.task_kind in published.COMPARABLE and row.system not in NOT_DISTILLED
    }
    first, second, third = (distilled(experiment(name)) for name in NAMES)
    assert len(printed) == len(second) + len(third) == 34 + 7
    assert {*second, *third} == printed
    assert len(first) == 6
    assert {*first} < {*second}


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_need_no_file_in_place(name, tmp_path, monkeypatch):
    settings = experiment(name)
    monkeypatch.chdir(tmp_path)
    check_files(settings, name)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_papers_compare_with_is_optional_but_their_teachers_are_pinned(name):
    settings = experiment(name)
    assert all(settings.tasks[task].optional for task in settings.experiment.tasks)
    assert all(each.revision for each in settings.teachers.values() if each.source == "hub")


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
        ("coling2022", set()),
        # These two rows print the students reduced before once more, with the numbers of Table 5.
        ("electronics2023", {"loss_ce5_cos1_mlm2", "tau_2.0"}),
        # And these the numbers of dbert_base in Table 2.
        ("cruz2024", {"dbert", "dbert_at_100pct"}),
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
