"""Read a data set on the Hugging Face hub: its data files alone, never a script, never a pickle.

The data files of a split are those that the data set's card names, or else those in the folder of
the configuration (the top, without one) whose path holds the split's name. Of several
configurations none is taken unasked, but the one that the card calls the default.
"""

import ast
import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml
from fsspec.utils import glob_translate

from eliquare.config.sources import UNLABELLED, Hub, splits_of
from eliquare.config.tasks import TaskKind
from eliquare.evaluation import readers
from eliquare.evaluation.readers import IOB_TAG, UPOS_TAGS, Example, to_iob2
from eliquare.evaluation.sources import (
    NO_TAG,
    Dropped,
    Found,
    RawFiles,
    pair_of_texts,
    scored_pair,
    table_row,
    words_with_tags,
)
from eliquare.io import InputError
from eliquare.models.hub import check_cached, plain_errors

CARD = "README.md"
DATA = re.compile(r"\.(parquet|(jsonl|ndjson|json|csv|tsv)(\.(gz|bz2|xz|zst))?)$")
NO_DATA = ("dataset_info.json", "dataset_infos.json", "package.json")
CONVERTED = "refs/convert/parquet"
# How else files name a split, as the library of the hub reads them.
OTHER_NAMES = {"train": "training", "validation": "valid|dev|val", "test": "testing|eval"}
DEFAULT_TAGS = {"upos": "upos", "ner": "ner_tags"}


class Listing(NamedTuple):
    """The files of a data set: their names, its card, the commit (None where put by hand)."""

    names: list[str]
    card: dict[str, Any]
    commit: str | None


def of_hub(source: Hub, kind: TaskKind, columns: Sequence[str], raw: RawFiles) -> Found:
    """Return the splits of a data set."""
    repository = Repository(source, raw)
    listing = repository.listing()
    config = configuration(source, listing)
    wanted = {
        split: data_files(source, config, listing, name)
        for split in splits_of(kind)
        if (name := getattr(source, split)) is not None
    }
    paths = {split: [repository.get(name) for name in names] for split, names in wanted.items()}
    licence = listing.card.get("license")
    said = described(listing.card, source.configuration or (config or {}).get("config_name"))
    return Found(
        {split: Reader(source, kind, said, files) for split, files in paths.items()},
        listing.commit,
        source.licence or (", ".join(licence) if isinstance(licence, list) else licence),
    )


class Repository:
    """A data set's repository at one commit, or the files of it that a user put in place."""

    def __init__(self, source: Hub, raw: RawFiles) -> None:
        from huggingface_hub import constants

        self.source, self.raw = source, raw
        self.address = f"{constants.ENDPOINT}/datasets/{source.dataset}"
        self.commit: str | None = None

    def listing(self) -> Listing:
        """Return the names of the files, the card and the commit."""
        if self.raw.by_hand.is_dir():
            paths = [path for path in self.raw.by_hand.rglob("*") if path.is_file()]
            names = sorted(path.relative_to(self.raw.by_hand).as_posix() for path in paths)
            card = self.raw.by_hand / CARD
            return Listing(names, card_data(card) if card.is_file() else {}, None)
        from huggingface_hub import HfApi

        with self.plain_errors():
            info = HfApi().dataset_info(self.source.dataset, revision=self.source.revision)
        self.commit = info.sha
        names = sorted(each.rfilename for each in info.siblings or ())
        said = card_data(self.download(CARD)) if CARD in names else {}
        return Listing(names, said, self.commit)

    def get(self, name: str) -> Path:
        """Return a data file, whose checksum is compared and recorded."""
        path = self.raw.by_hand / name if self.commit is None else self.download(name)
        address = f"{self.address}/resolve/{self.commit or self.source.revision}/{name}"
        return self.raw.take(address, path)

    def download(self, name: str) -> Path:
        """Return a file of the repository in the hub's cache."""
        from huggingface_hub import hf_hub_download

        with self.plain_errors():
            file = Path(
                hf_hub_download(
                    self.source.dataset, name, repo_type="dataset", revision=self.commit
                )
            )
        check_cached(file)
        return file

    def plain_errors(self) -> contextlib.AbstractContextManager[None]:
        """Raise InputError for what is not on the hub, and Failure for a fault of the moment."""
        otherwise = f"put the data set's files, under their paths there, into {self.raw.by_hand}"
        return plain_errors(self.address, "data set", self.source.revision, otherwise)


def card_data(path: Path) -> dict[str, Any]:
    """Return what the head of a card says; nothing where it has none."""
    text = path.read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        found = yaml.safe_load(head[1]) if head else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# --- Which files


def configurations(card: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations that a card describes."""
    return [each for each in card.get("configs") or () if isinstance(each, dict)]


def configuration(source: Hub, listing: Listing) -> dict[str, Any] | None:
    """Return what the card says of the configuration that is asked for, or else of its default.

    None where it describes none of this name. Raises InputError where none is asked for and the
    card has several without a default, and for a data set that is a script.
    """
    configs = configurations(listing.card)
    if not configs and f"{source.dataset.rpartition('/')[2]}.py" in listing.names:
        raise InputError(
            f"{source.dataset}: a script data set, which is never run; write in hub: "
            f"`revision: {CONVERTED}`, where the hub keeps such data sets as parquet"
        )
    wanted = source.configuration or "default"
    named = [each for each in configs if each.get("config_name", "default") == wanted]
    if source.configuration is None and not named:
        named = [each for each in configs if each.get("default") is True or len(configs) == 1]
        if configs and not named:
            names = some([str(each.get("config_name")) for each in configs])
            raise InputError(
                f"{source.dataset}: it has {len(configs)} configurations, and none is the default; "
                f"name one in hub.configuration: {names}"
            )
    return named[0] if named else None


def described(card: dict[str, Any], configuration: str | None) -> Any:
    """Return what a card says of the columns of a configuration; None where it says nothing."""
    found = card.get("dataset_info")
    if not isinstance(found, list) or len(found) < 2:
        return found
    wanted = configuration or "default"
    entries = [each for each in found if isinstance(each, dict)]
    return next((each for each in entries if each.get("config_name", "default") == wanted), None)


def data_files(
    source: Hub, config: dict[str, Any] | None, listing: Listing, split: str
) -> list[str]:
    """Return the names of a split's data files.

    Raises InputError where there are none, and where several folders have the split.
    """
    data = [name for name in listing.names if DATA.search(name) and name not in NO_DATA]
    if config and (patterns := patterns_of(config.get("data_files"), split)) is not None:
        # As the hub reads them: below the configuration's folder, "*" within a folder.
        base = PurePosixPath(config.get("data_dir") or ".")
        wanted = [re.compile(glob_translate(str(base / pattern))) for pattern in patterns]
        found = [name for name in data if any(each.match(name) for each in wanted)]
    else:
        folder = (config or {}).get("data_dir") or (source.configuration if not config else None)
        if folder is None and any(name.startswith("default/") for name in data):
            folder = "default"
        inside = [name for name in data if not folder or f"/{name}".find(f"/{folder}/") >= 0]
        found = named_files(inside, split)
        if len(folders := folders_of(found, split)) > 1:
            raise InputError(
                f"{source.dataset}: the split {split!r} is in the folders {some(folders)}; name "
                "one in hub.configuration"
            )
    if not found:
        of = f" in the configuration {source.configuration!r}" if source.configuration else ""
        configs = configurations(listing.card)
        names = [str(each.get("config_name", "default")) for each in configs]
        there = f"configurations: {', '.join(names)}" if names else f"files: {some(data)}"
        absent = [key for key in ("validation", "test") if getattr(source, key) == split]
        cut = "".join(f"; `{key}: null` in hub cuts a tenth of train" for key in absent)
        raise InputError(
            f"{source.dataset}: no data file of the split {split!r}{of}; check hub.configuration "
            f"and the names of its splits ({there}){cut}"
        )
    return found


def patterns_of(data_files: Any, split: str) -> list[str] | None:
    """Return the patterns of a split's files as a card names them; None where it names none."""
    if data_files is None:
        return None
    if isinstance(data_files, list) and all(isinstance(each, dict) for each in data_files):
        data_files = {str(each.get("split")): each.get("path") for each in data_files}
    if not isinstance(data_files, dict):
        data_files = {"train": data_files}
    patterns = data_files.get(split) or []
    return [patterns] if isinstance(patterns, str) else [str(each) for each in patterns]


def named_files(names: Sequence[str], split: str) -> list[str]:
    """Return the files whose path holds the name of a split; all for train where none does."""

    def holding(words: str) -> list[str]:
        return [name for name in names if holds(words).search(name)]

    other = OTHER_NAMES.get(split)
    found = holding(re.escape(split)) or (holding(other) if other else [])
    every = "|".join([*OTHER_NAMES, *OTHER_NAMES.values()])
    return list(names) if not found and split == "train" and not holding(every) else found


def folders_of(names: Sequence[str], split: str) -> list[str]:
    """Return the folders that stand before the name of a split in the paths of its files."""
    words = "|".join([re.escape(split), *filter(None, [OTHER_NAMES.get(split)])])
    found = (holds(words).search(name) for name in names)
    return sorted({(match.string[: match.start(2)].rpartition("/")[0]) for match in found if match})


def holds(words: str) -> re.Pattern[str]:
    """Return the pattern of a path with one of the words in it."""
    return re.compile(rf"(^|[/._-])({words})(?=[/._-])", re.IGNORECASE)


def some(names: Sequence[str], most: int = 10) -> str:
    """Return names in words, the first ones of many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most]) or 'none'}{more}"


# --- What is in them


class Reader:
    """The reader of a split's files: of each row, what the kind of task needs."""

    def __init__(self, source: Hub, kind: TaskKind, described: Any, paths: Sequence[Path]) -> None:
        self.source, self.kind, self.described, self.paths = source, kind, described, paths
        columns = source.columns
        tags = columns.tags or DEFAULT_TAGS.get(kind, "")
        self.columns = {
            "classification": [columns.label, columns.text],
            "pair": [columns.label, columns.text, columns.text_pair],
            "similarity": [columns.label, columns.text, columns.text_pair],
            "minimal_pairs": [columns.text, columns.text_pair],
            "retrieval": [columns.text, columns.text_pair],
        }.get(kind, [tags, columns.tokens])

    def __call__(self, dropped: Dropped) -> Iterator[Example]:
        """Yield the examples of the files; count what is dropped, by reason."""
        for path in self.paths:
            labels, rows = self.rows(path)
            names = labels or label_names(self.described, self.columns[0]) or self.source.labels
            names = [] if self.kind == "similarity" else names
            for number, row in enumerate(rows, start=1):
                place = (path.name, number)
                if self.kind in DEFAULT_TAGS:
                    yield from self.sentence(row, names, place, dropped)
                elif self.kind in UNLABELLED:
                    cells = [as_text(cell) for cell in row]
                    differ = self.kind == "minimal_pairs"
                    yield from pair_of_texts(cells, place, dropped, differ=differ)
                else:
                    label, *texts = row
                    cells = [self.name(label, names, place), *map(as_text, texts)]
                    make = scored_pair if self.kind == "similarity" else table_row
                    yield from make(cells, place, dropped)

    def rows(self, path: Path) -> tuple[list[str], Iterable[list[Any]]]:
        """Return the label names that a file knows, and its rows: labels first."""
        if path.suffix != ".parquet":
            return [], self.table_rows(path)
        import pyarrow
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.source.dataset}: {path.name}: no parquet file ({reason})"
            ) from None
        self.require(file.schema_arrow.names, path)
        stored = (file.schema_arrow.metadata or {}).get(b"huggingface")
        features = json.loads(stored)["info"]["features"] if stored else {}
        names = label_names({"features": features}, self.columns[0])
        return names, self.batches(file)

    def batches(self, file: Any) -> Iterator[list[Any]]:
        """Yield the rows of a parquet file."""
        for batch in file.iter_batches(columns=self.columns):
            for row in batch.to_pylist():
                yield [row[column] for column in self.columns]

    def table_rows(self, path: Path) -> Iterator[list[Any]]:
        """Yield the rows of JSON lines, csv or tsv; lists are written as JSON."""
        with readers.reported_together(path) as report:
            checked = False
            for _, row in readers.table_rows(path, report):
                if not checked:
                    self.require(list(row), path)
                    checked = True
                yield [row.get(column, "") for column in self.columns]

    def require(self, there: Sequence[str], path: Path) -> None:
        """Raise InputError for columns that are not there."""
        if missing := [column for column in self.columns if column not in there]:
            raise InputError(
                f"{self.source.dataset}: no column {', '.join(map(repr, missing))} in {path.name}; "
                f"the columns are {some(there)}; name them in hub.columns"
            )

    def sentence(
        self, row: Sequence[Any], names: Sequence[str], place: tuple[str, int], dropped: Dropped
    ) -> Iterator[Example]:
        """Yield a sentence with the tags of its words."""
        tags, words = (as_list(cell) for cell in row)
        if len(tags) != len(words):
            raise InputError(
                f"{self.where(place)}: {len(words)} words and {len(tags)} tags; expected as many"
            )
        found = [self.name(tag, names, place) for tag in tags]
        if any(tag in ("", "_") for tag in found):
            dropped[NO_TAG] += 1
            return
        for tag in found:
            right = tag in UPOS_TAGS if self.kind == "upos" else IOB_TAG.fullmatch(tag)
            if not right:
                expected = "UPOS tag" if self.kind == "upos" else "IOB tag such as O, B-PER, I-PER"
                raise InputError(
                    f"{self.where(place)}: {tag!r} is no {expected}; give the names of the numbers "
                    "in hub.labels, or another column in hub.columns.tags"
                )
        labels = found if self.kind == "upos" else to_iob2(found)
        yield from words_with_tags(self.kind, list(map(as_text, words)), labels, place, dropped)

    def name(self, label: Any, names: Sequence[str], place: tuple[str, int]) -> str:
        """Return the name of a label; nothing where the row has none."""
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        text = as_text(label).strip()
        if not names or text in names or not re.fullmatch(r"-?\d+", text):
            return text
        number = int(text)
        if number >= len(names):
            raise InputError(
                f"{self.where(place)}: the label {number} has no name; hub.labels or the card name "
                f"{len(names)} ({some(names)})"
            )
        return names[number] if number >= 0 else ""

    def where(self, place: tuple[str, int]) -> str:
        """Return where a row is, in words."""
        return f"{self.source.dataset}: {place[0]}, row {place[1]:,}"


def as_text(value: Any) -> str:
    """Return a cell as text; nothing for null and NaN."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value)


def as_list(value: Any) -> list[Any]:
    """Return a cell with a list: as JSON or Python write it, or with spaces between its items."""
    if isinstance(value, str):
        items = value.split()
        if value.strip().startswith("["):
            for read in (json.loads, ast.literal_eval):
                with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                    items = read(value.strip())
                    break
        value = items
    return list(value) if isinstance(value, list | tuple) else []


def label_names(described: Any, column: str) -> list[str]:
    """Return the names of a column's labels in a card, or in what a parquet file says of itself."""
    if isinstance(described, list):
        found = [label_names(each, column) for each in described]
        return next(filter(None, found), [])
    if not isinstance(described, dict):
        return []
    if described.get("name") == column:
        return class_names(described)
    if "features" in described and isinstance(described["features"], dict):
        return class_names(described["features"].get(column))
    return label_names(described.get("features"), column)


def class_names(described: Any) -> list[str]:
    """Return the first names of classes in the description of a column, in the order of ids."""
    if not isinstance(described, dict):
        return []
    names = described.get("names")
    if isinstance(names, dict):
        return [str(names[key]) for key in sorted(names, key=int)]
    if isinstance(names, list):
        return [str(name) for name in names]
    return next(filter(None, map(class_names, described.values())), [])
