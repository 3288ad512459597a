"""Several documents folders as one, in the given order; duplicates across them stay."""

import argparse
from collections import Counter
from pathlib import Path

import zstandard

from eliquare import stage
from eliquare.corpus import compressed, documents
from eliquare.corpus.documents import Report
from eliquare.stage import InputError

VERSION = 1

ID_FIRST = b'{"id": "'


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--documents",
        required=True,
        nargs="+",
        action="extend",
        help="documents folders to put together",
    )
    options.add_argument("--output", required=True, help="documents folder to write")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write one documents folder; an id gets the number of its folder in front: 2-1234."""
    reports = [stage.read_json(Path(folder) / "report.json") for folder in arguments.documents]
    total = Report(source=" + ".join(str(report["source"]) for report in reports))
    characters: Counter[str] = Counter()
    with stage.whole_folder(arguments.output) as beside:
        with (
            (beside / documents.FILE).open("wb") as file,
            zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file) as out,
        ):
            for number, folder in enumerate(arguments.documents, start=1):
                path = stage.existing(Path(folder) / documents.FILE, "documents file")
                prefix = ID_FIRST + f"{number}-".encode()
                for line in stage.progress(compressed.lines(path), f"folder {number}"):
                    if not line.startswith(ID_FIRST):
                        raise InputError(f'{path}: expected lines that begin with {{"id": "...')
                    out.write(prefix + line[len(ID_FIRST) :] + b"\n")
                characters.update(stage.read_json(Path(folder) / "characters.json"))
        for report in reports:
            total.pages += report["pages"]
            total.documents += report["documents"]
            total.warnings += report["warnings"]
            for reason, count in report["dropped"].items():
                total.dropped[reason] = total.dropped.get(reason, 0) + count
        documents.finish(beside, total, characters)
    stage.say(f"{total.source}: {total.summary()}")


if __name__ == "__main__":
    stage.main(parser(), run)
