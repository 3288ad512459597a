"""A Hugging Face dataset as documents, streamed."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eliquare import stage
from eliquare.corpus import documents
from eliquare.corpus.documents import Document, Report
from eliquare.stage import InputError

VERSION = 1

READERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--dataset",
        required=True,
        help="id on the Hugging Face hub, or a local folder or file (.jsonl, .csv, .parquet)",
    )
    options.add_argument("--configuration", help="configuration of the dataset, often a language")
    options.add_argument("--split", default="train", help="split to read (default %(default)s)")
    options.add_argument(
        "--column", default="text", help="column that holds the text (default %(default)s)"
    )
    options.add_argument("--revision", help="commit, tag or branch on the hub (default: newest)")
    documents.add_filter_options(options)
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write the documents folder of a dataset."""
    name = arguments.dataset
    report = Report(source=name if not Path(name).exists() else Path(name).name)
    found = rows(
        name, arguments.configuration, arguments.split, arguments.column, arguments.revision
    )
    documents.write(
        arguments.output,
        stage.progress(found, "documents"),
        report,
        documents.chosen_filter(arguments, lists=False),
        processes=arguments.processes,
        min_documents=arguments.min_documents,
        max_documents=arguments.max_documents,
    )


def rows(
    name: str, configuration: str | None, split: str, column: str, revision: str | None
) -> Iterator[Document]:
    """The rows of a dataset as documents; a row's id is its number, an empty text stays empty.

    Raises InputError if the dataset, split or column does not exist, or a text is no string.
    """
    for number, row in enumerate(_stream(name, configuration, split, revision), start=1):
        if column not in row:
            columns = ", ".join(sorted(row))
            raise InputError(
                f"--column {column}: {name} has no such column; its columns are {columns}"
            )
        text = row[column]
        if text is not None and not isinstance(text, str):
            raise InputError(
                f"{name}, row {number}: column {column} holds {type(text).__name__}, expected text"
            )
        title = row.get("title")
        yield Document(str(number), title if isinstance(title, str) else "", text or "")


def _stream(
    name: str, configuration: str | None, split: str, revision: str | None
) -> Iterator[dict[str, Any]]:
    # Imported here: worker processes import this module, and need none of it.
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    where: dict[str, Any] = {"path": name, "revision": revision}
    if Path(name).is_file():
        reader = READERS.get(Path(name).suffix)
        if reader is None:
            raise InputError(f"--dataset {name}: expected one of {', '.join(READERS)}")
        where = {"path": reader, "data_files": {split: name}}
    try:
        yield from load_dataset(**where, name=configuration, split=split, streaming=True)
    except (ValueError, OSError) as error:
        # datasets and the hub's client raise these for what they cannot find, reach or read.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"--dataset {name}: {reason} (check --dataset, --configuration, --split, --revision)"
        ) from None


if __name__ == "__main__":
    stage.main(parser(), run)
