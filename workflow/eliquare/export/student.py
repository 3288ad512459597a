"""Make all other forms of a student that its recipe's ``export`` asks for, in one program.

    eliquare export student --model FOLDER --system NAME --language sw --text held_out.txt
        --counts COUNTS --formats onnx static --store results/finetuned --seeds 1 2 3
        --tasks '{"name": "sw-ner", "keep_model": true, …}' --output FOLDER

The output holds ``onnx/`` and ``static/``, for each task whose models were kept ``tasks/<task>/``
with that of the seed that is best on validation, and ``report.json`` with what each form scores and
takes. ``reporting release`` puts them beside the student, with a card for each model.
"""

import logging
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from eliquare import cli
from eliquare.config.export import StaticShape
from eliquare.config.model import Benchmark
from eliquare.evaluation.data import unavailable_task
from eliquare.evaluation.finetune import Task
from eliquare.export.onnx import OnnxOptions, write_onnx
from eliquare.export.static import StaticOptions, measure, write_static
from eliquare.io import (
    InputError,
    atomic_dir,
    link_or_copy,
    processor_name,
    provenance,
    read_json,
    write_json,
)

TASKS = "tasks"

logger = logging.getLogger(__name__)


class StudentOptions(cli.Options, StaticShape, Benchmark):
    """Options of ``export student``."""

    model: Path = Field(description="Model folder of the student.")
    system: str = Field(description="Name of the student.")
    language: str = Field(description="Code of its language.")
    formats: list[Literal["onnx", "static"]] = Field([], description="What to make.")
    margin: float = Field(0.01, ge=0, description="How much lower int8 may score.")
    text: Path = Field(description="Held-out sentences of the language, one per line.")
    counts: Path = Field(description="Folder with the counts of its tokens.")
    tasks: list[Task] = Field(
        [],
        description="Tasks, each as JSON: the models of those with `keep_model` are exported, and "
        "static embeddings are scored on all.",
    )
    seeds: list[int] = Field([], description="Seeds of fine-tuning.")
    store: Path = Field(Path("results/finetuned"), description="Folder of fine-tuned models.")
    output: Path = Field(description="Folder to make.")


def export(options: StudentOptions) -> None:
    """Make the other forms of a student, and report what each of them scores and takes."""
    how = Benchmark(**options.model_dump(include=set(Benchmark.model_fields)))
    report: dict[str, Any] = {"system": options.system, "language": options.language}
    report["measured"] = {
        "device": processor_name(),
        "threads": how.threads,
        "batch_size": min(how.batch_sizes),
        "sequence_length": how.sequence_length,
    }
    with atomic_dir(options.output) as partial:
        if "onnx" in options.formats:
            report["onnx"] = to_onnx(options, options.model, partial)
            logger.info("%s: %s", options.system, report["onnx"]["decision"])
        if "static" in options.formats:
            (partial / "static").mkdir()
            values = options.model_dump(include={"model", "counts", "dimensions", "sif"})
            static = StaticOptions(**values, output=options.output)
            report["static"] = write_static(static, partial / "static")
            report["static"] |= measure(partial / "static", options.tasks, how)
        report["tasks"] = {}
        for task in (task for task in options.tasks if task.keep_model):
            if reason := unavailable_task(task):
                report["tasks"][task.name] = {"unavailable": reason}
            else:
                report["tasks"][task.name] = keep(options, task, partial / TASKS / task.name)
        write_json(partial / "report.json", report)
        settings = options.model_dump(mode="json", include={"formats", "margin", "seeds"})
        write_json(partial / "provenance.json", provenance(settings, {"model": options.model}))


def keep(options: StudentOptions, task: Task, folder: Path) -> dict[str, Any]:
    """Put a fine-tuned model into a folder; return its seed, scores and forms."""
    seed, place, metrics = best_seed(options.store / task.name / options.system, options.seeds)
    shutil.copytree(place / "model", folder, copy_function=link_or_copy)
    report = {"seed": seed} | {key: metrics[key] for key in ("metric", "validation", "test")}
    if "onnx" in options.formats:
        report["onnx"] = to_onnx(options, folder, folder, task)
        logger.info("%s, %s: %s", options.system, task.name, report["onnx"]["decision"])
    return report


def to_onnx(
    options: StudentOptions, model: Path, folder: Path, task: Task | None = None
) -> dict[str, Any]:
    """Write the ONNX form of the student, or of its model of a task, into ``folder/onnx``."""
    text = None if task else options.text
    values = options.model_dump(include={"margin", "output", *Benchmark.model_fields})
    return write_onnx(OnnxOptions(model=model, text=text, task=task, **values), folder)


def best_seed(folder: Path, seeds: list[int]) -> tuple[int, Path, dict[str, Any]]:
    """Return the seed whose model is best on validation, the first of equals, and its metrics.

    Raises:
        InputError: no model was kept.
    """
    found = []
    for seed in seeds:
        place = folder / f"seed-{seed}"
        if (place / "model").exists():
            metrics = read_json(place / "metrics.json")
            found.append((seed, place, metrics))
    if not found:
        raise InputError(
            f"{folder}: no fine-tuned model was kept; fine-tune with `keep_model` in the task"
        )
    return max(found, key=lambda each: each[2]["validation"][each[2]["metric"]])
