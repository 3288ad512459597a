"""Train a model on a task with the Trainer of transformers, keep its best epoch, and score it.

Ours are two things. The best epoch is kept in memory by a callback, since
``load_best_model_at_end`` writes the model and the optimizer of each epoch to disk, which takes
longer than a small model's training. Evaluation goes by length, so that little of a batch is
padding, and its answers are put back in order. A loop of our own would save a fifth of the time of
the smallest models and nothing that matters of real ones.
"""

import logging
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from eliquare.config.model import Finetuning
from eliquare.evaluation.data import WORD_KINDS, LoadedTask
from eliquare.evaluation.encoding import Encoded, EncodedWords, encode
from eliquare.io import Failure, InputError
from eliquare.models.loading import (
    empty_model,
    load_config,
    load_fast_tokenizer,
    load_for_task,
    max_sequence_length,
)

MAIN_METRIC = {
    "upos": "accuracy",
    "ner": "entity_f1",
    "classification": "macro_f1",
    "pair": "accuracy",
}

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A task encoded for a system."""

    kind: str
    labels: list[str]
    sizes: dict[str, int]
    encoded: dict[str, Encoded]
    max_length: int
    finetuning: Finetuning


class Result(NamedTuple):
    """The metrics of one seed, its history by epoch, and its answers on the test split."""

    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    predictions: list[dict[str, Any]]


class System:
    """A system to fine-tune: its folder, its tokenizer, the longest input that it takes."""

    def __init__(self, folder: Path, precision: str = "float32", threads: int | None = None):
        self.folder = folder
        self.precision = precision
        if threads:
            torch.set_num_threads(threads)
        self.tokenizer = load_fast_tokenizer(folder)
        if self.tokenizer.pad_token_id is None:
            raise InputError(f"{folder}: its tokenizer has no padding token; add one")
        self.max_length = max_sequence_length(empty_model(load_config(folder)))

    def prepare(self, kind: str, task: LoadedTask, finetuning: Finetuning) -> Prepared:
        """Encode a task, once for all its seeds."""
        max_length = min(finetuning.max_length, self.max_length)
        if max_length < finetuning.max_length:
            logger.warning(
                "%s: takes inputs of at most %d tokens; max_length %d is lowered to that",
                self.folder, self.max_length, finetuning.max_length,
            )  # fmt: skip
        parts = task.splits._asdict()
        encoded = {
            name: encode(self.tokenizer, part, task.labels, max_length)
            for name, part in parts.items()
        }
        sizes = {name: len(part) for name, part in parts.items()}
        return Prepared(kind, task.labels, sizes, encoded, max_length, finetuning)

    def train(self, task: Prepared, seed: int) -> Result:
        """Fine-tune a fresh model on a task with one seed, and score it once on the test split."""
        set_seed(seed)
        model = load_for_task(self.folder, task.labels, per_token=task.kind in WORD_KINDS)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        steps_per_epoch = math.ceil(
            len(task.encoded["train"].features) / task.finetuning.per_device_train_batch_size
        )
        steps = steps_per_epoch * task.finetuning.num_train_epochs
        warmup_steps = math.ceil(task.finetuning.warmup_ratio * steps)
        best = BestEpoch(MAIN_METRIC[task.kind], task.finetuning.num_train_epochs)
        with tempfile.TemporaryDirectory() as folder:
            arguments = self.arguments(task.finetuning, seed, warmup_steps, folder)
            trainer = self.trainer(model, task, arguments, best)
            trainer.train()
            model.load_state_dict(best.weights)
            predicted = answers(trainer, task.encoded["test"])
        gold = task.encoded["test"].gold()
        test = score(task.kind, gold, predicted)
        chosen = best.history[best.epoch - 1]
        logger.info("test %s %.4f (epoch %d)", best.metric, test[best.metric], best.epoch)
        metrics = {
            "kind": task.kind,
            "metric": best.metric,
            "test": test,
            "validation": {name: chosen[f"validation_{name}"] for name in test},
            "best_epoch": best.epoch,
            "num_train_epochs": task.finetuning.num_train_epochs,
            "steps": steps,
            "warmup_steps": warmup_steps,
            "max_length": task.max_length,
            "sizes": task.sizes,
            "labels": task.labels,
            "unknown_share": {name: part.unknown_share for name, part in task.encoded.items()},
            "long_share": {name: part.long_share for name, part in task.encoded.items()},
        }
        rows = [
            {"id": number, "gold": right, "predicted": given}
            for number, (right, given) in enumerate(zip(gold, predicted, strict=True))
        ]
        return Result(metrics, best.history, rows)

    def arguments(
        self, finetuning: Finetuning, seed: int, warmup_steps: int, folder: str
    ) -> TrainingArguments:
        """Return the arguments of the Trainer: AdamW with a linear schedule."""
        batch_size = finetuning.per_device_train_batch_size
        return TrainingArguments(
            output_dir=folder,
            seed=seed,
            data_seed=seed,
            num_train_epochs=finetuning.num_train_epochs,
            learning_rate=finetuning.learning_rate,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=4 * batch_size,
            warmup_steps=warmup_steps,
            weight_decay=finetuning.weight_decay,
            optim="adamw_torch_fused",
            lr_scheduler_type="linear",
            use_cpu=not torch.cuda.is_available(),
            bf16=self.precision == "bf16",
            train_sampling_strategy="group_by_length",
            eval_strategy="epoch",
            logging_strategy="epoch",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )

    def trainer(
        self,
        model: PreTrainedModel,
        task: Prepared,
        arguments: TrainingArguments,
        best: "BestEpoch",
    ) -> "TaskTrainer":
        """Return a Trainer of the model on the task."""
        validation = task.encoded["validation"]
        order = longest_first(validation)

        def validation_metrics(evaluated: EvalPrediction) -> dict[str, float]:
            predicted = validation.decode(restored(evaluated.predictions, order))
            return score(task.kind, validation.gold(), predicted)

        per_token = isinstance(validation, EncodedWords)
        collator = DataCollatorForTokenClassification if per_token else DataCollatorWithPadding
        trainer = TaskTrainer(
            model=model,
            args=arguments,
            data_collator=collator(self.tokenizer),
            train_dataset=task.encoded["train"].features,
            eval_dataset=[validation.features[number] for number in order],
            processing_class=self.tokenizer,
            compute_metrics=validation_metrics,
            preprocess_logits_for_metrics=best_labels,
            callbacks=[best],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


class TaskTrainer(Trainer):
    """The Trainer, with evaluation in the order of the data.

    With ``group_by_length`` it shuffles evaluation as well, and does not say how.
    """

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return SequentialSampler(eval_dataset)


class BestEpoch(TrainerCallback):
    """Record the scores of each epoch, and keep the weights of the best one.

    Of epochs with the same score, the one with the lowest validation loss is best: the first
    epochs of a hard task all score 0, and the first of them has learned least.
    """

    def __init__(self, metric: str, epochs: int) -> None:
        self.metric = metric
        self.epochs = epochs
        self.history: list[dict[str, Any]] = []
        self.best = (-math.inf, 0.0)
        self.epoch = 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **others: Any,
    ) -> None:
        """Record the epoch that was just scored on the validation split."""
        model: PreTrainedModel = others["model"]
        metrics: dict[str, float] = others["metrics"]
        trained = next(entry for entry in reversed(state.log_history) if "loss" in entry)
        epoch = len(self.history) + 1
        if not math.isfinite(trained["loss"]):
            raise Failure(
                f"epoch {epoch}: the loss is {trained['loss']}; lower the learning_rate of the "
                f"task's finetuning"
            )
        entry: dict[str, Any] = {"epoch": epoch, "step": state.global_step}
        entry |= {name: trained[name] for name in ("learning_rate", "grad_norm", "loss")}
        entry |= {
            name.replace("eval_", "validation_", 1): value
            for name, value in metrics.items()
            if name.startswith("eval_") and not name.endswith(("runtime", "per_second"))
        }
        self.history.append(entry)
        value = (entry[f"validation_{self.metric}"], -entry["validation_loss"])
        logger.info(
            "epoch %d of %d: loss %.4f, validation %s %.4f",
            epoch, self.epochs, entry["loss"], self.metric, value[0],
        )  # fmt: skip
        if value > self.best:
            self.best, self.epoch = value, epoch
            self.weights = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in model.state_dict().items()
            }


def answers(trainer: Trainer, encoded: Encoded) -> list[Any]:
    """Return the model's label of each text, or its tags of each sentence, in order."""
    order = longest_first(encoded)
    trainer.compute_metrics = None
    inputs: Any = [encoded.features[number] for number in order]
    return list(encoded.decode(restored(trainer.predict(inputs).predictions, order)))


def best_labels(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    """Return the label ids with the highest ``logits[inputs, (tokens,) labels]``.

    Some architectures give hidden states along with the logits, which come first.
    """
    logits: torch.Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.argmax(-1)


def longest_first(encoded: Encoded) -> list[int]:
    """Return the numbers of the inputs by falling length: little padding in each batch."""
    lengths = [len(feature["input_ids"]) for feature in encoded.features]
    return sorted(range(len(lengths)), key=lambda number: -lengths[number])


def restored(values: Any, order: Sequence[int]) -> list[Any]:
    """Return the rows of an array, which are in ``order``, as lists in the order of the data."""
    result: list[Any] = [None] * len(order)
    for number, value in zip(order, values.tolist(), strict=True):
        result[number] = value
    return result


def score(kind: str, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
    """Return the metrics of a kind of task, each from 0 to 1.

    For upos and ner, gold and predicted hold a list of tags per sentence; otherwise a label per
    text. ner: precision, recall and F1 of entities over all types (micro average). Otherwise
    accuracy, and macro-F1 over all labels that occur in gold or predicted, by scikit-learn.
    """
    if kind == "ner":
        return entity_scores(gold, predicted)
    if kind == "upos":
        gold = [tag for sentence in gold for tag in sentence]
        predicted = [tag for sentence in predicted for tag in sentence]
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
    }


def entity_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return F1, precision and recall of entities by seqeval, strict, in IOB2.

    An entity counts if its type and both its ends are right; one that does not begin with B- is
    none.
    """
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    precision, recall, f1, _ = precision_recall_fscore_support(
        [list(tags) for tags in gold],
        [list(tags) for tags in predicted],
        average="micro",
        scheme=IOB2,
        zero_division=0,
    )
    return {
        "entity_f1": float(f1),
        "entity_precision": float(precision),
        "entity_recall": float(recall),
    }
