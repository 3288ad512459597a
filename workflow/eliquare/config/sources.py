"""Where the data of a task come from, if not from files in place: a treebank, a hub, an address."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from eliquare.config.base import HUB_ID, Line, Once, Problem, Settings, WebAddress, matching

# The folder of all fetched tasks; two configurations that name one source share what was fetched.
FETCHED = "resources/tasks"
SPLITS = ("train", "validation", "test")
# Kinds of tasks that nothing is trained on, pairs of texts in a test split alone: those that
# embeddings are scored on, all, and those without a label.
EMBEDDED = ("retrieval", "similarity")
UNTRAINED = ("minimal_pairs", *EMBEDDED)
UNLABELLED = ("minimal_pairs", "retrieval")
# How each kind of task is stored: the end of its files' names.
SUFFIXES = {"upos": "conllu", "ner": "iob"} | dict.fromkeys(
    ("classification", "pair", *UNTRAINED), "tsv"
)

TreebankName = Annotated[
    str, matching(r"^UD_[A-Za-z_]+-[A-Za-z0-9]+$", "a treebank's repository, as UD_Welsh-CCG")
]
Part = Annotated[str, matching(r"^[a-z0-9-]+$", "the end of a file name, as a-1")]
Release = Annotated[str, matching(r"^[0-9]+\.[0-9]+$", 'a release in quotes, as "2.17"')]
Prefix = Annotated[
    str,
    matching(r"^[a-z]+_[a-z0-9]+$", "the beginning of the treebank's file names, as cy_ccg"),
]
DatasetId = Annotated[str, matching(HUB_ID, "an id on the hub, as unimelb-nlp/wikiann")]
Sha256 = Annotated[str, matching(r"^[0-9a-f]{64}$", "a SHA-256 of 64 hexadecimal digits")]

# An address in a repository: what people call it.
PAGE = re.compile(r"https://(github\.com|huggingface\.co)/.*/blob/")
REPOSITORY = re.compile(
    r"https://(?:raw\.githubusercontent\.com|github\.com|huggingface\.co/datasets)/[^/]+/([^/]+)/"
)


def _address_or_several(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Return the files of a split; of a mistake, say in one line what they can be."""
    try:
        return check(value)
    except ValidationError as error:
        # The reason for an address, as a password in it, if there is one.
        reasons = [each["ctx"]["error"] for each in error.errors() if each["type"] == "value_error"]
        expected = "expected an address, https://..., or a list of different ones"
        raise ValueError(str(reasons[0]) if reasons else expected) from None


# A split in several files is a list of them.
Files = Annotated[
    WebAddress | Annotated[Once[WebAddress], Field(min_length=1)],
    WrapValidator(_address_or_several),
]


class Treebank(Settings):
    """A treebank of Universal Dependencies, from its repository."""

    treebank: TreebankName
    """Its repository, as `UD_Welsh-CCG`."""
    release: Release
    """The release in quotes, as `"2.17"`: splits change between releases."""
    prefix: Prefix | None = None
    """How its file names begin, as `cy_ccg`, where the catalogue does not know it."""
    parts: Once[Part] = Field([])
    """The ends of the names of a train split in several files, as `[a-1, a-2, b-1]`; a, b, c, …
    are found without it."""


class Columns(Settings):
    """Columns of a data set on the hub."""

    tokens: Line = Field("tokens", description="upos, ner: the words.")
    tags: Line | None = None
    """upos, ner: a tag per word; by default `upos` and `ner_tags`."""
    text: Line = "text"
    """Tables: the text, the right sentence, or the query."""
    text_pair: Line = "text_pair"
    """pair, similarity: the second text; minimal_pairs: the wrong sentence; retrieval: the
    document."""
    label: Line = "label"
    """classification, pair: the label; similarity: the number."""


# The kinds of task that read each column.
COLUMN_KINDS = {
    "tokens": ("upos", "ner"),
    "tags": ("upos", "ner"),
    "text": ("classification", "pair", *UNTRAINED),
    "text_pair": ("pair", *UNTRAINED),
    "label": ("classification", "pair", "similarity"),
}


class Hub(Settings):
    """A data set on the Hugging Face hub: parquet, JSON lines, csv or tsv; never a script."""

    dataset: DatasetId
    """Its id, as `unimelb-nlp/wikiann`."""
    configuration: Line | None = None
    """Its configuration, often a language; needed where it has several and none is the default."""
    revision: Line | None = None
    """A commit, or a branch as `refs/convert/parquet`, which holds script data sets as parquet. A
    branch is resolved once, and its commit recorded."""
    train: Line = Field("train", description="Name of the split to train on.")
    validation: Line | None = Field("validation", description="Name of this split; null if none.")
    test: Line | None = Field("test", description="Name of this split; null if none.")
    columns: Columns = Field(Columns(), description="Names of its columns.")
    labels: Once[Line] = Field([])
    """Names of the labels 0, 1, …, where the data set has bare numbers."""
    licence: Line | None = Field(None, description="Its terms; by default what its card says.")


class Address(Settings):
    """Files at addresses, or in an archive at one: CoNLL-U, IOB, csv, tsv, JSON lines, .review."""

    archive: WebAddress | None = None
    """Address of a .zip or .tar.gz; the files below are then paths in it."""
    train: Files | None = Field(None, description="Address of the file to train on, or several.")
    validation: Files | None = Field(None, description="Address of this split, if there is one.")
    test: Files | None = Field(None, description="Address of this split, if there is one.")
    header: Once[Line] = Field([])
    """Columns of a table that has no line with their names, as `[label, text]`."""
    sha256: dict[Literal["archive", "train", "validation", "test"], Sha256] = Field({})
    """Checksums; by default those of the first download, which are recorded."""
    licence: Line | None = Field(None, description="Its terms.")

    def problems(self) -> Iterator[Problem]:
        """Yield what is no address, and checksums of what is not fetched."""
        if not (self.train or self.test):
            yield (), "nothing to fetch; give the address of a file in train, or in test"
        for key in ("archive",) if self.archive else SPLITS:
            for address in as_list(getattr(self, key)):
                if not re.match(r"https?://[^/]+/.", address):
                    yield (key,), f"expected an address, https://..., found {address!r}"
                elif PAGE.match(address):
                    yield (key,), f"{address} is a page about a file; give the address of the file"
        for key in self.sha256:
            single = isinstance(getattr(self, key), str)
            if not single or bool(self.archive) != (key == "archive"):
                yield ("sha256", key), "there is no one file of this name to fetch; remove it"


Source = Treebank | Hub | Address


def same_split(entry: BaseModel, kind: str) -> Iterator[Problem]:
    """Yield a problem for what is two splits: scores on what was trained on say nothing."""
    seen: dict[str, str] = {}
    for split in splits_of(kind):
        for file in as_list(getattr(entry, split, None)):
            if (other := seen.setdefault(os.path.realpath(file), split)) != split:
                yield (split,), f"{file} is {other} too; give another, or leave it out"


def as_list(files: Files | None) -> list[str]:
    """Return the files of a split."""
    return [files] if isinstance(files, str) else list(files or [])


def splits_of(kind: str) -> tuple[str, ...]:
    """Return the splits that a kind of task reads."""
    return ("test",) if kind in UNTRAINED else SPLITS


def fetched_files(kind: str, source: Source, columns: dict[str, Any]) -> dict[str, str]:
    """Return the files of the splits of a fetched task.

    Their folder is named after the source, with a digest of all that decides what is in it.
    """
    decisive: dict[str, Any] = {
        "kind": kind,
        "source": source.model_dump(exclude_defaults=True, exclude={"licence", "prefix"}),
    }
    if isinstance(source, Address):
        decisive |= columns
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9]+", "-", named(source).lower()).strip("-")
    return {
        split: f"{FETCHED}/{name}-{digest}/{split}.{SUFFIXES[kind]}" for split in splits_of(kind)
    }


def named(source: Source) -> str:
    """Return what people call a source."""
    if isinstance(source, Treebank):
        return f"{source.treebank} {source.release}"
    if isinstance(source, Hub):
        return f"{source.dataset.partition('/')[2] or source.dataset} {source.configuration or ''}"
    address = source.archive or as_list(source.train or source.test)[0]
    if repository := REPOSITORY.match(address):
        return repository[1]
    parts = urlsplit(address)
    return f"{parts.hostname} {parts.path.rpartition('/')[2].partition('.')[0]}"


def source_of(entry: BaseModel) -> Source | None:
    """Return the source among the keys of a task, or of the options of its stage."""
    for key in SOURCES:
        source: Source | None = getattr(entry, key)
        if source is not None:
            return source
    return None


# The keys of a task that name a source.
SOURCES = ("ud", "hub", "url")
