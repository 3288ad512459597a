"""Share a reduced model as a recipe of some 100 KB, and make the same model of it elsewhere.

    eliquare export recipe --reduced FOLDER --base FOLDER --output recipe.json
    eliquare export rebuild --recipe recipe.json --output FOLDER

The recipe names the base model on a hub with its commit, the ids of the tokens that stay, and the
checksums of the files. A reduction trains nothing, so whoever has the base has the reduced model.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from eliquare import cli
from eliquare.config.base import Commit, matching
from eliquare.config.model import Pooling
from eliquare.io import (
    MARK,
    PROVENANCE_PACKAGES,
    Failure,
    InputError,
    atomic_dir,
    atomic_write,
    checksum,
    existing,
    provenance,
    read_as,
    read_json,
    work_folder,
    write_json,
)
from eliquare.models.hub import COMMIT, FetchOptions, fetch_available, local_folder
from eliquare.models.loading import load_fast_tokenizer, quiet
from eliquare.models.sentence import MODULES, read_sentence
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.reduce import write_reduced
from eliquare.vocabulary.select import read_vocabulary

FORMAT = 1
# Files that a reduction writes beside the model, and those that decide what a model answers.
BESIDE = {MARK, "vocabulary.csv", "verification.json", "provenance.json", "README.md"}
DECISIVE = ("*.safetensors", "pytorch_model*.bin", "tokenizer.json", "sentencepiece*", "vocab.txt")
MUST_BE_SAME = ("model.safetensors", "tokenizer.json")

logger = logging.getLogger(__name__)


class Provenance(BaseModel):
    """What is read of provenance.json."""

    settings: dict[str, Any] = {}
    inputs: dict[str, Any] = {}


class RecipeOptions(cli.Options):
    """Options of ``export recipe``."""

    reduced: Path = Field(description="Folder that `vocabulary reduce` made.")
    base: str = Field(
        description="The model that it was reduced from: the folder that `models fetch` made of a "
        "hub's model, or a hub id."
    )
    revision: str | None = Field(None, description="With a hub id: the commit.")
    output: Path = Field(description="Recipe to write (JSON).")


class RebuildOptions(cli.Options):
    """Options of ``export rebuild``."""

    recipe: Path = Field(description="The recipe.")
    base: Path | None = Field(
        None, description="Folder of the base model; by default it is fetched from the hub."
    )
    output: Path = Field(description="Model folder to make.")


# Writing


def write(options: RecipeOptions) -> None:
    """Write the recipe of a reduced model."""
    quiet()
    base, reduced = local_folder(options.base, options.revision), options.reduced
    tokens = tokenizer_json.list_tokens(tokenizer_json.describe(load_fast_tokenizer(base)), base)
    kept = sorted(read_vocabulary(reduced / "vocabulary.csv", tokens))
    made_of = read_as(reduced / "provenance.json", Provenance).inputs.get("model")
    if made_of != checksum(base):
        raise InputError(f"{reduced}: was not reduced from {options.base}, whose files differ")
    recipe = {
        "format": FORMAT,
        "base": origin(options, base) | {"files": decisive_files(base)},
        "tokens": len(kept),
        # The first id, then how much each is more than the one before: short numbers, on one line.
        "kept": " ".join(str(after - before) for before, after in itertools.pairwise([0, *kept])),
        "files": files_of(reduced),
        "versions": provenance({}, {})["versions"],
    }
    with atomic_write(options.output) as partial:
        write_json(partial, recipe)
    size = options.output.stat().st_size
    logger.info("%s: %s tokens in %s bytes", options.output, f"{len(kept):,}", f"{size:,}")


def origin(options: RecipeOptions, base: Path) -> dict[str, Any]:
    """Return where the base is on the hub, and how it was fetched.

    Raises:
        InputError: that is not known, or not with a commit.
    """
    path = base / "provenance.json"
    fetched = path.exists()
    said = read_as(path, Provenance).settings if fetched else {}
    model = said.get("model") if fetched else options.base
    revision = said.get("revision") if fetched else options.revision
    if not COMMIT.fullmatch(str(revision)):
        raise InputError(
            f"{options.base}: no commit of a hub is known for it, so nobody else could fetch it; "
            "give the folder that `models fetch --revision` made, or a hub id and --revision"
        )
    sentence = read_sentence(base) if fetched and (base / MODULES).exists() else None
    keys = ("pooling", "normalize", "prompts")
    pooling = {key: getattr(sentence, key) for key in keys} if sentence else None
    return {"model": model, "revision": revision, "fetched": fetched, "sentence": pooling}


def files_of(folder: Path) -> dict[str, str]:
    """Return the checksums of the files of a reduced model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: checksum(path) for name, path in names.items() if name not in BESIDE}


def decisive_files(folder: Path) -> dict[str, str]:
    """Return the checksums of a base model's weights and tokenizer."""
    found = {path for pattern in DECISIVE for path in folder.glob(pattern)}
    return {path.name: checksum(path) for path in sorted(found)}


# Rebuilding


class PoolingOf(BaseModel):
    """How a base that is a sentence encoder was fetched."""

    pooling: Pooling
    normalize: bool
    prompts: dict[str, str]


class Base(BaseModel):
    """The model that was reduced, as a recipe names it."""

    model: str
    revision: Commit
    fetched: bool
    sentence: PoolingOf | None
    files: dict[str, str]


Numbers = Annotated[
    str, matching(r"^[0-9]{1,9}( [1-9][0-9]{0,8})*$", "whole numbers with blanks between them")
]


class Recipe(BaseModel):
    """The content of a recipe."""

    base: Base
    kept: Numbers
    files: dict[str, str]
    versions: dict[str, str]


def rebuild(options: RebuildOptions) -> None:
    """Make a reduced model of its recipe: the same bytes.

    Raises:
        InputError: the recipe is none, or the base is another model or another revision.
        Failure: other weights or another tokenizer come out, with other versions of libraries.
    """
    quiet()
    recipe = read_recipe(options.recipe)
    kept = list(itertools.accumulate(map(int, recipe["kept"].split())))
    with base_folder(options, recipe["base"]) as base, atomic_dir(options.output) as partial:
        write_reduced(base, kept, partial)
        made, expected = files_of(partial), recipe["files"]
        other = sorted(name for name in expected if made.get(name) != expected[name])
        if wrong := [name for name in other if name in MUST_BE_SAME]:
            raise Failure(
                f"{options.recipe}: {', '.join(wrong)} came out otherwise than in the recipe, with "
                f"{versions(provenance({}, {}))} instead of {versions(recipe)}; nothing is written"
            )
        if other:
            line = "%s: written in other words by this version of the libraries: %s"
            logger.warning(line, options.output, ", ".join(other))
        settings = {"recipe": checksum(options.recipe), "base": recipe["base"]["model"]}
        made_of = provenance(settings, {"model": base})
        write_json(partial / "provenance.json", made_of)
    logger.info("%s: %s tokens, as the recipe says", options.output, f"{len(kept):,}")


def read_recipe(path: Path) -> dict[str, Any]:
    """Return a recipe; raise InputError if it is none, or of a later format."""
    recipe: dict[str, Any] = read_json(path)
    if not {"format", "base", "kept", "files"} <= recipe.keys():
        raise InputError(f"{path}: no recipe of `eliquare export recipe`")
    if recipe["format"] != FORMAT:
        raise InputError(f"{path}: has format {recipe['format']}; this version reads {FORMAT}")
    read_as(path, Recipe)
    if lacking := {*MUST_BE_SAME} - {*recipe["files"]}:
        raise InputError(f"{path}: files: has no checksum of {min(lacking)}")
    return recipe


@contextlib.contextmanager
def base_folder(options: RebuildOptions, base: dict[str, Any]) -> Iterator[Path]:
    """Yield the base model as it was when it was reduced.

    Raises:
        InputError: the folder holds another model, or another revision.
    """
    named = f"{base['model']} at {base['revision']}"
    if options.base is not None:
        path = existing(options.base, "folder of the base model") / "provenance.json"
        said = read_as(path, Provenance).settings.get("revision") if path.exists() else None
        if said not in (None, base["revision"]):
            raise InputError(f"{options.base}: is revision {said}, and the recipe is of {named}")
    source = options.base or local_folder(base["model"], base["revision"])
    with work_folder(options.output) as work:
        if base["fetched"] and decisive_files(source) != base["files"]:
            # As it is on the hub: `models fetch` writes it anew.
            fetched = work / "model"
            fetch_available(
                FetchOptions(model=str(source), output=fetched, **(base["sentence"] or {}))
            )
            source = fetched
        if decisive_files(source) != base["files"]:
            raise InputError(
                f"{options.base or named}: its files differ from those that were reduced; the "
                f"recipe is of {named}"
            )
        yield source


def versions(made: dict[str, Any]) -> str:
    """Return the versions of the libraries in words."""
    known = made["versions"]
    return ", ".join(f"{name} {known[name]}" for name in PROVENANCE_PACKAGES if name in known)
