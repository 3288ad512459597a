"""Fetch the data of a task: a treebank, a data set on a hub, or files at addresses.

    eliquare evaluation fetch --kind upos --output resources/tasks/welsh \
        --ud '{"treebank": "UD_Welsh-CCG", "release": "2.17"}'

The folder gets the three splits in the formats of ``readers``, those that the source lacks cut from
train, and ``source.json``: addresses, revision, checksums, licence, and the numbers of examples and
of rows that were dropped.

A file that a user puts into ``<output>.raw/`` is taken instead of the network's. A checksum that
nobody gives is that of the first download, kept in ``checksums.json`` beside the output.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from eliquare.cli import Options
from eliquare.config.base import Problem
from eliquare.config.sources import (
    SOURCES,
    SPLITS,
    SUFFIXES,
    UNLABELLED,
    UNTRAINED,
    Address,
    Hub,
    Treebank,
    named,
    source_of,
)
from eliquare.config.tasks import HUB_COLUMNS, TaskKind
from eliquare.evaluation import data
from eliquare.evaluation.addresses import of_addresses
from eliquare.evaluation.hub import of_hub
from eliquare.evaluation.readers import Example
from eliquare.evaluation.sources import RawFiles, table_line
from eliquare.evaluation.treebank import of_treebank
from eliquare.io import InputError, atomic_dir, or_unavailable, write_json

logger = logging.getLogger(__name__)


class FetchOptions(Options):
    """Options of ``evaluation fetch``."""

    kind: TaskKind = Field(description="Kind of the task.")
    ud: Treebank | None = Field(None, description="A treebank, as JSON.")
    hub: Hub | None = Field(None, description="A data set on the hub, as JSON.")
    url: Address | None = Field(None, description="Files at addresses, as JSON.")
    text_column: str = Field("text", description="Column of the text in tables.")
    text_pair_column: str | None = Field(None, description="Column of the second text.")
    label_column: str = Field("label", description="Column of the label.")
    allow_unavailable: bool = Field(
        False, description="Of a source that is not there, write why, and succeed."
    )
    retries: int = Field(3, ge=0, description="Tries without progress before one gives up.")
    output: Path = Field(description="Folder to make.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where there is not one source."""
        if sum(getattr(self, key) is not None for key in SOURCES) != 1:
            yield (), f"give exactly one of {', '.join(f'--{key}' for key in SOURCES)}"

    @property
    def columns(self) -> list[str]:
        """The columns of the stored table: the label, if there is one, then each text."""
        texts = [self.text_column]
        # The two texts of `similarity` may be two lines of one.
        in_one = self.kind == "similarity" and not (self.hub or self.text_pair_column)
        if self.kind in ("pair", *UNTRAINED) and not in_one:
            texts.append(self.text_pair_column or HUB_COLUMNS["text_pair_column"])
        return texts if self.kind in UNLABELLED else [self.label_column, *texts]


def fetch(options: FetchOptions) -> None:
    """Fetch a task's data, check and convert them, cut missing splits, write down the origin."""
    source = source_of(options)
    assert source is not None
    with (
        or_unavailable(options.output, options.allow_unavailable),
        RawFiles(options.output, options.retries) as raw,
    ):
        if isinstance(source, Treebank):
            found = of_treebank(source, raw)
        elif isinstance(source, Hub):
            found = of_hub(source, options.kind, options.columns, raw)
        else:
            found = of_addresses(source, options.kind, options.columns, raw)
        dropped = {split: Counter[str]() for split in found.splits}
        given = {}
        for split, read in found.splits.items():
            given[split] = list(read(dropped[split]))
            if not given[split]:
                why = ", ".join(f"{reason}: {n}" for reason, n in dropped[split].items())
                name = named(source)
                raise InputError(f"{name}: no example in {split} ({why or 'it is empty'})")
        if options.kind not in UNTRAINED:
            complete = data.split(options.kind, **given)
            given |= {split: list(getattr(complete, split)) for split in SPLITS}
        with atomic_dir(options.output) as folder:
            for split, examples in given.items():
                write_split(folder / f"{split}.{SUFFIXES[options.kind]}", options, examples)
            record = {
                "kind": options.kind,
                "source": options.model_dump(mode="json", include={*SOURCES}, exclude_none=True),
                "revision": found.revision,
                "licence": found.licence,
                "files": raw.record(),
                "examples": {split: len(examples) for split, examples in given.items()},
                "cut_from_train": [split for split in given if split not in found.splits],
                "dropped": {split: dict(reasons) for split, reasons in dropped.items() if reasons},
            }
            write_json(folder / "source.json", record)
        logger.info("%s: %s", options.output, json.dumps(record["examples"]))


def write_split(file: Path, options: FetchOptions, examples: Iterable[Example]) -> None:
    """Write the examples as they were made ready, a table's below its columns."""
    with file.open("w", encoding="utf-8", newline="") as output:
        if SUFFIXES[options.kind] == "tsv":
            columns = options.columns
            with_label = options.kind not in UNLABELLED
            output.write(table_line([*columns[1:], columns[0]] if with_label else columns))
        output.writelines(example.texts[0] for example in examples)
