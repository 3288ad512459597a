"""What the papers print beside ours: each row of their tables, each of their figures."""

import csv
import gzip
import json
import statistics
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import results_tree
from eliquare.config import published
from eliquare.config.load import complete, load
from eliquare.reporting import figures, formats, paper_figures, papers, results, segmentation
from eliquare.vocabulary.scripts import count_scripts, grouped
from real_data import DATA, needs_data

ROOT = Path(__file__).parents[3]
NAMES = ("coling2022", "electronics2023", "cruz2024")


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


def read(root, settings):
    return results.read(results.ExperimentOptions(settings=settings, results=root))


def experiment_of(root, changes=None):
    return read(root, results_tree.make(root, changes))


def values(root, system, task):
    path = next(root.glob(f"cruz2024/scores/*/{system}.json"))
    found = json.loads(path.read_text())["tasks"][task]
    return [seed["test"][found["metric"]] for seed in found["seeds"].values()]


# Tables


@pytest.mark.parametrize("name", NAMES)
def test_each_printed_row_has_its_row(name, tmp_path):
    """Nothing was run: each printed number stands beside an empty cell, or the dump's pages."""
    experiment = read(
        tmp_path, results_tree.empty(tmp_path, load(f"config/experiments/{name}.yaml"))
    )
    made = {table.name: table for table in papers.as_printed(experiment)}
    numbers = [row for row in published.read() if row.paper == name and row.table.isdigit()]
    assert set(made) == {f"{name}-table-{row.table}" for row in numbers}
    for table in made.values():
        formats.write(table, tmp_path)
    for row in numbers:
        with (tmp_path / f"{name}-table-{row.table}.csv").open(encoding="utf-8") as file:
            (*_, found) = [
                each
                for each in csv.DictReader(file)
                if (each["published_system"], each["published_metric"]) == (row.system, row.metric)
                and each["language"] in (row.language, "")
                and float(each["published"]) == row.value
            ]
        assert found["system"] or row.task_kind == published.PAGES
        # Its row, as people read it.
        table = made[f"{name}-table-{row.table}"]
        place = table.header.index("As printed") if "As printed" in table.header else 0
        label = papers.ROWS[row.system] if place or "As printed" in table.header else None
        rows = [line for line in table.rows if label in (None, line[place].text)]
        form = next(
            quantity["form"] if kind else ".4f"
            for kind, quantity in {"": {}, **papers.QUANTITIES}.items()
            if kind.partition(" ")[0] == ("" if row.is_score else row.metric)
        )
        words = f"({row.value:{form}})".replace("-", "−")
        assert any(cell.text.endswith(words) for line in rows for cell in line), (row, words)


@pytest.fixture(scope="module")
def cruz(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cruz")
    return folder, read(
        folder, results_tree.fill(folder, load(ROOT / "config/experiments/cruz2024.yaml"))
    )


def number(found, table, system, metric, quantity="ours"):
    rows = [papers.record(found, each) for each in papers.comparisons(found, "cruz2024", table)]
    (row,) = [
        each
        for each in rows
        if (each["published_system"], each["published_metric"]) == (system, metric)
    ]
    return row[quantity]


def test_differences_are_to_the_baseline_of_the_table(cruz):
    folder, experiment = cruz
    ours, teacher = (values(folder, name, "tl-ner") for name in ("dbert-init", "mbert"))
    expected = statistics.fmean(ours) - statistics.fmean(teacher)
    assert number(experiment, "5", "dbert_init", "perf_diff_vs_mbert") == pytest.approx(expected)
    assert number(experiment, "5", "dbert_init", "perf_diff_vs_mbert", "published") == -0.133
    # One model is three rows.
    names = [
        number(experiment, table, name, metric, "system")
        for table, name, metric in (
            ("3", "dbert_at_100pct", "accuracy"),
            ("4", "dbert", "F1"),
            ("5", "dbert", "F1"),
        )
    ]
    assert names == ["dbert-base"] * 3


def test_times_and_speedups_are_of_the_same_tasks(cruz):
    folder, experiment = cruz
    store = folder / "finetuned"
    for task, seconds in (("tl-ner", 10), ("tl-hatespeech", 40), ("tl-inference", 100)):
        for seed in (1, 2, 3):
            for system, times in (("mbert", 1), ("dbert-tiny", 5 if task == "tl-ner" else 2)):
                path = store / task / system / f"seed-{seed}/runtime.json"
                results_tree.write(path, {"seconds": seconds / times})
    again = read(folder, experiment.paths.settings_file)
    assert number(again, "2", "dbert_tiny", "avg_speedup") == pytest.approx((5 + 2 + 2) / 3)
    table = next(each for each in papers.as_printed(again) if each.name == "cruz2024-table-2")
    row = next(line for line in table.rows if line[0].text == "dBERT Tiny")
    times = {head: cell.text for head, cell in zip(table.header, row, strict=True)}
    assert times["TLUnified NER: Fine-tuning (s)"] == "2 (31)"
    assert times["Average speed-up"] == "3.00 (5.23)"
    (store / "tl-ner/mbert/seed-1/runtime.json").unlink()
    older = read(folder, experiment.paths.settings_file)
    assert number(older, "2", "dbert_tiny", "avg_speedup") is None


def test_memory_is_that_of_the_weights_and_the_batch():
    benchmark = results_tree.benchmark("mbert", "sl")
    assert papers.measured(benchmark, "inference_time encoder") is None
    benchmark |= {"sequence_length": 512}
    row = next(
        each
        for each in benchmark["measurements"]
        if (each["batch_size"], each["part"]) == (32, "encoder_and_mlm_head")
    )
    seconds = papers.measured(benchmark, "inference_time encoder_and_mlm_head")
    assert seconds == pytest.approx(row["latency_ms"]["median"] / 1000)
    memory = papers.measured(benchmark, "inference_memory encoder_and_mlm_head")
    assert memory == pytest.approx(177_974_523 * 4 / 1e6 + row["peak_memory_mb"])
    assert papers.measured(benchmark, "parameters") == pytest.approx(177.974523)


def test_pages_stand_beside_the_printed_ones(tmp_path):
    asked = {"experiment": {"papers": [{"paper": "electronics2023", "table": "2"}]}}
    (table,) = papers.as_printed(experiment_of(tmp_path, asked))
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows == [["Slovene", "0.44412 (0.444)"], ["Swahili", "0.44412 (0.155)"]]


# Figures


def test_each_printed_figure_has_its_files(tmp_path, monkeypatch):
    """In a width that LaTeX sets beside text."""
    widths = {}

    def touch(figure, path, **_):
        widths[path.name] = figure.get_figwidth()

    monkeypatch.setattr(Figure, "savefig", touch)
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda self: None)
    monkeypatch.setattr(figures, "task_scores", lambda *_: Figure())
    monkeypatch.setattr(figures, "size_against_score", lambda *_: Figure())
    for name in ("coling2022", "electronics2023"):
        base = {"extends": f"config/experiments/{name}.yaml", "experiment": {"seeds": [1]}}
        if name == "electronics2023":
            systems = ["mbert", "eliquare-mbert-pre", "loss-ce1-cos1-mlm1", "tau-0.5"]
            base["experiment"] |= {"languages": ["sl", "sw"], "systems": systems, "release": []}
        experiment = complete(base, "test.yaml")
        settings = results_tree.fill(tmp_path / name, experiment)
        if name == "electronics2023":
            results_tree.tokenizers(tmp_path / name, experiment)
        options = {"settings": settings, "results": tmp_path / name}
        figures.write_figures(results.OutputOptions(output=tmp_path / name / "figures", **options))
    curves = [f"curves-coling-full-{code}" for code in ("nl", "fr", "hi", "he", "sw", "sl")]
    own = [
        "scripts-mbert",
        "segmentation-sl",
        "electronics2023-figure-4",
        "electronics2023-figure-5",
    ]
    for name in (*curves, *own):
        for suffix in ("svg", "png"):
            assert 5 < widths[f"{name}.{suffix}"] <= paper_figures.WIDTH == 6.2


def test_drops_are_differences_to_the_row_of_the_figure(tmp_path):
    systems = ["mbert", "pre", "post"]
    changes = {
        "students": {
            "pre": {"published_as": ["eliquare_mbert_pre_vocabreduce", "tau_2.0"]},
            "post": {"published_as": "tau_4.0"},
        },
        "experiment": {
            "systems": systems,
            "papers": [{"paper": "electronics2023", "table": "7"}],
        },
    }
    experiment = experiment_of(tmp_path, changes)
    drawn = {each.name: each for each in paper_figures.draw(experiment, figures.COLORS)}
    drawn = drawn["electronics2023-figure-5"]
    ours, printed = drawn.figure.axes
    scores = {name: experiment.score(name, "sl-ner").mean for name in ("pre", "post")}
    heights = [bar.get_height() for bar in ours.patches]
    assert heights[0] == pytest.approx(scores["post"] - scores["pre"])
    assert len(heights) == 4
    # Slovene, task 1, at a temperature of 0.5.
    assert printed.patches[0].get_height() == pytest.approx(0.9398 - 0.9495)


def test_the_scripts_of_a_vocabulary_stand_beside_the_printed_ones(tmp_path):
    settings = results_tree.make(tmp_path)
    results_tree.tokenizers(tmp_path, results_tree.settings())
    experiment = read(tmp_path, settings)
    table = segmentation.scripts_table(experiment)
    rows = {row["script"]: row for row in table.records}
    assert rows["Indic"]["tokens"] == rows["CJK"]["tokens"] == 2
    assert (rows["Cyrillic"]["tokens"], rows["Cyrillic"]["published"]) == (1, 13_782)
    assert rows["Hebrew"]["published"] == 2_483
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


def test_long_words_are_cut_by_teacher_student_and_a_better_model(tmp_path):
    settings = results_tree.make(tmp_path)
    experiment = read(tmp_path, settings)
    table = segmentation.words_table(experiment)
    word = results_tree.LONG_WORDS[0]
    row = next(row for row in table.records if row["word"] == word)
    assert row["teacher tokens"] == " ".join(word)
    assert row["student tokens"] == " ".join([word[:3], *word[3:]])
    assert row["best other model tokens"] == " ".join([word[:5], *word[5:]])
    assert [row[f"{role} system"] for role in ("teacher", "student")] == ["mbert", "pre"]
    swahili = next(row for row in table.records if row["language"] == "sw")
    assert "best other model system" not in swahili
    said = "Teacher: mBERT; Student: Student, reduced before; Best other model: SloBERTa."
    assert f"Slovene. {said}" in table.notes


def test_without_its_teacher_a_student_keeps_its_own_head(tmp_path):
    changes = {"experiment": {"systems": ["full", "pre", "sloberta"], "baseline": "full"}}
    settings = results_tree.make(tmp_path, changes)
    table = segmentation.words_table(read(tmp_path, settings))
    row = next(each for each in table.records if each["language"] == "sl")
    assert row["student system"] == "pre"
    assert "teacher system" not in row
    assert "best other model system" not in row  # whether it is better than the teacher is unknown


@needs_data
def test_thai_tokens_of_mbert_are_the_370_of_the_paper():
    """The list has the 106,004 of its 119,547 tokens that stand in Wikipedias of 2018."""
    with gzip.open(DATA / "mbert/vocab.txt.gz", "rt", encoding="utf-8") as file:
        tokens = file.read().split()
    model = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": {}}
    description = {"model": model, "normalizer": None, "pre_tokenizer": None}
    scripts = grouped(count_scripts(description, tokens))
    assert scripts["Thai"] == 370
    assert 0.9 * 13_782 < scripts["Cyrillic"] <= 13_782
