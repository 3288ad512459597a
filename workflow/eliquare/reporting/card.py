"""A student for other people: its files in one folder, with model card and provenance.

The files are hard links where the file system allows it, so that a release takes no space.
"""

import re
from pathlib import Path
from typing import Any

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
from eliquare.reporting.formats import render
from eliquare.reporting.results import Experiment, ExperimentOptions
from eliquare.reporting.sections import recipe
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
    students, paths = experiment.settings.students, experiment.paths
    known = [(name, code) for code, name in paths.pairs() if name in students]
    if (student, language) not in known:
        expected = ", ".join(map(" ".join, known))
        raise InputError(f"--system {student} --language {language}: expected one of {expected}")
    name = base_name(student)
    teacher, tasks = experiment.teacher(name), paths.tasks([language])
    root = experiment.settings.teachers[paths.root_teacher(teacher)]
    original = paths.original_of(student)
    tokens = None
    if paths.is_distilled(original):
        history = experiment.history(original, paths.corpus_of(original, language))
        tokens = max((row.get("tokens", 0) for row in history), default=None)
    benchmarks = experiment.benchmarks_of((name, teacher), [language])
    return render(
        "card.md.j2",
        code=iso(language),
        base_model=root.model if root.source == "hub" else None,
        label=experiment.member_label(student),
        language=experiment.language(language),
        folder=f"{student}-{language}",
        teacher=experiment.label(teacher),
        scores=scores(experiment, tasks) if tasks else None,
        sizes=sizes(experiment, benchmarks),
        speed=speed(experiment, benchmarks),
        data=[training_data(experiment, c) for c in paths.training_languages(student, language)],
        tokens=tokens,
        recipe=recipe(experiment, name),
        seeds=experiment.settings.experiment.seeds,
    )


def iso(code: str) -> str | None:
    """Return the ISO 639 code of a Wikipedia code; None without one or in private use (qaa-qtz)."""
    code = ISO.get(code, code)
    return code if re.fullmatch(r"(?!q[a-t][a-z])[a-z]{2,3}", code) else None


def training_data(experiment: Experiment, language: str) -> dict[str, Any]:
    """Return source, counts and licence, as far as the source shows it, of a language's text."""
    corpus = experiment.settings.languages[language].corpus
    licence = "the terms of the text files named above"
    if experiment.settings.demo and iso(language) is None:
        licence = "invented text, written by eliquare's generator; free of terms"
    elif corpus.source == "dump":
        licence = "Wikipedia: CC BY-SA 4.0 and GFDL (CC BY-SA 3.0 and GFDL before June 2023)"
    elif corpus.source == "dataset":
        licence = f"the terms of the data set {corpus.dataset}"
    return {
        **experiment.documents(language),
        "language": experiment.language(language),
        "date": corpus.date if corpus.source == "dump" else None,
        "licence": licence,
    }
