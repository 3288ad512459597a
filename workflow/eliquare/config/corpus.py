"""The keys of corpora: where text comes from, what is dropped, sequences and masks.

By themselves, so that the stages of ``corpus`` start without all other settings.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from eliquare.config.base import (
    Commit,
    CorpusName,
    Date,
    FilePath,
    Label,
    Line,
    Once,
    Problem,
    Settings,
    Sourced,
    WebAddress,
    WikiName,
)
from eliquare.io import format_suffix

# Endings of files that are not plain text, and what to do with them.
_TABLE = "`source: dataset` reads tables"
_MARKUP = "write its text, a document per line"
_NOT_TEXT = {
    **dict.fromkeys((".arrow", ".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv"), _TABLE),
    **dict.fromkeys((".conll", ".conllu", ".htm", ".html"), _MARKUP),
    ".xml": f"`source: dump` reads a dump (key `file`); of other XML, {_MARKUP}",
}


def not_text(files: Sequence[str | Path], key: str = "files", mend: str = "") -> Iterator[Problem]:
    """Yield a problem for each file of text whose name says that it is something else.

    ``mend`` is what to do where a text alone is read.
    """
    for number, file in enumerate(files):
        if usual := _NOT_TEXT.get(format_suffix(file)):
            yield (key, number), f"{file} is not plain text; {mend or usual}"


class DocumentFilter(Settings):
    """Documents that are dropped."""

    min_characters: int = Field(100, ge=1, description="Shorter documents are dropped.")
    min_documents: int = Field(10, ge=2, description="Fewer documents than this are an error.")
    max_documents: int | None = Field(None, ge=1, description="Stop after this many documents.")
    near_duplicates: bool = Field(True, description="Drop near copies of an earlier document.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where fewer documents are taken than are needed."""
        yield from super().problems()
        if self.max_documents is not None and self.max_documents < self.min_documents:
            message = f"{self.max_documents} is less than min_documents, {self.min_documents}"
            yield ("max_documents",), f"{message}; fewer are an error"


class Corpus(DocumentFilter, Sourced):
    """Where the text of a language comes from. Each key is for the sources named before it."""

    reads: ClassVar = {
        "dump": ("", "wiki date mirror file expand_templates"),
        "text": ("files", "document"),
        "dataset": ("dataset", "configuration split column revision"),
    }
    source: Literal["dump", "text", "dataset"]
    """`dump`: a Wikipedia dump; `text`: text files; `dataset`: a Hugging Face dataset, as
    `wikimedia/wikipedia`."""
    identify: bool = False
    """Drop documents that are identified as another language, by py3langid, which must know it."""
    wiki: WikiName | None = Field(None, description="dump: its database; by default `<code>wiki`.")
    date: Date = "latest"
    """dump: a date as `"20260501"` (in quotes), or `latest`, recorded at the first download."""
    mirror: WebAddress | None = None
    """dump: another host with the same paths, or a folder with them; by default the environment
    variable ELIQUARE_DUMPS, or https://dumps.wikimedia.org."""
    file: FilePath | None = Field(None, description="dump: a dump on disk instead of a download.")
    expand_templates: bool = Field(False, description="dump: expand templates, which takes days.")
    files: list[FilePath] = Field([], description="text: files, also .gz, .zst, .bz2, .xz.")
    document: Literal["line", "file"] = Field("line", description="text: a line or a file.")
    dataset: Line | None = Field(None, description="dataset: id on the hub, or a folder.")
    configuration: Line | None = Field(None, description="dataset: its configuration.")
    split: Line = Field("train", description="dataset: its split.")
    column: Line = Field("text", description="dataset: its text column.")
    revision: Commit | None = None
    """dataset: on the hub, its commit, 40 hexadecimal digits."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each file of text that is none."""
        yield from super().problems()
        yield from not_text(self.files)


class Language(Settings):
    """One language."""

    name: Label = Field("", description="Name of the language in the report.")
    corpus: Corpus = Field(description="Where its text comes from.")


class Mixture(Settings):
    """A corpus of several: a list of languages; their weights, as `{sw: 1, sw-web: 3}`; or keys.

    With weights or alpha a corpus is repeated, or a part of its documents taken, so that the shares
    of the text (in characters) are as wanted, and as much text in all as without. What is taken is
    decided by a hash of each document.
    """

    languages: Annotated[Once[CorpusName], Field(min_length=2)]
    """Codes of its languages."""
    weights: dict[CorpusName, Annotated[float, Field(gt=0)]] = Field({})
    """Share of the text of each, in proportion to these."""
    alpha: float | None = Field(None, gt=0, le=1)
    """Share of each in proportion to its own size to this power: 1 as it is, 0.3 in XLM-R."""

    @model_validator(mode="before")
    @classmethod
    def _from_list_or_weights(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"languages": value}
        if isinstance(value, dict) and value and not set(value) & {*cls.model_fields}:
            return {"languages": list(value), "weights": value}
        return value

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where there are weights and alpha, or not a weight for each."""
        if self.weights and self.alpha is not None:
            yield (), "give weights or alpha, and not both"
        if self.weights and {*self.weights} != {*self.languages}:
            yield ("weights",), "give each of its languages a weight, and no other"

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe all ways to write a mixture."""
        keys = handler.resolve_ref_schema(handler(core_schema))
        properties = keys["properties"]
        return {"anyOf": [properties["languages"], properties["weights"], keys]}


class Sequences(Settings):
    """How documents become training sequences."""

    max_length: int = Field(256, ge=8, le=8192)
    """Longest sequence in tokens, special tokens included. No paper states it."""
    validation_fraction: float = Field(0.1, gt=0, le=0.5)
    """Share of the documents kept for validation (electronics2023: 90:10)."""


class Masking(Settings):
    """Masked language modelling, with the settings of electronics2023."""

    mlm_probability: float = Field(0.15, gt=0, lt=1, description="Share of tokens to predict.")
    mask_replace_prob: float = Field(0.8, ge=0, le=1)
    """Of these, the share replaced by the mask token."""
    random_replace_prob: float = Field(0.1, ge=0, le=1)
    """Of these, the share replaced by a random token."""
    smoothing: float = Field(0.7, ge=0, le=2)
    """A token is drawn in proportion to max(count, 1) ^ -smoothing; 0 is uniform."""
    max_validation_sequences: int = Field(2000, ge=1)
    """Validation sequences at most; their masks are fixed for good."""
    masking_seed: int = Field(1, ge=0, description="Seed of the fixed validation masks.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where the shares are more than all."""
        if self.mask_replace_prob + self.random_replace_prob > 1:
            yield (), "mask_replace_prob and random_replace_prob together are more than 1"
