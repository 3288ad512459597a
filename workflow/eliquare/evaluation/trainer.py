"""Train a model on a task with the Trainer of transformers, keep its best epoch, and score it.

The best epoch is kept in memory, since ``load_best_model_at_end`` writes the model and the
optimizer of each epoch to disk, which takes longer than a small model's training. A loop of our
own would save a fifth of the time of the smallest models and nothing that matters of real ones.
"""

import logging
import math
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import transformers
from safetensors.torch import save_file
from torch.utils.data import Sampler, SequentialSampler

from eliquare.config.tasks import Finetuning, TaskKind
from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.evaluation.data import MAIN_METRIC, WORD_KINDS, Splits, seen_shares
from eliquare.evaluation.encoding import Encoded, encode
from eliquare.evaluation.readers import Example
from eliquare.evaluation.task_distillation import Lesson, logits_of
from eliquare.io import Failure, InputError
from eliquare.models import loading

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A task encoded for a system.

    ``finetuning.max_length`` is what the model takes at most; ``seen_share`` is the share of the
    validation and test examples whose text is in train too.
    """

    kind: TaskKind
    finetuning: Finetuning
    encoded: dict[str, Encoded]
    seen_share: dict[str, float]
    unlabelled: Encoded | None = None

    @property
    def taught(self) -> dict[str, Encoded]:
        """The splits of which a teacher's logits are kept."""
        return {"train": self.encoded["train"]} | (
            {"unlabelled": self.unlabelled} if self.unlabelled else {}
        )


class Result(NamedTuple):
    """The metrics of one seed, its history by epoch, its answers on the test split; its model."""

    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    seconds: float
    trainer: "TaskTrainer"
    tokenizer: transformers.PreTrainedTokenizerFast

    def save_model(self, folder: Path) -> None:
        """Write the fine-tuned model with its tokenizer, as `pipeline` loads it."""
        cast(transformers.PreTrainedModel, self.trainer.model).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def save_logits(self, file: Path) -> None:
        """Write the model's logits for what it teaches others on: see ``task_distillation``."""
        save_file(self.trainer.logits(), file)


class System:
    """A system to fine-tune: its folder, its tokenizer, the longest input that it takes."""

    def __init__(self, folder: Path, threads: int = 1):
        self.folder = folder
        torch.set_num_threads(threads)
        self.tokenizer = loading.load_fast_tokenizer(folder)
        if self.tokenizer.pad_token_id is None:
            raise InputError(f"{folder}: its tokenizer has no padding token; add one")
        self.max_length = loading.max_sequence_length(
            loading.empty_model(loading.load_config(folder))
        )

    def prepare(
        self,
        kind: TaskKind,
        splits: Splits,
        finetuning: Finetuning,
        unlabelled: Sequence[Example] = (),
    ) -> Prepared:
        """Encode a task, once for all its seeds."""
        wanted = finetuning.longest_input(kind)
        max_length = min(wanted, self.max_length)
        if max_length < wanted:
            line = "%s: takes at most %d tokens; finetuning's max_length of %d is lowered to that"
            logger.warning(line, self.folder, max_length, wanted)
        parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
        encoded = {
            name: encode(self.tokenizer, kind, examples, splits.labels, max_length)
            for name, examples in (*parts.items(), ("unlabelled", unlabelled))
            if examples
        }
        without_labels = encoded.pop("unlabelled", None)
        finetuning = finetuning.model_copy(update={"max_length": max_length})
        return Prepared(kind, finetuning, encoded, seen_shares(splits), without_labels)

    def train(self, task: Prepared, seed: int, lesson: Lesson | None = None) -> Result:
        """Fine-tune with one seed, and score what is best on validation once on the test split.

        With several learning rates, a fresh model is fine-tuned with each. A lesson takes the place
        of the training split.
        """
        best, *others = task.finetuning.learning_rates
        trainer = self.trained(task, seed, best, lesson)
        for rate in others:
            other = self.trained(task, seed, rate, lesson)
            if other.rank(other.best_epoch()) > trainer.rank(trainer.best_epoch()):
                best, trainer = rate, other
        return self.result(task, trainer, best)

    def trained(
        self, task: Prepared, seed: int, learning_rate: float, lesson: Lesson | None = None
    ) -> "TaskTrainer":
        """Return the trainer of a fresh model after its training."""
        kind, finetuning, encoded = task[:3]
        train = encoded["train"]
        features = lesson.features if lesson else train.features
        steps_per_epoch = math.ceil(len(features) / finetuning.per_device_train_batch_size)
        steps = steps_per_epoch * finetuning.num_train_epochs
        transformers.set_seed(seed)
        model = loading.load_for_task(self.folder, train.labels, per_token=kind in WORD_KINDS)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        on_gpu = torch.cuda.is_available()
        arguments = transformers.TrainingArguments(
            output_dir=tempfile.gettempdir(),  # has to exist; nothing is written to it
            seed=seed,
            num_train_epochs=finetuning.num_train_epochs,
            learning_rate=learning_rate,
            per_device_train_batch_size=finetuning.per_device_train_batch_size,
            # The Trainer makes so many copies of each loss.
            per_device_eval_batch_size=4
            * min(finetuning.per_device_train_batch_size, len(train.features)),
            warmup_steps=math.ceil(finetuning.warmup_ratio * steps),
            weight_decay=finetuning.weight_decay,
            optim="adamw_torch_fused",
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            train_sampling_strategy="group_by_length",
            eval_strategy="epoch",
            logging_strategy="epoch",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = TaskTrainer(model, self.tokenizer, task, arguments, lesson)
        started = time.perf_counter()
        trainer.train()
        trainer.seconds = time.perf_counter() - started
        return trainer

    def result(self, task: Prepared, trainer: "TaskTrainer", learning_rate: float) -> Result:
        """Score the best epoch of a training on the test split."""
        kind, finetuning, encoded = task[:3]
        train, test = encoded["train"], encoded["test"]
        model = cast(transformers.PreTrainedModel, trainer.model)
        model.load_state_dict(trainer.best_weights)
        predicted, _ = trainer.answers(test)
        scores = score(kind, test.gold, predicted)
        metric, chosen = trainer.metric, trainer.best_epoch()
        logger.info("test %s %.4f (epoch %d)", metric, scores[metric], chosen["epoch"])
        metrics = {
            "kind": kind,
            "metric": metric,
            "test": scores,
            "validation": {name: chosen[f"validation_{name}"] for name in scores},
            "best_epoch": chosen["epoch"],
            "num_train_epochs": finetuning.num_train_epochs,
            "learning_rate": learning_rate,
            "steps": trainer.state.global_step,
            "warmup_steps": trainer.args.warmup_steps,
            "max_length": finetuning.max_length,
            "sizes": {name: len(part.gold) for name, part in encoded.items()},
            "labels": train.labels,
            "unknown_share": {name: part.unknown_share for name, part in encoded.items()},
            "long_share": {name: part.long_share for name, part in encoded.items()},
            "seen_share": task.seen_share,
            "unseen_labels": {name: part.unseen_labels for name, part in encoded.items()},
        }
        predictions = [
            {"id": number, "gold": right, "predicted": given}
            for number, (right, given) in enumerate(zip(test.gold, predicted, strict=True))
        ]
        return Result(
            metrics, trainer.history, predictions, trainer.seconds, trainer, self.tokenizer
        )


class TaskTrainer(transformers.Trainer):
    """The Trainer, with the scores of each epoch, and the weights of the best one in memory.

    Of epochs with the same score, the one with the lowest validation loss is best: the first
    epochs of a hard task all score 0, and the first of them has learned least.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerFast,
        task: Prepared,
        arguments: transformers.TrainingArguments,
        lesson: Lesson | None = None,
    ) -> None:
        collator: Any = transformers.DataCollatorWithPadding
        if task.kind in WORD_KINDS:
            collator = transformers.DataCollatorForTokenClassification
        self.task, self.lesson = task, lesson
        self.kind, self.finetuning, self.encoded = task[:3]
        super().__init__(
            model=model,
            args=arguments,
            data_collator=collator(tokenizer),
            train_dataset=lesson.features if lesson else self.encoded["train"].features,
            eval_dataset=self.encoded["validation"].features,
            preprocess_logits_for_metrics=best_labels,
        )
        self.remove_callback(transformers.PrinterCallback)
        self.metric = MAIN_METRIC[self.kind]
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.best_weights: dict[str, torch.Tensor] = {}

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the epoch that ends on the validation split, and keep its weights if it is best.

        Raises Failure for a loss that is no number.
        """
        epoch = len(self.history) + 1
        logs = self.state.log_history[-1]
        validation = self.encoded["validation"]
        predicted, validation_loss = self.answers(validation)
        for what, loss in (("loss", logs["loss"]), ("validation loss", validation_loss)):
            if not math.isfinite(loss):
                raise Failure(
                    f"epoch {epoch}: the {what} is {loss}; lower finetuning's learning_rate"
                )
        scores = score(self.kind, validation.gold, predicted)
        entry: dict[str, Any] = {"epoch": epoch, "step": self.state.global_step}
        entry |= {name: logs[name] for name in ("learning_rate", "grad_norm", "loss")}
        entry |= {"validation_loss": validation_loss}
        self.history.append(entry | {f"validation_{name}": scores[name] for name in scores})
        found = (logs["loss"], self.metric, scores[self.metric])
        line = "epoch %d of %d: loss %.4f, validation %s %.4f"
        logger.info(line, epoch, self.args.num_train_epochs, *found)
        if self.best_epoch() is self.history[-1]:
            weights = cast(torch.nn.Module, self.model).state_dict()
            self.best_weights = {
                name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()
            }
        patience = self.finetuning.early_stopping_patience
        if patience and epoch - self.best_epoch()["epoch"] >= patience:
            self.control.should_training_stop = True
        return scores

    def best_epoch(self) -> dict[str, Any]:
        """Return the entry of the best epoch so far in the history, the first of equal ones."""
        return max(self.history, key=self.rank)

    def rank(self, epoch: dict[str, Any]) -> tuple[float, float]:
        """Return what makes an epoch better than another: the score, then the loss."""
        return epoch[f"validation_{self.metric}"], -epoch["validation_loss"]

    def answers(self, split: Encoded) -> tuple[list[Any], float]:
        """Return the model's labels of texts, or tags of sentences, in order, and the loss."""
        output: Any = self.predict(cast(Any, split.features))
        return split.decode(output.predictions.tolist()), output.metrics["test_loss"]

    def prediction_step(self, *arguments: Any, **keywords: Any) -> Any:
        """Return loss, answers and labels of a batch; the loss is 0 if train has none of them."""
        step: Any = super().prediction_step(*arguments, **keywords)
        loss, answers, labels = step
        if (labels == IGNORE_INDEX).all():
            loss = torch.zeros_like(loss)  # the mean over no label is no number
        return loss, answers, labels

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **keywords: Any) -> Any:
        """Return the loss of a batch; in training with a lesson, its loss."""
        if self.lesson is None or not model.training:
            return super().compute_loss(model, inputs, *rest, **keywords)
        return self.lesson.loss(model(**inputs | {"labels": None}).logits, inputs["labels"])

    def logits(self) -> dict[str, torch.Tensor]:
        """Return the model's logits for its training split and unlabelled text, as a file of them.

        See ``task_distillation``.
        """
        return {
            name: logits_of(
                cast(torch.nn.Module, self.model),
                self.get_test_dataloader(cast(Any, split.features)),
                split,
            )
            for name, split in self.task.taught.items()
        }

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: nobody asks, and counting a model's parameters at each step takes time."""
        return 0

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        # With ``group_by_length``, the Trainer shuffles evaluation as well.
        return SequentialSampler(eval_dataset)


def best_labels(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    """Return the label ids with the highest ``logits[inputs, (tokens,) labels]``.

    Some architectures give hidden states along with the logits, which come first.
    """
    logits: torch.Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.argmax(-1)


def score(kind: str, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
    """Return the metrics of a kind of task, each from 0 to 1.

    For upos and ner, gold and predicted hold a list of tags per sentence; otherwise a label per
    text. ner: F1, precision and recall of entities over all types (micro average) by seqeval: an
    entity counts if its type and both its ends are right. By its default, which conlleval and
    run_ner.py of transformers share, I- also begins an entity where none of its type is open; in
    strict IOB2 it does not. Otherwise accuracy, and macro-F1 over all labels that occur in gold or
    predicted, by scikit-learn.
    """
    if kind == "ner":
        from seqeval.metrics import sequence_labeling, v1
        from seqeval.scheme import IOB2

        tags, options = (list(gold), list(predicted)), {"average": "micro", "zero_division": 0}
        conlleval = sequence_labeling.precision_recall_fscore_support(*tags, **options)
        strict = v1.precision_recall_fscore_support(*tags, **options, scheme=IOB2)
        scores = {
            f"entity_{name}{mode}": values[place]
            for mode, values in (("", conlleval), ("_strict", strict))
            for name, place in (("f1", 2), ("precision", 0), ("recall", 1))
        }
    else:
        from sklearn.metrics import accuracy_score, f1_score

        if kind == "upos":
            gold, predicted = list(chain.from_iterable(gold)), list(chain.from_iterable(predicted))
        macro_f1 = f1_score(gold, predicted, average="macro", zero_division=0)
        scores = {"accuracy": accuracy_score(gold, predicted), "macro_f1": macro_f1}
    return {name: float(value) for name, value in scores.items()}
