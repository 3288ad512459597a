"""The report in a browser; the frontier, the examples, the graph and the warnings behind it."""

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import eliquare
import results_tree
from eliquare.reporting import examples, frontier, graph, overview, report, results, tables
from eliquare.reporting.frontier import Point

DOT = base64.b64decode(  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
COST = "s\th:m:s\tmax_rss\tmean_load\tcpu_time\n{seconds}\t0:00:01\t500.00\t50.00\t90.00\n"
JOBS = {
    "tokenize/sl-mbert-full": 20,
    "fix_masks/sl-mbert-full": 30,
    "select_vocabulary/sl-mbert-share": 9,
    "reduce_teacher/sl-mbert-share": 40,
    "distill/pre-sl": 7200,
    "distill/full-sw": 9000,
    "reduce_student/post-sl": 50,
    "finetune/small-sl-pre": 900,
    "benchmark/sl-pre": 60,
    "evaluate_intrinsic/small-sl-pre": 70,
    "sample_held_out/sl": 1,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A tree of results with costs, tables, and a dot for each kind of figure."""
    root = tmp_path_factory.mktemp("results")
    settings = results_tree.make(root)
    for job, seconds in JOBS.items():
        file = root / f"costs/{job}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(COST.format(seconds=seconds))
    options = results.OutputOptions(settings=settings, results=root, output=root / "tables")
    tables.write_tables(options)
    kinds = ("size", "scores", "curves", "vocabulary")
    listed = [{"kind": kind, "name": kind, "title": f"Figure of {kind}"} for kind in kinds]
    results_tree.write(root / "figures/figures.json", listed)
    for kind in kinds:
        (root / f"figures/{kind}.png").write_bytes(DOT)
    return root


def read(root: Path) -> results.Experiment:
    settings = root / "small/settings.json"
    return results.read(results.ExperimentOptions(settings=settings, results=root))


@pytest.fixture
def experiment(tree) -> results.Experiment:
    return read(tree)


@pytest.fixture(scope="module")
def page(tree) -> Path:
    written = tree / "report.html"
    report.write_report(
        report.ReportOptions(
            settings=tree / "small/settings.json",
            results=tree,
            tables=tree / "tables",
            figures=tree / "figures",
            output=written,
        )
    )
    return written


SECTIONS = [
    "answers", "warnings", "frontier", "scores", "sizes", "text", "masked", "errors", "curves",
    "published", "made", "settings",
]  # fmt: skip
# Opens the report as wide as a laptop and as a phone, and writes down what it sees.
LOOK = """<!DOCTYPE html>
<meta charset="utf-8">
<iframe style="width:1280px;height:900px" srcdoc="{page}"></iframe>
<iframe style="width:390px;height:800px" srcdoc="{page}"></iframe>
<pre id="seen"></pre>
<script>
function look(frame) {{
  const page = frame.contentDocument;
  for (const each of page.querySelectorAll("details")) each.open = true;
  const name = each => `${{each.tagName}} ${{each.id || each.textContent.trim().slice(0, 40)}}`;
  const panels = "section, figure, table, tbody, svg, img, ul, ol, dl, p, li, details, pre";
  const empty = [...page.querySelectorAll(panels)].filter(each => {{
    const box = each.getBoundingClientRect(), drawn = each.querySelector("svg, img, circle, rect");
    const blank = each.tagName === "IMG" ? !each.naturalWidth : !drawn && !each.textContent.trim();
    return blank || box.width < 1 || box.height < 1;
  }});
  const head = page.querySelector("#table-frontier + .scroll th:nth-child(4) button");
  const sorted = () => {{
    head.click();
    const rows = head.closest("table").tBodies[0].rows;
    return [...rows].map(row => Number(row.cells[3].dataset.value));
  }};
  const wide = page.documentElement;
  return {{
    sections: [...page.querySelectorAll("section")].map(each => each.id),
    empty: empty.map(name),
    overflow: wide.scrollWidth - wide.clientWidth,
    lost: [...page.querySelectorAll("a")].filter(a => !page.querySelector(a.hash)).map(name),
    ascending: sorted(),
    descending: sorted(),
    directions: [...page.querySelectorAll(".cloze p")].map(each => [
      each.textContent, getComputedStyle(each).direction]),
  }};
}}
window.addEventListener("load", () => {{
  const seen = [...document.querySelectorAll("iframe")].map(look);
  document.getElementById("seen").textContent = JSON.stringify(seen);
}});
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium to open the report in")
def test_the_report_in_a_browser(page, tmp_path):
    written = html.escape(page.read_text(encoding="utf-8"))
    (tmp_path / "look.html").write_text(LOOK.format(page=written), encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    done = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path}/profile", tmp_path / "look.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    (found,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    laptop, phone = json.loads(html.unescape(found))
    for seen in (laptop, phone):
        assert seen["sections"] == SECTIONS
        assert seen["empty"] == []
        assert seen["overflow"] == 0
        assert seen["lost"] == []
        assert seen["ascending"] == sorted(seen["ascending"])
        assert seen["descending"] == seen["ascending"][::-1]
        assert len({*seen["ascending"]}) > 1
        # Hebrew is written from right to left, the rest from left to right.
        for words, direction in seen["directions"]:
            assert direction == ("rtl" if "הנהר" in words else "ltr"), words


# Frontier


def test_the_frontier_is_what_nothing_beats():
    given = [
        ("slow and good", 0.9, 9),
        ("fast and bad", 0.5, 1),
        ("beaten", 0.6, 5),
        ("in the middle", 0.7, 4),
        ("as good, but slower", 0.9, 10),
        ("as fast, but worse", 0.65, 4),
        ("not measured", 0.99, None),
    ]
    points = [Point(name, name, score, 1.0, latency) for name, score, latency in given]
    names = [point.name for point in frontier.frontier(points, "latency")]
    assert names == ["fast and bad", "in the middle", "slow and good"]
    assert [point.name for point in frontier.frontier(points, "size")] == ["not measured"]


def test_points_are_the_benchmarks_and_the_scores(experiment):
    found = {point.name: point for point in frontier.points(experiment, "sl", ["sl-ner"])}
    assert list(found) == experiment.systems
    assert found["mbert"].size == experiment.benchmark("mbert", "sl")["weights_mb"]
    assert found["pre"].score == experiment.score("pre", "sl-ner").mean
    assert found["pre"].latency == pytest.approx(42.527232)


def test_a_picture_for_each_task_and_the_mean(experiment):
    slovene, swahili = frontier.pictures(experiment)
    assert [picture.title for picture in slovene["mean"]] == ["Mean of 2 tasks"] * 2
    assert len(slovene["tasks"]) == 4
    assert "SloBERTa" in slovene["systems"].values()
    assert "SloBERTa" not in swahili["systems"].values()
    assert not slovene["forms"]
    for picture in (*slovene["mean"], *slovene["tasks"]):
        assert all(picture.left <= dot.x <= picture.right for dot in picture.dots)
        assert all(picture.top <= dot.y <= picture.bottom for dot in picture.dots)
        assert len(picture.x_marks) > 1
        assert len(picture.y_marks) > 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9, 120, [1, 2, 5, 10, 20, 50, 100]),
        (0.02, 900, [0.1, 1, 10, 100]),
        (3.1, 4.4, [3.5, 4]),
    ],
)
def test_marks_of_an_axis_are_round(low, high, expected):
    assert frontier.log_marks(low, high) == pytest.approx(expected)


QUARTILES = dict.fromkeys(("median", "lower_quartile", "upper_quartile"), 8.0)
ONNX_FORM = {"bytes": 9_000_000, "latency_ms": QUARTILES}


def with_forms(root: Path, **changes) -> results.Experiment:
    """A tree in which `pre` has an int8 tagger, a topic model in float32, and static embeddings."""
    students = {"pre": {"export": {"tasks": ["sl-ner"]}}, "scratch": {"export": None}}
    results_tree.make(root, {"students": students})
    full = ONNX_FORM | {"scores": {"validation": 0.9, "test": 0.89}}
    int8 = full | {"bytes": 2_300_000, "passed": True}
    onnx = {"metric": "entity_f1", "torch_latency_ms": QUARTILES, "kept": "int8 (dynamic)"}
    onnx |= {"float32": full, "int8": {"calibrated": int8 | {"passed": False}, "dynamic": int8}}
    found = {"seed": 1, "metric": "entity_f1", "onnx": onnx}
    found |= {"validation": {"entity_f1": 0.91}, "test": {"entity_f1": 0.91}}
    static = {"bytes": 1_000_000, "latency_ms": QUARTILES | {"median": 0.02}, "tasks": {}}
    for task, score in (("sl-upos", 0.7), ("sl-ner", 0.5)):
        metric = {"sl-upos": "accuracy", "sl-ner": "entity_f1"}[task]
        scores = {"validation": {metric: score}, "test": {metric: score}}
        static["tasks"][task] = {"metric": metric} | scores
    experiment = read(root)
    measured = frontier.measured_on(experiment.benchmark("pre", "sl")) | changes
    report = {"measured": measured, "tasks": {"sl-ner": found, "gone": {"unavailable": "moved"}}}
    path = experiment.paths.exports("pre", "sl") / "report.json"
    results_tree.write(path, report | {"static": static})
    return experiment


def test_int8_and_static_embeddings_are_points_where_they_have_all_scores(tmp_path):
    experiment = with_forms(tmp_path)
    *_, plain, int8, static = frontier.points(experiment, "sl", ["sl-ner"])
    assert plain == Point(
        "pre ONNX float32", "Student, reduced before, ONNX float32", 0.89, 9.0, 8.0
    )
    assert int8 == Point("pre int8", "Student, reduced before, int8", 0.89, 2.3, 8.0)
    assert (static.score, static.size, static.latency) == (0.5, 1.0, 0.02)
    *_, both = frontier.points(experiment, "sl", ["sl-upos", "sl-ner"])
    assert (both.name, both.score) == ("pre static", pytest.approx(0.6))
    slovene, _ = frontier.pictures(experiment)
    assert slovene["forms"]
    labels = list(slovene["systems"].values())
    assert labels[-3:] == [plain.label, int8.label, static.label]
    assert [row[-1].text for row in frontier.table(experiment).rows if "static" in row[1].text] == [
        "yes"
    ]


def test_latencies_that_were_measured_otherwise_are_not_compared(tmp_path):
    experiment = with_forms(tmp_path, threads=64)
    *_, plain, int8, static = frontier.points(experiment, "sl", ["sl-ner"])
    assert (plain.latency, int8.latency, static.latency) == (None, None, None)
    by_latency, by_size = frontier.pictures(experiment)[0]["mean"]
    assert len(by_size.dots) == len(by_latency.dots) + 1


def test_the_other_forms_of_a_student_stand_with_their_numbers(tmp_path):
    rows = [[cell.text for cell in row[2:]] for row in frontier.forms(with_forms(tmp_path)).rows]
    metric = "entity F1, conlleval"
    assert [row[1:] for row in rows] == [
        ["static embeddings", "–", "–", "–", "1.00", "0.020", "–"],
        ["static embeddings", "accuracy", "0.7000", "0.7000", "1.00", "0.020", "–"],
        ["static embeddings", metric, "0.5000", "0.5000", "1.00", "0.020", "–"],
        ["PyTorch, float32", metric, "0.9100", "0.9100", "–", "8.000", "–"],
        ["ONNX, float32", metric, "0.9000", "0.8900", "9.00", "8.000", ""],
        ["ONNX, int8 (calibrated)", metric, "0.9000", "0.8900", "2.30", "8.000", ""],
        ["ONNX, int8 (dynamic)", metric, "0.9000", "0.8900", "2.30", "8.000", "kept"],
    ]


# Examples


def test_confusions_count_every_word_of_every_seed(experiment):
    errors = {error["title"]: error for error in examples.task_errors(experiment)}
    assert len(errors) == 4
    teacher, student = errors["Slovene: Entities"]["confusions"]
    assert (teacher.system, student.system) == ("mBERT", "Student, reduced before")
    assert {*teacher.labels} == {"O", "PER", "LOC"}  # without B- and I-
    rows = examples.answers(experiment, "sl-ner", "mbert")
    assert sum(map(sum, teacher.rows)) == sum(len(row["gold"]) for run in rows for row in run)
    wrong = sum(
        right != given
        for run in rows
        for row in run
        for right, given in zip(row["gold"], row["predicted"], strict=True)
    )
    on_the_way = sum(teacher.rows[n][n] for n in range(3))
    assert 0 < sum(map(sum, teacher.rows)) - on_the_way <= wrong


def test_rare_labels_stand_together(experiment):
    labels = [f"label {n}" for n in range(30)]
    rows = [{"gold": label, "predicted": labels[0]} for label in labels]
    task = experiment.settings.tasks["sw-news"]
    shown = examples.frequent_labels(task, [rows])
    assert len(shown) == examples.MOST_LABELS
    counted = examples.confusion(task, "x", [rows], shown)
    assert counted.rows[-1][shown.index("label 0")] == 30 - examples.MOST_LABELS + 1
    assert sum(map(sum, counted.rows)) == 30


def test_disagreements_are_counted_and_shown_with_their_text(experiment):
    (news,) = (e for e in examples.task_errors(experiment) if e["title"] == "Swahili: News")
    assert sum(news["counts"].values()) == news["total"] == results_tree.EXAMPLES
    files = [experiment.paths.predictions("sw-news", name, 0) for name in ("mbert", "pre")]
    full, ours = ([json.loads(line) for line in file.open()] for file in files)
    both = [
        row["gold"] == row["predicted"] == our["predicted"]
        for row, our in zip(full, ours, strict=True)
    ]
    assert news["counts"]["both"] == sum(both)
    shown = [each for some in news["shown"].values() for each in some]
    assert shown
    for each in shown:
        ((_, _, teacher, student),) = each.words
        assert teacher != student


def test_task_data_that_changed_is_not_shown(tree, experiment):
    task = experiment.settings.tasks["sl-ner"]
    gold = [row["gold"] for row in examples.answers(experiment, "sl-ner", "pre")[0]]
    assert examples.texts_of_test(task, gold)[0][:2] == ("Reka", "teče")
    assert examples.texts_of_test(task, gold[1:]) == []
    gone = task.model_copy(update={"test": str(tree / "gone.txt")})
    assert examples.texts_of_test(gone, gold) == []


def test_long_words_are_those_of_three_tokenizers(experiment):
    slovene, swahili = examples.long_words(experiment)
    assert slovene["systems"] == ["mBERT", "Student, reduced before", "SloBERTa"]
    assert len(slovene["rows"]) == 10
    assert len(swahili["systems"]) == 2  # all the others cut them as the student does


def test_masked_words_are_answered_by_teacher_and_students(experiment):
    slovene, _ = examples.masked_sentences(experiment)
    assert len(slovene["sentences"]) == 10
    answers = slovene["sentences"][0]["answers"]
    assert list(answers) == [
        "mBERT",
        "Student, full vocabulary",
        "Student, reduced before",
        "Student, reduced after",
    ]
    assert answers["mBERT"][0]["is_right"]


# Graph


def rules_of_the_files() -> set[str]:
    folder = Path(eliquare.__file__).parents[1] / "rules"
    files = [file.read_text(encoding="utf-8") for file in folder.glob("*.smk")]
    named = re.compile(r"^(?:rule (\w+)|use rule \w+ as (\w+) with):", re.MULTILINE)
    return {one or other for text in files for one, other in named.findall(text)}


def test_the_graph_knows_every_rule():
    assert {*graph.RULES} == rules_of_the_files()
    assert {rule for inputs in graph.RULES.values() for rule in inputs} <= {*graph.RULES}


def test_the_graph_shows_what_ran_and_no_edge_twice(experiment):
    ran = graph.rules_that_ran(experiment)
    assert ran["distill"] == "2 jobs · 4.5 h"
    assert {"download_dump", "extract_documents", "fetch_teacher", "fetch_system"} <= ran.keys()
    assert "extend_teacher" not in ran
    inputs = graph.inputs_among(ran)
    assert inputs["tokenize"] == {"extract_documents", "fetch_teacher"}
    # By way of the selection, which is longer.
    assert inputs["reduce_teacher"] == {"select_vocabulary"}
    drawn = graph.draw(ran)
    assert len(drawn.boxes) == len(ran)
    places = {(box["x"], box["y"]) for box in drawn.boxes}
    assert len(places) == len(ran)


@pytest.mark.parametrize("ran", [["adapt_teacher", "reduce_teacher"], [*graph.RULES]])
def test_the_graph_has_no_circle(ran):
    assert len(graph.draw(dict.fromkeys(ran, "")).boxes) == len(ran)


# Answers and warnings


def test_the_answers_are_the_numbers_of_the_results(experiment):
    answers = {each.question: each for each in overview.answers(experiment, 7)}
    assert answers["Which model should I take?"].answer == "Student, reduced before"
    ours, full = (experiment.mean_score(name, experiment.tasks).mean for name in ("pre", "mbert"))
    lost = f"Nothing ({100 * (ours - full):+.1f} points)"
    assert answers["What do I lose?"].answer == lost
    assert answers["How fast is it?"].answer == "2.0 times its teacher"
    assert "Slovene: 42.5 ms instead of 85.1 ms." in answers["How fast is it?"].details
    assert answers["How small is it?"].answer == "37% of its teacher"
    assert answers["What did it cost?"].answer == "4.8 hours of jobs"
    assert answers["Can I trust it?"].answer == "7 warnings, below"


def test_everything_that_is_thin_is_in_one_place(tmp_path):
    settings = results_tree.make(tmp_path, {"experiment": {"seeds": [1]}})
    paths = read(tmp_path).paths
    for student in ("pre", "full"):
        origin = paths.student(student, "sl") / "provenance.json"
        results_tree.write(origin, results_tree.provenance() | {"warnings": ["only 7 steps"]})
    sequences = paths.prepared("sw", "mbert", "full") / "sequences/report.json"
    results_tree.write(sequences, {"warnings": ["5.1 tokens per word"]})
    collapsed = json.loads(paths.intrinsic("sl", "mbert").read_text()) | {"unknown_share": 0.02}
    for sentence in collapsed["masked_sentences"]:
        sentence["answers"] = [{"token": ",", "probability": 0.1}]
    results_tree.write(paths.intrinsic("sl", "mbert"), collapsed)
    disturbed = json.loads(paths.benchmark("sl", "pre").read_text())
    disturbed["measurements"][0]["latency_ms"]["upper_quartile"] *= 3
    results_tree.write(paths.benchmark("sl", "pre"), disturbed | {"device": "Another"})
    found = overview.warnings(read(tmp_path))
    lines = "\n".join(f"{kind}: {line}" for kind, some in found.items() for line in some)
    for expected in (
        "Text: Slovene; Swahili: the dump is truncated",
        "Text: mBERT, Swahili: 5.1 tokens per word",
        "Training: Student, full vocabulary, Slovene; Student, reduced before, Slovene: only 7",
        "Training: mBERT, Slovene: predicts “,” for every masked word",
        "Unknown tokens: mBERT, Slovene: 2.0% of the tokens of the held-out text",
        "Scores: Swahili: News: 30.0% of the test texts are truncated to 128 tokens",
        "training never had these test labels",
        "only 40 test examples.",
        "Scores: Fine-tuned with 1 seed; the spread is unknown.",
        "Speed: Slovene: speeds are not measured alike: A processor, 2 threads, float32, sequences",
        "Speed: Student, reduced before, Slovene: other work disturbed the latency at batch size 1",
    ):
        assert expected in lines
    assert settings.exists()


def test_latencies_of_encoders_of_one_size_that_differ(tmp_path):
    results_tree.make(tmp_path)
    paths = read(tmp_path).paths
    reduced = json.loads(paths.benchmark("sl", "pre").read_text())
    results_tree.write(paths.benchmark("sl", "full"), reduced)
    assert not list(overview.of_speed(read(tmp_path)))
    for row in reduced["measurements"]:
        for quartile in row["latency_ms"]:
            row["latency_ms"][quartile] *= 1.5
    results_tree.write(paths.benchmark("sl", "pre"), reduced)
    title, words = next(overview.of_speed(read(tmp_path)))
    assert title == "Slovene"
    speed = overview.speed(read(tmp_path), "pre", "mbert")
    assert speed.details[-1].endswith("see the warnings of speed.")
    assert "“Student, reduced before” took 1.5 times as long as “Student, full vocabulary”" in words


def test_a_head_that_makes_a_model_faster(tmp_path):
    results_tree.make(tmp_path)
    paths = read(tmp_path).paths
    found = json.loads(paths.benchmark("sl", "pre").read_text())
    encoder, with_head = (
        next(row["latency_ms"] for row in found["measurements"] if row["part"] == part)
        for part in ("encoder", "encoder_and_mlm_head")
    )
    with_head["median"] = 0.9 * encoder["median"]
    results_tree.write(paths.benchmark("sl", "pre"), found)
    (remark,) = overview.of_speed(read(tmp_path))
    assert remark[0] == "Student, reduced before, Slovene"
    assert "it was faster with its MLM head than without, which noise alone" in remark[1]


def test_a_teacher_that_is_not_compared(tmp_path):
    results_tree.make(tmp_path, {"experiment": {"systems": ["pre", "scratch"], "baseline": None}})
    experiment = read(tmp_path)
    questions = [each.question for each in overview.answers(experiment, 0)]
    assert "What do I lose?" not in questions
    assert overview.warnings(experiment)
    assert len(examples.task_errors(experiment)[0]["confusions"]) == 1
    assert graph.rules_that_ran(experiment)["fetch_teacher"] == ""


def test_what_a_sentence_encoder_loses_is_said_by_frozen_embeddings_too(tmp_path):
    results_tree.make(tmp_path)

    def lost() -> list[str]:
        answers = {each.question: each for each in overview.answers(read(tmp_path), 0)}
        return answers["What do I lose?"].details

    assert not any("frozen" in detail for detail in lost())
    for path in tmp_path.glob("small/intrinsic/*/pre.json"):
        report = json.loads(path.read_text())
        report["embeddings"]["said_by_model"] = True
        results_tree.write(path, report)
    assert "Topics by frozen embeddings, on test: 0.740, the teacher's 0.730." in lost()


def test_a_fine_tuning_that_was_cut_short_is_said_of_the_steepest_rise(tmp_path):
    results_tree.make(tmp_path)
    rises = {"mbert": (0.60, 0.61), "full": (0.30, 0.45), "pre": (0.50, 0.49)}
    for system, scores in rises.items():
        for folder in tmp_path.glob(f"finetuned/sl-ner/{system}/seed-*"):
            lines = [json.dumps({"validation_entity_f1": score}) + "\n" for score in scores]
            (folder / "history.jsonl").write_text("".join(lines))
    lines = overview.warnings(read(tmp_path))["Scores"]
    (line,) = (line for line in lines if "last epoch" in line)
    assert line.startswith("Slovene: Entities: the last epoch of fine-tuning still raised the")
    assert "by 15.0 points for “Student, full vocabulary”" in line
    for folder in tmp_path.glob("finetuned/sl-ner/full/seed-*"):
        (folder / "history.jsonl").unlink()
    assert not any("last epoch" in line for line in overview.warnings(read(tmp_path))["Scores"])


def test_an_untrained_model_as_good_as_the_teacher_makes_a_task_doubtful(tmp_path):
    results_tree.make(tmp_path)
    for path in tmp_path.glob("small/scores/sl/mbert.json"):
        scores = json.loads(path.read_text())
        for results_of_seed in scores["tasks"]["sl-ner"]["seeds"].values():
            results_of_seed["test"]["entity_f1"] = 0.3
        results_tree.write(path, scores)
    (line,) = (line for line in overview.warnings(read(tmp_path))["Scores"] if "learnt" in line)
    assert line.startswith("Slovene: Entities: “Student, not distilled” scores no lower")
