"""Train a model on a task with the Trainer of transformers, and keep its best epoch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from torch.utils.data import SequentialSampler
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from eliquare import stage
from eliquare.tasks.encoding import EncodedTexts, EncodedWords

Encoded = EncodedWords | EncodedTexts
SHARE_OF_WARMUP = 0.1


class Settings(NamedTuple):
    """The hyper-parameters of a fine-tuning run, named as in TrainingArguments."""

    seed: int
    epochs: int
    learning_rate: float
    batch_size: int
    warmup_steps: int
    weight_decay: float
    precision: str


class Trained(NamedTuple):
    """What came of a training: the Trainer with the best epoch's weights, and its history."""

    trainer: Trainer
    history: list[dict[str, Any]]
    best_epoch: int
    steps: int
    warmup_steps: int


class TaskTrainer(Trainer):
    """The Trainer, with evaluation in the order of the data.

    ``group_by_length`` shuffles evaluation as well (the predictions come back in an order that
    nobody is told), and is wanted for training only.
    """

    def _get_eval_sampler(self, eval_dataset):
        return SequentialSampler(eval_dataset)


class BestEpoch(TrainerCallback):
    """Score each epoch, say so in a line, and keep the weights of the best one.

    Of epochs with the same score, the one with the lowest validation loss is best: the first
    epochs of a hard task all score 0, and the first of them has learnt least.
    """

    def __init__(self, metric: str, epochs: int, weights: Path) -> None:
        self.metric = metric
        self.epochs = epochs
        self.weights = weights
        self.best = (-math.inf, 0.0)
        self.best_epoch = 0
        self.history: list[dict[str, Any]] = []

    def on_evaluate(self, args, state, control, model, metrics, **others) -> None:
        """Take down the epoch that was just scored on the validation split."""
        trained = next(entry for entry in reversed(state.log_history) if "loss" in entry)
        epoch = len(self.history) + 1
        scores = {
            name.replace("eval_", "validation_", 1): value
            for name, value in metrics.items()
            if name.startswith("eval_") and not name.endswith(("runtime", "per_second"))
        }
        if not math.isfinite(trained["loss"]):
            raise stage.InputError(
                f"epoch {epoch}: the loss is {trained['loss']}; lower --learning-rate, or use "
                f"--precision float32"
            )
        self.history.append(
            {
                "epoch": epoch,
                "step": state.global_step,
                "learning_rate": trained["learning_rate"],
                "gradient_norm": trained["grad_norm"],
                "loss": trained["loss"],
            }
            | scores
        )
        score = scores[f"validation_{self.metric}"]
        stage.say(
            f"epoch {epoch} of {self.epochs}: loss {trained['loss']:.4f}, "
            f"validation {self.metric} {score:.4f}"
        )
        if (score, -scores["validation_loss"]) > self.best:
            self.best, self.best_epoch = (score, -scores["validation_loss"]), epoch
            torch.save(model.state_dict(), self.weights)


def warmup(warmup_steps: int, steps: int) -> int:
    """The steps of warm-up: as asked, or a tenth of a training that has no more steps than that."""
    return warmup_steps if warmup_steps < steps else round(SHARE_OF_WARMUP * steps)


def train(
    model,
    tokenizer,
    data: dict[str, Encoded],
    settings: Settings,
    metric: str,
    score: Callable[[Any, Any], dict[str, float]],
    folder: Path,
) -> Trained:
    """Train on ``data["train"]`` (AdamW, linear schedule) and load the epoch that is best on
    ``data["validation"]`` by ``metric``.

    ``score`` gives the metrics of (gold, predicted); ``folder`` takes what is kept while training.
    Raises InputError if the loss is no longer a number.
    """
    steps = math.ceil(len(data["train"].features) / settings.batch_size) * settings.epochs
    warmup_steps = warmup(settings.warmup_steps, steps)
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=settings.seed,
        data_seed=settings.seed,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=4 * settings.batch_size,
        warmup_steps=warmup_steps,
        weight_decay=settings.weight_decay,
        optim="adamw_torch",
        lr_scheduler_type="linear",
        use_cpu=not torch.cuda.is_available(),
        bf16=settings.precision == "bf16",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    best = BestEpoch(metric, settings.epochs, folder / "best.pt")
    by_length = _longest_first(data["validation"])

    def metrics_of(evaluated) -> dict[str, float]:
        answers = _in_order(evaluated.predictions, by_length)
        return score(data["validation"].gold(), data["validation"].decode(answers))

    collator = (
        DataCollatorForTokenClassification(tokenizer)
        if isinstance(data["train"], EncodedWords)
        else DataCollatorWithPadding(tokenizer)
    )
    trainer = TaskTrainer(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=data["train"].features,
        eval_dataset=[data["validation"].features[n] for n in by_length],
        processing_class=tokenizer,
        compute_metrics=metrics_of,
        preprocess_logits_for_metrics=lambda logits, _: _logits(logits).argmax(-1),
        callbacks=[best],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.load_state_dict(torch.load(best.weights, weights_only=True))
    return Trained(trainer, best.history, best.best_epoch, steps, warmup_steps)


def predict(trainer: Trainer, encoded: Encoded) -> list:
    """The label of each text, or the tags of each sentence, in order."""
    by_length = _longest_first(encoded)
    trainer.compute_metrics = None
    answers = trainer.predict([encoded.features[n] for n in by_length]).predictions
    return encoded.decode(_in_order(answers, by_length))


def _logits(outputs: torch.Tensor | tuple) -> torch.Tensor:
    """Some architectures give hidden states along with the logits, which come first."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _longest_first(encoded: Encoded) -> list[int]:
    """Numbers of the inputs by length: inputs of like length share a batch, with little padding."""
    lengths = [len(feature["input_ids"]) for feature in encoded.features]
    return sorted(range(len(lengths)), key=lambda number: -lengths[number])


def _in_order(answers: numpy.ndarray, numbers: list[int]) -> list:
    """Undo ``_longest_first``."""
    ordered: list = [None] * len(numbers)
    for number, answer in zip(numbers, answers.tolist(), strict=True):
        ordered[number] = answer
    return ordered
