"""Model card of a student for one language."""

import argparse
import re
from pathlib import Path

import yaml

from eliquare import stage
from eliquare.reporting import results
from eliquare.reporting.comparisons import spread
from eliquare.reporting.formats import Cell, Table, markdown, number, text
from eliquare.reporting.recipes import recipe
from eliquare.reporting.results import METRICS, Experiment
from eliquare.reporting.templates import render

VERSION = 1

# Wikipedia codes that are no ISO 639 code, or another language's.
ISO = {
    "als": "gsw",
    "bat-smg": "sgs",
    "be-tarask": "be",
    "be-x-old": "be",
    "cbk-zam": "cbk",
    "fiu-vro": "vro",
    "nds-nl": "nds",
    "no": "nb",
    "nrm": "nrf",
    "roa-rup": "rup",
    "simple": "en",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
    "zh-yue": "yue",
}


def iso(code: str) -> str | None:
    """The ISO 639 code of a Wikipedia code; None for private use (qaa to qtz) and what has none."""
    code = ISO.get(code, code)
    if not re.fullmatch(r"[a-z]{2,3}", code) or re.fullmatch(r"q[a-t][a-z]", code):
        return None
    return code


def front_matter(experiment: Experiment, student: str, language: str) -> str:
    """The metadata that a hub reads, as YAML."""
    values: dict = {}
    if code := iso(language):
        values["language"] = [code]
    values |= {"library_name": "transformers", "pipeline_tag": "fill-mask"}
    teacher = experiment.settings["teachers"][
        experiment.layout.root(experiment.entry(student)["teacher"])
    ]
    if teacher["source"] == "hub":
        values["base_model"] = teacher["model"]
    values["tags"] = ["eliquare", "knowledge-distillation", "masked-lm"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def scores(experiment: Experiment, student: str, language: str) -> Table | None:
    """The student beside every other system on the language's tasks; None without tasks."""
    tasks = experiment.tasks_of(language)
    if not tasks:
        return None
    systems = [name for name in experiment.systems if experiment.layout.is_for(name, language)]
    rows = [
        [
            Cell(experiment.label(system), bold=system == student),
            *(spread(score) if (score := experiment.score(system, t)) else Cell() for t in tasks),
        ]
        for system in systems
    ]
    metrics = (experiment.metric(task) for task in tasks)
    header = ["System"]
    header += [
        f"{experiment.task_label(task)} ({METRICS.get(metric, metric)})"
        for task, metric in zip(tasks, metrics, strict=True)
    ]
    n = len(experiment.seeds)
    over = f"mean ± sample standard deviation over {n} seeds" if n > 1 else "one seed"
    return Table("scores", f"Test splits, after fine-tuning; {over}.", header, rows, [])


def sizes(experiment: Experiment, student: str, language: str) -> Table:
    """The student beside its teacher, where that was measured too."""
    names = [student, experiment.teacher(student)]
    found = [(name, experiment.measured.get((name, language))) for name in names]
    rows = []
    for name, measured in found:
        if measured is None:
            continue
        timed = [row for row in measured["measurements"] if row["part"] == "encoder"]
        rows.append(
            [
                text(experiment.label(name)),
                number(measured["parameters"]["total"] / 1e6, ",.2f"),
                number(measured["vocabulary_size"]),
                number(measured["weights_mb"], ",.1f"),
                *(number(row["latency_ms"]["median"], ",.1f") for row in timed),
            ]
        )
    first = found[0][1]
    batches = [row["batch_size"] for row in first["measurements"] if row["part"] == "encoder"]
    header = ["Model", "Parameters (M)", "Sub-words", "On disk (MB)"]
    header += [f"Encoder, batch {size} (ms)" for size in batches]
    caption = (
        f"Timed on {first['device']}, {first['threads']} threads, {first['precision']}, "
        f"{first['length']} sub-words a sequence."
    )
    return Table("sizes", caption, header, rows, [])


def terms(experiment: Experiment, language: str) -> str:
    """The licence of a language's text, as far as its source tells."""
    corpus = experiment.settings["languages"][language]["corpus"]
    if "world" in experiment.settings and iso(language) is None:
        return "invented text, written by eliquare's generator; no terms"
    if corpus["source"] == "dump":
        return "Wikipedia: CC BY-SA 4.0 and GFDL (CC BY-SA 3.0 and GFDL before June 2023)"
    if corpus["source"] == "dataset":
        return f"the terms of the data set {corpus['dataset']}"
    return "the terms of the text files named above"


def training_data(experiment: Experiment, student: str, language: str) -> list[dict]:
    """For each language that the student learned from: source, counts and terms."""
    data = []
    for code in experiment.layout.learned_from(student, language):
        path = experiment.layout.documents(code) / "report.json"
        report = stage.read_json(path)
        data.append(
            {
                "language": experiment.language(code),
                "source": report["source"],
                "date": experiment.settings["languages"][code]["corpus"].get("date"),
                "documents": report["documents"],
                "dropped": sum(report["dropped"].values()),
                "characters": report["characters"],
                "terms": terms(experiment, code),
            }
        )
    return data


def tokens_seen(experiment: Experiment, student: str, language: str) -> int | None:
    """Tokens that the distillation went over."""
    by = experiment.layout.distilled_by(student)
    corpus = experiment.layout.corpus_of(by, language)
    for curve in experiment.curves:
        if (curve.student, curve.corpus) == (by, corpus):
            return max((row.get("tokens", 0) for row in curve.rows), default=None)
    return None


def card(experiment: Experiment, student: str, language: str) -> str:
    """The model card as Markdown with its YAML front matter."""
    if student not in experiment.students:
        raise stage.InputError(
            f"--system {student}: expected one of the experiment's students: "
            f"{', '.join(experiment.students)}"
        )
    if language not in experiment.languages:
        raise stage.InputError(
            f"--language {language}: expected one of the experiment's languages: "
            f"{', '.join(experiment.languages)}"
        )
    experiment = experiment.of_language(language)
    if student not in experiment.students:
        raise stage.InputError(f"--system {student}: not made for --language {language}")
    table = scores(experiment, student, language)
    return render(
        "card.md.j2",
        front_matter=front_matter(experiment, student, language),
        label=experiment.label(student),
        language=experiment.language(language),
        folder=f"{student}-{language}",
        teacher=experiment.label(experiment.teacher(student)),
        scores=markdown(table) if table else "",
        sizes=markdown(sizes(experiment, student, language)),
        data=training_data(experiment, student, language),
        tokens=tokens_seen(experiment, student, language),
        recipe=recipe(experiment, student),
        seeds=experiment.seeds,
    )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(prog="python -m eliquare.reporting.card", description=__doc__)
    options.add_argument("--settings", required=True, type=Path, help="completed settings (JSON)")
    options.add_argument("--results", required=True, type=Path, help="folder of all results")
    options.add_argument("--system", required=True, help="name of the student")
    options.add_argument("--language", required=True, help="language code")
    options.add_argument("--output", required=True, type=Path, help="Markdown file to write")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write one model card."""
    experiment = results.read(arguments.settings, arguments.results)
    written = card(experiment, arguments.system, arguments.language)
    with stage.whole_file(arguments.output) as beside:
        beside.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    stage.main(parser(), run)
