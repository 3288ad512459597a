"""Fetch the files of a task from addresses of its own, or from an archive at one."""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from eliquare.config.sources import UNLABELLED, Address, as_list, splits_of
from eliquare.config.tasks import TaskKind
from eliquare.evaluation import readers
from eliquare.evaluation.archives import unpacked
from eliquare.evaluation.readers import Example
from eliquare.evaluation.sources import (
    Dropped,
    Found,
    RawFiles,
    pair_of_texts,
    scored_pair,
    table_line,
    table_row,
    words_with_tags,
)
from eliquare.evaluation.treebank import conllu_reader
from eliquare.io import InputError


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
        copies = unpacked(archive, members, raw.work)
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
            split: [with_header(path, source.header, raw.work) for path in files]
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
                    place = (path.name, line)
                    if kind in UNLABELLED:
                        differ = kind == "minimal_pairs"
                        yield from pair_of_texts(cells, place, dropped, differ=differ)
                    else:
                        make = scored_pair if kind == "similarity" else table_row
                        yield from make(cells, place, dropped)

    return named_entities if kind == "ner" else table


def reviews(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the reviews of the CLS corpus (Prettenhofer and Stein 2010), labelled as FLUE does.

    More than three stars are positive, fewer negative; three are neither and left out.
    """
    text = "".join(readers.text_lines(path))
    label_column, text_column, *_ = columns
    line, begun = 1, 0
    for item in re.finditer(r"<item>(.*?)</item>", text, re.DOTALL):
        rating = re.search(r"<rating>\s*(\d+(?:\.\d+)?)\s*</rating>", item[1])
        body = re.search(r"<text>(.*?)</text>", item[1], re.DOTALL)
        line += text.count("\n", begun, item.start())
        begun = item.start()
        if rating is None or body is None:
            raise InputError(f"{path.name}, line {line}: a review without <rating> or <text>")
        if float(rating[1]) != 3:
            label = "positive" if float(rating[1]) > 3 else "negative"
            yield line, {label_column: label, text_column: html.unescape(body[1]).strip()}
