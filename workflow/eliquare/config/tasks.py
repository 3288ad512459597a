"""The keys of a task: its kind, its data, and how a system is fine-tuned on it."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from eliquare.config import sources
from eliquare.config.base import (
    CorpusName,
    FilePath,
    Label,
    Line,
    Once,
    Problem,
    Settings,
    Sourced,
)
from eliquare.config.sources import SOURCES, SPLITS, UNTRAINED, Address, Hub, Treebank

TaskKind = Literal[
    "upos", "ner", "classification", "pair", "minimal_pairs", "retrieval", "similarity"
]
# What a fetched table calls the columns of a data set on the hub.
HUB_COLUMNS = {"text_column": "text", "text_pair_column": "text_pair", "label_column": "label"}
# Sentences are short; reviews and articles lose what they say last.
LONGEST_INPUT = {"upos": 128, "ner": 128, "classification": 512, "pair": 512}


def one_or_several(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Return a learning rate or several; of a mistake, say both ways in one line."""
    try:
        return check(value)
    except ValidationError:
        raise ValueError(
            "expected a number above 0, as 5.0e-5 (with a point, which YAML wants), or several "
            f"different ones as [2.0e-5, 5.0e-5], found {value!r}"
        ) from None


Rate = Annotated[float, Field(gt=0)]
Rates = Annotated[Rate | Annotated[Once[Rate], Field(min_length=2)], WrapValidator(one_or_several)]


class Finetuning(Settings):
    """How a system is fine-tuned on a task."""

    num_train_epochs: int = Field(10, ge=1)
    """Epochs, the best on validation kept (electronics2023: 10)."""
    learning_rate: Rates = 5.0e-5
    """Peak learning rate. Of several, as `[2.0e-5, 5.0e-5, 1.0e-4]`, each system takes with each
    seed the one that is best on validation: one rate for all is not fair to all."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Stop after this many epochs without a better one on validation."""
    per_device_train_batch_size: int = Field(16, ge=1)
    """Sentences per step. No paper states it."""
    max_length: int | None = Field(None, ge=8)
    """Longest input in tokens. By default 128 for words (upos, ner), where longer sentences become
    windows, and 512 for texts (classification, pair), which are truncated; or what the model
    takes, if that is less."""
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="Share of the steps to the peak rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay (electronics2023: 0.01).")
    max_train_samples: int | None = Field(None, ge=1, description="Training sentences at most.")

    @property
    def learning_rates(self) -> list[float]:
        """The learning rates to try."""
        rate = self.learning_rate
        return rate if isinstance(rate, list) else [rate]

    def longest_input(self, kind: TaskKind) -> int:
        """Return max_length, or its default for a kind of task."""
        return self.max_length or LONGEST_INPUT.get(kind, 128)


class PublishedTask(Settings):
    """Where the papers print a task."""

    language: Line | None = Field(None, description="The papers' code of the language.")
    task: Line = Field(description="The papers' name of the task: 1 or 2 (Singh), or a data set.")


class TaskData(Sourced):
    """Files of a task and how they are read."""

    by = "kind"
    reads: ClassVar = {
        "upos": ("train", "validation test"),
        "ner": ("train", "validation test"),
        "classification": ("train", "validation test text_column label_column"),
        "pair": ("train text_pair_column", "validation test text_column label_column"),
        "minimal_pairs": ("test text_pair_column", "text_column"),
        "retrieval": ("test text_pair_column", "text_column"),
        "similarity": ("test", "text_column text_pair_column label_column"),
    }
    kind: TaskKind
    """`upos`: CoNLL-U; `ner`: IOB, BIOES; `classification`: text, label; `pair`: two texts. Scored
    without fine-tuning: `minimal_pairs`, a right and a wrong sentence; `retrieval`, a query and its
    document; `similarity`, two texts and a number that says how alike they are."""
    language: CorpusName = Field(description="Code of the language.")
    train: FilePath | None = Field(
        None, description="File to train on. Alone, it is split 80-10-10."
    )
    validation: FilePath | None = Field(None, description="File to choose the epoch on.")
    test: FilePath | None = Field(None, description="File that is scored, once.")
    text_column: Line = "text"
    """Tables: column of the text, right sentence or query."""
    text_pair_column: Line | None = None
    """pair, similarity: column of the second text; minimal_pairs: of the wrong sentence; retrieval:
    of the document. Without it, a text of `similarity` in a file or at an address is two lines."""
    label_column: Line = "label"
    """classification, pair: column of the label; similarity: of the number."""


class Task(TaskData):
    """One task: a language, a kind, and files or where to fetch them: `train`, `ud`, `hub`, `url`.

    In a completed configuration the files of a fetched task are those that are fetched.
    """

    ud: Treebank | None = Field(None, description="upos: a treebank, instead of files.")
    hub: Hub | None = Field(None, description="A data set on the hub, instead of files.")
    url: Address | None = Field(None, description="Files at an address, instead of files here.")
    optional: bool = False
    """Where the source has nothing, the tables say why instead of scores, and the run goes on.
    Automatic tasks are optional."""
    label: Label = Field("", description="Name in tables.")
    published_as: PublishedTask | None = Field(None, description="Where papers print this task.")
    finetuning: Finetuning = Field(Finetuning(), description="What differs from `finetuning`.")

    @property
    def fetched(self) -> dict[str, str]:
        """The files of the splits that are fetched; empty if they are in place."""
        source = sources.source_of(self)
        columns = self.model_dump(include={"text_column", "text_pair_column", "label_column"})
        return sources.fetched_files(self.kind, source, columns) if source else {}

    def lacks(self, key: str) -> bool:
        """Return whether a key is needed and not given; `problems` looks for the files."""
        of_hub = self.hub is not None and key == "text_pair_column"
        return super().lacks(key) and key not in SPLITS and not of_hub

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the kind's keys, and of the source."""
        yield from super().problems()
        needed = "test" if self.kind in UNTRAINED else "train"
        given = [key for key in SOURCES if getattr(self, key)]
        files = {split: getattr(self, split) for split in SPLITS if getattr(self, split)}
        if (
            len(given) > 1
            or not (given or getattr(self, needed))
            or (given and files not in ({}, self.fetched))
        ):
            others = "" if needed == "test" else " (with validation, test)"
            yield (), f"give exactly one of {needed}{others}, ud, hub, url"
        place = given[:1]
        entry = getattr(self, place[0]) if place else self
        for path, message in sources.same_split(entry, self.kind):
            yield (*place, *path), message
        read = " ".join(self.reads[self.kind]).split()
        columns = {getattr(self, key): key for key in HUB_COLUMNS if key in read}
        for key in HUB_COLUMNS:
            if key in read and columns[column := getattr(self, key)] != key:
                yield (key,), f"{column} is {columns[column]} too; give each its own"
        if self.url and not getattr(self.url, needed):
            yield ("url", needed), "missing; give the address of a file"
        if self.kind in UNTRAINED:
            yield from self._untrained_problems()
        yield from self._column_problems()
        for split, file in files.items():
            if file.startswith(("http://", "https://")) and not given:
                yield (split,), f"this is an address; write it as url: {{{split}: …}}"
        if self.ud and self.kind != "upos":
            yield ("ud",), "a treebank is for kind upos"
        for key, own in HUB_COLUMNS.items() if self.hub else ():
            if getattr(self, key) not in (type(self).model_fields[key].default, own):
                yield (key,), f"write it as hub.columns.{own}"

    def _column_problems(self) -> Iterator[Problem]:
        """Yield the columns of a data set on the hub that would be two of what a kind reads."""
        seen: dict[str, str] = {}
        for key, kinds in sources.COLUMN_KINDS.items() if self.hub else ():
            column = getattr(self.hub and self.hub.columns, key)
            if self.kind in kinds and column and (other := seen.setdefault(column, key)) != key:
                message = f"this is the column of {other} too; give another"
                yield ("hub", "columns", key), message

    def _untrained_problems(self) -> Iterator[Problem]:
        """Yield what is wrong with a task that has a test split alone."""
        alone = f"a task of kind {self.kind} has a test split alone; remove it"
        for split in ("train", "validation"):
            if self.url and getattr(self.url, split):
                yield ("url", split), alone
            if self.hub and getattr(self.hub, split) not in (None, split):  # its default
                yield ("hub", split), alone
        if self.hub and self.hub.test is None:
            yield ("hub", "test"), "missing; name the split that is scored"
        if self.hub and self.hub.labels:
            yield ("hub", "labels"), f"a task of kind {self.kind} has no names of labels; remove it"
        if self.published_as:
            yield ("published_as",), f"no paper prints a task of kind {self.kind}; remove it"
