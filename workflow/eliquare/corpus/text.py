"""Plain text files as documents, one a line or one a file; .gz, .bz2 and .zst too."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from eliquare import stage
from eliquare.corpus import compressed, documents
from eliquare.corpus.documents import Document, Report
from eliquare.stage import InputError

VERSION = 1

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--file",
        required=True,
        nargs="+",
        action="extend",
        help="text files in UTF-8, plain or .gz, .bz2, .zst",
    )
    options.add_argument(
        "--document",
        required=True,
        choices=["line", "file"],
        help="what one document is: a line, or a file",
    )
    documents.add_filter_options(options, min_characters=1)
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write the documents folder of text files."""
    for file in arguments.file:
        stage.existing(file, "text file")
    report = Report(source=", ".join(Path(file).name for file in arguments.file))
    whole = arguments.document == "file"
    found = of_files(arguments.file) if whole else of_lines(arguments.file)
    documents.write(
        arguments.output,
        stage.progress(found, "documents"),
        report,
        documents.chosen_filter(arguments, lists=False),
        processes=arguments.processes,
        min_documents=arguments.min_documents,
        max_documents=arguments.max_documents,
    )


def of_lines(files: list[str]) -> Iterator[Document]:
    """A document for each line that is not blank; its id is the file's number and the line's."""
    for file_number, file in enumerate(files, start=1):
        for number, line in enumerate(utf8_lines(file), start=1):
            if line.strip():
                yield Document(f"{file_number}-{number}", "", line)


def of_files(files: list[str]) -> Iterator[Document]:
    """A document for each file; its id is the file's number, its title the file's name."""
    for file_number, file in enumerate(files, start=1):
        yield Document(str(file_number), Path(file).name, "\n".join(utf8_lines(file)))


def utf8_lines(file: str | Path) -> Iterator[str]:
    """The lines of a UTF-8 file; InputError names the line and byte that are not UTF-8."""
    for number, line in enumerate(compressed.lines(file), start=1):
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise InputError(
                    f"{file}: is UTF-16; expected UTF-8: convert it with iconv -f UTF-16 -t UTF-8"
                )
            line = line.removeprefix(BYTE_ORDER_MARK)
        try:
            yield line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file}, line {number}, byte {error.start + 1}: not UTF-8 "
                f"({error.reason}); convert the file with iconv"
            ) from None


if __name__ == "__main__":
    stage.main(parser(), run)
