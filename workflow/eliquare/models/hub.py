"""Fetch models: from a hub at one commit, or from a folder, checked and complete.

    eliquare models fetch --model HUB_ID_OR_FOLDER --revision COMMIT --output FOLDER

A teacher is loaded and saved anew, so that every later stage reads one weight format and a fast
tokenizer. ``--any-model`` copies the files as they are, for systems that are only compared; without
a revision the newest commit is taken, and recorded in ``provenance.json``.
"""

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from eliquare.cli import Options
from eliquare.config.base import Problem
from eliquare.config.model import Pooling
from eliquare.io import (
    Failure,
    InputError,
    atomic_dir,
    or_unavailable,
    provenance,
    read_json,
    write_json,
)

TERMS = ("README.md", "LICENSE*")
FILES = (*TERMS, "*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin")
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class FetchOptions(Options):
    """Options of ``models fetch``."""

    model: str = Field(description="Hub id, or a folder.")
    revision: str | None = Field(
        None, description="For a hub id: the commit, 40 hexadecimal digits."
    )
    any_model: bool = Field(
        False, description="Take models without an MLM head too; they cannot be teachers."
    )
    pooling: Pooling | None = Field(
        None, description="Of a sentence encoder, which has no MLM head: how it pools."
    )
    normalize: bool = Field(True, description="With pooling: embeddings have the length 1.")
    prompts: dict[str, str] = Field({}, description="With pooling: texts before a text, as JSON.")
    allow_unavailable: bool = Field(
        False, description="Of a model that is not there, write why, and succeed."
    )
    output: Path = Field(description="Folder to make.")

    def problems(self) -> Iterator[Problem]:
        """Yield what is said of a sentence encoder where none is made."""
        if self.revision and Path(self.model).is_dir():
            yield ("revision",), "this is of a hub's model, and the model is a folder; remove it"
        if self.pooling and self.any_model:
            yield ("pooling",), "any model is taken as it is; leave one of the two out"
        if not self.pooling and not self.normalize:
            yield ("normalize",), "this is of a sentence encoder; give its pooling too"
        if not self.pooling and self.prompts:
            yield ("prompts",), "this is of a sentence encoder; give its pooling too"


def fetch(options: FetchOptions) -> None:
    """Copy or download a model; one that is to teach must have an MLM head."""
    with or_unavailable(options.output, options.allow_unavailable):
        fetch_available(options)


def fetch_available(options: FetchOptions) -> None:
    """Copy or download a model; raise InputError where it is not there, or does not load."""
    from eliquare.corpus.tokenization import SpecialTokens
    from eliquare.models.loading import (
        load_config,
        load_fast_tokenizer,
        load_masked_lm,
        load_model,
        load_tokenizer,
        quiet,
    )
    from eliquare.models.sentence import (
        Sentence,
        copy_sentence_files,
        read_length,
        read_prompts,
        require_pooling,
        write_sentence,
    )

    quiet()
    is_folder = Path(options.model).is_dir()
    needs_commit = options.revision is not None or not options.any_model
    if not is_folder and needs_commit and not COMMIT.fullmatch(options.revision or ""):
        raise InputError(
            f"{options.model}: no such folder; for a hub id, give the commit as revision (40 "
            "hexadecimal digits), so that the same model is fetched next year; found "
            f"{options.revision!r}"
        )
    source = local_folder(options.model, options.revision)
    refuse_links_outside(source)
    settings = {
        # The path of a folder means nothing on another machine; its content is in the checksum.
        "model": Path(options.model).resolve().name if is_folder else options.model,
        # The hub's cache has a folder for each commit.
        "revision": None if is_folder else source.name,
    }
    with atomic_dir(options.output) as partial:
        if options.any_model:
            load_config(source)
            load_fast_tokenizer(source)
            copy_files(source, FILES, partial)
            copy_sentence_files(source, partial)
        else:
            model: Any
            if options.pooling:
                backend = load_fast_tokenizer(source).backend_tokenizer
                has_first = bool(SpecialTokens.of(backend).prefix)
                require_pooling(source, options.pooling, has_first)
                model = load_model(source, "float32").base_model
                # What the folder says besides stays, also where its pooling is not known here.
                prompt = read_prompts(source).default_prompt_name
                sentence = Sentence(
                    options.pooling,
                    options.normalize,
                    options.prompts,
                    prompt if prompt in options.prompts else None,
                    read_length(source),
                )
                write_sentence(partial, sentence, model.config.hidden_size)
            else:
                model = load_masked_lm(source)
            model.save_pretrained(partial)
            load_tokenizer(source).save_pretrained(partial)
            copy_files(source, TERMS, partial)
        write_json(partial / "provenance.json", provenance(settings, {"model": source}))


def local_folder(model: str | Path, revision: str | None = None) -> Path:
    """Return a model's folder: the one given, or that of a hub id in the hub's cache.

    A download that broke off goes on.

    Raises:
        InputError: neither a folder nor the id of a model on the hub.
        Failure: the hub does not answer.
    """
    if Path(model).is_dir():
        return Path(model)
    if Path(model).is_file():
        raise InputError(f"{model}: is a file; give the folder of a model, or an id on the hub")
    if not HUB_ID.fullmatch(str(model)):
        raise InputError(f"{model}: there is no such folder; put the model's files into it")
    from huggingface_hub import snapshot_download

    with plain_errors(str(model), "model", revision, "put its files into a folder of this name"):
        folder = Path(snapshot_download(str(model), revision=revision, allow_patterns=list(FILES)))
    for file in sorted(folder.rglob("*")):
        check_cached(file)
    return folder


def check_cached(file: Path) -> None:
    """Raise InputError for a file of the hub's cache that is not what the commit's checksum says.

    The cache calls each file by its checksum at the hub: a large one by its SHA-256, any other by
    its SHA-1 as git takes it. A cache without links does not know them.
    """
    blob = file.resolve()
    if not file.is_symlink() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return
    with blob.open("rb") as content:
        if len(blob.name) == 64:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        else:
            digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
            while block := content.read(1 << 20):
                digest.update(block)
            found = digest.hexdigest()
    if found != blob.name:
        raise InputError(
            f"{file}: damaged or changed (checksum {found[:12]}…, the hub says {blob.name[:12]}…); "
            f"delete {blob} and run the same command again"
        )


def refuse_links_outside(folder: Path) -> None:
    """Raise InputError for links in a model folder to files elsewhere: they would be copied.

    Those of the hub's own cache, to its blobs, are in order.
    """
    inside = folder.resolve()
    allowed = (inside, inside.parent.parent / "blobs")
    lines = [
        f"{file}: a link to {file.resolve()}, outside of the folder; put the file itself there"
        for file in sorted(folder.rglob("[!.]*"))
        if not any(file.resolve().is_relative_to(place) for place in allowed)
    ]
    if lines:
        raise InputError("\n".join(lines))


def name_of(model: str | Path, folder: Path) -> str:
    """Return the name of a model for people: its id on the hub, or that of its folder.

    Args:
        model: What was asked for, an id or a folder.
        folder: Where it is; what fetched it there has recorded its id.
    """
    if not Path(model).exists():
        return str(model)
    record = folder / "provenance.json"
    settings = read_json(record).get("settings", {}) if record.exists() else {}
    return str(settings.get("model") or folder.resolve().name)


@contextlib.contextmanager
def plain_errors(address: str, kind: str, revision: str | None, otherwise: str) -> Iterator[None]:
    """Raise InputError for what is not on the hub, and Failure for a fault of the moment.

    Args:
        address: What is asked for.
        kind: What it is, "model" or "data set".
        revision: The revision that is asked for.
        otherwise: What can be done where the hub does not answer.
    """
    from huggingface_hub import errors

    refused: dict[type[Exception], str] = {
        errors.GatedRepoError: (
            "its authors ask for a log-in; accept their terms there, and run `hf auth login`"
        ),
        errors.RevisionNotFoundError: f"it has no revision {revision!r}",
        errors.RepositoryNotFoundError: f"no such {kind} on the hub, or a private one",
        errors.DisabledRepoError: f"the hub has withdrawn this {kind}",
        errors.RemoteEntryNotFoundError: "a file of it is not there",
        errors.HFValidationError: f"no id of a {kind}",
    }
    # The first base of the hub's errors is that of all faults of a connection.
    connection: tuple[type[Exception], ...] = errors.HfHubHTTPError.__bases__[:1]
    faults: tuple[type[Exception], ...] = (*connection, OSError, ValueError)
    try:
        yield
    except tuple(refused) as error:
        said = next(refused[kind] for kind in refused if isinstance(error, kind))
        raise InputError(f"{address}: {said}") from None
    except faults as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Failure(
            f"{address}: cannot be fetched ({reason}); check the connection, or {otherwise}"
        ) from None


def copy_files(source: Path, patterns: Iterable[str], target: Path) -> None:
    """Copy the files at the top of ``source`` whose names match a pattern."""
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, target / path.name)
