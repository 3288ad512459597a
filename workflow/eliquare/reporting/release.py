"""Put a student together for others: its files, its model card, where it came from.

The files are hard links where the file system allows it: a release takes no room of its own.
"""

import argparse
import os
import shutil
from pathlib import Path

from eliquare import stage
from eliquare.reporting import results
from eliquare.reporting.card import card

VERSION = 1

WRITTEN_HERE = ("README.md", "provenance.json")


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that cannot be done."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def check_loads(folder: Path) -> None:
    """Raise InputError unless transformers alone loads the folder and fills a mask with it."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForMaskedLM.from_pretrained(folder)
        fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
        fill(tokenizer.mask_token)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise stage.InputError(
            f"{folder}: transformers cannot fill a mask with it ({reason})"
        ) from error


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m eliquare.reporting.release", description=__doc__
    )
    options.add_argument("--settings", required=True, type=Path, help="completed settings (JSON)")
    options.add_argument("--results", required=True, type=Path, help="folder of all results")
    options.add_argument("--system", required=True, help="name of the student")
    options.add_argument("--language", required=True, help="language code")
    options.add_argument("--model", required=True, type=Path, help="model folder of the student")
    options.add_argument("--output", required=True, type=Path, help="folder to make")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Check the model, link its files, add the card and the provenance."""
    experiment = results.read(arguments.settings, arguments.results)
    written = card(experiment, arguments.system, arguments.language)
    model = stage.existing(arguments.model, "model folder")
    check_loads(model)
    origin = model / "provenance.json"
    made = stage.read_json(origin) if origin.exists() else stage.provenance({}, {})
    release = {
        "experiment": experiment.name,
        "system": arguments.system,
        "language": arguments.language,
    }
    with stage.whole_folder(arguments.output) as folder:
        for file in sorted(model.iterdir()):
            if file.is_file() and not file.name.startswith(".") and file.name not in WRITTEN_HERE:
                link(file, folder / file.name)
        (folder / "README.md").write_text(written, encoding="utf-8")
        stage.write_json(folder / "provenance.json", {"release": release, **made})


if __name__ == "__main__":
    stage.main(parser(), run)
