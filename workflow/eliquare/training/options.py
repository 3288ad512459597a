"""The options that every masked training shares, and what follows from them.

The names, defaults and bounds of budget and optimizer are those of the configuration
(`eliquare.config.model.Training`), which has them from transformers' `TrainingArguments`.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import Field
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations

from eliquare.cli import Options
from eliquare.config.base import Problem
from eliquare.config.model import EXECUTION_KEYS, Training
from eliquare.config.objective import Objective
from eliquare.io import InputError, provenance, read_json
from eliquare.models.loading import quiet

LOGS = 100
# A training with fewer steps is warned of.
ENOUGH_STEPS = 1000

logger = logging.getLogger(__name__)


class TrainingOptions(Options, Training):
    """What every masked training takes: data, budget, optimizer, machine, output."""

    sequences: Path = Field(description="Sequences folder of the language.")
    masking: Path = Field(description="Masking folder made from these sequences.")
    data_fraction: float = Field(1.0, gt=0, le=1, description="Share of the training documents.")
    max_minutes: float | None = Field(
        None, gt=0, description="Save and stop (exit 75) before it has trained for so many minutes."
    )
    output: Path = Field(description="Folder to make.")

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the budget, and one where other processes run."""
        yield from self.budget_problems()
        if "gpus" in self.model_fields_set and self.gpus != processes():
            message = f"{processes()} processes run; start the command with torchrun"
            yield ("gpus",), f"{self.gpus}, and {message} --nproc-per-node {self.gpus}"

    @property
    def step_size(self) -> int:
        """Sequences of a step, over all micro-batches and processes."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * processes()

    @property
    def use_bf16(self) -> bool:
        """Whether to train under bf16 autocast; "auto": where a GPU is built for it."""
        if self.precision == "auto":
            gpu = torch.cuda.is_available()
            return gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return self.precision == "bf16"

    def warnings(self) -> list[str]:
        """Return what makes a budget too small for the corpus, in words, at most one line.

        Fewer than ENOUGH_STEPS steps, or less than one epoch, by the report of the sequences.
        """
        counted = read_json(self.sequences / "report.json")["train"]["sequences"]
        epoch = max(round(counted * self.data_fraction), 1) / self.step_size
        steps = self.steps(epoch)
        if not 0 < steps < max(ENOUGH_STEPS, epoch):
            return []
        advice = []
        if steps < epoch:
            advice.append("a part of the text is never seen: raise max_steps")
        if steps < ENOUGH_STEPS:
            advice.append(
                f"below about {ENOUGH_STEPS:,} steps a model usually learns little: set min_steps, "
                "or lower per_device_train_batch_size or gradient_accumulation_steps"
            )
        size = f"{self.step_size:,} sequences, {steps / epoch:.2f} epochs"
        return [
            f"only {steps:,} {'step' if steps == 1 else 'steps'} of {size}; {'; '.join(advice)}"
        ]

    def provenance(self, inputs: Mapping[str, Path], version: int) -> dict[str, Any]:
        """Return what decides the result, no paths and nothing of how it runs, and the machine.

        ``warnings`` stands in it too, if there are any.

        Args:
            inputs: the files and folders that decide the result, by the name of their option.
            version: the version of the stage.
        """
        not_decisive = {*EXECUTION_KEYS, "max_minutes", *type(self).paths()}
        settings = self.model_dump(mode="json", exclude_none=True, exclude=not_decisive)
        settings |= {"precision": "bf16" if self.use_bf16 else "float32", "gpus": processes()}
        objective = getattr(self, "objective", None)
        if isinstance(objective, Objective):
            settings["objective"] = objective.written_out()  # alike for all ways to write it
        origin = provenance(settings | {"version": version}, inputs, self.threads)
        warnings = self.warnings()
        return origin | ({"warnings": warnings} if warnings else {})

    @classmethod
    def paths(cls) -> set[str]:
        """Return the names of the options that are paths."""
        return {name for name, field in cls.model_fields.items() if "Path" in str(field.annotation)}


def begin(options: TrainingOptions) -> None:
    """Warn of a small budget; set threads, GPU and seed. Call it before any model is made."""
    if os.environ.get("RANK", "0") == "0":
        for warning in options.warnings():
            logger.warning("warning: %s", warning)
    torch.set_num_threads(options.threads)
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if 0 < gpus < here:
        raise InputError(f"gpus: {here} asked for, and this machine has {gpus}; ask for as many")
    if processes() == 1:
        # With several GPUs in sight the Trainer falls back on DataParallel, another batch size.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    for tracker in options.report_to:
        if tracker not in get_available_reporting_integrations():
            raise InputError(
                f"--report-to {tracker}: not installed (`pip install {tracker}`), or none of the "
                "trackers that transformers knows, as tensorboard, trackio, wandb or mlflow"
            )
    quiet()
    transformers.set_seed(options.seed)


def processes() -> int:
    """Return how many processes train together, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def training_arguments(
    options: TrainingOptions, steps: int, best_by: str, folder: Path
) -> TrainingArguments:
    """Return the settings of transformers' Trainer for so many steps, its state in ``folder``.

    Evaluations are a multiple of logged steps apart.
    """
    # Not into the folder of the checkpoints, which goes when the training is done.
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(options.output.parent / "runs"))
    logging_steps = max(1, steps // LOGS)
    eval_steps = max(1, steps // options.num_evals // logging_steps) * logging_steps
    return TrainingArguments(
        output_dir=str(folder),
        run_name=str(options.output),
        report_to=options.report_to or "none",
        # The Trainer refuses 0, for which `MaskedTrainer.fit` never starts it.
        max_steps=max(steps, 1),
        per_device_train_batch_size=options.per_device_train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        learning_rate=options.learning_rate,
        warmup_steps=round(options.warmup_ratio * steps),
        weight_decay=options.weight_decay,
        adam_epsilon=options.adam_epsilon,
        max_grad_norm=options.max_grad_norm,
        seed=options.seed,
        bf16=options.use_bf16,
        torch_compile=options.torch_compile,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend="gloo" if processes() > 1 and not torch.cuda.is_available() else None,
        # Every objective reaches every parameter, as `outputs.Outputs.zero` sees to.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        logging_steps=logging_steps,
        # Looking at each loss would wait for the GPU; `progress.StepSums` looks on the device.
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=eval_steps,
        metric_for_best_model=f"eval_{best_by}",
        greater_is_better=False,
        # At the last step, and whenever `progress.Clock` or a new best evaluation asks for it.
        save_strategy="steps",
        save_steps=max(steps, 1),
        disable_tqdm=True,
        log_level="error",
    )
