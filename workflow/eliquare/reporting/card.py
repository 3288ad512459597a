"""A student for other people: its files in one folder, with model card and provenance.

The files are hard links where the file system allows it, so that a release takes no space.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from eliquare.config.derive import base_name
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
from eliquare.reporting import metadata, results
from eliquare.reporting.formats import render
from eliquare.reporting.results import Experiment, OutputOptions, metric_label
from eliquare.reporting.sections import recipe
from eliquare.reporting.tables import embeddings, intrinsic, scores, sizes, speed

FORMS = ("onnx", "static", "tasks")
# A student that is worse than its teacher by more than this says so in the first line of its card.
LOSS_TO_SAY = 0.01
LICENCES = "LICENSE*"
WRITTEN_HERE = ("README.md", "provenance.json")


class ReleaseOptions(OutputOptions):
    """Options of a release."""

    system: str = Field(description="Name of the student.")
    language: str = Field(description="Code of its language.")
    model: Path = Field(description="Model folder of the student.")
    exports: Path | None = Field(None, description="Folder of its other forms, to put beside it.")


def release(options: ReleaseOptions) -> None:
    """Put a student into a folder with its model card and its provenance."""
    experiment = results.read(options)
    model = existing(options.model, "model folder")
    refuse_links_outside(model)
    forms = read_json(options.exports / "report.json") if options.exports else {}
    mask = metadata.mask_of(model)
    written = card(experiment, options.system, options.language, forms, mask)
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
        if options.exports:
            copy_forms(experiment, options, forms, folder)
        (folder / "README.md").write_text(written, encoding="utf-8")
        write_json(folder / "provenance.json", {"release": named, **made})


def copy_forms(
    experiment: Experiment, options: ReleaseOptions, forms: Mapping[str, Any], folder: Path
) -> None:
    """Put the other forms of a student beside it, each fine-tuned model with a card of its own."""
    for name in FORMS:
        source = existing(options.exports or "", "folder of exports") / name
        if source.exists():
            shutil.copytree(source, folder / name, copy_function=link_or_copy)
    for task, made in forms["tasks"].items():
        if "unavailable" not in made:
            text = task_card(experiment, options.system, options.language, task, made)
            (folder / "tasks" / task / "README.md").write_text(text, encoding="utf-8")


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


def task_card(
    experiment: Experiment, student: str, language: str, task: str, made: Mapping[str, Any]
) -> str:
    """Return the card of a student's model that was fine-tuned on a task; ``made`` says how."""
    return render(
        "task_card.md.j2",
        metadata=metadata.of_task(experiment, student, language, task, made),
        experiment=experiment,
        student=student,
        language=language,
        task=task,
        entry=experiment.settings.tasks[task],
        pipeline=metadata.pipeline_of(experiment.settings.tasks[task].kind),
        example=metadata.example(experiment, language) or "…",
        made=made,
    )


def card(
    experiment: Experiment,
    student: str,
    language: str,
    forms: Mapping[str, Any] | None = None,
    mask: str | None = None,
) -> str:
    """Return the model card of a student: Markdown with YAML front matter.

    ``forms`` is the report of its other forms, ``mask`` its mask token, for an example.
    """
    students, paths = experiment.settings.students, experiment.paths
    known = [(name, code) for code, name in paths.pairs() if name in students]
    if (student, language) not in known:
        expected = ", ".join(map(" ".join, known))
        raise InputError(f"--system {student} --language {language}: expected one of {expected}")
    name = base_name(student)
    teacher, tasks = experiment.teacher(name), paths.tasks([language])
    origin = paths.origin(student, language)
    history = experiment.history(*origin) if paths.is_distilled(origin[0]) else []
    benchmarks = experiment.benchmarks_of((name, teacher), [language])
    return render(
        "card.md.j2",
        experiment=experiment,
        student=student,
        language=language,
        teacher=teacher,
        licence=metadata.license_of(paths.first_model(student)) or "",
        iso=metadata.iso,
        metadata=metadata.of_student(experiment, name, language, tasks, mask),
        forms={"onnx": None, "static": None, "tasks": {}} | dict(forms or {}),
        losses=losses(experiment, name, language),
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


def losses(experiment: Experiment, student: str, language: str) -> list[str]:
    """Return what a student loses to its teacher, in words, the largest loss first.

    On validation, of fine-tuned tasks and of topics by frozen embeddings, and on test where there
    is no other split; means over seeds. None where the teacher is not compared.
    """
    teacher = experiment.teacher(student)
    if teacher not in experiment.systems:
        return []
    paths = experiment.paths
    asked = [(task, "", "validation") for task in paths.tasks([language])]
    for task in paths.embedded([language]):
        split = "test" if task in paths.embedded_pairs() else "validation"
        asked.append((task, " by frozen embeddings", split))
    found = []
    for task, how, split in asked:
        own, its = (
            experiment.embedding_score(each, language, task, split)
            if how
            else experiment.score(each, task, split=split)
            for each in (student, teacher)
        )
        if own and its and its.mean - own.mean > LOSS_TO_SAY:
            said = (
                f"{100 * (its.mean - own.mean):.1f} points of {metric_label(own.metric)} on "
                f"{experiment.task_title(task)}{how}, {split} ({own.mean:.3f}, its teacher "
                f"{its.mean:.3f})"
            )
            found.append((own.mean - its.mean, said))
    return [said for _, said in sorted(found)]
