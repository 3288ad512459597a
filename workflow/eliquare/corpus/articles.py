"""Articles of a MediaWiki dump as documents.

WikiExtractor (AGPL) runs as its own program: the decompressed and checked dump goes into its
standard input, its articles come line by line out of its standard output, so that nothing but the
result touches the disk and memory stays constant.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from eliquare import stage
from eliquare.corpus import clean, documents, mediawiki
from eliquare.corpus.documents import Document, Report
from eliquare.stage import InputError

VERSION = 1

PROGRAM = [sys.executable, "-m", "wikiextractor.WikiExtractor"]


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--dump", required=True, help="pages-articles dump: .xml, .xml.bz2, .xml.gz or .xml.zst"
    )
    documents.add_filter_options(options, min_documents=10)
    options.add_argument(
        "--expand-templates",
        action="store_true",
        help="expand templates, which takes a second pass and much longer (default: drop them)",
    )
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write the documents folder of a dump."""
    report = Report(source=Path(arguments.dump).name)
    articles = extract(arguments.dump, report, arguments.processes, arguments.expand_templates)
    with contextlib.closing(articles):
        documents.write(
            arguments.output,
            stage.progress(articles, "articles"),
            report,
            documents.chosen_filter(arguments, lists=True),
            to_document=to_document,
            processes=arguments.processes,
            min_documents=arguments.min_documents,
            max_documents=arguments.max_documents,
        )


def to_document(line: bytes) -> Document:
    """The document in one line of WikiExtractor's output."""
    article = json.loads(line)
    return Document(article["id"], article["title"], clean.text(article["text"]))


def extract(dump: str | Path, report: Report, processes: int, templates: bool) -> Iterator[bytes]:
    """WikiExtractor's output lines, in the order of the dump.

    Adds redirects and pages of other namespaces to ``report``. Raises InputError if the dump
    cannot be used, and where WikiExtractor fails.
    """
    options = ["--json", "-q", "-o", "-", "--processes", str(max(processes, 1))]
    with tempfile.TemporaryDirectory(prefix="eliquare-") as folder:
        if templates:
            definitions = Path(folder) / "templates.xml"
            mediawiki.save_templates(dump, definitions)
            options += ["--templates", str(definitions)]
        else:
            options += ["--no-templates"]
        checked = mediawiki.CheckedDump(dump)
        articles = 0
        for line in _through_program([*PROGRAM, "/dev/stdin", *options], checked):
            articles += 1
            yield line
    report.pages += checked.redirects + checked.other_namespaces
    report.dropped["redirect"] += checked.redirects
    report.dropped["other_namespace"] += checked.other_namespaces
    if not checked.closed:
        cut = checked.opened_pages - checked.pages
        report.warn(
            f"{dump}: ends without </mediawiki>; its {checked.pages:,} whole pages are used, "
            f"{cut} cut page(s) left out"
        )
    if missing := checked.pages - checked.redirects - checked.other_namespaces - articles:
        report.warn(f"{dump}: WikiExtractor returned {missing:,} articles fewer than there are")


def _through_program(command: list[str], blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Feed blocks to a program's input and yield its output's lines; errors of both are raised."""
    program = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that its workers can be stopped with it
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": ""},
    )
    problems: list[Exception] = []
    complaints: list[str] = []
    threads = [
        threading.Thread(target=_feed, args=(program, blocks, problems), daemon=True),
        threading.Thread(target=_listen, args=(program, complaints, problems), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield from program.stdout
        for thread in threads:
            thread.join()
        if program.wait() and not problems:
            last = complaints[-1] if complaints else "no message"
            problems.append(
                InputError(f"WikiExtractor failed with exit code {program.returncode}: {last}")
            )
        if problems:
            raise problems[0]
    finally:
        _kill(program)


def _feed(program: subprocess.Popen, blocks: Iterator[bytes], problems: list) -> None:
    """Write blocks to the program; if one cannot be had, remember why and stop the program."""
    try:
        for block in blocks:
            program.stdin.write(block)
        program.stdin.close()
    except (BrokenPipeError, ValueError):
        return  # the program ended or was stopped: whoever reads its output says why
    except Exception as problem:
        problems.append(problem)
        _kill(program)


def _listen(program: subprocess.Popen, complaints: list[str], problems: list) -> None:
    """Keep the last lines of the program's errors.

    A worker of WikiExtractor that dies leaves the others waiting for ever; its traceback is the
    only sign, so that ends the program.
    """
    in_traceback = False
    for raw in program.stderr:
        line = raw.decode(errors="replace").rstrip()
        if not line:
            continue
        complaints[:] = [*complaints[-20:], line]
        if in_traceback and not line.startswith(" "):
            problems.append(InputError(f"WikiExtractor failed: {line}"))
            _kill(program)
            return
        in_traceback = in_traceback or line.startswith("Traceback")


def _kill(program: subprocess.Popen) -> None:
    """End the program and its workers, if they still run."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()


if __name__ == "__main__":
    stage.main(parser(), run)
