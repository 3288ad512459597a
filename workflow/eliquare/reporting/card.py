"""A student for other people: its files in one folder, with model card and provenance.

The files are hard links where the file system allows it, so that a release takes no space.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from eliquare.cli import Options
from eliquare.config.load import base_name
from eliquare.io import (
    InputError,
    atomic_dir,
    existing,
    link_or_copy,
    provenance,
    read_json,
    write_json,
)
from eliquare.reporting import results
from eliquare.reporting.formats import Cell, Table, markdown, number, text
from eliquare.reporting.report import render
from eliquare.reporting.results import Experiment
from eliquare.reporting.sections import member_label, recipe
from eliquare.reporting.tables import MILLION, condition, over_seeds, spread, task_heads

WRITTEN_HERE = ("README.md", "provenance.json")
# Wikipedia codes that are no ISO 639 code, or that of another language.
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


class ReleaseOptions(Options):
    """Options of a release."""

    settings: Path = Field(description="The experiment's settings.json.")
    results: Path = Field(Path("results"), description="Folder of all results.")
    system: str = Field(description="Name of the student.")
    language: str = Field(description="Code of its language.")
    model: Path = Field(description="Model folder of the student.")
    output: Path = Field(description="Folder to write.")


def release(options: ReleaseOptions) -> None:
    """Put a student into a folder with its model card and its provenance."""
    experiment = results.read(options.settings, options.results)
    written = card(experiment, options.system, options.language)
    model = existing(options.model, "model folder")
    check_loads(model)
    origin = model / "provenance.json"
    made = read_json(origin) if origin.exists() else provenance({}, {})
    named = {
        "experiment": experiment.settings.name,
        "system": options.system,
        "language": options.language,
    }
    with atomic_dir(options.output) as folder:
        for file in sorted(model.iterdir()):
            if file.is_file() and not file.name.startswith(".") and file.name not in WRITTEN_HERE:
                link_or_copy(file.resolve(), folder / file.name)
        (folder / "README.md").write_text(written, encoding="utf-8")
        write_json(folder / "provenance.json", {"release": named, **made})


def check_loads(folder: Path) -> None:
    """Raise InputError unless transformers alone loads the folder and fills a mask with it."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForMaskedLM.from_pretrained(folder)
        fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
        fill(tokenizer.mask_token)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: transformers cannot fill a mask with it ({reason})") from error


def card(experiment: Experiment, student: str, language: str) -> str:
    """Return the model card of a student: Markdown with YAML front matter."""
    students = [
        name for name in experiment.settings.experiment.systems if is_student(experiment, name)
    ]
    for option, value, known in (
        ("system", student, students),
        ("language", language, experiment.languages),
    ):
        if value not in known:
            raise InputError(f"--{option} {value}: expected one of {', '.join(known)}")
    if not experiment.is_for(student, language):
        raise InputError(f"--system {student}: not made for --language {language}")
    scores = scores_table(experiment, student, language)
    return render(
        "card.md.j2",
        front_matter=front_matter(experiment, student, language),
        label=experiment.label(base_name(student)),
        language=experiment.language(language),
        folder=f"{student}-{language}",
        teacher=experiment.label(experiment.teacher(base_name(student))),
        scores=markdown(scores) if scores else "",
        sizes=markdown(sizes_table(experiment, student, language)),
        data=training_data(experiment, student, language),
        tokens=tokens_seen(experiment, student, language),
        recipe=recipe(experiment, student),
        seeds=experiment.settings.experiment.seeds,
    )


def is_student(experiment: Experiment, system: str) -> bool:
    """Whether a compared model is a student made here."""
    return system in experiment.settings.students


def iso(code: str) -> str | None:
    """Return the ISO 639 code of a Wikipedia code; None for private use and codes that have none.

    Private use is qaa to qtz.
    """
    code = ISO.get(code, code)
    if not re.fullmatch(r"[a-z]{2,3}", code) or re.fullmatch(r"q[a-t][a-z]", code):
        return None
    return code


def front_matter(experiment: Experiment, student: str, language: str) -> str:
    """Return the metadata that a hub reads, as YAML."""
    values: dict[str, Any] = {}
    if code := iso(language):
        values["language"] = [code]
    values |= {"library_name": "transformers", "pipeline_tag": "fill-mask"}
    root = experiment.paths.root_teacher(experiment.teacher(base_name(student)))
    teacher = experiment.settings.teachers[root]
    if teacher.source == "hub":
        values["base_model"] = teacher.model
    values["tags"] = ["eliquare", "knowledge-distillation", "masked-lm"]
    written: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return written


def scores_table(experiment: Experiment, student: str, language: str) -> Table | None:
    """The student beside every other system on the language's tasks; None without tasks."""
    tasks = experiment.tasks_of(language)
    if not tasks:
        return None
    rows = [
        [
            Cell(experiment.label(system), bold=system == base_name(student)),
            *(spread(experiment, experiment.score(system, task)) for task in tasks),
        ]
        for system in experiment.systems
        if experiment.is_for(system, language)
    ]
    header = ["System", *task_heads(experiment, tasks)]
    caption = f"Test splits, after fine-tuning: {over_seeds(experiment)}."
    label = member_label(experiment, student)
    notes = [f"This model: {label}."] if label != experiment.label(base_name(student)) else []
    return Table("scores", caption, header, rows, [], notes)


def sizes_table(experiment: Experiment, student: str, language: str) -> Table:
    """The student beside its teacher, where the teacher is compared too."""
    name, rows, caption = base_name(student), [], ""
    header = ["Model", "Parameters (M)", "Tokens", "On disk (MB)"]
    for system in (name, experiment.teacher(name)):
        benchmark = experiment.benchmark(system, language)
        if benchmark is None:
            continue
        timed = [row for row in benchmark["measurements"] if row["part"] == "encoder"]
        if system == name:
            header += [f"Encoder, batch size {row['batch_size']} (ms)" for row in timed]
            caption = condition(benchmark)
        rows.append(
            [
                text(experiment.label(system)),
                number(benchmark["parameters"]["total"] / MILLION, ",.2f"),
                number(benchmark["vocab_size"]),
                number(benchmark["weights_mb"], ",.1f"),
                *(number(row["latency_ms"]["median"], ",.1f") for row in timed),
            ]
        )
    return Table("sizes", caption, header, rows, [])


def licence(experiment: Experiment, language: str) -> str:
    """Return the licence of a language's text, as far as its source shows."""
    corpus = experiment.settings.languages[language].corpus
    if experiment.settings.demo and iso(language) is None:
        return "invented text, written by eliquare's generator; free of terms"
    if corpus.source == "dump":
        return "Wikipedia: CC BY-SA 4.0 and GFDL (CC BY-SA 3.0 and GFDL before June 2023)"
    if corpus.source == "dataset":
        return f"the terms of the data set {corpus.dataset}"
    return "the terms of the text files named above"


def training_data(experiment: Experiment, student: str, language: str) -> list[dict[str, Any]]:
    """Return source, counts and licence of the text in each language of the training."""
    data = []
    for code in experiment.paths.training_languages(student, language):
        report, corpus = experiment.documents(code), experiment.settings.languages[code].corpus
        data.append(
            {
                "language": experiment.language(code),
                "source": report["source"],
                "date": corpus.date if corpus.source == "dump" else None,
                "documents": report["documents"],
                "dropped": sum(report["dropped"].values()),
                "characters": report["characters"],
                "licence": licence(experiment, code),
            }
        )
    return data


def tokens_seen(experiment: Experiment, student: str, language: str) -> int | None:
    """Return the tokens of the distillation; None for a student that was not distilled."""
    path = experiment.history(student, language)
    if path is None:
        return None
    return max((row.get("tokens", 0) for row in experiment.rows(path)), default=None)
