"""A student for other people: its files in one folder, with model card and provenance.

The files are hard links where the file system allows it, so that a release takes no space.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

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
from eliquare.reporting.formats import markdown
from eliquare.reporting.report import render
from eliquare.reporting.results import Experiment, ExperimentOptions
from eliquare.reporting.sections import member_label, recipe
from eliquare.reporting.tables import scores, sizes, speed

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


class ReleaseOptions(ExperimentOptions):
    """Options of a release."""

    system: str = Field(description="Name of the student.")
    language: str = Field(description="Code of its language.")
    model: Path = Field(description="Model folder of the student.")
    output: Path = Field(description="Folder to write.")


def release(options: ReleaseOptions) -> None:
    """Put a student into a folder with its model card and its provenance."""
    experiment = results.read(options)
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
    compared = experiment.settings.experiment.systems
    students = [name for name in compared if name in experiment.settings.students]
    for option, value, known in (
        ("system", student, students),
        ("language", language, experiment.languages),
    ):
        if value not in known:
            raise InputError(f"--{option} {value}: expected one of {', '.join(known)}")
    if not experiment.paths.is_for(student, language):
        raise InputError(f"--system {student}: not made for --language {language}")
    name = base_name(student)
    teacher, tasks = experiment.teacher(name), experiment.tasks_of(language)
    benchmarks = experiment.benchmarks_of((name, teacher), [language])
    return render(
        "card.md.j2",
        front_matter=front_matter(experiment, teacher, language),
        label=member_label(experiment, student),
        language=experiment.language(language),
        folder=f"{student}-{language}",
        teacher=experiment.label(teacher),
        scores=markdown(scores(experiment, tasks)) if tasks else "",
        sizes=markdown(sizes(experiment, benchmarks)),
        speed=markdown(speed(experiment, benchmarks)),
        data=training_data(experiment, student, language),
        tokens=tokens_seen(experiment, student, language),
        recipe=recipe(experiment, name),
        seeds=experiment.settings.experiment.seeds,
    )


def iso(code: str) -> str | None:
    """Return the ISO 639 code of a Wikipedia code; None for private use and codes that have none.

    Private use is qaa to qtz.
    """
    code = ISO.get(code, code)
    if not re.fullmatch(r"[a-z]{2,3}", code) or re.fullmatch(r"q[a-t][a-z]", code):
        return None
    return code


def front_matter(experiment: Experiment, teacher_name: str, language: str) -> str:
    """Return the metadata that a hub reads, as YAML."""
    values: dict[str, Any] = {}
    if code := iso(language):
        values["language"] = [code]
    values |= {"library_name": "transformers", "pipeline_tag": "fill-mask"}
    teacher = experiment.settings.teachers[experiment.paths.root_teacher(teacher_name)]
    if teacher.source == "hub":
        values["base_model"] = teacher.model
    values["tags"] = ["eliquare", "knowledge-distillation", "masked-lm"]
    written: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return written


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
