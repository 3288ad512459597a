"""Put a released model on the Hugging Face hub: a new repository, or a new commit of one.

    eliquare export push --model results/demo/models/small-sw --repository owner/name --dry-run

The card is read by huggingface_hub before anything is sent. The token is that of ``hf auth login``,
or of the variable HF_TOKEN; it is no option, since options stand in logs and in lists of processes.
``--dry-run`` needs no token and says what would go.
"""

import logging
from pathlib import Path
from typing import Any, NoReturn

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError
from pydantic import Field
from yaml import YAMLError

from eliquare import cli
from eliquare.faults import first_line
from eliquare.io import Failure, InputError, existing
from eliquare.models.hub import HUB_ID, refuse_links_outside

CARD = "README.md"
# Models of their own, each with its card.
NOT_SENT = "tasks"
# What stands for the model in the examples of a card.
THIS_FOLDER = "path/of/this/folder"
EXPECTED = ("pipeline_tag", "library_name")
REFUSALS = {
    400: "the hub refuses the card or a file",
    401: "the hub does not know this token; run `hf auth login` again",
    403: "this token may not write there; give one with the right to write",
    404: "no such repository, or this token may not see it",
    409: "this repository exists; choose another name, or add to it with --update",
}

logger = logging.getLogger(__name__)


class PushOptions(cli.Options):
    """Options of ``export push``."""

    model: Path = Field(description="Folder of a released model, with its card.")
    repository: str = Field(description="Where it goes, as owner/name.")
    licence: str | None = Field(
        None, description="Its licence, where the card names none, as apache-2.0."
    )
    private: bool = Field(False, description="Make a private repository.")
    update: bool = Field(False, description="Add a commit to a repository that exists.")
    dry_run: bool = Field(False, description="Say what would go, and send nothing.")


def push(options: PushOptions) -> None:
    """Check a released model's card, and put the model on the hub.

    Raises:
        InputError: the card cannot be used, there is no token, the repository exists, or the hub
            refuses.
        Failure: the hub does not answer.
    """
    check_name(options.repository)
    if options.update and options.private:
        raise InputError(
            "--update --private: a repository that exists stays as public as it is; remove one"
        )
    card = checked_card(options)
    refuse_links_outside(options.model)
    files = files_of(options.model)
    kind = "as it is" if options.update else "private" if options.private else "public"
    logger.info("%s: %s", options.repository, kind)
    for name, path in files.items():
        logger.info("  %s  %s bytes", name, f"{path.stat().st_size:,}")
    total = sum(path.stat().st_size for path in files.values())
    logger.info("%d files, %s bytes", len(files), f"{total:,}")
    if (options.model / NOT_SENT).exists():
        logger.info("%s/ stays here: push each model in it to a repository", NOT_SENT)
    if options.dry_run:
        logger.info("card:\n%s", card.data.to_yaml())
        logger.info("a dry run: nothing was sent")
        return
    token = get_token()
    if not token:
        raise InputError("no token: run `hf auth login`, or set the variable HF_TOKEN")
    operations = [
        CommitOperationAdd(name, str(card).encode() if name == CARD else path)
        for name, path in files.items()
    ]
    # At the time of the call, so that HF_ENDPOINT names another hub.
    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    try:
        if not options.update:
            api.create_repo(options.repository, private=options.private)
        made = api.create_commit(options.repository, operations, commit_message="Add the model")
    except Exception as error:
        refuse(options.repository, error)
    logger.info("%s", made.commit_url)


def check_name(repository: str) -> None:
    """Raise InputError for what is no owner/name."""
    if not HUB_ID.fullmatch(repository) or "/" not in repository:
        raise InputError("--repository: expected owner/name, of letters, digits, '-', '_' and '.'")


def checked_card(options: PushOptions) -> ModelCard:
    """Return the card as it is sent: with a licence, and the repository in its examples.

    Raises:
        InputError: there is no card, its head is none, or it lacks what a hub shows.
    """
    path = existing(options.model / CARD, "card; expected the folder of a released model")
    try:
        card: ModelCard = ModelCard.load(path)
        card.data.to_yaml()
    except (ValueError, KeyError, TypeError, YAMLError) as error:
        raise InputError(f"{path}: no card of a model ({first_line(error)})") from None
    data: Any = card.data
    if lacking := [key for key in EXPECTED if not data.get(key)]:
        raise InputError(f"{path}: its head has no {', '.join(lacking)}; release the model again")
    if options.licence and data.license not in (None, options.licence):
        raise InputError(f"--licence {options.licence}: {path} says {data.license}")
    data.license = data.license or options.licence
    if not data.license:
        raise InputError(
            f"{path}: names no licence, since the teacher's card has none; give --licence, which "
            "the terms of teacher and text must allow"
        )
    for name in (options.model.resolve().name, THIS_FOLDER):
        card.text = card.text.replace(f'"{name}"', f'"{options.repository}"')
    return card


def files_of(model: Path) -> dict[str, Path]:
    """Return the files that are sent, by their names in the repository."""
    found = {path.relative_to(model): path for path in sorted(model.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if name.parts[0] != NOT_SENT and not any(part.startswith(".") for part in name.parts)
    }


def refuse(repository: str, error: Exception) -> NoReturn:
    """Raise what is to be said of an error of the hub; a fault of the program stays one."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in REFUSALS:
            said = first_line(error) if status == 400 else REFUSALS[status]
            raise InputError(f"{repository}: {said}") from None
        raise Failure(f"{repository}: the hub answers with {status}; try again later") from None
    # The first base of the hub's errors is that of all faults of a connection.
    if isinstance(error, (*HfHubHTTPError.__bases__[:1], OSError)):
        raise Failure(f"{repository}: the hub cannot be reached ({first_line(error)})") from None
    if isinstance(error, ValueError):
        raise InputError(f"{repository}: {REFUSALS[400]} ({first_line(error)})") from None
    raise error
