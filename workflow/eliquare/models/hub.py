"""Fetch models: from a hub at a pinned commit, or from a folder, checked and complete.

    eliquare models fetch --model HUB_ID_OR_FOLDER --revision COMMIT --output FOLDER

A teacher is loaded and saved anew, so that every later stage reads one weight format and a fast
tokenizer. ``--any-model`` copies the files as they are, for systems that are only compared.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from eliquare.cli import Options
from eliquare.io import InputError, atomic_dir, provenance, write_json

TERMS = ("README.md", "LICENSE*")
FILES = (*TERMS, "*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin")
COMMIT = re.compile(r"[0-9a-f]{40}")


class FetchOptions(Options):
    """Options of ``models fetch``."""

    model: str = Field(description="Hub id, or a folder.")
    revision: str | None = Field(
        None, description="For a hub id: the commit, 40 hexadecimal digits."
    )
    any_model: bool = Field(
        False, description="Take models without an MLM head too; they cannot be teachers."
    )
    output: Path = Field(description="Folder to make.")


def fetch(options: FetchOptions) -> None:
    """Copy or download a model; one that is to teach must have an MLM head."""
    from eliquare.models.loading import load_masked_lm, load_tokenizer, quiet

    quiet()
    is_folder = Path(options.model).is_dir()
    if not is_folder and not COMMIT.fullmatch(options.revision or ""):
        raise InputError(
            f"{options.model}: no such folder; for a hub id, give the commit as revision (40 "
            "hexadecimal digits), so that the same model is fetched next year; found "
            f"{options.revision!r}"
        )
    source = local_folder(options.model, options.revision)
    settings = {
        # The path of a folder means nothing on another machine; its content is in the checksum.
        "model": Path(options.model).resolve().name if is_folder else options.model,
        "revision": None if is_folder else options.revision,
    }
    with atomic_dir(options.output) as partial:
        if options.any_model:
            copy_files(source, FILES, partial)
        else:
            load_masked_lm(source).save_pretrained(partial)
            load_tokenizer(source).save_pretrained(partial)
            copy_files(source, TERMS, partial)
        write_json(partial / "provenance.json", provenance(settings, {"model": source}))


def local_folder(model: str | Path, revision: str | None = None) -> Path:
    """Return a model's folder: the one given, or that of a hub id in the hub's cache.

    A download that broke off goes on.

    Raises:
        InputError: neither a folder nor a hub id that can be fetched.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model), revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at_revision = f"@{revision}" if revision else ""
        raise InputError(
            f"{model}{at_revision}: neither a folder nor a hub id that can be fetched "
            f"({str(error).strip().splitlines()[0]})"
        ) from None


def copy_files(source: Path, patterns: Iterable[str], target: Path) -> None:
    """Copy the files at the top of ``source`` whose names match a pattern."""
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, target / path.name)
