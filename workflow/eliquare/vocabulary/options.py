"""Command-line options that several stages of this room share."""

import argparse
from pathlib import Path

from eliquare.stage import InputError

HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin"]


def named_file(text: str) -> tuple[str, str]:
    """NAME=FILE as a pair."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=FILE")
    return name, path


def add_texts(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add --sample and --task: the texts on which two models are compared."""
    parser.add_argument(
        "--sample",
        required=required,
        help="documents folder, or a text file with one text a line: what the models are compared "
        "on",
    )
    add_tasks(parser, "compare on too")


def add_measured_texts(parser: argparse.ArgumentParser, documents: int) -> None:
    """Add --documents, --sample (so many by default) and --task: the texts that are measured."""
    parser.add_argument("--documents", required=True, help="documents folder of the corpus")
    parser.add_argument(
        "--sample",
        type=int,
        default=documents,
        help="documents of the corpus to measure, spread over it (default %(default)s)",
    )
    add_tasks(parser, "measure")


def add_tasks(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add --task, which may be repeated."""
    parser.add_argument(
        "--task",
        action="append",
        type=named_file,
        default=[],
        metavar="NAME=FILE",
        help=f"task file to {purpose} (.conllu, .csv, .tsv, .jsonl, or lines); may be repeated",
    )


def local_folder(model: str | Path) -> Path:
    """The folder itself, or that of a hub id once it is fetched; raises InputError for neither."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(model), allow_patterns=HUB_FILES))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{model}: neither a folder nor a model that can be fetched ({reason})"
        ) from None
