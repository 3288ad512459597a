"""A student for other people: its files in one folder, with model card and provenance.

The files are hard links where the file system allows it, so that a release takes no space.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from eliquare.config.derive import base_name
from eliquare.evaluation.hub import card_data
from eliquare.io import (
    InputError,
    atomic_dir,
    existing,
    link_or_copy,
    provenance,
    read_json,
    write_json,
)
from eliquare.models.hub import refuse_links_outside
from eliquare.models.sentence import MODULES, copy_sentence_files
from eliquare.reporting import results
from eliquare.reporting.formats import render
from eliquare.reporting.results import Experiment, OutputOptions
from eliquare.reporting.sections import recipe
from eliquare.reporting.tables import embeddings, intrinsic, scores, sizes, speed

LICENCES = "LICENSE*"
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


class ReleaseOptions(OutputOptions):
    """Options of a release."""

    system: str = Field(description="Name of the student.")
    language: str = Field(description="Code of its language.")
    model: Path = Field(description="Model folder of the student.")


def release(options: ReleaseOptions) -> None:
    """Put a student into a folder with its model card and its provenance."""
    experiment = results.read(options)
    written = card(experiment, options.system, options.language)
    model = existing(options.model, "model folder")
    refuse_links_outside(model)
    check_loads(model)
    origin = model / "provenance.json"
    made = read_json(origin) if origin.exists() else provenance({}, {})
    of_what = options.model_dump(include={"system", "language"})
    named = {"experiment": experiment.settings.name, **of_what}
    with atomic_dir(options.output) as folder:
        for file in sorted(model.iterdir()):
            if file.is_file() and not file.name.startswith(".") and file.name not in WRITTEN_HERE:
                link_or_copy(file.resolve(), folder / file.name)
        copy_sentence_files(model, folder)
        for file in sorted(experiment.paths.first_model(options.system).glob(LICENCES)):
            shutil.copyfile(file, folder / file.name)
        (folder / "README.md").write_text(written, encoding="utf-8")
        write_json(folder / "provenance.json", {"release": named, **made})


def check_loads(folder: Path) -> None:
    """Raise InputError unless transformers alone loads the folder and makes something with it.

    It fills a mask, or gives the states of a sentence encoder.
    """
    from transformers import pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    what: Any = "feature-extraction" if (folder / MODULES).exists() else "fill-mask"
    try:
        pipe: Any = pipeline(what, model=str(folder), device="cpu", trust_remote_code=False)
        pipe(pipe.tokenizer.mask_token)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: transformers does no {what} with it ({reason})") from error


def card(experiment: Experiment, student: str, language: str) -> str:
    """Return the model card of a student: Markdown with YAML front matter."""
    students, paths = experiment.settings.students, experiment.paths
    known = [(name, code) for code, name in paths.pairs() if name in students]
    if (student, language) not in known:
        expected = ", ".join(map(" ".join, known))
        raise InputError(f"--system {student} --language {language}: expected one of {expected}")
    name = base_name(student)
    teacher, tasks = experiment.teacher(name), paths.tasks([language])
    root = experiment.settings.teachers[paths.adapted_from(teacher)[-1]]
    origin = paths.origin(student, language)
    history = experiment.history(*origin) if paths.is_distilled(origin[0]) else []
    benchmarks = experiment.benchmarks_of((name, teacher), [language])
    return render(
        "card.md.j2",
        experiment=experiment,
        student=student,
        language=language,
        teacher=teacher,
        iso=iso,
        licence=licence_of(paths.first_model(student)),
        base_model=root.model if root.source == "hub" else None,
        encodes=experiment.settings.teachers[teacher].pooling is not None,
        prompts=experiment.settings.teachers[teacher].prompts,
        scores=scores(experiment, tasks) if tasks else None,
        intrinsic=intrinsic(experiment, (name, teacher), [language]),
        embeddings=embeddings(experiment, (name, teacher), [language]),
        sizes=sizes(experiment, benchmarks),
        speed=speed(experiment, benchmarks),
        tokens=max((row.get("tokens", 0) for row in history), default=None),
        recipe=recipe(experiment, name),
    )


def licence_of(model: Path) -> str:
    """Return the licence that the card of a model names; empty where it names none."""
    own = model / "README.md"
    said = card_data(own).get("license") if own.exists() else None
    return said if isinstance(said, str) else ""


def iso(code: str) -> str | None:
    """Return the ISO 639 code of a Wikipedia code; None without one or in private use (qaa-qtz)."""
    code = ISO.get(code, code)
    return code if re.fullmatch(r"(?!q[a-t][a-z])[a-z]{2,3}", code) else None
