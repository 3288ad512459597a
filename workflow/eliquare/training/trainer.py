"""One masked training: transformers' Trainer, and in plain sight what differs from it.

Left to the Trainer: the loop, optimizer, schedule and clipping, bf16, torch.compile, several GPUs
and nodes (torchrun), trackers (``report_to``), what a checkpoint holds (weights, optimizer,
schedule, random numbers), and how a training resumes from one. `MaskedTrainer` overrides:

- the order of the data (``get_train_dataloader``);
- the loss (``get_batch_samples``, ``compute_loss``): each term is a mean over its positions in the
  whole step, over all micro-batches and processes;
- the evaluation (``evaluate``): each term is a mean over the validation set;
- what is logged (``log``): every term, tokens per second, in ``history.jsonl``;
- what a checkpoint adds (``_save_checkpoint``): the best weights, the sums since the last logged
  step, and that it is complete or not there.

Not used: ``enable_jit_checkpoint``, which saves in the middle of a step, with the random numbers of
the next one, and in each process by itself; ``save_total_limit`` with ``load_best_model_at_end``,
which keeps the best checkpoint in the place of the second-last one.
"""

import contextlib
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback

from eliquare.config.objective import Weight
from eliquare.interrupts import outlive
from eliquare.io import Failure, Interrupted, atomic_dir, read_json, write_json
from eliquare.models.sentence import Sentence, write_sentence
from eliquare.training import checkpoint
from eliquare.training.data import MicroBatchSampler, TrainingData
from eliquare.training.options import TrainingOptions, training_arguments
from eliquare.training.outputs import Batch
from eliquare.training.progress import Clock, Processes, StepSums

SUMS = "sums.json"

logger = logging.getLogger(__name__)


class Losses(NamedTuple):
    """What an objective makes of a micro-batch.

    ``loss`` is the sum of the terms, each multiplied by its scale, and has a gradient; ``sums``
    holds each term's plain sum over its positions.
    """

    loss: torch.Tensor
    sums: dict[str, torch.Tensor]


class Objective(Protocol):
    """What a model is trained for: named terms, each a sum over positions."""

    @property
    def weights(self) -> Mapping[str, Weight]:
        """The weight of each term over the training."""

    @property
    def best_by(self) -> str:
        """The term, or "loss", whose lowest evaluation marks the best weights."""

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return over how many positions of a batch, still on the processor, each term sums."""

    def __call__(self, model: nn.Module, batch: Batch, scales: Mapping[str, float]) -> Losses:
        """Return the loss of a batch: each term's sum multiplied by its scale."""

    def to(self, device: torch.device) -> None:
        """Move what belongs to the objective and is not trained, as teachers, to the device."""


class MaskedTrainer(transformers.Trainer):
    """Trains a model for an objective on masked sequences, as the module's head says.

    Args:
        model: the model to train.
        objective: what it is trained for.
        data: the sequences to train and validate on.
        options: budget, optimizer, machine and output.
    """

    # The loss is normalised over the step already: the Trainer divides it by nothing.
    loss_is_scaled_for_ga = True
    objective: Objective

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        data: TrainingData,
        options: TrainingOptions,
    ):
        self.objective = objective
        self.plain_model = model
        self.data = data
        self.options = options
        self.folder = checkpoint.folder_of(options.output)
        self.digest = ""  # of what decides the result, once `fit` knows it
        config = dict(vars(model.config))
        self.steps = options.steps(data.train.per_epoch / options.step_size)
        super().__init__(
            model,
            training_arguments(options, self.steps, objective.best_by, self.folder),
            data_collator=data.collate,
            train_dataset=data.train,
            eval_dataset=data.validation,
        )
        model.config.__dict__ = config  # without use_cache, which the Trainer sets
        self.remove_callback(PrinterCallback)
        self.group = Processes()
        self.sums = StepSums(list(objective.weights), self.args.device, self.group)
        self.clock = Clock(options, self.group)
        self.add_callback(self.clock)
        self.objective.to(self.args.device)

    # The data: the order of MaskedDataset, split into micro-batches

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the micro-batches of this process, all steps in one "epoch" of the Trainer."""
        batches = MicroBatchSampler(
            self.steps,
            self.args.per_device_train_batch_size,
            self.args.gradient_accumulation_steps,
            self.group.rank,
            self.group.count,
        )
        return self._loader(self.data.train, batches)

    def _loader(self, dataset: Any, batches: Any) -> DataLoader[Any]:
        gpu = self.args.device.type == "cuda"
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data.collate,
            num_workers=2 if gpu else 0,
            worker_init_fn=outlive,
            pin_memory=gpu,
            # A generator of its own: reading data must not move the training's random numbers.
            generator=torch.Generator(),
        )

    def _on_device(self, batch: Batch) -> Batch:
        return {
            name: tensor.to(self.args.device, non_blocking=True) for name, tensor in batch.items()
        }

    # The loss: each term a mean over its positions in the whole step

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Any]:
        """Read the micro-batches of a step; count each term's positions in all of the step."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        counts: dict[str, int] = {}
        for batch in batches:
            tokens = {"tokens": int(batch["attention_mask"].sum())}
            padded = {"positions": batch["attention_mask"].numel()}
            for name, count in (self.objective.counts(batch) | tokens | padded).items():
                counts[name] = counts.get(name, 0) + count
        counts = {name: int(count) for name, count in self.group.add(counts).items()}
        self.sums.add_step(counts["tokens"], counts["positions"])
        return [self._on_device(batch) for batch in batches], counts

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return the part of the step's loss that a micro-batch has.

        ``num_items_in_batch`` is what ``get_batch_samples`` counted.
        """
        counts: dict[str, int] = num_items_in_batch
        progress = self.state.global_step / self.steps
        scales = {
            name: weight.at(progress) / max(counts[name], 1)
            for name, weight in self.objective.weights.items()
        }
        model.train(not self.options.disable_dropout)  # nothing else differs in an encoder's modes
        with self.accelerator.autocast():
            losses = self.objective(model, inputs, scales)
        means = {name: total / max(counts[name], 1) for name, total in losses.sums.items()}
        self.sums.add(losses.loss, means, step=self.state.global_step + 1)
        # DistributedDataParallel takes the mean of the processes' gradients, and their sum is due.
        loss: torch.Tensor = losses.loss * self.group.count
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        """Clip the gradients; on a processor, where it costs no wait, refuse what is no number."""
        norm: torch.Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        self.sums.watch_gradient(norm, step=self.state.global_step + 1)
        if self.args.device.type == "cpu" and self.group.count == 1:
            self._refuse_broken()
        return norm

    def _refuse_broken(self) -> None:
        """Raise Failure with the terms, and the step, where the first was not a number."""
        step, names = self.sums.broken()
        if names:
            raise self._failure(step, names)

    def _failure(self, step: int, names: Sequence[str]) -> Failure:
        verb = "is" if len(names) == 1 else "are"
        return Failure(
            f"step {step}: {' and '.join(names)} {verb} not a number (NaN or infinite); the last "
            f"intact checkpoint is kept in {self.folder}. Try a lower learning rate, or float32"
        )

    # The evaluation: each term a mean over its positions in the whole validation set

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return each term, and their sum weighted by the terms' mean weights, as ``eval_loss``."""
        self.plain_model.eval()
        names = list(self.objective.weights)
        totals = torch.zeros(len(names), dtype=torch.float64, device=self.args.device)
        counts = dict.fromkeys(names, 0)
        for batch in self._loader(self.data.validation, self._validation_batches()):
            for name, count in self.objective.counts(batch).items():
                counts[name] += count
            with self.accelerator.autocast():
                losses = self.objective(
                    self.plain_model, self._on_device(batch), dict.fromkeys(names, 1.0)
                )
            totals += torch.stack([losses.sums[name].double() for name in names])
        of_all = self.group.add(dict(zip(names, totals.tolist(), strict=True)))
        count_of_all = self.group.add(counts)
        means = {name: of_all[name] / max(count_of_all[name], 1) for name in names}
        loss = sum(weight.mean * means[name] for name, weight in self.objective.weights.items())
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        if broken := [name for name, value in metrics.items() if not math.isfinite(value)]:
            raise self._failure(self.state.global_step, broken)
        metrics = {f"{metric_key_prefix}_loss": loss} | metrics
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _validation_batches(self) -> list[list[int]]:
        """Return this process's batches; without gradients twice as much fits in memory."""
        size = 2 * self.args.per_device_train_batch_size
        indices = range(len(self.data.validation))
        batches = [list(indices[start : start + size]) for start in indices[::size]]
        return batches[self.group.rank :: self.group.count]

    def first_validation_batch(self) -> Batch:
        """Return the first batch of the validation set."""
        items = self.data.validation.__getitems__(
            range(min(len(self.data.validation), self.args.per_device_train_batch_size))
        )
        return self._on_device(self.data.collate(items))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Save a checkpoint whenever the validation was never better."""
        best: bool = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= best
        return best

    # The history: one line for each logged step and each evaluation

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add a line to the history, print it, and hand it to the trackers."""
        if "loss" in logs:
            self._refuse_broken()
            logs = self._logged_step(logs)
        elif "eval_loss" not in logs:
            return  # the Trainer's summary, which is about this start alone
        line = {"step": self.state.global_step, **logs}
        self.state.log_history.append(line)
        if self.group.is_main:
            with checkpoint.disk_full_is_a_failure(str(self.folder)):
                checkpoint.write_history(self.folder, self.state.log_history)
            values = ", ".join(f"{name} {value:,.5g}" for name, value in logs.items())
            logger.info("step %s of %s: %s", line["step"], self.steps, values)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _logged_step(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Return a logged step: means of the terms since the last one, and the pace."""
        last = next((line for line in reversed(self.state.log_history) if "tokens" in line), {})
        means, passed = self.sums.take()
        progress = (self.state.global_step - 1) / self.steps
        weights = {
            f"weight_{name}": weight.at(progress)
            for name, weight in self.objective.weights.items()
            if not weight.constant
        }
        return {
            "epoch": self.state.global_step * self.options.step_size / self.data.train.per_epoch,
            "tokens": last.get("tokens", 0) + passed.tokens,
            "seconds": round(last.get("seconds", 0.0) + passed.seconds, 3),
            "tokens_per_second": round(passed.tokens / max(passed.seconds, 1e-9), 1),
            "real_token_share": round(passed.tokens / passed.positions, 4),
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            **means,
            **weights,
        }

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        """Return the hidden folder into which the Trainer writes its checkpoint of this step."""
        return str(checkpoint.hidden_folder(self.folder, self.state.global_step))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the Trainer's checkpoint and what is ours, complete or not at all."""
        step = self.state.global_step
        if step == self.clock.saved_step:
            return
        self._refuse_broken()
        sums = self.sums.state()
        with self.clock.saving(step), contextlib.ExitStack() as writing:
            if self.group.is_main:
                what = f"{self.folder}/checkpoint-{step}"
                writing.enter_context(checkpoint.disk_full_is_a_failure(what))
                writing.enter_context(checkpoint.writing(self.folder, step, self.digest))
            self.group.wait()
            super()._save_checkpoint(model, trial)
            self.group.wait()
            if self.group.is_main:
                made = Path(self._get_output_dir(trial)) / f"checkpoint-{step}"
                write_json(made / SUMS, sums)
                if best := self.state.best_global_step:
                    before = checkpoint.checkpoints_in(self.folder)
                    checkpoint.keep_best(made, source=made if best == step else before[-1])
        self.group.wait()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the sums since the last logged step as well."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint:
            self.sums.load(read_json(Path(checkpoint) / SUMS))

    def floating_point_ops(self, inputs: Any) -> int:
        """Return nothing: nobody reads it, and counting parameters takes time."""
        return 0

    # From the start, or the last checkpoint, to the end

    def fit(self, origin: Mapping[str, Any]) -> bool:
        """Train to the last step, from the last intact checkpoint of the same training on.

        Args:
            origin: the provenance of this training; a state with other settings or inputs is
                removed.

        Returns:
            Whether this process has to save the model: the first one, unless another process made
            the same model while this one waited for it.

        Raises:
            Interrupted: a signal or the deadline came before the end; the state is saved.
            Failure: the loss is not a number, or the disk is full.
        """
        made, last = False, None
        self.digest = checkpoint.digest_of(origin)
        if self.group.is_main:
            made = checkpoint.is_made(self.options.output, origin)
            made = made or checkpoint.take_back(self.options.output, origin)
            if made:
                checkpoint.finish(self.folder, self.options.output, origin)
            else:
                last = checkpoint.open_folder(self.folder, origin)
            logger.info("%s", self._plan(made, last))
        made, last = self.group.from_main((made, last))
        if not made and self.steps > 0:
            # Dropout differs between processes.
            transformers.set_seed(self.options.seed + self.group.rank)
            with self.clock.watching():
                self.train(resume_from_checkpoint=None if last is None else str(last))
        self.group.leave()
        if not made and self.state.global_step < self.steps:
            raise Interrupted(f"the state is saved in {self.folder}; the same command resumes")
        return self.group.is_main and not made

    def _plan(self, made: bool, last: Path | None) -> str:
        """Return what is about to be done, in words."""
        if made:
            return f"{self.options.output}: made already, with these settings and inputs"
        if last is not None:
            return f"resuming from {last}"
        steps, train = self.steps, self.data.train
        return (
            f"{steps:,} steps of {train.step_size:,} sequences, "
            f"{steps * train.step_size / train.per_epoch:.2f} epochs of {train.per_epoch:,}; "
            f"evaluation every {self.args.eval_steps:,} steps on {len(self.data.validation):,}"
        )

    def load_best(self) -> None:
        """Load the best weights into the model; those of the start if no step was trained."""
        for last in checkpoint.checkpoints_in(self.folder)[-1:]:
            self._load_from_checkpoint(str(last / checkpoint.BEST))

    def save(
        self,
        tokenizer: PreTrainedTokenizerBase,
        origin: Mapping[str, Any],
        card: str,
        model: PreTrainedModel | None = None,
        sentence: Sentence | None = None,
    ) -> None:
        """Write the output, a complete model folder with its history; remove the checkpoints.

        Args:
            tokenizer: the model's tokenizer.
            origin: the provenance of this training.
            card: the model card.
            model: what is saved, if not all of the model that was trained.
            sentence: how it makes the embedding of a text, for a sentence encoder.
        """
        output, saved = self.options.output, model or self.plain_model
        with atomic_dir(output) as folder:
            saved.save_pretrained(folder)
            if sentence:
                write_sentence(folder, sentence, saved.config.hidden_size)
            tokenizer.save_pretrained(folder)
            checkpoint.write_history(folder, self.state.log_history)
            write_json(folder / "provenance.json", origin)
            (folder / "README.md").write_text(card, encoding="utf-8")
        checkpoint.finish(self.folder, output, origin)
