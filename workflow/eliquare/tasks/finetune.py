"""Fine-tune a model on a task with one seed, and score it once on the test split.

The best epoch is chosen on the validation split by the task's main metric. Writes a folder with
metrics.json, predictions.jsonl (the test split, in the file's order) and history.jsonl.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eliquare import stage
from eliquare.tasks import labels, metrics, readers, splits
from eliquare.tasks.splits import Splits

VERSION = 2
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="Hugging Face folder or hub id of the model")
    add("--revision", help="revision of a hub model; a folder has none")
    add("--kind", required=True, choices=readers.KINDS, help="kind of task")
    add("--train", required=True, nargs="+", help="training files, .gz too")
    add("--validation", nargs="+", default=[], help="validation files; else a tenth of train")
    add("--test", nargs="+", default=[], help="test files; else a tenth of train")
    add("--text-column", default="text", help="column of the (first) text")
    add("--second-column", help="column of the second text of a pair")
    add("--label-column", default="label", help="column of the label")
    add("--task", required=True, help="name of the task, for metrics.json")
    add("--language", required=True, help="language code, for metrics.json")
    add("--system", required=True, help="name of the system, for metrics.json")
    add("--seed", type=int, required=True, help="seed of the new head, the order and the dropout")
    add("--epochs", type=int, default=10, help="passes over the training split")
    add("--learning-rate", type=float, default=5e-5, help="highest learning rate of AdamW")
    add("--batch-size", type=int, default=16, help="sequences in a training step")
    add("--max-length", type=int, default=128, help="most sub-words in a sequence")
    add("--warmup-steps", type=int, default=500, help="a tenth of the steps, if there are no more")
    add("--weight-decay", type=float, default=0.01, help="weight decay of AdamW")
    add("--max-train", type=int, help="use at most so many training examples")
    add("--precision", choices=("float32", "bf16"), default="float32", help="arithmetic")
    add("--output", required=True, help="folder to write")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Read, train, score, write; raises InputError before anything is written."""
    check(arguments)
    stage.use_one_gpu()
    data = read(arguments)
    names = labels.inventory(arguments.kind, data.train)
    for part in data:
        labels.check(names, part)
    data = data._replace(train=splits.first(data.train, arguments.max_train))
    # These take seconds to import: errors in the files above are told at once.
    from transformers import set_seed

    from eliquare.tasks import encoding, models, training

    set_seed(arguments.seed)
    words = arguments.kind in readers.WORD_KINDS
    model, tokenizer, longest = models.load(
        arguments.model, arguments.revision, words, names, arguments.max_length
    )
    encode = encoding.EncodedWords if words else encoding.EncodedTexts
    encoded = {
        name: encode(tokenizer, part, names, longest) for name, part in data._asdict().items()
    }
    metric = metrics.MAIN_METRIC[arguments.kind]

    def score(gold: list, predicted: list) -> dict[str, float]:
        return metrics.score(arguments.kind, gold, predicted)

    settings = training.Settings(
        **{name: getattr(arguments, name) for name in training.Settings._fields}
    )
    with stage.whole_folder(arguments.output) as folder:
        scratch = folder / "training"
        scratch.mkdir()
        trained = training.train(model, tokenizer, encoded, settings, metric, score, scratch)
        predicted = training.predict(trained.trainer, encoded["test"])
        shutil.rmtree(scratch)
        gold = encoded["test"].gold()
        best = trained.history[trained.best_epoch - 1]
        test = score(gold, predicted)
        report = {
            "task": arguments.task,
            "kind": arguments.kind,
            "language": arguments.language,
            "system": arguments.system,
            "seed": arguments.seed,
            "metric": metric,
            "test": test,
            "validation": {name: best[f"validation_{name}"] for name in test},
            "best_epoch": trained.best_epoch,
            "epochs": arguments.epochs,
            "steps": trained.steps,
            "warmup_steps": trained.warmup_steps,
            "max_length": longest,
            "sizes": {name: len(part) for name, part in data._asdict().items()},
            "labels": names,
            "unknown_share": {name: part.unknown_share for name, part in encoded.items()},
            encode.LONG: {name: part.long_share for name, part in encoded.items()},
        }
        stage.write_json(folder / "metrics.json", report)
        write_lines(folder / "history.jsonl", trained.history)
        write_lines(
            folder / "predictions.jsonl",
            (
                {"id": number, "gold": right, "predicted": given}
                for number, (right, given) in enumerate(zip(gold, predicted, strict=True))
            ),
        )
    stage.say(
        f"{arguments.task}, {arguments.system}, seed {arguments.seed}: test {metric} "
        f"{test[metric]:.4f} (epoch {trained.best_epoch} of {arguments.epochs})"
    )


def check(arguments: argparse.Namespace) -> None:
    """Raise InputError for a model that is not there, or a number that cannot be trained with."""
    model = Path(arguments.model)
    if not model.exists() and not HUB_ID.fullmatch(arguments.model):
        raise stage.InputError(f"{model}: no such folder; expected a model's folder or a hub id")
    if model.exists() and not (model / "config.json").is_file():
        raise stage.InputError(f"{model}: holds no config.json; expected a model's folder")
    for name in ("epochs", "batch_size", "max_length", "max_train"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise stage.InputError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    for name in ("learning_rate", "warmup_steps", "weight_decay", "seed"):
        value = getattr(arguments, name)
        if not value >= 0:
            raise stage.InputError(f"--{name.replace('_', '-')} {value}: expected 0 or more")


def read(arguments: argparse.Namespace) -> Splits:
    """The task's splits, given or cut from train."""
    columns = (arguments.text_column, arguments.label_column, arguments.second_column)
    parts = [
        readers.read(arguments.kind, files, *columns) if files else []
        for files in (arguments.train, arguments.validation, arguments.test)
    ]
    return splits.divide(arguments.kind, *parts)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


if __name__ == "__main__":
    stage.main(parser(), run)
