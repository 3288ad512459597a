"""Documents from text files, from a Hugging Face dataset, and from several corpora in one."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import xxhash
from pydantic import Field

from eliquare.cli import Options
from eliquare.config.base import Commit, Problem
from eliquare.config.corpus import not_text
from eliquare.corpus import documents
from eliquare.corpus.documents import (
    TEXT_CHARACTERS,
    CorpusOptions,
    Document,
    Report,
    read_lines,
    utf8_lines,
)
from eliquare.faults import plain
from eliquare.io import (
    Failure,
    InputError,
    atomic_dir,
    existing,
    progress,
    read_as,
    read_json,
    work_folder,
)

ID_FIRST = b'{"id": "'
# The reason of documents that a mixture does not take.
SAMPLING = "sampling"
SPLIT = "train"  # of a dataset; what is one file is read whole

logger = logging.getLogger(__name__)


class TextOptions(CorpusOptions):
    """Options of ``corpus text``."""

    files: list[Path] = Field(
        min_length=1, description="Text files in UTF-8, plain or .gz, .bz2, .xz, .zst."
    )
    document: Literal["line", "file"] = Field("line", description="A document is a line or a file.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each file that is no text."""
        yield from super().problems()
        yield from not_text(self.files)


def read_text(options: TextOptions) -> None:
    """Write the documents folder of text files."""
    for path in options.files:
        existing(path, "text file")
    report = Report(source=", ".join(path.name for path in options.files))
    texts = of_files(options.files) if options.document == "file" else of_lines(options.files)
    documents.write(options, progress(texts, "documents"), report)


def of_lines(files: list[Path]) -> Iterator[Document]:
    """Yield a document per line that is not blank; its id is the file's number and the line's."""
    for file_number, path in enumerate(files, start=1):
        for number, line in enumerate(utf8_lines(path), start=1):
            if line.strip():
                yield Document(f"{file_number}-{number}", "", line)


def of_files(files: list[Path]) -> Iterator[Document]:
    """Yield a document per file; its id is the file's number."""
    for file_number, path in enumerate(files, start=1):
        lines: list[str] = []
        size = 0
        for line in utf8_lines(path):
            size += len(line) + 1
            if size > TEXT_CHARACTERS:
                raise InputError(
                    f"{path}: is one document of more than {TEXT_CHARACTERS:,} characters; give "
                    "`document: line`, or smaller files"
                )
            lines.append(line)
        yield Document(str(file_number), "", "\n".join(lines))


class DatasetOptions(CorpusOptions):
    """Options of ``corpus dataset``."""

    dataset: str = Field(description="Id on the Hugging Face hub, or a folder or file.")
    configuration: str | None = Field(
        None, description="Configuration of the dataset, often a language."
    )
    split: str = Field(SPLIT, description="Split to read.")
    column: str = Field("text", description="Column that holds the text.")
    revision: Commit | None = Field(
        None, description="For a data set on the hub: the commit, 40 hexadecimal digits."
    )


def read_dataset(options: DatasetOptions) -> None:
    """Write the documents folder of a dataset, which is streamed."""
    name = options.dataset
    if not options.revision and not Path(name).exists():
        raise InputError(
            f"--dataset {name}: no such folder or file; of a data set on the hub, give the commit "
            "as --revision (40 hexadecimal digits), so that the same text is read next year"
        )
    report = Report(source=Path(name).name if Path(name).exists() else name)
    documents.write(options, progress(of_rows(options), "documents"), report)


def of_rows(options: DatasetOptions) -> Iterator[Document]:
    """Yield the rows of a dataset as documents; a row's id is its number.

    Raises InputError if the dataset, split or column does not exist, or a text is no string.
    """
    for number, row in enumerate(stream(options), start=1):
        if options.column not in row:
            columns = ", ".join(sorted(row))
            raise InputError(
                f"--column {options.column}: {options.dataset} has no such column; its columns "
                f"are {columns}"
            )
        text = row[options.column]
        if text is not None and not isinstance(text, str):
            raise InputError(
                f"{options.dataset}, row {number}: column {options.column} holds "
                f"{type(text).__name__}, expected text"
            )
        title = row.get("title")
        yield Document(str(number), title if isinstance(title, str) else "", text or "")


def stream(options: DatasetOptions) -> Iterator[dict[str, Any]]:
    """Yield the rows of the dataset as the library does; InputError where it cannot."""
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    disable_progress_bar()
    name, file = options.dataset, Path(options.dataset).absolute()
    # The library asks for the name of the folder, which "." has none of.
    where: dict[str, Any] = {"path": str(file) if file.is_dir() else name}
    if file.is_file():
        if options.split != SPLIT:
            raise InputError(
                f"--split {options.split}: {name} is one file, which is read whole; leave the "
                "split out, or give the file of that split"
            )
        where = {"path": str(file.parent), "data_files": {options.split: file.name}}
    # Of the library's own, which is below HOME: that may not be there, or not to be written.
    try:
        with work_folder(options.output) as cache:
            yield from load_dataset(
                **where,
                name=options.configuration,
                revision=options.revision,
                split=options.split,
                streaming=True,
                cache_dir=str(cache),
            )
    except StopIteration:
        raise InputError(f"--dataset {name}: a file of it has no row at all") from None
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise InputError(
            f"--dataset {name}: it is made by a script, which `datasets` no longer runs; give "
            "the commit of its branch refs/convert/parquet if the hub has converted it, another "
            "dataset with the same text, or its files as source: text"
        ) from None
    except (ValueError, OSError) as error:
        # datasets and the hub's client raise these for what they cannot find, reach or read.
        not_there = isinstance(error, EntryNotFoundError | RepositoryNotFoundError)
        if not not_there and isinstance(plain(error), Failure):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"--dataset {name}: {reason} (check --dataset, --configuration, --split, --revision)"
        ) from None


class MixtureOptions(Options):
    """Options of ``corpus mixture``."""

    documents: list[Path] = Field(min_length=1, description="Documents folders to put together.")
    weights: list[Annotated[float, Field(gt=0)]] = Field(
        [], description="Share of the text that each folder gets, in proportion to these."
    )
    alpha: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Instead of weights: in proportion to its characters to this power.",
    )
    output: Path = Field(description="Documents folder to write.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where the weights do not fit."""
        if self.weights and self.alpha is not None:
            yield (), "expected weights or alpha, and not both"
        if self.weights and len(self.weights) != len(self.documents):
            yield ("weights",), f"{len(self.weights)} given for {len(self.documents)} folders"


def mix(options: MixtureOptions) -> None:
    """Write several documents folders as one, in the given order; duplicates across them stay.

    With weights or alpha a folder's documents are taken as often as ``rates`` says: each so many
    whole times, and once more if a hash of the document is below the rest. An id gets the number of
    its folder in front, and that of the copy after the first: 2-1234, 2.2-1234.
    """
    reports = [read_json(folder / "report.json") for folder in options.documents]
    taken = rates([report["characters"] for report in reports], options.weights, options.alpha)
    sampled = bool(options.weights) or options.alpha is not None
    sources = [str(report["source"]) for report in reports]
    if sampled:
        sources = [f"{name} (x {rate:.2f})" for name, rate in zip(sources, taken, strict=True)]
    total = Report(source=" + ".join(sources))
    characters: Counter[str] = Counter()
    with atomic_dir(options.output) as output:
        with documents.open_for_writing(output) as file:
            for number, (folder, rate) in enumerate(
                zip(options.documents, taken, strict=True), start=1
            ):
                for line in progress(read_lines(folder / documents.FILE), f"folder {number}"):
                    if not line.startswith(ID_FIRST):
                        raise InputError(f'{folder}: expected lines that begin with {{"id": "...')
                    copies = copies_of(line, rate)
                    for copy in range(1, copies + 1):
                        name = f"{number}-" if copy == 1 else f"{number}.{copy}-"
                        file.write(ID_FIRST + name.encode() + line[len(ID_FIRST) :] + b"\n")
                    if sampled:
                        total.documents += copies
                        total.dropped[SAMPLING] = total.dropped.get(SAMPLING, 0) + (copies == 0)
                        for character, count in Counter(json.loads(line)["text"]).items():
                            characters[character] += copies * count
        for folder, report in zip(options.documents, reports, strict=True):
            total.pages += report["pages"]
            total.warnings += report["warnings"]
            for reason, count in report["dropped"].items():
                total.dropped[reason] = total.dropped.get(reason, 0) + count
            for part, count in report.get("dropped_parts", {}).items():
                total.dropped_parts[part] = total.dropped_parts.get(part, 0) + count
            if not sampled:
                total.documents += report["documents"]
                characters.update(read_as(folder / "characters.json", dict[str, int]))
        documents.finish(output, total, +characters)


def rates(sizes: list[int], weights: list[float], alpha: float | None) -> list[float]:
    """Return how often the documents of each corpus are taken: once without weights and alpha.

    With them the characters of the corpora are in proportion to the weights, or to ``size **
    alpha`` (0.3 in XLM-R), and in all as many as without; a small corpus is repeated.

    Args:
        sizes: the characters of each corpus.
        weights: a weight for each, or none.
        alpha: the power, or None.
    """
    if not weights and alpha is None:
        return [1.0] * len(sizes)
    wanted = weights or [size ** (alpha or 1.0) for size in sizes]
    share = sum(sizes) / sum(wanted)
    return [share * each / max(size, 1) for each, size in zip(wanted, sizes, strict=True)]


def copies_of(line: bytes, rate: float) -> int:
    """Return how often a document is taken; the same for a document without its id."""
    copies = int(rate)
    _, _, rest = line[len(ID_FIRST) :].partition(b'"')
    return copies + (xxhash.xxh3_64_intdigest(rest) < (rate - copies) * 2**64)
