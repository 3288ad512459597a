"""Fine-tune a system on tasks with several seeds, and score it on their test splits.

    eliquare evaluation finetune --model FOLDER --system NAME --language sw \
        --tasks '{"name": "sw-ner", "kind": "ner", "language": "sw", "train": "train.txt"}' \
        --seeds 1 2 3 --output results/compare/scores/sw/NAME.json

One process does all tasks and seeds of a system: it imports torch once, reads the tokenizer once
and encodes each task once. Each result, of one task and seed, is a folder of the store with a
digest of everything that decides it. A result whose digest is the same is reused, so a new seed
or task makes its own results only, and a run that was killed continues with those that are missing.

The fine-tuning itself is in ``trainer``, which is imported when there is something to make: torch
takes seconds, and mistakes in task files are reported before.
"""

import gc
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from eliquare import cli
from eliquare.config.base import Problem, Seed, Threads
from eliquare.config.systems import TaskDistillation
from eliquare.config.tasks import Finetuning, TaskData
from eliquare.evaluation import data
from eliquare.io import (
    InputError,
    atomic_dir,
    atomic_write,
    checksum,
    existing,
    existing_file,
    format_suffix,
    gpu_name,
    locked,
    provenance,
    read_json,
    why_unavailable,
    write_json,
)

if TYPE_CHECKING:
    from eliquare.evaluation.trainer import Result

# The files of a model folder that decide its results; its card and its history do not.
# fmt: off
MODEL_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.model",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
)
# Keys of a seed's metrics.json that are the same for all seeds of a task.
TASK_KEYS = (
    "kind", "metric", "labels", "max_length", "sizes", "unknown_share", "long_share",
    "seen_share", "unseen_labels",
)
# fmt: on
SEED_KEYS = ("test", "validation", "best_epoch", "learning_rate", "steps", "warmup_steps")

# What a teacher of tasks leaves in the store for those it teaches.
LOGITS = "logits.safetensors"

logger = logging.getLogger(__name__)


class Task(TaskData):
    """A task to fine-tune on."""

    kind: Literal["upos", "ner", "classification", "pair"] = Field(description="Kind of task.")
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="Name of the task.")
    finetuning: Finetuning = Field(Finetuning(), description="Hyper-parameters.")
    keep_model: bool = Field(False, description="Keep the fine-tuned models in the store.")
    keep_logits: bool = Field(False, description="Keep what teaches others (task distillation).")


class FinetuneOptions(cli.Options):
    """Options of ``evaluation finetune``."""

    model: str = Field(description="Model folder, or hub id.")
    system: str = Field(description="Name of the system.")
    language: str = Field(description="Code of the language.")
    tasks: list[Task] = Field(min_length=1, description="Tasks, each as JSON.")
    seeds: list[Seed] = Field(
        min_length=1, description="Seeds of the new head, the order of the data and the dropout."
    )
    task_distillation: TaskDistillation | None = Field(
        None, description="The teacher of the tasks, fine-tuned with keep_logits, as JSON."
    )
    unlabelled: Path | None = Field(
        None, description="Sentences that a teacher labels, one per line."
    )
    threads: Threads = Field(1, description="Threads of the processor.")
    store: Path = Field(Path("results/finetuned"), description="Folder of the results by seed.")
    output: Path = Field(description="JSON file with the scores to write.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where a teacher's sentences are wanted and not given, or not wanted."""
        taught = self.task_distillation
        wanted = taught.sentences if taught else any(task.keep_logits for task in self.tasks)
        if taught and wanted and not self.unlabelled:
            yield ("unlabelled",), "missing; task_distillation takes `sentences` from this file"
        if self.unlabelled and not wanted:
            needs = "`sentences` in task_distillation, or a task with keep_logits"
            yield ("unlabelled",), f"nothing is taught on it; give {needs}, or leave it out"

    def text_for(self, task: Task) -> Path | None:
        """Return the unlabelled text that a task is taught on; none for pairs of texts."""
        taught = self.task_distillation
        unused = task.kind == "pair" or (taught and not taught.sentences)
        return None if unused else self.unlabelled


class Run(NamedTuple):
    """One result: a task with a seed, its folder in the store, and what decides it.

    ``teacher`` is the stored result of the teacher that teaches it, if one does.
    """

    task: Task
    seed: int
    folder: Path
    origin: dict[str, Any]
    teacher: Path | None = None

    @property
    def model(self) -> Path:
        """The folder of the fine-tuned model, if it is kept."""
        return self.folder / "model"

    def is_stored(self) -> bool:
        """Return whether the store holds this result, made from the same."""
        path = self.folder / "provenance.json"
        origin = read_json(path) if path.exists() else {}
        keys = ("digest", "unlabelled") if self.task.keep_logits else ("digest",)
        made = all(origin.get(key) == self.origin.get(key) for key in keys)
        kept = {self.model: self.task.keep_model, self.folder / LOGITS: self.task.keep_logits}
        return made and all(path.exists() for path, asked in kept.items() if asked)


def finetune(options: FinetuneOptions) -> None:
    """Fine-tune a system on tasks with every seed, reuse stored results, write the scores."""
    if reason := why_unavailable(options.model):
        save_scores(options, {}, reason)
        return
    folder = Path(options.model)
    if not folder.exists():
        from eliquare.models.hub import local_folder

        folder = local_folder(options.model)
    existing(folder / "config.json", "model configuration; expected a model's folder")
    runs = plan(options, folder)
    missing = [run for run in runs if not run.is_stored()]
    logger.info("%s: %d of %d results to make", options.system, len(missing), len(runs))
    if missing:
        make(options, folder, missing)
    tasks: dict[str, dict[str, Any]] = {}
    for run in runs:
        metrics = read_json(run.folder / "metrics.json")
        of_all_seeds = {key: metrics[key] for key in TASK_KEYS}
        task = tasks.setdefault(run.task.name, of_all_seeds | {"seeds": {}})
        task["seeds"][str(run.seed)] = {key: metrics[key] for key in SEED_KEYS}
    for asked in options.tasks:
        if reason := data.unavailable_task(asked):
            tasks[asked.name] = {"unavailable": reason, "seeds": {}}
    save_scores(options, tasks)


def save_scores(
    options: FinetuneOptions, tasks: dict[str, dict[str, Any]], unavailable: str = ""
) -> None:
    """Write the scores of the tasks, or why the system is not there."""
    with atomic_write(options.output) as partial:
        scores: dict[str, Any] = {"system": options.system, "language": options.language}
        reason = {"unavailable": unavailable} if unavailable else {}
        write_json(partial, scores | reason | {"tasks": tasks})


def plan(options: FinetuneOptions, folder: Path) -> list[Run]:
    """Return the results that are asked for, in the order of tasks and seeds."""
    model = model_checksum(folder)
    runs = []
    for task in options.tasks:
        if data.unavailable_task(task):
            continue
        paths = {"train": task.train, "validation": task.validation, "test": task.test}
        given = {name: existing_file(path, "task file") for name, path in paths.items() if path}
        # A file's name decides how a table is read.
        settings = {
            "version": cli.version("evaluation", "finetune"),
            "task": task.model_dump(
                exclude={"name", "language", "keep_model", "keep_logits", *paths}
            ),
            "formats": {name: format_suffix(path) for name, path in given.items()},
            "precision": "float32",
        }
        made_of = provenance(settings, given, options.threads)
        of_task = made_of["inputs"]
        text = options.text_for(task)
        sentences = checksum(existing(text, "text file")) if text else None
        for seed in dict.fromkeys(options.seeds):
            origin = made_of | {
                "settings": settings | {"seed": seed},
                "inputs": of_task | {"model": model},
            }
            teacher = None
            if taught := options.task_distillation:
                teacher = options.store / task.name / taught.teacher / f"seed-{seed}"
                require_lesson(teacher, origin["settings"], of_task, sentences)
                origin["settings"]["task_distillation"] = taught.model_dump()
                origin["inputs"]["teacher_logits"] = checksum(teacher / LOGITS)
            decides = json.dumps([origin["settings"], origin["inputs"]], sort_keys=True)
            origin["digest"] = hashlib.sha256(decides.encode()).hexdigest()
            if task.keep_logits:
                # Decides what is kept, and nothing of the result.
                origin["unlabelled"] = sentences
            place = options.store / task.name / options.system / f"seed-{seed}"
            runs.append(Run(task, seed, place, origin, teacher))
    return runs


def require_lesson(
    teacher: Path, settings: dict[str, Any], files: dict[str, str], sentences: str | None
) -> None:
    """Raise InputError unless the store holds what a teacher predicts on the same task and text."""
    origin = read_json(teacher / "provenance.json") if (teacher / LOGITS).exists() else {}
    made_of = origin.get("inputs", {})
    same_task = origin.get("settings") == json.loads(json.dumps(settings)) and files.items() <= (
        made_of.items()
    )
    if not same_task or (sentences and origin.get("unlabelled") != sentences):
        raise InputError(
            f"{teacher}: expected the logits of this teacher, fine-tuned on the same data with the "
            "same settings, seed and unlabelled text; fine-tune it with keep_logits first"
        )


def model_checksum(folder: Path) -> str:
    """Return a SHA-256 of the files that decide what a model answers."""
    files = sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})
    names = [f"{file.name} {checksum(file)}\n" for file in files if file.is_file()]
    return hashlib.sha256("".join(names).encode()).hexdigest()


def make(options: FinetuneOptions, folder: Path, missing: Sequence[Run]) -> None:
    """Fine-tune for each missing result; each is in the store as soon as it is finished."""
    tasks = {run.task.name: run.task for run in missing}
    loaded = {
        name: data.load(task, task.finetuning.max_train_samples) for name, task in tasks.items()
    }
    taught = options.task_distillation
    texts = {
        name: data.unlabelled(tasks[name].kind, text, taught.sentences if taught else None)
        for name in tasks
        if (text := options.text_for(tasks[name]))
    }
    # With several GPUs in sight, the Trainer falls back on DataParallel: another batch size.
    first_gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = first_gpu
    from eliquare.evaluation.task_distillation import Lesson
    from eliquare.evaluation.trainer import System

    gc.freeze()  # as after the import of a stage, in cli.load
    system = System(folder, options.threads)
    left = len(missing)
    for name, runs in itertools.groupby(missing, lambda run: run.task.name):
        task = tasks[name]
        prepared = system.prepare(task.kind, loaded[name], task.finetuning, texts.get(name, ()))
        for run in runs:
            with locked(run.folder, "result"):
                if not run.is_stored():
                    logger.info("%s, %s, seed %d (%d left)", name, options.system, run.seed, left)
                    lesson = None
                    if taught and run.teacher:
                        lesson = Lesson.of(run.teacher / LOGITS, prepared.taught, taught)
                    save(options, run, system.train(prepared, run.seed, lesson))
            left -= 1


def save(options: FinetuneOptions, run: Run, result: "Result") -> None:
    """Put a result into the store; one that was made from something else is replaced."""
    run.origin["hardware"] |= gpu_name()  # torch was not there when the work was planned
    made_for = {"task": run.task.name, "language": options.language, "system": options.system}
    with atomic_dir(run.folder) as partial:
        write_json(partial / "metrics.json", made_for | {"seed": run.seed} | result.metrics)
        for name, rows in (("history", result.history), ("predictions", result.predictions)):
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
            (partial / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        # In a file of its own: all others are the same bytes again.
        write_json(partial / "runtime.json", {"seconds": round(result.seconds, 3)})
        write_json(partial / "provenance.json", run.origin)
        if run.task.keep_model:
            result.save_model(partial / run.model.name)
        if run.task.keep_logits:
            result.save_logits(partial / LOGITS)
