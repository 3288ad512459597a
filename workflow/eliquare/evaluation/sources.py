"""Fetch the data of a task: a treebank, a data set on a hub, or files at addresses.

    eliquare evaluation fetch --kind upos --output resources/tasks/welsh \
        --ud '{"treebank": "UD_Welsh-CCG", "release": "2.17"}'

The folder gets the three splits in the formats of ``readers``, those that the source lacks cut from
train, and ``source.json``: addresses, revision, checksums, licence, and the numbers of examples and
of rows that were dropped.

A file that a user puts into ``<output>.raw/`` is taken instead of the network's. A checksum that
nobody gives is that of the first download, kept in ``checksums.json`` beside the output.
"""

import csv
import html
import io
import json
import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import Field

from eliquare.cli import Options
from eliquare.config import catalogue
from eliquare.config.model import HUB_COLUMNS, TaskKind
from eliquare.config.objective import Problem
from eliquare.config.sources import (
    SOURCES,
    SPLITS,
    SUFFIXES,
    Address,
    Hub,
    Treebank,
    as_list,
    named,
    source_of,
    splits_of,
)
from eliquare.download import Checksum, Host, Unreachable, is_page
from eliquare.evaluation import data, readers
from eliquare.evaluation.archives import unpacked
from eliquare.evaluation.readers import RENAMED_TAGS, UPOS_TAGS, Example
from eliquare.io import (
    Failure,
    InputError,
    atomic_dir,
    atomic_write,
    checksum,
    locked,
    or_unavailable,
    read_json,
    remove,
    write_json,
)

RAW = "https://raw.githubusercontent.com"
# The environment variables that name mirrors.
MIRRORS = {RAW: "ELIQUARE_RAW", "https://huggingface.co": "HF_ENDPOINT"}
UD_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
NO_LABEL, NO_TEXT = "the label is empty", "the text is empty"
SAME_TEXT = "the two sentences are the same"
NO_WORD, NO_TAG = "a word is empty", "a word has no tag"
WITHOUT_TEXT = (
    "{} of {} sentences have no words ('_' instead): the treebank's text is withheld for its "
    "licence; take another treebank"
)

logger = logging.getLogger(__name__)

Dropped = Counter[str]


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
        pair = self.text_pair_column or HUB_COLUMNS["text_pair_column"]
        if self.kind == "minimal_pairs":
            return [self.text_column, pair]
        return [self.label_column, self.text_column, *([pair] if self.kind == "pair" else [])]


class Found(NamedTuple):
    """What a source has: a way to read each split, its revision and its licence."""

    splits: Mapping[str, Callable[[Dropped], Iterable[Example]]]
    revision: str | None
    licence: str | None


def fetch(options: FetchOptions) -> None:
    """Fetch a task's data, check and convert them, cut missing splits, write down the origin."""
    source = source_of(options)
    assert source is not None
    with (
        locked(options.output, "task"),
        or_unavailable(options.output, options.allow_unavailable),
        RawFiles(options.output, options.retries) as raw,
    ):
        if isinstance(source, Treebank):
            found = of_treebank(source, raw)
        elif isinstance(source, Hub):
            from eliquare.evaluation.hub import of_hub

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
        if options.kind != "minimal_pairs":
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
            with_label = options.kind != "minimal_pairs"
            output.write(table_line([*columns[1:], columns[0]] if with_label else columns))
        output.writelines(example.texts[0] for example in examples)


# --- Raw files


class RawFiles:
    """The files of a source as they come: put in place by a user, or downloaded.

    Downloads are kept until the task is complete, so that a later run need not repeat them.
    """

    def __init__(self, output: Path, retries: int) -> None:
        self.retries = retries
        self.by_hand = output.with_name(f"{output.name}.raw")
        self.downloads = output.with_name(f".{output.name}.downloads")
        self.checksums = output.with_name("checksums.json")
        self.known: dict[str, str] = read_json(self.checksums) if self.checksums.exists() else {}
        self.wanted: dict[str, str] = {}
        self.used: dict[str, Path] = {}
        self.unverified: list[Path] = []
        output.parent.mkdir(parents=True, exist_ok=True)
        self.work = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.")

    def __enter__(self) -> "RawFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.work.cleanup()
        if kind is None:
            remove(self.downloads)
        elif issubclass(kind, InputError):
            # What is amiss may be a file that came broken: the next run fetches it again.
            for path in self.unverified:
                remove(path)

    def get(self, address: str, name: str, sha256: str | None = None) -> Path | None:
        """Return the file of an address, called ``name`` here; None if the host has no such file.

        Raises Failure, with a line for each file wanted, if the host cannot be reached, and
        InputError for another checksum and for a page instead of a file.
        """
        expected = self.expected(address, sha256)
        path = self.by_hand / name
        if not path.exists():
            path = self.downloads / name
            if path.exists() and expected and expected.of(path) != expected.value:
                remove(path)
            if not path.exists() and not self.download(address, path, expected):
                return None
            if expected is None:
                self.unverified.append(path)
        return self.take(address, path, sha256)

    def take(self, address: str, path: Path, sha256: str | None = None) -> Path:
        """Return a file that is here, checked; it is recorded as that of an address."""
        expected = self.expected(address, sha256)
        if is_page(path):
            raise InputError(f"{path}: an HTML page instead of a file; replace it")
        if expected and (found := expected.of(path)) != expected.value:
            raise expected.refuse(path, found)
        logger.info("%s: %s", address, path)
        self.used[address] = path
        return path

    def expected(self, address: str, sha256: str | None) -> Checksum | None:
        """Return the checksum that a file must have: the one given, or an earlier download's."""
        if sha256:
            return Checksum("sha256", sha256, "the configuration says", "check its sha256")
        if address in self.known:
            said = "an earlier download had"
            advice = f"to take the new file, remove the line of this address in {self.checksums}"
            return Checksum("sha256", self.known[address], said, advice)
        return None

    def download(self, address: str, path: Path, expected: Checksum | None) -> bool:
        """Download a file; return False if the host has none."""
        root, _, name = mirrored(address).rpartition("/")
        try:
            return Host(root, self.retries, "check the connection").download(name, path, expected)
        except Unreachable as error:
            raise self.missing(str(error), address, path.name) from None

    def missing(self, reason: str, address: str, name: str) -> Failure:
        """Return the failure of a file, which names all that are wanted and not there."""
        lines = [f"{reason}; or put the file at {self.by_hand / name}"]
        for other, address_of_other in self.wanted.items():
            there = [folder / other for folder in (self.by_hand, self.downloads)]
            if address_of_other != address and not any(path.exists() for path in there):
                lines.append(f"{address_of_other}: put this file at {self.by_hand / other} then")
        return Failure("\n".join(lines))

    def record(self) -> list[dict[str, Any]]:
        """Return address, checksum and size of each file; remember the checksums."""
        files = [
            {"address": address, "sha256": checksum(path), "bytes": path.stat().st_size}
            for address, path in self.used.items()
        ]
        with locked(self.checksums, "list of checksums"):
            known = read_json(self.checksums) if self.checksums.exists() else {}
            known |= {file["address"]: file["sha256"] for file in files}
            with atomic_write(self.checksums) as partial:
                write_json(partial, dict(sorted(known.items())))
        return files


def mirrored(address: str) -> str:
    """Return the address at a mirror of its host, where there is one; the record keeps its own."""
    for host, variable in MIRRORS.items():
        if (mirror := os.environ.get(variable)) and address.startswith(f"{host}/"):
            return mirror.rstrip("/") + address.removeprefix(host)
    return address


# --- Universal Dependencies


def of_treebank(source: Treebank, raw: RawFiles) -> Found:
    """Return the splits of a treebank.

    Raises InputError where the treebank has no train split, and where its text is withheld.
    """
    prefix = source.prefix or catalogue.treebank_prefix(source.treebank)
    if prefix is None:
        raise InputError(
            f"ud.prefix: missing; {source.treebank} is not in the catalogue: write how its file "
            "names begin, as cy_ccg of cy_ccg-ud-train.conllu"
        )
    tag = f"r{source.release}"
    repository = f"{RAW}/UniversalDependencies/{source.treebank}/{tag}"

    def get(part: str) -> Path | None:
        name = f"{prefix}-ud-{part}.conllu"
        return raw.get(f"{repository}/{name}", name)

    for part in [f"train-{part}" for part in source.parts] or ["train"]:
        name = f"{prefix}-ud-{part}.conllu"
        raw.wanted[name] = f"{repository}/{name}"
    raw.wanted |= {
        f"{prefix}-ud-{part}.conllu": f"{repository}/{prefix}-ud-{part}.conllu"
        for part in ("dev", "test")
    }
    files: dict[str, list[Path]] = {"train": train_files(source, get)}
    by_hand = any(path.parent == raw.by_hand for path in files["train"])
    for split, part in UD_SPLITS.items():
        if split == "train":
            continue
        try:
            file = get(part)
        except Failure as failure:
            if not by_hand:
                raise
            # A treebank may lack this split, and whoever put the others in place knows.
            logger.warning("%s: taken as a split that the treebank lacks", failure)
            file = None
        if file:
            files[split] = [file]
    if not files["train"]:
        if len(files) > 1:
            raise InputError(
                f"{source.treebank} {source.release} has no train split, only "
                f"{' and '.join(sorted(files.keys() - {'train'}))}; take another treebank"
            )
        raise InputError(
            f"{repository}/{prefix}-ud-train.conllu: no such file; check ud.treebank, ud.release "
            f"and ud.prefix (https://github.com/UniversalDependencies/{source.treebank})"
        )
    return Found(
        {split: conllu_reader(paths) for split, paths in files.items()},
        tag,
        None if by_hand else licence_of(f"{repository}/README.md"),
    )


def train_files(source: Treebank, get: Callable[[str], Path | None]) -> list[Path]:
    """Return the file or files of the train split."""
    if source.parts:
        found = {part: get(f"train-{part}") for part in source.parts}
        if lacking := [part for part, path in found.items() if path is None]:
            raise InputError(
                f"{source.treebank} {source.release} has no file train-{lacking[0]}; check ud.parts"
            )
        return list(filter(None, found.values()))
    if single := get("train"):
        return [single]
    files = []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        if (path := get(f"train-{letter}")) is None:
            break
        files.append(path)
    return files


def licence_of(readme: str) -> str | None:
    """Return the licence that a treebank's README names; None where it cannot be read."""
    root, _, name = mirrored(readme).rpartition("/")
    try:
        text = Host(root, 0, "").text(name)
    except Unreachable:
        return None
    found = re.search(r"^License:\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else None


def conllu_reader(paths: Sequence[Path]) -> Callable[[Dropped], Iterator[Example]]:
    """Return the reader of CoNLL-U files; sentences with a word that has no tag are dropped."""

    def read(dropped: Dropped) -> Iterator[Example]:
        for path in paths:
            withheld = sentences = 0
            with readers.reported_together(path) as report:
                for rows in readers.conllu_sentences(path, report):
                    words = [(line, columns) for line, columns in rows if columns[0].isdecimal()]
                    forms = {columns[1] for _, columns in words}
                    sentences += 1
                    withheld += len(words) > 1 and forms == {"_"}
                    labels = tuple(RENAMED_TAGS.get(c[3], c[3]) for _, c in words)
                    if "_" in labels or not labels:
                        dropped[NO_TAG] += 1
                        continue
                    for (line, _), label in zip(words, labels, strict=True):
                        if label not in UPOS_TAGS:
                            report(line, f"{label!r} is no UPOS tag")
                    written = "".join("\t".join(columns) + "\n" for _, columns in rows)
                    yield Example((f"{written}\n",), labels, path.name, (rows[0][0],))
            if withheld:
                raise InputError(f"{path.name}: {WITHOUT_TEXT.format(withheld, sentences)}")

    return read


# --- Files at addresses, and archives


def of_addresses(source: Address, kind: TaskKind, columns: Sequence[str], raw: RawFiles) -> Found:
    """Return the splits of files at addresses, or of members of an archive."""
    given = {split: as_list(getattr(source, split)) for split in splits_of(kind)}
    given = {split: files for split, files in given.items() if files}
    paths: dict[str, list[Path]] = {}
    if source.archive:
        name = file_name(source.archive)
        raw.wanted[name] = source.archive
        archive = required(raw, source.archive, name, source.sha256.get("archive"))
        members = [member for files in given.values() for member in files]
        copies = unpacked(archive, members, Path(raw.work.name))
        paths = {split: [copies[member] for member in files] for split, files in given.items()}
    else:
        addresses = [address for files in given.values() for address in files]
        names = {address: file_name(address) for address in addresses}
        for number, address in enumerate(names, start=1):
            if [*names.values()].count(names[address]) > 1:
                names[address] = f"{number}-{names[address]}"
        raw.wanted |= {name: address for address, name in names.items()}
        for split, files in given.items():
            known = source.sha256.get(split)  # type: ignore[call-overload]
            paths[split] = [required(raw, each, names[each], known) for each in files]
    if source.header:
        paths = {
            split: [with_header(path, source.header, Path(raw.work.name)) for path in files]
            for split, files in paths.items()
        }
    read = {split: file_reader(kind, files, columns) for split, files in paths.items()}
    return Found(read, None, source.licence)


def required(raw: RawFiles, address: str, name: str, sha256: str | None) -> Path:
    """Return a file; raise InputError where the host has none."""
    path = raw.get(address, name, sha256)
    if path is None:
        raise InputError(
            f"{address}: no such file on the host (404); check the address, or put the file at "
            f"{raw.by_hand / name}"
        )
    return path


def file_name(address: str) -> str:
    """Return the file's name in an address."""
    return unquote(urlsplit(address).path).rpartition("/")[2] or "file"


def with_header(path: Path, header: Sequence[str], folder: Path) -> Path:
    """Return a copy of a table, in a folder, below a line with the names of its columns.

    A tab in the first line says what is between the columns, whatever the file is called.
    """
    first = next(readers.text_lines(path), "")
    suffix = ".tsv" if "\t" in first else ".csv"
    copy = folder / f"{path.name}{suffix}"
    with copy.open("w", encoding="utf-8", newline="") as file:
        file.write(table_line(header, readers.DELIMITERS[suffix]))
        file.writelines(readers.text_lines(path))
    return copy


def file_reader(
    kind: TaskKind, paths: Sequence[Path], columns: Sequence[str]
) -> Callable[[Dropped], Iterator[Example]]:
    """Return the reader of a split's files, by the kind of task and the ends of their names."""
    if kind == "upos":
        return conllu_reader(paths)

    def named_entities(dropped: Dropped) -> Iterator[Example]:
        for path in paths:
            for example in readers.read("ner", path):
                place = (path.name, example.lines[0])
                yield from words_with_tags(kind, example.texts, example.labels, place, dropped)

    def table(dropped: Dropped) -> Iterator[Example]:
        for path in paths:
            with readers.reported_together(path) as report:
                rows = readers.table_rows(path, report, columns)
                if path.suffix == ".review":
                    rows = reviews(path, columns)
                for line, row in rows:
                    cells = [row[column] for column in columns]
                    make = minimal_pair if kind == "minimal_pairs" else table_row
                    yield from make(cells, (path.name, line), dropped)

    return named_entities if kind == "ner" else table


def reviews(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the reviews of the CLS corpus (Prettenhofer and Stein 2010), labelled as FLUE does.

    More than three stars are positive, fewer negative; three are neither and left out.
    """
    text = "".join(readers.text_lines(path))
    label_column, text_column, *_ = columns
    for item in re.finditer(r"<item>(.*?)</item>", text, re.DOTALL):
        rating = re.search(r"<rating>\s*([\d.]+)\s*</rating>", item[1])
        body = re.search(r"<text>(.*?)</text>", item[1], re.DOTALL)
        line = text.count("\n", 0, item.start()) + 1 if not (rating and body) else 0
        if rating is None or body is None:
            raise InputError(f"{path.name}, line {line}: a review without <rating> or <text>")
        if float(rating[1]) != 3:
            label = "positive" if float(rating[1]) > 3 else "negative"
            yield item.start(), {label_column: label, text_column: html.unescape(body[1]).strip()}


# --- Examples, as they are stored: ``texts`` holds what is written


def words_with_tags(
    kind: str,
    words: Sequence[str],
    tags: Sequence[str],
    place: tuple[str, int],
    dropped: Dropped,
) -> Iterator[Example]:
    """Yield a sentence; words that are empty are dropped, and a sentence without any."""
    pairs = [(one_line(word), tag) for word, tag in zip(words, tags, strict=True)]
    kept = [(word, tag) for word, tag in pairs if word]
    dropped.update({NO_WORD: len(pairs) - len(kept)} if len(kept) < len(pairs) else {})
    if not kept:
        return
    labels = tuple(tag for _, tag in kept)
    lines = [f"{word}\t{tag}" for word, tag in kept]
    if kind == "upos":
        blank = "\t_" * 6
        lines = [f"{n}\t{word}\t_\t{tag}{blank}" for n, (word, tag) in enumerate(kept, start=1)]
    yield Example(("\n".join([*lines, "", ""]),), labels, place[0], (place[1],))


def table_row(cells: Sequence[str], place: tuple[str, int], dropped: Dropped) -> Iterator[Example]:
    """Yield a row of a table, label first; one with an empty label or text is dropped."""
    label, *texts = (cell.strip() for cell in cells)
    if not label or not all(texts):
        dropped[NO_TEXT if label else NO_LABEL] += 1
        return
    yield Example((table_line([*texts, label]),), (label,), place[0], (place[1],))


def minimal_pair(
    cells: Sequence[str], place: tuple[str, int], dropped: Dropped
) -> Iterator[Example]:
    """Yield a right and a wrong sentence; a pair that lacks one, or has one twice, is dropped."""
    right, wrong = (cell.strip() for cell in cells)
    if not right or not wrong or right == wrong:
        dropped[SAME_TEXT if right and wrong else NO_TEXT] += 1
        return
    yield Example((table_line([right, wrong]),), (), place[0], (place[1],))


def one_line(word: str) -> str:
    """Return a word without tabs and line breaks, and without space at its ends."""
    return re.sub(r"[\t\n\v\f\r]+", " ", word).strip()


def table_line(cells: Sequence[str], delimiter: str = "\t") -> str:
    r"""Return a line of a table by RFC 4180; line breaks inside are ``\n``."""
    line = io.StringIO()
    plain = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells]
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(plain)
    return line.getvalue()
