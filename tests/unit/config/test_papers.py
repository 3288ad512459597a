"""The experiments of the papers: their distillations, and every published score, need no file.

The matrix of what the papers print is the package's own, published.csv.
"""

from pathlib import Path

import pytest

from eliquare.config import published
from eliquare.config.inputs import check_files
from eliquare.config.load import complete, load
from eliquare.config.model import Configuration
from eliquare.config.shared import made_by
from eliquare.io import InputError
from eliquare.paths import Paths

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
        names = {
            PRINTED_AGAIN.get(each, each)
            for name in (student, *systems)
            for each in settings.students[name].published_as
        }
        (name,) = names
        found.append((name, language))
    return found


def test_the_plans_have_the_41_distillations_that_the_papers_print():
    """coling2022 prints the models of electronics2023, and states another budget for its six."""
    printed = {
        (PRINTED_AGAIN.get(row.system, row.system), row.language)
        for row in published.read()
        if row.is_score and row.system not in NOT_DISTILLED
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


@pytest.mark.parametrize("name", NAMES)
def test_experiments_repeat_every_published_number(name):
    settings = experiment(name)
    asked = [(each.paper, each.table) for each in settings.experiment.papers]
    rows = [row for row in published.read() if row.paper == name]
    assert {(row.paper, row.table) for row in rows if row.table != "figure 1"} == set(asked)
    assert [
        row for row in rows if row.table.isdigit() and not published.compares(settings, row)
    ] == []


def test_tables_that_cannot_be_compared_and_names_that_nobody_prints_are_refused():
    """All mistakes at once, each with its key."""
    tables = [
        {"paper": "electronics2023", "table": "1"},  # of the literature
        {"paper": "coling2022", "table": "3"},  # other batches
        {"paper": "cruz2024", "table": "2"},  # other systems
        {"paper": "coling2022", "table": "1"},  # no dump
        {"paper": "electronics2023", "table": "4"},
    ]
    text = {"corpus": {"source": "text", "files": ["sl.txt"]}}
    wrong = {
        "name": "wrong",
        "languages": {"sl": text},
        "teachers": {
            "mbert": {"source": "folder", "model": "m", "published_as": ["mbert", "distilmbert"]},
            "other": {"source": "folder", "model": "m", "published_as": "mbertt"},
        },
        "tasks": {
            "ner": {"language": "sl", "kind": "ner", "train": "t", "published_as": {"task": "1"}},
            "upos": {"language": "sl", "kind": "upos", "train": "t", "published_as": {"task": "3"}},
        },
        "experiment": {"systems": ["mbert"], "papers": tables},
    }
    with pytest.raises(InputError) as refused:
        complete(wrong)
    lines = str(refused.value).splitlines()
    expected = [
        "teachers.other.published_as: no paper prints a system 'mbertt'; did you mean 'mbert'?",
        "tasks.upos.published_as: no paper prints a task '3' in 'sl'; known are 1, 2",
        "experiment.papers.0: table '1' of electronics2023 prints nothing that can be compared; "
        "those that can are 2, 4, 5, 6, 7",
        "experiment.papers.1: table 3 of coling2022 is of batches of 32 sequences of 512 tokens; "
        "write `benchmark: {batch_sizes: [1, 32], sequence_length: 512}`, or remove the table",
        "experiment.papers.2: table 2 of cruz2024: no system on a task of the experiment is among "
        "its rows (from_scratch, roberta_tagalog, mbert, distilmbert, dbert_base, dbert_tiny); "
        "give it with `published_as`, or remove the table",
        "experiment.papers.3: table 1 of coling2022: no language of the experiment is one of "
        "fr, nl, hi, he, sw, sl with a dump; remove the table",
    ]
    assert lines == [f"configuration: {line}" for line in expected]


def test_the_first_run_shares_all_but_its_students_with_the_experiment():
    first = made_by(load("config/config.yaml"), "results")
    experiment = made_by(load("config/experiments/electronics2023.yaml"), "results")
    own = {path for path, names in first.items() if any("students." in name for name in names)}
    assert not own & experiment.keys()
    assert {path: names for path, names in first.items() if path not in own}.items() <= (
        experiment.items()
    )


def test_the_first_run_differs_from_the_paper_in_its_budget_alone():
    first = load("config/config.yaml").students["half"]
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
