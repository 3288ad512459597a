"""Articles of a MediaWiki dump as documents.

WikiExtractor (AGPL) runs as its own program: the decompressed and checked dump goes into its
standard input, its articles come line by line out of its standard output, so that nothing but the
result touches the disk and memory stays constant.
"""

import codecs
import contextlib
import html
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import regex
from pydantic import Field

from eliquare.corpus import documents
from eliquare.corpus.documents import CorpusOptions, Document, Report, read_blocks, read_lines
from eliquare.io import InputError, progress

PROGRAM = [sys.executable, "-m", "wikiextractor.WikiExtractor"]


class DumpOptions(CorpusOptions):
    """Options of ``corpus documents``."""

    dump: Path = Field(
        description="Dump (pages-articles): .xml, .xml.bz2, .xml.gz, .xml.xz or .xml.zst."
    )
    expand_templates: bool = Field(
        False,
        description="Expand templates, which takes a second pass and much longer; by default they "
        "are dropped.",
    )


def extract(options: DumpOptions) -> None:
    """Write the documents folder of a dump."""
    report = Report(source=options.dump.name)
    # WikiExtractor needs most of the time; two processes of it keep one of ours busy.
    ours = options.model_copy(update={"processes": max(options.processes // 2, 1)})
    with contextlib.closing(articles(options, report)) as lines:
        items = progress(lines, "documents", unit="articles")
        documents.write(ours, items, report, to_document, drop_lists=True)


def articles(options: DumpOptions, report: Report) -> Generator[bytes, None, None]:
    """Yield WikiExtractor's output lines, in the order of the dump.

    Adds redirects and pages of other namespaces to ``report``. Raises InputError if the dump
    cannot be used, and where WikiExtractor fails.
    """
    dump = options.dump
    arguments = ["--json", "-q", "-o", "-", "--processes", str(options.processes)]
    with tempfile.TemporaryDirectory(prefix="eliquare-") as folder:
        if options.expand_templates:
            definitions = Path(folder) / "templates.xml"
            save_templates(dump, definitions)
            arguments += ["--templates", str(definitions)]
        else:
            arguments += ["--no-templates"]
        checked = CheckedDump(dump)
        count = 0
        for line in through_program([*PROGRAM, "/dev/stdin", *arguments], checked):
            count += 1
            yield line
    report.pages += checked.redirects + checked.other_namespaces
    report.dropped["redirect"] += checked.redirects
    report.dropped["other_namespace"] += checked.other_namespaces
    if not checked.closed:
        cut = checked.opened_pages - checked.pages
        report.warn(
            f"{dump}: ends without </mediawiki>; its {checked.pages:,} complete pages are used, "
            f"{cut} truncated page(s) left out"
        )
    if missing := checked.pages - checked.redirects - checked.other_namespaces - count:
        report.warn(f"{dump}: WikiExtractor returned {missing:,} articles fewer than there are")


def to_document(line: bytes) -> Document:
    """Return the document in one line of WikiExtractor's output."""
    article = json.loads(line)
    return Document(article["id"], article["title"], clean(article["text"]))


# The program beside us.


def through_program(command: list[str], blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Feed blocks to a program's input and yield its output's lines; errors of both are raised."""
    program = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that its workers can be stopped with it
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": ""},
    )
    stdin, stdout, stderr = program.stdin, program.stdout, program.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None
    problems: list[Exception] = []
    last = "no message"

    def kill() -> None:
        """End the program and its workers, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()

    def feed() -> None:
        """Write the blocks to the program; if one cannot be had, remember why and stop it."""
        try:
            for block in blocks:
                stdin.write(block)
            stdin.close()
        except (BrokenPipeError, ValueError):
            pass  # the program ended or was stopped: whoever reads its output says why
        except Exception as problem:
            problems.append(problem)
            kill()

    def listen() -> None:
        """Remember the program's last error; end it after a traceback.

        A worker of WikiExtractor that dies leaves the others waiting for ever, and its traceback
        is the only sign.
        """
        nonlocal last
        in_traceback = False
        for raw in filter(bytes.strip, stderr):
            last = raw.decode(errors="replace").rstrip()
            if in_traceback and not last.startswith(" "):
                problems.append(InputError(f"WikiExtractor failed: {last}"))
                kill()
                return
            in_traceback = in_traceback or last.startswith("Traceback")

    threads = [threading.Thread(target=each, daemon=True) for each in (feed, listen)]
    for thread in threads:
        thread.start()
    try:
        yield from stdout
        for thread in threads:
            thread.join()
        if program.wait() and not problems:
            code = program.returncode
            problems.append(InputError(f"WikiExtractor failed with exit code {code}: {last}"))
        if problems:
            raise problems[0]
    finally:
        kill()


# The XML, checked and counted as it streams by.

# A wiki's text is escaped inside the XML, so whatever looks like one of these tags is one.
TAG = re.compile(rb"<page>|</page>|</mediawiki>|<ns>(-?\d+)</ns>|<redirect\b")
START = re.compile(rb"\s*(<\?xml[^>]*>)?\s*(<!--.*?-->\s*)*<mediawiki", re.DOTALL)
NAMESPACE_10 = re.compile(rb"<ns>10</ns>")
HEADER_BYTES = 1 << 16


class CheckedDump:
    """Iterates over the bytes of a dump and counts its pages; a dump of no use raises InputError.

    Attributes:
        pages: Complete pages.
        opened_pages: Pages that begin; one more than ``pages`` if the dump is truncated.
        redirects: Articles that only lead to another one.
        other_namespaces: Pages that are no articles (talk, templates, categories, ...).
        closed: Whether ``</mediawiki>`` was seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pages = self.opened_pages = self.redirects = self.other_namespaces = 0
        self.closed = False
        self._namespace: bytes | None = None
        self._redirect = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield blocks of complete lines; the rest of a truncated last line is not passed on."""
        blocks = read_blocks(self.path)
        rest = b""
        for block in blocks:
            rest += block
            if len(rest) >= HEADER_BYTES or b"</siteinfo>" in rest:
                break
        rest = rest.removeprefix(codecs.BOM_UTF8)
        if not START.match(rest) or b"</siteinfo>" not in rest.partition(b"<page>")[0]:
            raise InputError(
                f"{self.path}: is not a MediaWiki dump: expected pages-articles, XML in UTF-8 that "
                "begins with <mediawiki and has a <siteinfo> before its pages"
            )
        for block in itertools.chain([b""], blocks):
            rest += block
            end = rest.rfind(b"\n") + 1
            yield self._checked(rest[:end])
            rest = rest[end:]
        if b"</page>" in rest or b"</mediawiki>" in rest:
            yield self._checked(rest)

    def _checked(self, block: bytes) -> bytes:
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}: is not UTF-8 throughout, as dumps are; fetch it again"
            ) from None
        for match in TAG.finditer(block):
            tag = match[0]
            if tag == b"<page>":
                self.opened_pages += 1
                self._namespace, self._redirect = None, False
            elif tag == b"</mediawiki>":
                self.closed = True
            elif tag == b"<redirect":
                self._redirect = True
            elif tag != b"</page>":
                self._namespace = match[1]
            elif self._namespace is None:
                raise InputError(
                    f"{self.path}: page {self.opened_pages} has no <ns>, which says whether it is "
                    "an article; fetch a newer dump"
                )
            else:
                self.pages += 1
                self.other_namespaces += self._namespace != b"0"
                self.redirects += self._namespace == b"0" and self._redirect
        return block


def save_templates(dump: Path, path: Path) -> None:
    """Copy the dump's template pages to a file that WikiExtractor reads with ``--templates``."""
    page: list[bytes] = []
    with path.open("wb") as file:
        for line in read_lines(dump):
            if line.strip() == b"<page>":
                page = []
            page.append(line + b"\n")
            if line.strip() == b"</page>":
                if any(map(NAMESPACE_10.search, page[:4])):
                    file.writelines(page)
                page = []


# The text of an article without what WikiExtractor leaves behind.

# What to replace, by what, in texts that hold one of these; most texts hold none.
RULES = [
    (regex.compile(pattern, regex.MULTILINE), new, signs)
    for signs, pattern, new in [
        # Placeholders for formulas and code are words of no language.
        (("formula_", "codice_"), r"(?<![A-Za-z0-9_])(?:formula|codice)_\d+", ""),
        # HTML that was never closed in the article.
        (
            ("<",),
            r"</?(?:table|tr|td|th|div|span|font|center|br|hr|p|b|i|u|s|big|small|sub|sup|ref"
            r"|nowiki|noinclude|includeonly|onlyinclude|gallery|blockquote|li|ul|ol|dl|dd|dt|code"
            r"|tt)\b[^<>\n]*>",
            " ",
        ),
        # Links and files that were never closed, or closed once too often.
        (("[[",), r"\[\[[^\[\]|\n]*:[^\[\]|\n]*\.\w{3,4}(?:\|[^\[\]\n]*)?(?:\]\]|$)", ""),
        (("[[",), r"\[\[(?:[^\[\]|\n]*\|)?([^\[\]|\n]*)\]\]", r"\1"),
        # Brackets that a dropped template has emptied: "(, )", and the start of "(; 1650)".
        (("(", "（"), r"([（(])\s*[,;:、，；]+(?:\s*[,;:、，；])*\s*", r"\1"),
        ((")", "）"), r"(?<=\w)\s*[,;、，；]+\s*(?=[)）])", ""),
        # ASCII "()" straight after a word is a function call.
        (("(", "（"), r"（\s*）|(?<![^\s\p{P}])\(\s*(?:\(\s*\)\s*)*\)", ""),
        (("  ", " \u00a0"), r" +(?=[ \u00a0])", ""),
        ((" ,", " .", " ;", " :", " !", " ?", " )"), r" +(?=[,.;:!?)](?:\s|$))", ""),
    ]
]
TABLE_STARTS = ("{|", "|", "!")
TABLE_LINE = regex.compile(r"\s*(?:\{\||\|[-}+]|[|!](?!=)).*")


def clean(extracted: str) -> str:
    """Return clean text: entities as characters, no emptied brackets, no remains of markup."""
    text = html.unescape(extracted).replace("\r", "")
    for pattern, new, signs in RULES:
        if any(sign in text for sign in signs):
            text = pattern.sub(new, text)
    lines = (line.strip() for line in text.split("\n"))
    return "\n".join(
        line
        for line in lines
        if line and not (line.startswith(TABLE_STARTS) and TABLE_LINE.fullmatch(line))
    )
