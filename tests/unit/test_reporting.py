import csv
import json
import re
import statistics
from collections import Counter
from html.parser import HTMLParser
from os import environ
from pathlib import Path

import pytest
import results_tree
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from eliquare import stage
from eliquare.reporting import (
    card,
    plots,
    published,
    release,
    report,
    results,
    summary,
    tables,
)
from eliquare.reporting.comparisons import signed_rank
from eliquare.reporting.formats import Cell, Table, latex, markdown
from eliquare.reporting.headline import headline
from eliquare.reporting.summary import padded, width
from eliquare.reporting.verifications import verifications

ROOT = Path(__file__).parents[2]
DATA = Path(environ.get("ELIQUARE_DATA", ROOT.parent / "shared" / "data"))
# Change it together with VERSION in eliquare.reporting.tables.
TABLES_DIGEST = "86e98d4345934a67e86c633e56cd8b37ed62914ea045535567aee0a888559013"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    settings = results_tree.make(root)
    for made in (tables, plots):
        make(made, settings, root, root / made.__name__.rpartition(".")[2])
    return root, settings


def make(module, settings, root, output, *options):
    arguments = ["--settings", str(settings), "--results", str(root), "--output", str(output)]
    module.run(module.parser().parse_args([*arguments, *options]))


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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
    }


def test_published_rows_equal_the_source():
    path = DATA.parent / "published.yaml"
    if not path.exists():
        pytest.skip(f"{path} is not here: the published numbers cannot be compared with it")
    source = yaml.safe_load(path.read_text(encoding="utf-8"))
    columns = published.Published.__dataclass_fields__
    expected = [
        {name: str(row.get(name, "")) for name in columns} | {"value": row["value"]}
        for row in source["results"]
    ]
    assert [vars(row) for row in published.read()] == expected
    assert len(expected) == source["counts"]["total"] == 253


def test_every_published_score_compares_with_a_metric_of_ours():
    scores = [row for row in published.read() if row.task_kind not in published.NOT_SCORES]
    expected = {"upos": {"accuracy"}, "ner": {"entity_f1"}, "nli": {"accuracy"}}
    expected |= {"sentiment": {"accuracy"}, "topic": {"macro_f1"}}
    for row in scores:
        assert published.comparable(row) in expected[row.task_kind], row


def test_a_contradicted_label_is_noted():
    rows = {(row.paper, row.task_kind): row for row in published.read()}
    assert "labelled macro-F1" in published.note(rows["coling2022", "upos"])
    assert "averaging not stated" in published.note(rows["electronics2023", "upos"])
    assert published.note(rows["coling2022", "topic"]) == ""
    assert published.note(rows["cruz2024", "nli"]) == ""


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
    p, _ = signed_rank([teacher[key] for key in ours], list(ours.values()))
    assert round(p, 3) == 0.017
    swapped, _ = signed_rank(list(ours.values()), [teacher[key] for key in ours])
    assert swapped > 0.95


def test_the_wilcoxon_test_says_why_it_gives_no_p():
    assert signed_rank([0.1] * 4, [0.2] * 4) == (
        None,
        "not given: 4 pairs, at least 5 are needed",
    )
    assert signed_rank([0.1] * 5, [0.1] * 5) == (None, "not given: no pair differs")


def test_one_seed_has_no_deviation():
    assert results.Score("accuracy", {1: 0.9}).deviation is None
    score = results.Score("accuracy", {1: 0.9, 2: 0.8})
    assert score.deviation == pytest.approx(statistics.stdev([0.9, 0.8]))


# Tables


def test_scores_are_means_over_the_seeds_on_disk(tree):
    root, _ = tree
    values = [
        json.loads((root / f"finetuned/sl-ner/pre/seed-{n}/metrics.json").read_text())["test"][
            "entity_f1"
        ]
        for n in (0, 1, 2)
    ]
    row = next(row for row in rows_of(root / "tables/scores.csv") if row["system"] == "pre")
    assert float(row["sl/sl-ner entity_f1"]) == pytest.approx(statistics.fmean(values))
    assert float(row["sl/sl-ner entity_f1 deviation"]) == pytest.approx(statistics.stdev(values))
    assert row["sl/sl-ner entity_f1 n"] == "3"


def test_best_of_each_column_is_bold_and_other_languages_are_absent(tree):
    lines = (tree[0] / "tables/scores.md").read_text().splitlines()
    sloberta = next(line for line in lines if line.startswith("| SloBERTa"))
    assert re.fullmatch(r"\| SloBERTa \| \*\*0.9\S+ ± \S+\*\* \| \*\*.+\*\* \| – \| – \|", sloberta)
    pre = next(line for line in lines if line.startswith("| Student, cut before"))
    assert pre.count("**") == 4


def test_tables_of_one_seed_leave_the_deviation_empty(tmp_path):
    settings = results_tree.make(tmp_path, seeds=(7,))
    make(tables, settings, tmp_path, tmp_path / "tables")
    for row in rows_of(tmp_path / "tables/scores_all_metrics.csv"):
        assert (row["deviation"], row["n"]) == ("", "1")
    assert "±" not in (tmp_path / "tables/scores.md").read_text().split("|", 1)[1]


def test_sizes_are_relative_to_the_teacher(tree):
    rows = {(row["language"], row["system"]): row for row in rows_of(tree[0] / "tables/sizes.csv")}
    share = float(rows["sl", "pre"]["share_of_teacher"])
    assert share == pytest.approx(66_134_016 / 177_974_523)
    assert rows["sl", "mbert"]["share_of_teacher"] == ""
    assert ("sw", "sloberta") not in rows


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
    root, _ = tree

    def of(system, seed):
        path = root / f"finetuned/sw-news/{system}/seed-{seed}/metrics.json"
        return json.loads(path.read_text())["test"]["macro_f1"]

    paired = [of("post", seed) - of("mbert", seed) for seed in (0, 1, 2)]
    rows = rows_of(root / "tables/differences.csv")
    row = next(row for row in rows if (row["system"], row["task"]) == ("post", "sw-news"))
    assert float(row["difference"]) == pytest.approx(statistics.fmean(paired))
    assert float(row["deviation"]) == pytest.approx(statistics.stdev(paired))


def test_a_missing_result_is_named(tmp_path):
    settings = results_tree.make(tmp_path)
    missing = tmp_path / "finetuned" / "sw-ner" / "post" / "seed-1" / "metrics.json"
    missing.unlink()
    with pytest.raises(stage.InputError, match=r"sw-ner/post/seed-1/metrics\.json"):
        make(tables, settings, tmp_path, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_tables_change_only_with_their_version(tree):
    assert tables.VERSION == 3
    assert stage.checksum(tree[0] / "tables") == TABLES_DIGEST


def test_latex_and_markdown_escape_their_signs():
    rows = [[Cell("a_b & 5%"), Cell("0.1", 0.1, bold=True)]]
    table = Table("t", "A | b", ["System", "x|y"], rows, [])
    assert r"a\_b \& 5\% & \textbf{0.1} \\" in latex(table)
    assert r"\begin{tabular}{lr}" in latex(table)
    assert r"| System | x\|y |" in markdown(table)


def test_each_cut_has_its_verification_in_the_report_whenever_it_was_made(tree):
    root, settings = tree
    table = verifications(results.read(settings, root))
    rows = [[cell.text for cell in row] for row in table.rows]
    assert [row[:3] for row in rows] == [
        ["Slovene", "mBERT", "before distillation, by share"],
        ["Swahili", "mBERT", "before distillation, by share"],
        ["Slovene", "Student, cut after", "after distillation, by share"],
        ["Swahili", "Student, cut after", "after distillation, by share"],
    ]
    assert rows[0][3:] == ["30,050", "400", "380", "2", "32", "equal bit for bit", "1.2e−07"]
    path = root / "students/post/sl/verification.json"
    whole = path.read_text()
    path.unlink()
    with pytest.raises(stage.InputError, match=r"verification\.json"):
        verifications(results.read(settings, root))
    path.write_text(whole)


# Plots


def test_plots_are_the_same_bytes_again(tree, tmp_path):
    root, settings = tree
    make(plots, settings, root, tmp_path / "again")
    assert stage.checksum(tmp_path / "again") == stage.checksum(root / "plots")


def test_a_student_cut_afterwards_shares_the_curves_of_its_source(tree):
    listed = json.loads((tree[0] / "plots/plots.json").read_text())
    curves = {plot["name"]: plot["title"] for plot in listed if plot["kind"] == "curves"}
    assert set(curves) == {f"curves-{s}-{c}" for s in ("full", "pre") for c in ("sl", "sw")}
    assert "cut after" in curves["curves-full-sl"]


def test_a_student_of_a_mixture_has_one_curve_and_a_card_for_each_language(tmp_path):
    settings = results_tree.make(tmp_path)
    values = json.loads(settings.read_text())
    values["mixtures"] = {"both": ["sl", "sw"]}
    values["students"]["full"]["corpus"] = "both"
    settings.write_text(json.dumps(values))
    (tmp_path / "students/full/sl").rename(tmp_path / "students/full/both")
    experiment = results.read(settings, tmp_path)
    curves = [(curve.student, curve.corpus, curve.students) for curve in experiment.curves]
    assert curves[0] == ("full", "both", ("full", "post"))
    assert len(curves) == 3
    written = card.card(experiment, "full", "sw")
    assert "distilled on text in Slovene, Swahili" in written
    assert "slwiki-" in written and "swwiki-" in written


def test_a_term_without_weight_has_no_curve(tree):
    experiment = results.read(tree[1], tree[0])
    rows = [{"step": 1, "kl": 0.5}, {"step": 1, "validation_kl": 0.6}]
    figure = plots.curve(experiment, results.Curve("pre", "sl", ("pre",), rows))
    distillation, mlm = figure.axes
    assert len(distillation.lines) == 2
    assert len(mlm.lines) == 0
    assert mlm.texts[0].get_text() == "not in this objective"


# Model card and release


def test_the_card_has_metadata_that_a_hub_reads(tree):
    experiment = results.read(tree[1], tree[0])
    written = card.card(experiment, "pre", "sl")
    metadata = yaml.safe_load(written.split("---")[1])
    assert metadata["language"] == ["sl"]
    assert metadata["base_model"] == "google-bert/bert-base-multilingual-cased"
    assert metadata["library_name"] == "transformers"
    assert "slwiki-20230501-pages-articles.xml.bz2" in written
    assert "CC BY-SA" in written
    assert "819,200 tokens" in written


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
    assert card.iso(code) == expected


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


def test_a_release_loads_alone_and_shares_its_files(tree, model, tmp_path):
    root, settings = tree
    options = ["--system", "pre", "--language", "sl", "--model", str(model)]
    make(release, settings, root, tmp_path / "out", *options)
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "out").config.vocab_size == 7
    weights = "model.safetensors"
    assert (tmp_path / "out" / weights).samefile(model / weights)
    assert not (model / "README.md").exists()
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert made["release"] == {"experiment": "small", "system": "pre", "language": "sl"}


def test_a_release_of_half_a_model_is_refused(tree, model, tmp_path):
    root, settings = tree
    (model / "model.safetensors").unlink()
    options = ["--system", "pre", "--language", "sl", "--model", str(model)]
    with pytest.raises(stage.InputError, match="cannot fill a mask"):
        make(release, settings, root, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_only_students_are_released(tree, model, tmp_path):
    root, settings = tree
    options = ["--system", "mbert", "--language", "sl", "--model", str(model)]
    with pytest.raises(stage.InputError, match="--system mbert: expected one of"):
        make(release, settings, root, tmp_path / "out", *options)


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
    root, settings = tree
    options = ["--tables", str(root / "tables"), "--plots", str(root / "plots")]
    make(report, settings, root, root / "report.html", *options)
    return (root / "report.html").read_text(encoding="utf-8")


def test_the_report_needs_nothing_beside_it(page):
    parsed = Page(page)
    assert parsed.open == []
    assert all(address.startswith(("data:image/png", "#")) for address in parsed.addresses)
    assert {address[1:] for address in parsed.addresses if address[0] == "#"} <= parsed.ids
    assert "url(" not in page and "<script" not in page and "@import" not in page
    assert all(image["alt"] for image in parsed.images)
    assert len(parsed.images) == 1 + 4 + 4


def test_the_headline_holds_the_numbers_of_the_results(tree, page):
    experiment = results.read(tree[1], tree[0])
    mean = statistics.fmean(experiment.score("pre", task).mean for task in experiment.tasks)
    theirs = statistics.fmean(experiment.score("mbert", task).mean for task in experiment.tasks)
    assert f"{mean / theirs:.1%} of its mean score on 4 tasks" in page
    assert "37% of its teacher" in page
    assert "2.0 times as fast" in page


def test_a_disturbed_measurement_gives_no_ratio(tree):
    experiment = results.read(tree[1], tree[0])
    for (system, _), measured in experiment.measured.items():
        for row in measured["measurements"] if system == "mbert" else []:
            row["latency_ms"]["upper_quartile"] = 3 * row["latency_ms"]["lower_quartile"]
    assert "times as fast" not in headline(experiment)
    ratios = {
        row["times_faster_than_teacher"]
        for row in tables.speed(experiment).records
        if row["system"] == "pre"
    }
    assert ratios == {None}


def test_an_untrained_student_is_never_the_headline(tree):
    experiment = results.read(tree[1], tree[0])
    experiment.settings["experiment"]["systems"] = ["mbert", "scratch"]
    assert headline(experiment).startswith("The best of 2 systems, mBERT, has a mean score of 0.9")


def test_names_are_escaped(tree, tmp_path):
    settings = results_tree.make(tmp_path)
    values = json.loads(settings.read_text())
    values["students"]["pre"]["label"] = "<b>5 & 6</b>"
    settings.write_text(json.dumps(values))
    make(tables, settings, tmp_path, tmp_path / "tables")
    options = ["--tables", str(tmp_path / "tables"), "--plots", str(tree[0] / "plots")]
    make(report, settings, tmp_path, tmp_path / "report.html", *options)
    written = (tmp_path / "report.html").read_text()
    assert "<b>" not in written
    assert "&lt;b&gt;5 &amp; 6" in written


def test_the_summary_is_printed_aligned(tree, capsys):
    root, settings = tree
    summary.run(summary.parser().parse_args(["--settings", str(settings), "--results", str(root)]))
    lines = capsys.readouterr().out.splitlines()
    rule = next(place for place, line in enumerate(lines) if line.startswith("─"))
    table = lines[rule : rule + 1 + len(results_tree.LEVEL)]
    assert len({width(line) for line in table}) == 1
    assert lines[-1] == f"Report: {settings.parent / 'report.html'}"


def test_wide_characters_count_twice_and_marks_not():
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert padded("日本", 6, right=True) == "  日本"
