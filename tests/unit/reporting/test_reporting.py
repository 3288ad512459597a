"""The reporting room on a made-up tree of results: numbers, tables, figures, card, report."""

import csv
import json
import re
import statistics
from collections import Counter
from html.parser import HTMLParser

import pytest
import yaml
from huggingface_hub import ModelCard
from matplotlib import rc_context
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

import results_tree
from eliquare import cli
from eliquare.config import published
from eliquare.config.load import dump
from eliquare.config.sources import Hub
from eliquare.io import InputError, checksum
from eliquare.reporting import (
    card,
    figures,
    formats,
    metadata,
    overview,
    papers,
    report,
    results,
    sections,
    tables,
)
from eliquare.reporting.formats import Cell, Table
from eliquare.reporting.results import Score
from real_data import DATA

# Change it together with the version of the stage `tables` in eliquare.cli.
TABLES = (14, "3fce175bd6d40b5c505809a5fad30331240c8418cea6e081e8bf31dc8bfcb7ce")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    settings = results_tree.make(root)
    results_tree.tokenizers(root, results_tree.settings())
    make_tables(root, settings)
    options = results.OutputOptions(settings=settings, results=root, output=root / "figures")
    figures.write_figures(options)
    return root, settings


@pytest.fixture
def experiment(tree):
    return read(tree[0], tree[1])


def read(root, settings):
    return results.read(results.ExperimentOptions(settings=settings, results=root))


def make_tables(root, settings):
    options = results.OutputOptions(settings=settings, results=root, output=root / "tables")
    tables.write_tables(options)


def make_report(root, settings, of_figures):
    options = report.ReportOptions(
        settings=settings,
        results=root,
        tables=root / "tables",
        figures=of_figures,
        output=root / "report.html",
    )
    report.write_report(options)
    return (root / "report.html").read_text(encoding="utf-8")


def make_all(folder, settings):
    """Make tables and figures, and return the report."""
    make_tables(folder, settings)
    options = results.OutputOptions(settings=settings, results=folder, output=folder / "figures")
    figures.write_figures(options)
    return make_report(folder, settings, folder / "figures")


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def seeds_of(root, task, system, metric):
    """The test scores of a system on a task, by seed, read without the room's code."""
    language = results_tree.TASKS[task][0]
    scores = json.loads((root / f"small/scores/{language}/{system}.json").read_text())
    seeds = scores["tasks"][task]["seeds"]
    return [results["test"][metric] for results in seeds.values()]


# The published numbers


def test_published_rows_are_those_of_the_papers():
    rows = published.read()
    counts = Counter(f"{row.paper}/table{row.table}" for row in rows)
    assert counts == {
        "coling2022/table2": 48,
        "coling2022/table3": 9,
        "electronics2023/table4": 72,
        "electronics2023/table5": 24,
        "electronics2023/table6": 20,
        "electronics2023/table7": 20,
        "cruz2024/table2": 39,
        "cruz2024/table3": 7,
        "cruz2024/table4": 7,
        "cruz2024/table5": 7,
        "coling2022/table1": 6,
        "electronics2023/table2": 6,
        "electronics2023/tablefigure 1": 4,
    }


def test_published_rows_equal_the_source():
    path = DATA.parent / "published.yaml"
    if not path.exists():
        pytest.skip(f"no {path} to compare the published numbers with")
    source = yaml.safe_load(path.read_text(encoding="utf-8"))
    columns = published.Published.__dataclass_fields__
    expected = [
        {name: str(row.get(name, "")) for name in columns} | {"value": row["value"]}
        for row in source["results"]
    ]
    rows = published.read()
    assert [vars(row) for row in rows if row.task_kind not in ("pages", "scripts")] == expected
    assert len(expected) == source["counts"]["total"] == 253
    stated = source["data_tables"]
    for paper, table in (("coling2022", "table1"), ("electronics2023", "table2")):
        pages = {row.language: row.value for row in published.printed(paper, table[-1])}
        assert pages == stated[f"{paper}_{table}_wikipedia_pages_millions"]
    for row in published.printed("electronics2023", "figure 1"):
        assert row.value == stated["electronics2023_text_numbers"][f"mbert_{row.task}_subwords"]


def test_every_published_score_compares_with_the_metric_that_it_probably_is():
    kinds = {row.task_kind for row in published.read()}
    kinds -= {"efficiency", "delta", "pages", "scripts"}
    assert set(published.COMPARABLE) == kinds
    named = {"accuracy": "accuracy", "entity_f1": "entity", "macro_f1": "macro-F1"}
    for row in published.read():
        probable = row.metric_probable
        if row.task_kind in kinds and probable:
            assert named[published.COMPARABLE[row.task_kind]] in probable, row


def test_a_contradicted_label_is_noted():
    rows = {(row.paper, row.task_kind): row for row in published.read()}
    assert "labelled macro-F1" in rows["coling2022", "upos"].note
    assert "averaging not stated" in rows["electronics2023", "upos"].note
    assert rows["coling2022", "topic"].note == ""
    assert rows["cruz2024", "nli"].note == ""


# Statistics


def published_scores(system, table):
    return {
        (row.language, row.task): row.value
        for row in published.read()
        if (row.paper, row.table, row.system) == ("electronics2023", table, system)
    }


def test_the_wilcoxon_test_gives_the_published_p():
    """electronics2023: p = 0.017 for Eliquare-mBERT against mBERT over the twelve tasks."""
    ours, teacher = published_scores("eliquare_mbert", "4"), published_scores("mbert", "4")
    assert len(ours) == 12
    p, _ = tables.signed_rank([teacher[key] for key in ours], list(ours.values()))
    assert round(p, 3) == 0.017
    swapped, _ = tables.signed_rank(list(ours.values()), [teacher[key] for key in ours])
    assert swapped > 0.95


def test_the_wilcoxon_test_says_why_it_gives_no_p():
    assert tables.signed_rank([0.1] * 4, [0.2] * 4)[0] is None
    assert tables.signed_rank([0.1] * 5, [0.1] * 5)[0] is None
    # Equal pairs say nothing, nor do those that differ by a rounding.
    p, why = tables.signed_rank([0.1] * 6, [0.2] * 4 + [0.1, 0.1 + 1e-12])
    assert (p, why) == (None, "not given: 4 pairs differ, at least 5 are needed")


def test_deviations_over_distillation_and_fine_tuning_seeds_are_apart():
    score = Score("accuracy", {("a", 1): 0.80, ("a", 2): 0.82, ("a@2", 1): 0.90, ("a@2", 2): 0.94})
    assert score.mean == pytest.approx(0.865)
    assert score.deviation == pytest.approx(statistics.stdev([0.80, 0.82, 0.90, 0.94]))
    assert score.distillation_deviation == pytest.approx(statistics.stdev([0.81, 0.92]))
    within = [statistics.variance([0.80, 0.82]), statistics.variance([0.90, 0.94])]
    assert score.finetuning_deviation == pytest.approx(statistics.fmean(within) ** 0.5)


def test_one_seed_has_no_deviation():
    score = Score("accuracy", {("a", 1): 0.9})
    assert score.deviation is score.distillation_deviation is score.finetuning_deviation is None
    assert results.within_spread(score, score) is None


@pytest.mark.parametrize(("gap", "within"), [(0.009, True), (0.03, False)])
def test_a_difference_is_compared_with_the_pooled_deviation(gap, within):
    score = Score("accuracy", {("a", seed): 0.9 + 0.01 * seed for seed in (0, 1, 2)})
    other = Score("accuracy", {("b", seed): 0.9 + gap + 0.01 * seed for seed in (0, 1, 2)})
    assert results.pooled([score.runs.values(), other.runs.values()]) == pytest.approx(0.01)
    assert results.within_spread(score, other) is within


# Tables


def test_scores_are_means_over_the_seeds_on_disk(tree):
    values = seeds_of(tree[0], "sl-ner", "pre", "entity_f1")
    row = next(row for row in rows_of(tree[0] / "tables/scores.csv") if row["system"] == "pre")
    assert float(row["sl/sl-ner entity_f1"]) == pytest.approx(statistics.fmean(values))
    assert float(row["sl/sl-ner entity_f1 deviation"]) == pytest.approx(statistics.stdev(values))
    assert row["sl/sl-ner entity_f1 n"] == "3"


def test_a_student_of_several_distillation_seeds_is_one_row(tmp_path):
    settings = results_tree.make(tmp_path, {"students": {"pre": {"seeds": [1, 2]}}})
    make_tables(tmp_path, settings)
    rows = {row["system"]: row for row in rows_of(tmp_path / "tables/scores.csv")}
    assert list(rows) == list(results_tree.LEVEL)
    column = "sw/sw-news macro_f1"
    first, second = (seeds_of(tmp_path, "sw-news", name, "macro_f1") for name in ("pre", "pre@2"))
    assert float(rows["pre"][column]) == pytest.approx(statistics.fmean(first + second))
    assert rows["pre"][f"{column} n"] == "6"
    deviation = statistics.stdev([statistics.fmean(first), statistics.fmean(second)])
    assert float(rows["pre"][f"{column} distillation deviation"]) == pytest.approx(deviation)
    assert rows["mbert"][f"{column} distillation deviation"] == ""
    lines = (tmp_path / "tables/scores.md").read_text().splitlines()
    assert re.search(r"\d D ± [\d.]+ F", next(line for line in lines if "reduced before" in line))
    experiment = read(tmp_path, settings)
    assert "Distillation seeds: 1, 2" in card.card(experiment, "pre", "sl")
    assert [curve.student for curve in experiment.curves].count("pre@2") == 2


def test_what_is_within_the_spread_of_the_best_is_bold(experiment):
    rows = {row[0].text: row[1:] for row in tables.scores(experiment, experiment.tasks).rows}
    for column, task in enumerate(experiment.tasks):
        scores = {experiment.label(s): experiment.score(s, task) for s in experiment.systems}
        best = max(filter(None, scores.values()), key=lambda score: score.mean)
        for label, score in scores.items():
            cell = rows[label][column]
            if score is None:
                assert cell == Cell()
                continue
            deviation = results.pooled([score.runs.values(), best.runs.values()])
            assert cell.bold == (best.mean - score.mean <= deviation)


def test_tables_of_one_seed_leave_the_deviation_empty(tmp_path):
    settings = results_tree.make(tmp_path, {"experiment": {"seeds": [7]}})
    make_tables(tmp_path, settings)
    for row in rows_of(tmp_path / "tables/scores_all_metrics.csv"):
        assert (row["deviation"], row["n"]) == ("", "1")
    assert "±" not in (tmp_path / "tables/scores.md").read_text()


def test_what_the_scores_of_a_task_lack_is_noted(experiment):
    """News are truncated; sentences that are as long become windows."""
    notes = tables.scores(experiment, experiment.tasks).notes
    assert notes == [
        "Slovene: Part of speech: training never had these test labels, which count as errors: "
        "INTJ (2), SYM (1).",
        "Swahili: News: 1.8% of the test texts are in train too.",
        "Swahili: News: 30.0% of the test texts are truncated to 128 tokens (mBERT, the largest "
        "share).",
    ]
    assert "which count as errors" in card.card(experiment, "pre", "sl")


def test_a_small_share_of_truncated_texts_is_not_noted(tmp_path):
    settings = results_tree.make(tmp_path)
    for path in tmp_path.glob("small/scores/sw/*.json"):
        scores = json.loads(path.read_text())
        scores["tasks"]["sw-news"]["long_share"]["test"] = 0.01
        scores["tasks"]["sw-news"]["seen_share"]["test"] = 0.0
        path.write_text(json.dumps(scores))
    assert not list(tables.task_notes(read(tmp_path, settings), "sw-news"))


def test_names_are_scored_by_conlleval_and_strictly(tree, experiment):
    rows = tables.all_metrics(experiment).rows
    metrics = {row[2].text for row in rows if row[0].text.endswith(": Entities")}
    assert {"entity F1, conlleval", "entity F1, strict IOB2"} < metrics
    # A paper's number stands beside the one that run_ner.py prints.
    published_rows = rows_of(tree[0] / "tables/published.csv")
    assert {row["metric"] for row in published_rows if "ner" in row["task"]} == {"entity_f1"}


def test_sizes_are_relative_to_the_teacher(tree):
    rows = {(row["language"], row["system"]): row for row in rows_of(tree[0] / "tables/sizes.csv")}
    share = float(rows["sl", "pre"]["share_of_teacher"])
    assert share == pytest.approx(66_134_016 / 177_974_523)
    assert rows["sl", "mbert"]["share_of_teacher"] == ""
    assert ("sw", "sloberta") not in rows


def test_scores_without_labels_are_relative_to_the_teacher(tree):
    rows = {
        (row["language"], row["system"]): row for row in rows_of(tree[0] / "tables/intrinsic.csv")
    }
    row = rows["sl", "pre"]
    assert float(row["bits_per_character"]) == 2.4
    assert float(row["more_than_teacher"]) == pytest.approx(2.4 / 2.1 - 1)
    assert (row["sl-agreement accuracy"], row["sl-agreement pairs"]) == ("0.94", "1200")
    assert rows["sw", "pre"]["sl-agreement accuracy"] == ""
    bare = rows["sl", "sloberta"]
    assert (bare["bits_per_character"], bare["sl-agreement accuracy"]) == ("", "")
    assert float(bare["fertility"]) == 1.5
    written = (tree[0] / "tables/intrinsic.md").read_text()
    assert "Slovene: Agreement (1,200 pairs)" in written
    assert "SloBERTa: no head for masked language modelling is stored." in written


def test_columns_that_only_a_head_fills_are_left_out_for_encoders(tmp_path):
    settings = results_tree.make(tmp_path)
    for path in tmp_path.glob("small/intrinsic/*/*.json"):
        bare = {"bits_per_character": None, "texts": [], "remark": "no head is stored"}
        results_tree.write(path, json.loads(path.read_text()) | bare)
    for path in tmp_path.glob("benchmarks/*/*.json"):
        report = json.loads(path.read_text())
        report["measurements"] = [r for r in report["measurements"] if r["part"] == "encoder"]
        report["parameters"]["head"] = 0
        results_tree.write(path, report)
    make_tables(tmp_path, settings)
    intrinsic = (tmp_path / "tables/intrinsic.md").read_text()
    assert "| Fertility |" in intrinsic
    assert "| Bits" not in intrinsic
    assert intrinsic.count("no head is stored") == 1
    speed = (tmp_path / "tables/speed.md").read_text()
    assert "Encoder (ms)" in speed
    assert "MLM head" not in speed.partition("|")[2]
    assert "MLM head (M)" not in (tmp_path / "tables/sizes.md").read_text()


def test_frozen_embeddings_are_relative_to_the_teacher(tree):
    table = {
        (row["language"], row["system"]): row for row in rows_of(tree[0] / "tables/embeddings.csv")
    }
    topics, teacher = (float(table["sw", n]["sw-news macro_f1"]) for n in ("pre", "mbert"))
    assert topics == pytest.approx(0.74)
    assert float(table["sw", "pre"]["kept"]) == pytest.approx((topics / teacher + 1) / 2)
    assert table["sw", "mbert"]["kept"] == ""
    # Slovene has no topics here, and retrieval alone.
    assert float(table["sl", "pre"]["held-out titles top_1"]) == 0.5
    assert table["sl", "pre"]["sw-news macro_f1"] == ""
    assert "Swahili: 2 queries, 2 documents" in (tree[0] / "tables/embeddings.md").read_text()


def test_scores_without_labels_are_means_over_distillation_seeds(tmp_path):
    settings = results_tree.make(tmp_path, {"students": {"pre": {"seeds": [1, 2]}}})
    experiment = read(tmp_path, settings)
    bits = experiment.intrinsic_score("pre", "sl")
    assert bits.mean == pytest.approx(2.45)
    assert bits.distillation_deviation == pytest.approx(statistics.stdev([2.4, 2.5]))


def test_published_numbers_stand_beside_ours(tree):
    rows = rows_of(tree[0] / "tables/published.csv")
    ours = {(row["system"], row["task"]): row for row in rows}
    row = ours["pre", "sl-ner"]
    assert (row["paper"], row["table"]) == ("electronics2023", "5")
    assert (
        float(row["published"])
        == published_scores("eliquare_mbert_pre_vocabreduce", "5")["sl", "1"]
    )
    assert float(row["difference"]) == pytest.approx(float(row["ours"]) - float(row["published"]))
    assert ours["mbert", "sl-ner"]["table"] == "4"  # Table 5 does not print the teacher again
    assert ("full", "sl-ner") not in ours
    assert ("sloberta", "sw-ner") not in ours


def test_differences_are_paired_by_seed(tree):
    ours, other = (seeds_of(tree[0], "sw-news", name, "macro_f1") for name in ("post", "mbert"))
    paired = [a - b for a, b in zip(ours, other, strict=True)]
    rows = rows_of(tree[0] / "tables/differences.csv")
    row = next(row for row in rows if (row["system"], row["task"]) == ("post", "sw-news"))
    assert float(row["difference"]) == pytest.approx(statistics.fmean(paired))
    assert float(row["deviation"]) == pytest.approx(statistics.stdev(paired))
    assert row["within_spread"] == "False"


@pytest.mark.parametrize("missing", ["seed", "task", "file", "everything"])
def test_a_missing_score_is_named(tmp_path, missing):
    settings = results_tree.make(tmp_path)
    path = tmp_path / "small/scores/sw/post.json"
    scores = json.loads(path.read_text())
    if missing == "seed":
        del scores["tasks"]["sw-ner"]["seeds"]["1"]
    if missing == "task":
        del scores["tasks"]["sw-ner"]
    path.write_text(json.dumps(scores))
    if missing == "file":
        path.unlink()
    if missing == "everything":
        path.write_text("{}")
    with pytest.raises(InputError, match=r"scores/sw/post\.json"):
        make_tables(tmp_path, settings)
    assert not (tmp_path / "tables").exists()


def test_tables_change_only_with_their_version(tree):
    assert (cli.version("reporting", "tables"), checksum(tree[0] / "tables")) == TABLES


def test_latex_and_markdown_escape_their_signs(tmp_path):
    rows = [[Cell("a_b & 5%"), Cell("0.1", 0.1, bold=True)]]
    table = Table("t", "A | b", ["System", "x|y"], rows, [])
    formats.write(table, tmp_path)
    latex = (tmp_path / "t.tex").read_text()
    assert r"a\_b \& 5\% & \textbf{0.1} \\" in latex
    assert r"\begin{tabular}{lr}" in latex
    assert r"| System | x\|y |" in (tmp_path / "t.md").read_text()


HOSTILE = "<script>x</script> [a](javascript:b) `c` $\\frac$ \\input{d} | * =e"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A tree whose labels are what each format could take for its own."""
    root = tmp_path_factory.mktemp("hostile")
    changes = {
        "title": HOSTILE,
        "languages": {"sl": {"name": HOSTILE}},
        "students": {"pre": {"label": f"[{HOSTILE}"}},
        "tasks": {"sl-ner": {"label": HOSTILE}},
    }
    settings = results_tree.make(root, changes)
    make_tables(root, settings)
    return root, settings


def test_labels_are_escaped_in_markdown_and_the_card(hostile):
    root, settings = hostile
    pages = [*(path.read_text() for path in (root / "tables").glob("*.md"))]
    # Its head is YAML, in which a label is a text like any other.
    _, head, below = card.card(read(root, settings), "pre", "sl").split("---\n", 2)
    assert "<script>" in str(yaml.safe_load(head)["model-index"])
    pages.append(below)
    for written in pages:
        assert "<script" not in written
        assert not re.search(r"(?<!\\)\](?=\()", written)
        assert not re.search(r"(?<!\\)`c", written)
    assert "&lt;script&gt;" in "".join(pages)
    rows = [line for line in pages[0].splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_labels_are_escaped_in_latex(hostile):
    written = "".join(path.read_text() for path in (hostile[0] / "tables").glob("*.tex"))
    assert r"\input" not in written
    assert r"\frac" not in written
    assert r"\textbackslash{}input\{d\}" in written
    assert not re.search(r"^ *[\[*]", written, re.MULTILINE)


def test_a_label_is_no_mathematics_in_a_figure(hostile, tmp_path):
    with rc_context(fname=str(figures.STYLE)):
        figures.task_scores(read(*hostile), "sl-ner").savefig(tmp_path / "a.svg")
    assert r"$\frac$" in (tmp_path / "a.svg").read_text()


def test_text_is_no_formula_in_csv(tmp_path):
    records = [{"a": text, "b": -1.5} for text in ("=1+1", "@x", "-", "+1", "x=1")]
    formats.write(Table("t", "A", ["a"], [[Cell("x")]] * 5, records), tmp_path)
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows == ["a,b", "'=1+1,-1.5", "'@x,-1.5", "'-,-1.5", "'+1,-1.5", "x=1,-1.5"]


def test_each_reduced_model_has_its_verification(tmp_path):
    experiment = read(tmp_path, results_tree.make(tmp_path))
    rows = [[cell.text for cell in row] for row in sections.verifications(experiment).rows]
    assert [row[:3] for row in rows] == [
        ["Slovene", "mBERT", "before distillation (share)"],
        ["Swahili", "mBERT", "before distillation (share)"],
        ["Slovene", "Student, reduced after", "after distillation (share)"],
        ["Swahili", "Student, reduced after", "after distillation (share)"],
    ]
    assert rows[0][3:] == ["30,050", "400", "380", "2", "32", "equal bit for bit", "1.2e−07"]
    experiment.paths.verification("post", "sl").unlink()
    with pytest.raises(InputError, match=r"verification\.json"):
        sections.verifications(experiment)


# Figures


def test_figures_are_the_same_bytes_again(tree, tmp_path):
    few = results_tree.settings({"experiment": {"languages": ["sl"], "tasks": ["sl-ner"]}})
    settings = tmp_path / "settings.json"
    results_tree.write(settings, dump(few))
    again = tmp_path / "again"
    options = results.OutputOptions(settings=settings, results=tree[0], output=again)
    figures.write_figures(options)
    names = ["scores-sl-ner", "curves-full-sl", "curves-pre-sl"]
    for name in [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]:
        assert (again / name).read_bytes() == (tree[0] / "figures" / name).read_bytes()


@pytest.mark.parametrize("terms", [("cosine", "sentence_cosine"), ("relations",)])
def test_curves_of_other_objectives_show_their_own_terms(experiment, terms):
    rows = [
        {"step": step, "loss": 3.0, **dict.fromkeys(terms, 1.0)}
        | {f"eval_{name}": 2.0 for name in ("loss", *terms)}
        for step in (1, 2)
    ]
    figure = figures.loss_curves(experiment, results.Curve("pre", "sl", ("pre",), rows))
    assert [axis.get_title() for axis in figure.axes if axis.axison] == [*terms]
    assert all(axis.lines for axis in figure.axes if axis.axison)


def test_the_legend_of_sizes_is_inside_its_figure(tmp_path):
    long = {"students": {"pre": {"label": "Student, its vocabulary reduced before distillation"}}}
    experiment = read(tmp_path, results_tree.make(tmp_path, long))
    figure = figures.size_against_score(experiment)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    around = figure.bbox
    inside = legend.get_window_extent()
    assert around.x0 <= inside.x0 < inside.x1 <= around.x1


def test_a_student_reduced_afterwards_shares_the_curves_of_its_original(tree):
    listed = json.loads((tree[0] / "figures/figures.json").read_text())
    curves = {figure["name"]: figure["title"] for figure in listed if figure["kind"] == "curves"}
    assert set(curves) == {f"curves-{s}-{c}" for s in ("full", "pre") for c in ("sl", "sw")}
    assert "reduced after" in curves["curves-full-sl"]


def test_a_student_of_a_mixture_has_one_curve_and_a_card_for_each_language(tmp_path):
    both = {"mixtures": {"both": ["sl", "sw"]}, "students": {"full": {"corpus": "both"}}}
    both["students"]["pre"] = {"corpus": None}
    experiment = read(tmp_path, results_tree.make(tmp_path, both))
    report_of_both = tmp_path / "corpora/both/documents/report.json"
    results_tree.write(report_of_both, results_tree.documents("both"))
    curves = [(curve.student, curve.corpus, curve.students) for curve in experiment.curves]
    assert curves[0] == ("full", "both", ("full", "post"))
    assert len(curves) == 3
    written = card.card(experiment, "full", "sw")
    assert "distilled on text in Slovene, Swahili" in written
    assert "slwiki-" in written
    assert "swwiki-" in written


def test_a_term_without_weight_has_no_curve(experiment):
    rows = [{"step": 1, "kl": 0.5}, {"step": 1, "eval_kl": 0.6}]
    figure = figures.loss_curves(experiment, results.Curve("pre", "sl", ("pre",), rows))
    distillation, mlm = figure.axes
    assert len(distillation.lines) == 2
    assert len(mlm.lines) == 0


# Model card and release


def test_the_card_has_metadata_that_a_hub_reads(experiment):
    written = card.card(experiment, "pre", "sl")
    data = ModelCard(written).data
    assert data.language == ["sl"]
    assert data.base_model == "google-bert/bert-base-multilingual-cased"
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "fill-mask"
    assert data.model_name == "pre-sl"
    found = {each.dataset_type: each for each in data.eval_results}
    score = experiment.score("pre", next(iter(found)))
    assert found[next(iter(found))].metric_value == round(score.mean, 4)
    assert {each.dataset_split for each in data.eval_results} == {"test"}
    assert "## How to cite" in written
    assert "## Limitations" in written
    assert "slwiki-20230501-pages-articles.xml.bz2" in written
    assert "CC BY-SA" in written
    assert "819,200 tokens" in written


def test_the_card_names_the_licence_of_the_teacher_and_shows_an_example(tree, model, tmp_path):
    experiment = read(tmp_path / "tree", results_tree.make(tmp_path / "tree"))
    folder = experiment.paths.teacher("sl", "mbert")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    held_out = experiment.paths.held_out("sl")
    held_out.parent.mkdir(parents=True, exist_ok=True)
    held_out.write_text("Kratko.\nReka teče skozi staro mesto.\n", encoding="utf-8")
    written = card.card(experiment, "pre", "sl", mask=metadata.mask_of(model))
    data = ModelCard(written).data
    assert data.license == "apache-2.0"
    assert data.widget == [{"text": "Reka teče [MASK] staro mesto."}]


def test_the_first_line_of_the_card_says_what_is_lost_on_validation(experiment):
    first = card.card(experiment, "scratch", "sl").partition("\n# ")[2].splitlines()[2]
    assert first.startswith("**It loses to its teacher: 23.1 points of entity F1")
    assert "(0.699, its teacher 0.929)" in first
    assert "loses to its teacher" not in card.card(experiment, "pre", "sl")


def test_a_student_whose_teacher_is_not_compared_has_a_card(tmp_path):
    alone = {"experiment": {"systems": ["scratch"], "baseline": None, "papers": []}}
    experiment = read(tmp_path, results_tree.make(tmp_path, alone))
    assert "loses to its teacher" not in card.card(experiment, "scratch", "sl")


def test_a_loss_of_frozen_embeddings_is_said_too(tmp_path):
    settings = results_tree.make(tmp_path)
    (topics,) = read(tmp_path, settings).paths.topics(["sw"])
    for path in tmp_path.glob("*/intrinsic/sw/pre*.json"):
        report = json.loads(path.read_text())
        report["embeddings"]["topics"][topics]["validation"]["macro_f1"] -= 0.05
        results_tree.write(path, report)
    (said,) = card.losses(read(tmp_path, settings), "pre", "sw")
    assert "by frozen embeddings" in said


PAIRS_OF_TEXTS = {
    "tasks": {
        "sl-search": {"language": "sl", "kind": "retrieval", "label": "Search", "test": "s.tsv"}
        | {"text_pair_column": "document"},
        "sl-alike": {"language": "sl", "kind": "similarity", "label": "Alike", "test": "a.tsv"},
    },
    "experiment": {"tasks": [*results_tree.TASKS, results_tree.PAIRS, "sl-search", "sl-alike"]},
}


def test_pairs_of_texts_are_columns_of_frozen_embeddings(tmp_path):
    experiment = read(tmp_path, results_tree.make(tmp_path, PAIRS_OF_TEXTS))
    table = tables.embeddings(experiment, experiment.systems, experiment.languages)
    row = next(row for row in table.records if (row["system"], row["language"]) == ("pre", "sl"))
    assert row["sl-search top_1"] == row["held-out titles top_1"] == 0.5
    assert row["sl-alike spearman"] == pytest.approx(0.94)
    assert {"Slovene: Search (top 1)", "Slovene: Alike (Spearman)"} <= {*table.header}
    assert "Slovene: Alike: 3 pairs." in table.notes
    assert "Slovene: Search: 2 queries, 2 documents." in table.notes
    # No share of a correlation is kept.
    teacher = experiment.embedding_score("mbert", "sl", "sl-search")
    assert row["kept"] == pytest.approx(row["sl-search top_1"] / teacher.mean)
    said = {*overview.by_frozen_embeddings(experiment, "pre", "mbert")}
    assert "Slovene: Search (top 1): 0.500, the teacher's 0.500." in said
    assert ("Slovene: Alike", "only 3 pairs.") in {*overview.of_pairs(experiment)}
    lost = "; ".join(card.losses(experiment, "scratch", "sl"))
    assert "Spearman on Slovene: Alike by frozen embeddings, test" in lost
    # Nothing is fine-tuned on them.
    assert not {"sl-search", "sl-alike"} & {*experiment.tasks}
    for path in tmp_path.glob("*/intrinsic/sl/*.json"):
        report = json.loads(path.read_text())
        if "embeddings" in report:
            report["embeddings"]["pairs"]["sl-alike"] = {"unavailable": "moved"}
            results_tree.write(path, report)
    experiment = read(tmp_path, experiment.paths.experiment / "settings.json")
    table = tables.embeddings(experiment, experiment.systems, experiment.languages)
    assert "Slovene: Alike: not available: moved." in table.notes
    assert "Slovene: Alike (Spearman)" not in table.header


def test_the_card_of_an_untrained_student_says_so(experiment):
    assert "was not distilled" in card.card(experiment, "scratch", "sl")


def test_the_card_reads_the_results_of_its_language_alone(tmp_path):
    settings = results_tree.make(tmp_path)
    for path in [*tmp_path.glob("*/scores/sw/*"), *tmp_path.glob("benchmarks/sw/*")]:
        path.unlink()
    assert "Slovene" in card.card(read(tmp_path, settings), "pre", "sl")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sl", "sl"),
        ("qaa", None),
        ("no", "nb"),
        ("simple", "en"),
        ("map-bms", None),
        ("ltg", "ltg"),
    ],
)
def test_only_real_language_codes_reach_the_card(code, expected):
    assert metadata.iso(code) == expected


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "reka", "teče"]
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), intermediate_size=8, **shape)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def release(tree, model, output, system="pre", exports=None):
    card.release(
        card.ReleaseOptions(
            exports=exports,
            settings=tree[1],
            results=tree[0],
            system=system,
            language="sl",
            model=model,
            output=output,
        )
    )


def test_a_release_loads_alone_and_shares_its_files(tree, model, tmp_path):
    release(tree, model, tmp_path / "out")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "out").config.vocab_size == 7
    weights = "model.safetensors"
    assert (tmp_path / "out" / weights).samefile(model / weights)
    assert not (model / "README.md").exists()
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert made["release"] == {"experiment": "small", "system": "pre", "language": "sl"}


def test_a_release_records_the_terms_of_its_teacher(model, tmp_path):
    root = tmp_path / "results"
    settings = results_tree.make(root)
    teacher = root / "teachers/mbert/model"
    teacher.mkdir(parents=True)
    (teacher / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# mBERT\n")
    (teacher / "LICENSE.txt").write_text("terms")
    release((root, settings), model, tmp_path / "out")
    written = (tmp_path / "out/README.md").read_text()
    assert yaml.safe_load(written.split("---")[1])["license"] == "cc-by-4.0"
    assert "licence of the teacher (cc-by-4.0)" in written
    assert (tmp_path / "out/LICENSE.txt").read_text() == "terms"


def test_what_a_model_links_to_elsewhere_is_not_released(tree, model, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (model / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="a link to"):
        release(tree, model, tmp_path / "out")


def test_a_release_has_the_other_forms_beside_the_student(experiment, tree, model, tmp_path):
    task = next(name for name in experiment.tasks if name.startswith("sl"))
    metric = experiment.metric(task)
    scores = {metric: 0.875}
    onnx = {"file": "onnx/model_quantized.onnx", "decision": "int8 (calibrated) kept: 0.9"}
    forms = {
        "onnx": onnx,
        "static": {"tokens": 4000, "width": 256},
        "tasks": {
            task: {"seed": 2, "metric": metric, "validation": scores, "test": scores, "onnx": onnx},
            "gone": {"unavailable": "moved away"},
        },
    }
    exports = tmp_path / "exports"
    for name in ("onnx/model_quantized.onnx", "static/config.json", f"tasks/{task}/config.json"):
        (exports / name).parent.mkdir(parents=True)
        (exports / name).write_text("{}")
    (exports / "report.json").write_text(json.dumps(forms))
    release(tree, model, tmp_path / "out", exports=exports)
    for name in ("onnx/model_quantized.onnx", "static/config.json", f"tasks/{task}/config.json"):
        assert (tmp_path / "out" / name).samefile(exports / name)
    written = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "`onnx/model_quantized.onnx` for ONNX Runtime" in written
    assert "4,000 vectors of 256 numbers" in written
    of_task = ModelCard.load(tmp_path / "out/tasks" / task / "README.md")
    assert of_task.data.pipeline_tag in ("token-classification", "text-classification")
    assert of_task.data.eval_results[0].metric_value == 0.875
    assert "int8 (calibrated) kept" in of_task.text
    assert "gone" not in written


def test_a_release_of_an_incomplete_model_is_refused(tree, model, tmp_path):
    (model / "model.safetensors").unlink()
    with pytest.raises(InputError, match="does no fill-mask with it"):
        release(tree, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_students_are_released(tree, model, tmp_path):
    with pytest.raises(InputError, match="--system mbert --language sl: expected one of"):
        release(tree, model, tmp_path / "out", "mbert")


# Report


class Page(HTMLParser):
    """Collects what the page asks for, its open tags, and its text."""

    VOID = ("meta", "img", "link", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.ids, self.images = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        self.ids.add(values.get("id"))
        if tag == "img":
            self.images.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tree):
    return make_report(*tree, tree[0] / "figures")


def test_the_report_needs_nothing_beside_it(page):
    parsed = Page(page)
    assert parsed.open == []
    assert all(address.startswith(("data:image/png", "#")) for address in parsed.addresses)
    assert {address[1:] for address in parsed.addresses if address[0] == "#"} <= parsed.ids
    assert not any(word in page for word in ("url(", "<script src", "@import"))
    assert all(image["alt"] for image in parsed.images)
    # Size against score, the tasks, the loss curves, the size of each reduced vocabulary, scripts,
    # long words.
    assert len(parsed.images) == 1 + 4 + 4 + 2 + 1 + 2


def test_the_report_shows_the_chosen_size_of_a_vocabulary_among_others(page):
    (section,) = re.findall(r'id="table-vocabulary_sizes".*?</table>', page, re.S)
    assert section.count("chosen") == 2
    assert "Size of the vocabulary: mBERT · Slovene · share" in page


def test_a_test_that_four_tasks_do_not_allow_is_a_line_and_no_table(page):
    assert 'id="table-significance"' not in page
    assert "needs five tasks that differ" in page


def test_the_report_repeats_what_was_warned_of(tree, tmp_path):
    settings = results_tree.make(tmp_path)
    paths = read(tmp_path, settings).paths
    origin = paths.student("pre", "sl") / "provenance.json"
    results_tree.write(origin, results_tree.provenance() | {"warnings": ["only 7 steps"]})
    sequences = paths.prepared("sw", "mbert", "full") / "sequences/report.json"
    results_tree.write(sequences, {"warnings": ["5.1 tokens per word"]})
    make_tables(tmp_path, settings)
    written = make_report(tmp_path, settings, tree[0] / "figures")
    assert "Slovene: only 7 steps" in written
    assert written.count("mBERT, Swahili: 5.1 tokens per word") == 1


def test_the_headline_holds_the_numbers_of_the_results(experiment, page):
    mean, other = (
        statistics.fmean(experiment.score(system, task).mean for task in experiment.tasks)
        for system in ("pre", "mbert")
    )
    assert f"{mean / other:.1%} of its mean test score on 4 tasks" in page
    assert "37% of its teacher" in page
    assert "2.0 times as fast" in page
    assert "within the spread" not in sections.headline(experiment)


def change_scores(root, system, split, change):
    for path in root.glob(f"small/scores/*/{system}.json"):
        scores = json.loads(path.read_text())
        for task in scores["tasks"].values():
            for results_of_seed in task["seeds"].values():
                results_of_seed[split][task["metric"]] += change
        path.write_text(json.dumps(scores))


def test_validation_scores_choose_the_best_student(tmp_path):
    settings = results_tree.make(tmp_path)
    change_scores(tmp_path, "full", "validation", 0.05)
    said = sections.headline(read(tmp_path, settings))
    assert "full vocabulary" in said
    change_scores(tmp_path, "pre", "test", 0.05)
    assert sections.headline(read(tmp_path, settings)) == said


def test_a_difference_within_the_spread_is_no_finding(tmp_path):
    settings = results_tree.make(tmp_path)
    change_scores(tmp_path, "pre", "test", -0.0122)
    experiment = read(tmp_path, settings)
    scores = [experiment.mean_score(name, experiment.tasks) for name in ("pre", "mbert")]
    assert results.within_spread(*scores)
    assert "within the spread of seeds" in sections.headline(experiment)


def test_one_seed_each_is_said(tmp_path):
    settings = results_tree.make(tmp_path, {"experiment": {"seeds": [1]}})
    assert "from one seed each" in sections.headline(read(tmp_path, settings))


def test_a_disturbed_measurement_gives_no_speedup(experiment):
    for (system, _), benchmark in experiment.benchmarks.items():
        for row in benchmark["measurements"] if system == "mbert" else []:
            row["latency_ms"]["upper_quartile"] = 3 * row["latency_ms"]["lower_quartile"]
    assert "times as fast" not in sections.headline(experiment)
    records = tables.speed(experiment, experiment.benchmarks).records
    assert {row["speedup_over_teacher"] for row in records} == {None}


def test_measurements_under_other_conditions_give_no_speedup(experiment):
    for (system, _), benchmark in experiment.benchmarks.items():
        if system == "mbert":
            benchmark["device"] = "Another"
    assert "times as fast" not in sections.headline(experiment)
    warned = overview.warnings(experiment)["Speed"]
    assert any("are not measured alike: A processor, 2 threads" in line for line in warned)


def test_a_student_for_each_language_leaves_none_for_all(tmp_path):
    """No teacher is recommended in their place: each language has its own best."""
    students = {"full": {"languages": ["sl"]}, "pre": {"languages": ["sw"]}}
    few = {"systems": ["mbert", "full", "pre"], "papers": []}
    settings = results_tree.make(tmp_path, {"students": students, "experiment": few})
    experiment = read(tmp_path, settings)
    assert sections.headline(experiment) == "3 systems; no student has a score on every task."
    asked = [answer.question for answer in overview.answers(experiment, 0)]
    assert "Which model should I take?" not in asked


def test_a_higher_student_of_a_teacher_that_is_not_compared_is_named(tmp_path):
    other = {"extends": "full", "label": "Student of another", "teacher": "xlmr"}
    changes = {
        "teachers": {"xlmr": {"source": "folder", "model": "."}},
        "students": {"other": other},
        "experiment": {"systems": ["mbert", "pre", "scratch", "other"], "papers": []},
    }
    settings = results_tree.make(tmp_path, changes)
    for name in ("other", "scratch"):
        change_scores(tmp_path, name, "validation", 0.5)
    (first, *_) = overview.answers(read(tmp_path, settings), 0)
    assert first.details[-2:] == [
        "Higher, but not distilled: Student, not distilled.",
        "Higher, but its teacher is not compared: Student of another.",
    ]


def test_seeds_are_named_where_there_are_some(tmp_path):
    experiment = without_tasks(tmp_path)
    trust = overview.answers(experiment, 0)[-1]
    assert trust.details[0] == "Seeds of distillation: 1."
    written = card.card(experiment, "pre", "sl")
    assert "fine-tuning seed" not in written
    assert "on the tasks above" not in written
    few = {"systems": ["mbert", "scratch"], "tasks": [], "papers": []}
    settings = results_tree.make(tmp_path / "few", {"experiment": few})
    (*_, trust) = overview.answers(read(tmp_path / "few", settings), 0)
    assert not any("seed" in words for words in trust.details)


def test_distillations_of_several_seeds_are_told_apart(tmp_path):
    """Also where the student that is compared is reduced from them."""
    changes = {"students": {"full": {"seeds": [1, 2]}}, "experiment": {"papers": []}}
    changes["experiment"]["systems"] = ["mbert", "post"]
    experiment = read(tmp_path, results_tree.make(tmp_path, changes))
    found = [experiment.member_label(curve.student) for curve in experiment.curves]
    assert len({*found}) == len({curve.student for curve in experiment.curves}) == 2


def test_an_untrained_student_is_never_the_headline(tmp_path):
    few = {"systems": ["mbert", "scratch"], "papers": []}
    settings = results_tree.make(tmp_path, {"experiment": few})
    said = sections.headline(read(tmp_path, settings))
    assert said.startswith("Of 2 systems, “mBERT” has the best validation scores")


def without_tasks(root, **experiment):
    changes = {"experiment": {"tasks": [], "papers": [], **experiment}}
    return read(root, results_tree.make(root, changes))


def test_without_any_task_the_headline_is_of_held_out_text(tmp_path):
    said = sections.headline(without_tasks(tmp_path))
    assert said.startswith("The student with the fewest bits per character of held-out text")
    assert "“Student, reduced before”, has 37% of its teacher's parameters" in said
    assert "needs 2.400 bits per character, 14.3% more than its teacher (2.100)" in said
    assert "2.0 times as fast" in said
    assert "minimal pairs" not in said


def test_the_headline_names_minimal_pairs_where_there_is_nothing_else(tmp_path):
    pairs = {"tasks": [results_tree.PAIRS]}
    said = sections.headline(without_tasks(tmp_path, **pairs))
    assert "in 94.0% of the minimal pairs, its teacher in 93.0%" in said


def test_the_headline_names_no_best_student_where_nothing_chooses_one(tmp_path, monkeypatch):
    """As of sentence encoders without fine-tuned tasks, which predict no text."""
    experiment = without_tasks(tmp_path)
    monkeypatch.setattr(type(experiment), "mean_bits", lambda self, system: None)
    said = sections.headline(experiment)
    assert "systems; nothing says which student is best: no task has validation scores" in said


def test_without_any_task_there_are_a_report_a_summary_and_a_card(tmp_path, capsys):
    experiment = without_tasks(tmp_path)
    settings = experiment.paths.settings_file
    written = make_all(tmp_path, settings)
    assert not (tmp_path / "tables/significance.csv").exists()
    assert Page(written).open == []
    assert "Bits per character" in written
    assert "chosen on the validation splits" not in written
    report.print_summary(results.ExperimentOptions(settings=settings, results=tmp_path))
    assert "2.400" in capsys.readouterr().out
    assert "Bits per character" in card.card(experiment, "pre", "sl")


def make_unavailable(root, system="", task=""):
    """Let the stages have found nothing at the source of a system, and of a task."""
    for path in root.glob("small/scores/*/*.json"):
        scores = json.loads(path.read_text())
        if task in scores["tasks"]:
            scores["tasks"][task] = {"unavailable": "no such set", "seeds": {}}
        if path.stem == system:
            scores |= {"unavailable": "no such model", "tasks": {}}
        path.write_text(json.dumps(scores))
    for folder in ("small/intrinsic", "benchmarks"):
        for path in root.glob(f"{folder}/*/{system}.json"):
            names = {key: json.loads(path.read_text())[key] for key in ("system", "language")}
            path.write_text(json.dumps(names | {"unavailable": "no such model"}))
    for path in root.glob("small/intrinsic/*/*.json"):
        scores = json.loads(path.read_text())
        if task in scores.get("minimal_pairs", ()):
            scores["minimal_pairs"][task] = {"unavailable": "moved", "pairs": 0, "accuracy": None}
        path.write_text(json.dumps(scores))


def row_of(table, system):
    index = [record["system"] for record in table.records].index(system)
    return [cell.text for cell in table.rows[index]]


def test_a_report_where_no_system_is_there(tmp_path):
    few = {"systems": ["sloberta"], "languages": ["sl"], "papers": [], "baseline": None}
    values = results_tree.settings({"experiment": few | {"release": [], "tasks": []}})
    settings = results_tree.empty(tmp_path, values)
    assert "SloBERTa: not available: not run." in make_all(tmp_path, settings)


@pytest.mark.parametrize("test", ["validation", None, "test"])
def test_the_split_of_a_hub_data_set_is_the_one_that_was_scored(tmp_path, test):
    """A split that is cut from train has no name on the hub."""
    experiment = read(tmp_path, results_tree.make(tmp_path))
    hub = Hub(dataset="a/b", validation=None, test=test)
    task = experiment.settings.tasks["sw-news"].model_copy(update={"hub": hub})
    experiment.settings.tasks["sw-news"] = task
    (found,) = metadata.evaluated(experiment, "pre", "sw-news")
    assert (found.dataset_type, found.dataset_split) == ("a/b", test)


def test_a_system_that_is_unavailable_is_a_row_that_says_why(tmp_path):
    experiment = read(tmp_path, results_tree.make(tmp_path))
    make_unavailable(tmp_path, "sloberta")
    said = "SloBERTa: not available: no such model."
    for table in (
        tables.scores(experiment, experiment.tasks),
        tables.intrinsic(experiment, experiment.systems, ["sl"]),
    ):
        assert {*row_of(table, "sloberta")} <= {"SloBERTa", "Slovene", "–"}
        assert table.notes.count(said) == 1
        assert "–" not in row_of(table, "pre")[:3]
    compared = papers.against_published(experiment).records
    assert {row["note"] for row in compared if row["system"] == "sloberta"} == {said}
    assert "sloberta" not in {system for system, _ in experiment.benchmarks}


def test_a_task_that_is_unavailable_is_a_column_that_says_why(tmp_path):
    experiment = read(tmp_path, results_tree.make(tmp_path))
    make_unavailable(tmp_path, task="sl-ner")
    table = tables.scores(experiment, experiment.tasks)
    column = next(i for i, head in enumerate(table.header) if head.startswith("Slovene: Entities"))
    assert {row[column].text for row in table.rows} == {"–"}
    assert table.notes.count("Slovene: Entities: not available: no such set.") == 1
    assert "on 3 tasks" in sections.headline(experiment)


def test_minimal_pairs_that_are_unavailable_say_why(tmp_path):
    experiment = read(tmp_path, results_tree.make(tmp_path))
    make_unavailable(tmp_path, task=results_tree.PAIRS)
    table = tables.intrinsic(experiment, experiment.systems, ["sl"])
    assert "Slovene: Agreement: not available: moved." in table.notes
    assert experiment.mean_pairs("pre") is None


@pytest.mark.parametrize("tasks", [["sl-ner"], list(results_tree.TASKS)], ids=["one", "all"])
def test_the_report_lists_what_is_unavailable(tmp_path, capsys, tasks):
    settings = results_tree.make(tmp_path)
    for task in (*tasks, results_tree.PAIRS):
        make_unavailable(tmp_path, "sloberta", task)
    written = make_all(tmp_path, settings)
    assert Page(written).open == []
    assert "SloBERTa: not available: no such model." in written
    assert "Slovene: Entities: not available: no such set." in written
    report.print_summary(results.ExperimentOptions(settings=settings, results=tmp_path))
    assert re.search(r"SloBERTa +–.*–$", capsys.readouterr().out, re.MULTILINE)
    assert "–" in card.card(read(tmp_path, settings), "pre", "sl")


def test_names_are_escaped(tree, tmp_path):
    settings = results_tree.make(tmp_path, {"students": {"pre": {"label": "<b>5 & 6</b>"}}})
    make_tables(tmp_path, settings)
    written = make_report(tmp_path, settings, tree[0] / "figures")
    assert "<b>" not in written
    assert "&lt;b&gt;5 &amp; 6" in written


def test_the_summary_is_printed_aligned(tree, capsys):
    root, settings = tree
    report.print_summary(results.ExperimentOptions(settings=settings, results=root))
    lines = capsys.readouterr().out.splitlines()
    rule = next(index for index, line in enumerate(lines) if line.startswith("─"))
    table = lines[rule : rule + 1 + len(results_tree.LEVEL)]
    assert len({formats.width(line) for line in table}) == 1
    assert lines[-1] == f"Report: {settings.parent / 'report.html'}"


def test_wide_characters_count_twice_and_marks_not():
    assert formats.width("日本") == 4
    assert formats.width("e\u0301") == 1
    assert formats.aligned([["日本", "x"], ["a", "yy"]], 1).splitlines()[2] == "a     yy"


# Costs

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def cost(root, job, seconds, cpu="1800.00", rss="500.00"):
    file = root / "costs" / f"{job}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{HEAD}{seconds}\t0:00:01\t{rss}\t-\t-\t-\t1\t1\t50.00\t{cpu}\n")


def test_costs_are_added_by_step_for_the_jobs_of_the_experiment(tmp_path):
    experiment = read(
        tmp_path, results_tree.make(tmp_path, {"students": {"full": {"training": {"gpus": 4}}}})
    )
    assert sections.costs(experiment) is None
    cost(tmp_path, "extract_documents/sl", 3 * 3600)
    cost(tmp_path, "distill/full-sl", 2 * 3600, rss="900.00")
    cost(tmp_path, "distill/full-sw", 1 * 3600)
    cost(tmp_path, "finetune/small-sl-pre", 3600)
    cost(tmp_path, "tokenize/sl-mbert-share", 0.1, cpu="NA", rss="NA")
    cost(tmp_path, "finetune/another-sl-pre", 100)
    cost(tmp_path, "distill/other-sl", 100)
    table = sections.costs(experiment)
    steps = {record["step"]: record for record in table.records}
    assert {name: step["jobs"] for name, step in steps.items()} == {
        "extract_documents": 1,
        "distill": 2,
        "finetune": 1,
        "tokenize": 1,
        "total": 5,
    }
    assert steps["distill"]["gpu_seconds"] == 3 * 3600 * 4
    assert steps["finetune"]["gpu_seconds"] == 3600
    assert steps["total"]["cpu_seconds"] == 4 * 1800
    assert steps["total"]["max_rss_mb"] == 900
    assert table.header[2:] == ["Hours", "CPU hours", "Peak memory (MB)"]
    for benchmark in experiment.benchmarks.values():
        benchmark["device_type"] = "cuda"
    assert [cell.text for cell in sections.costs(experiment).rows[-1]][2:5] == [
        "7.00",
        "2.00",
        "13.00",
    ]


def test_a_short_run_is_given_in_minutes(tmp_path):
    experiment = read(tmp_path, results_tree.make(tmp_path))
    cost(tmp_path, "distill/pre-sl", 1800, cpu="900.00")
    table = sections.costs(experiment)
    assert table.header[2:4] == ["Minutes", "CPU minutes"]
    assert [cell.text for cell in table.rows[-1][2:4]] == ["30.0", "15.0"]
