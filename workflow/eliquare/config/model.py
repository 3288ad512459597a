"""The keys of the configuration: name, type, default, bounds and meaning of each, in one place.

The JSON schema, the reference page and the options of the stages are made from these models; what a
key means is said in its field, or below it. ``problems`` says which keys of an entry do not belong
together; what one entry alone cannot tell (names that must exist, say) is in ``checks.py``.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from eliquare.config.base import (
    HUB_ID,
    NAME,
    Commit,
    CorpusName,
    ExperimentName,
    FilePath,
    Label,
    Line,
    Name,
    Once,
    Problem,
    Seed,
    Settings,
    Sourced,
    StudentName,
    Text,
    Threads,
)
from eliquare.config.catalogue import is_known
from eliquare.config.corpus import Language, Masking, Mixture, Sequences
from eliquare.config.export import Export
from eliquare.config.objective import EXTENSION_TERMS, Objective
from eliquare.config.systems import Compared, System
from eliquare.config.tasks import Finetuning, Task

Pooling = Literal["mean", "cls", "max"]
Initialization = Literal["even", "2n-1", "distilbert", "last", "first", "blank", "embeddings"]


class Demo(Settings):
    """Invented languages that the workflow writes to `resources/demo/`."""

    seed: int = Field(1, ge=0, description="Seed of the generator.")
    articles: int = Field(1000, ge=50, description="Articles in each language's dump.")


class Training(Settings):
    """Budget and optimizer, by the names of transformers' `TrainingArguments`."""

    num_train_epochs: float | None = Field(None, gt=0)
    """Epochs over the sequences; min_steps and max_steps bound the steps that they make."""
    min_steps: int | None = Field(None, ge=1)
    """At least so many steps, for a small corpus. With num_train_epochs alone."""
    max_steps: int | None = Field(None, ge=0)
    """At most so many steps, for a large corpus; without num_train_epochs exactly so many. 0 leaves
    the model as it starts."""
    per_device_train_batch_size: int = Field(8, ge=1)
    """Sequences of a micro-batch, on each GPU or process."""
    gradient_accumulation_steps: int = Field(1, ge=1, description="Micro-batches per step.")
    learning_rate: float = Field(5.0e-4, gt=0)
    """Peak learning rate. Write 5.0e-4: YAML reads 5e-4 as text."""
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    adam_epsilon: float = Field(1.0e-6, gt=0, description="AdamW's epsilon (electronics2023's).")
    max_grad_norm: float = Field(5.0, gt=0, description="Largest norm of the gradient.")
    disable_dropout: bool = False
    """Train without the dropout of the model's configuration, which fine-tuning keeps. Tried with
    texts that were read once to seven times (docs/science.md)."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 on a GPU that is built for it, else float32."""
    torch_compile: bool = Field(False, description="Compile the student with torch.compile.")
    num_evals: int = Field(10, ge=1, description="Validations; the best one's weights are kept.")
    seed: int = Field(1, ge=0, description="Seed of the order, the masks and dropout.")
    report_to: Once[Name] = Field([])
    """Trackers that follow the training: tensorboard, trackio, wandb, mlflow, which are to be
    installed beside. Changes no result."""
    checkpoint_minutes: float = Field(15, gt=0)
    """Minutes between checkpoints. Changes no result."""
    gpus: int = Field(1, ge=1)
    """GPUs, each with a process of its own (torchrun). A step has per_device_train_batch_size x
    gradient_accumulation_steps x gpus sequences."""
    threads: Threads = Field(2, description="Threads of each process.")

    def budget_problems(self) -> Iterator[Problem]:
        """Yield what is wrong with how long it trains; one that is never run needs no budget."""
        if self.max_steps is None and self.num_train_epochs is None:
            yield (), "give num_train_epochs or max_steps"
        elif self.min_steps is not None and self.num_train_epochs is None:
            yield ("min_steps",), "min_steps is a bound of num_train_epochs; give it too"
        elif self.max_steps and self.max_steps < (self.min_steps or 0):
            yield ("max_steps",), f"{self.max_steps} is less than min_steps, {self.min_steps}"

    def steps(self, epoch: float) -> int:
        """Return the optimizer steps, where an epoch has so many."""
        if self.num_train_epochs is None or self.max_steps == 0:
            return self.max_steps or 0
        wanted = max(round(self.num_train_epochs * epoch), self.min_steps or 1)
        return min(wanted, self.max_steps or wanted)


# Keys of a training that say how it runs and decide no result. ``gpus`` decides the size of a step.
EXECUTION_KEYS = frozenset({"report_to", "checkpoint_minutes", "threads"})


class Shape(Settings):
    """Architecture of a model that is trained from nothing."""

    model_type: Literal["bert", "distilbert", "xlm-roberta"] = "bert"
    """The architecture."""
    num_hidden_layers: int = Field(12, ge=1, description="Layers.")
    hidden_size: int = Field(768, ge=8, description="Width.")
    intermediate_size: int = Field(3072, ge=8, description="Width of the feed-forward part.")
    num_attention_heads: int = Field(12, ge=1, description="Attention heads.")
    max_position_embeddings: int = Field(512, ge=8, description="Longest sequence.")
    dropout: float = Field(0.1, ge=0, lt=1)
    """0 is faster, and suits a small model that never sees a sequence twice."""


HEADS = "{} is no multiple of {} attention heads"


class Teacher(Compared, Shape, Sourced):
    """One teacher. Each key is for the sources named before it; the shape is for `pretrain`."""

    reads: ClassVar = {
        "hub": ("model revision", "pooling normalize prompts"),
        "folder": ("model", "pooling normalize prompts"),
        "pretrain": ("corpus", f"tokenizer vocab_size training {' '.join(Shape.model_fields)}"),
        "adapt": ("teacher", "corpus vocabulary extension training"),
    }
    source: Literal["hub", "folder", "pretrain", "adapt"]
    """`hub`: a model id with a pinned revision; `folder`: a model on disk; `pretrain`: trained here
    from nothing; `adapt`: another teacher with continued pre-training on the language (cruz2024:
    conditioned)."""
    model: FilePath | None = Field(None, description="hub: id; folder: path.")
    revision: Commit | None = Field(None, description="hub: the commit, 40 hexadecimal digits.")
    pooling: Pooling | None = None
    """hub, folder: for a sentence encoder, which has no MLM head: how it makes one embedding of a
    text. Students for the terms `cosine`, `hidden`, `attention`, `relations` and those on
    embeddings are sentence encoders too."""
    normalize: bool = Field(True, description="hub, folder: embeddings have the length 1.")
    prompts: dict[Line, Text] = Field({})
    """hub, folder: what stands before a text, by purpose, as `{query: "query: ", passage:
    "passage: "}`. Texts of a distillation have each in turn, or none where queries or documents
    have none. Scored are queries with that of `query`, documents with that of `document`, `passage`
    or `corpus`, other texts with that of `query` if documents have one."""
    teacher: Name | None = Field(None, description="adapt: the teacher to continue from.")
    vocabulary: Name | None = None
    """adapt: which of `vocabularies` reduces the teacher first."""
    extension: Name | None = None
    """adapt: which of `extensions` gives the teacher new tokens first."""
    corpus: CorpusName | None = None
    """pretrain: a mixture or a language. adapt: one to adapt to once, for all languages; by default
    each language's own text."""
    tokenizer: Literal["wordpiece", "unigram"] = "wordpiece"
    """pretrain: the kind of tokenizer."""
    vocab_size: int = Field(30000, ge=100, description="pretrain: tokens.")
    training: Training = Field(Training(), description="pretrain, adapt: budget and optimizer.")

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the keys of its source, the budget and the shape."""
        yield from super().problems()
        if self.vocabulary and self.extension:
            yield ("vocabulary",), "its extension says it; remove this key"
        if self.source == "hub" and not re.match(HUB_ID, self.model or ""):
            yield (
                ("model",),
                f"expected an id on the hub, as google-bert/bert-base, found {self.model!r}",
            )
        if self.source in ("pretrain", "adapt"):
            for path, message in self.training.budget_problems():
                yield ("training", *path), message
            if self.training.max_steps == 0:
                yield ("training", "max_steps"), "0 trains no teacher; give at least 1"
        if self.pooling is None:
            for key in ("normalize", "prompts"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield (key,), "this is of a sentence encoder; give its pooling too"
        if self.source == "pretrain" and self.hidden_size % self.num_attention_heads:
            yield ("hidden_size",), HEADS.format(self.hidden_size, self.num_attention_heads)

    @property
    def starts_from(self) -> str | None:
        """adapt: the vocabulary or extension that changes its tokens first, if one does."""
        return self.extension or self.vocabulary


# The keys of which a selection has exactly one.
SELECTION_KEYS = ("min_sentence_fraction", "top_k", "coverage", "min_count", "tokens")


class SelectionRule(Settings):
    """Tokens that stay: exactly one of the first five keys, and what stays beside it."""

    min_sentence_fraction: float | None = Field(None, gt=0, lt=1)
    """Keep tokens that occur in at least this share of the sentences: 0.0005 in electronics2023,
    0.00005 in the code it cites."""
    top_k: int | None = Field(None, ge=1, description="Keep the k most frequent tokens.")
    coverage: float | None = Field(None, gt=0, le=1)
    """Keep the most frequent tokens that cover this share of text."""
    min_count: int | None = Field(None, ge=1, description="Keep tokens at least so frequent.")
    tokens: FilePath | None = Field(None, description="Keep the tokens of this file, one per line.")
    always_keep: FilePath | None = Field(
        None, description="Besides: tokens of this file, one per line."
    )
    scripts: Once[Line] = Field([])
    """Besides: every single character of these scripts (Latin, …), found in the corpus or not."""
    multiple_of: int | None = Field(None, ge=1)
    """The most frequent tokens left are added until the number is a multiple of this; 64, which
    suits a GPU, by default with `coverage`, and any number with the other rules."""

    @property
    def rounding(self) -> int:
        """The number of tokens is a multiple of this."""
        return self.multiple_of or (1 if self.coverage is None else 64)

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where there is no rule, or more than one."""
        if sum(getattr(self, key) is not None for key in SELECTION_KEYS) != 1:
            yield (), f"give exactly one of {', '.join(SELECTION_KEYS)}"


class Vocabulary(SelectionRule):
    """One way to select the tokens of a language. Specials and single characters always stay."""

    languages: Once[CorpusName] = Field([])
    """Besides the corpus: other languages or mixtures, for a student of several. The rule holds for
    each by itself; what it keeps for one stays."""


class ExtensionRule(Settings):
    """New, longer tokens for a language (VocabAmp), and how their embeddings start."""

    num_tokens: int | None = Field(None, ge=1, description="This many new tokens (or `min_gain`).")
    min_gain: float | None = Field(None, gt=0, lt=1)
    """New tokens as long as one more saves at least this share of the text's tokens; 2.0e-5 if
    neither this nor `num_tokens` is given."""
    min_frequency: int = Field(10, ge=1, description="Occurrences that a new token must have.")
    method: Literal["extension", "replacement"] = "extension"
    """`extension`: the tokens are added to the teacher's. `replacement`: a tokenizer of the same
    kind and size is learnt from characters, to compare with; published results say that it hurts
    tagging."""
    initialization: Literal["mean", "weighted", "similar"] = "mean"
    """New embeddings and biases: `mean` of the old tokens of the same characters; `weighted`, a
    mean with weights a / (a + frequency), a = 0.001 (Arora et al. 2017); `similar`, a sparsemax
    mean of tokens near in an auxiliary space (FOCUS, Dobler and de Melo 2023)."""
    vectors: FilePath | None = None
    """similar: auxiliary vectors in word2vec's text format; by default learnt from the corpus."""

    def problems(self) -> Iterator[Problem]:
        """Yield the keys that exclude each other."""
        if self.num_tokens is not None and self.min_gain is not None:
            yield (), "give num_tokens or min_gain, and not both"
        if self.vectors is not None and self.initialization != "similar":
            yield ("vectors",), "vectors are for `initialization: similar` alone"


class Extension(ExtensionRule):
    """One vocabulary extension."""

    vocabulary: Name | None = None
    """Which of `vocabularies` reduces the teacher first; none by default."""


class StudentShape(Settings):
    """Shape and start of a student."""

    num_hidden_layers: int = Field(6, ge=1, description="Layers.")
    hidden_size: int | None = Field(None, ge=8)
    """Width; the teacher's by default. A narrower student starts from the principal components of
    the teacher's hidden states (Gurgurov 2025), and from its most important heads and neurons,
    unless its initialization is `blank`."""
    intermediate_size: int | None = Field(None, ge=8)
    """Width of the feed-forward part; the teacher's by default."""
    num_attention_heads: int | None = Field(None, ge=1)
    """Attention heads; the teacher's by default, fewer of the same size in a narrower student."""
    initialization: Initialization = "even"
    """Teacher layers that the student starts from, counted from 1. `even`: the middle of each of as
    many equal parts as the student has layers; for 6 layers 1, 3, 5, 7, 9, 11 of 12, and 2, 6, 10,
    14, 18, 22 of 24. `2n-1`: 1, 3, 5, … of any depth (electronics2023, for 6 of 12). `distilbert`:
    first and last included: 1, 3, 5, 8, 10, 12. `last`, `first`; `blank`: none; `embeddings`: the
    embeddings alone (cruz2024, Table 5)."""


class Student(Compared, StudentShape):
    """One student recipe. It makes one student for each language of the experiment."""

    extends: Name | None = None
    """Another student whose keys this one takes where it has none of its own."""
    teacher: Name | None = Field(None, description="Teacher whose vocabulary and layers it takes.")
    teachers: dict[Name, Annotated[float, Field(gt=0)]] = Field({})
    """Several teachers of one vocabulary, each with its weight, as `{mbert: 1, adapted: 0.5}`;
    `teacher` is among them."""
    languages: Once[CorpusName] = Field([])
    """Languages that this student is made for; all of the experiment if empty."""
    corpus: CorpusName | None = None
    """A mixture to distil on, for one multilingual student; by default each language's own text."""
    vocabulary: Name | None = None
    """Which of `vocabularies` reduces teacher and student before the distillation; with
    `reduced_from`, the student after it. The full vocabulary by default."""
    extension: Name | None = None
    """Which of `extensions` gives the student tokens that the teacher lacks."""
    reduced_from: StudentName | None = None
    """A student with the full vocabulary, reduced after its distillation without new training."""
    freeze: Once[Literal["embeddings", "positions"]] = Field([], description="Parts not trained.")
    objective: Objective = Field(Objective(), description="What the student is trained for.")
    data_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the training documents (cruz2024, Table 3). Vocabulary and masking weights still
    come from the whole corpus."""
    seeds: Once[Seed] = Field([])
    """Seeds of distillation; each makes a student, and tables give mean and deviation over them. By
    default training.seed alone."""
    training: Training = Field(Training(), description="Budget and optimizer.")
    export: Export | None = Field(None, description="Other forms of the student to make.")

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the vocabulary, the teachers, the budget and the objective."""
        if self.reduced_from is not None:
            if self.vocabulary is None:
                yield ("vocabulary",), "missing; name one of vocabularies to reduce the student to"
            return
        if self.teacher is None:
            yield ("teacher",), "missing; a student needs a teacher"
        for path, message in self.training.budget_problems():
            yield ("training", *path), message
        if len(self.teachers) == 1:
            yield ("teachers",), "expected at least 2 teachers; one alone is `teacher`"
        if self.teachers and self.teacher not in self.teachers:
            yield ("teachers",), f"give {self.teacher}, its teacher, a weight among them"
        if self.extension is not None:
            if self.teachers:
                yield ("teachers",), "a student with an extension has one teacher"
            if self.vocabulary is not None:
                yield ("vocabulary",), "its extension says it; write vocabulary: null"
            for term in self.objective.terms():
                if term not in EXTENSION_TERMS:
                    allowed = ", ".join(EXTENSION_TERMS)
                    yield ("objective", term), f"two tokenizers can be compared by {allowed} alone"


class Benchmark(Settings):
    """How parameters, latency, throughput and memory are measured."""

    batch_sizes: Once[Annotated[int, Field(ge=1)]] = Field([1, 32], min_length=1)
    """Sequences per batch; one measurement each."""
    sequence_length: int = Field(128, ge=8, description="Tokens per sequence.")
    repeats: int = Field(20, ge=3, description="Timed batches at least; the median counts.")
    threads: Threads = Field(1, description="Threads of the processor.")


class PublishedTable(Settings):
    """One published table. One that nothing of the experiment compares with is refused."""

    paper: Literal["coling2022", "electronics2023", "cruz2024"] = Field(description="The paper.")
    table: Line = Field(description="Number of its table.")


class Experiment(Settings):
    """Systems that are compared, and what they are compared on."""

    languages: Once[CorpusName] = Field([], description="The experiment's languages; all if empty.")
    systems: Once[Line] = Field(min_length=1)
    """Names of students, teachers and systems, in the order of the tables' rows."""
    tasks: Once[Line] | None = None
    """Names of tasks; all tasks of the experiment's languages by default."""
    seeds: Once[Seed] = Field([1, 2, 3], min_length=1, description="Seeds of fine-tuning.")
    baseline: Line | None = Field(None, description="The system that others are compared with.")
    release: Once[Line] = Field([])
    """Students to put into `results/<name>/models/` with a model card; all distilled ones
    that are compared, if empty."""
    papers: list[PublishedTable] = Field([], description="Published tables beside ours.")


def _with_automatic_tasks(schema: dict[str, Any]) -> None:
    """Allow what is resolved before the tasks are checked: see ``catalogue.resolved``."""
    mapping = {key: schema.pop(key) for key in [*schema] if key not in ("default", "description")}
    task = mapping["patternProperties"].pop(NAME)
    either = {"anyOf": [task, {"type": "string"}, {"type": "null"}]}
    mapping["patternProperties"][NAME.replace("^", "^(?!auto$)")] = either
    auto = {"type": "boolean", "description": "The public tasks of the languages."}
    schema["anyOf"] = [mapping | {"properties": {"auto": auto}}, {"enum": ["auto"]}]


class Configuration(Settings):
    """One file says which languages, teachers, students, tasks and seeds an experiment has."""

    extends: FilePath | None = None
    """Another configuration, by its path. This file adds to it and overrides it, key by key."""
    name: ExperimentName
    """Name of the experiment; its tables, figures, models and report go to `results/<name>/`."""
    title: Label = Field("", description="Title of the report.")
    smoke: bool = False
    """Run the same rules with few steps and documents, in `results/smoke/`. Do this first."""
    demo: Demo | None = Field(None, description="Write the demo's invented languages first.")
    languages: dict[CorpusName, Language] = Field(min_length=1, description="By Wikipedia code.")
    mixtures: dict[CorpusName, Mixture] = Field({})
    """Corpora of several languages, or of several sources of one, by name. A multilingual teacher
    is pre-trained on one, a multilingual student distilled on one."""
    sequences: Sequences = Field(Sequences(), description="How documents become sequences.")
    masking: Masking = Field(Masking(), description="Masked language modelling.")
    teachers: dict[Name, Teacher] = Field(min_length=1, description="The teachers, by name.")
    vocabularies: dict[Name, Vocabulary] = Field({})
    """Ways to select the teacher's tokens for a language, by name."""
    extensions: dict[Name, Extension] = Field({})
    """Ways to give a language new, longer tokens (VocabAmp), by name."""
    students: dict[StudentName, Student] = Field({}, description="The student recipes, by name.")
    systems: dict[StudentName, System] = Field(
        {}, description="Other models to compare with, by name."
    )
    tasks: dict[Name, Task] = Field({}, json_schema_extra=_with_automatic_tasks)
    """The tasks, by name; or `auto`, the public tasks of the languages. In `{auto: true, …}`,
    `sl-ner: null` takes one out, `sl-ner: WikiANN` puts in one of docs/tasks.md."""
    finetuning: Finetuning = Finetuning()
    """How every system is fine-tuned, unless its task differs."""
    benchmark: Benchmark = Field(Benchmark(), description="How systems are measured.")
    experiment: Experiment = Field(description="What is compared, and on what.")

    def members(self, corpus: str) -> list[str]:
        """Return the languages of a mixture; of a language, itself alone."""
        mixture = self.mixtures.get(corpus)
        return mixture.languages if mixture else [corpus]

    def language_of(self, corpus: str) -> str:
        """Return the language whose rules end the sentences of a corpus; English for several.

        A source that is no Wikipedia's code is of the language before its hyphen: cy-web of cy.
        """
        codes = self.members(corpus)
        found = {code if is_known(code) else code.partition("-")[0] for code in codes}
        return found.pop() if len(found) == 1 else "en"
