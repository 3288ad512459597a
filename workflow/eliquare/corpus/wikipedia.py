"""Articles of a MediaWiki dump as documents.

The dump is read as a stream of pages, which worker processes turn into text: each has WikiExtractor
beside it (``extractor``), and repairs what that loses or leaves (``wikitext``). Memory stays
constant.
"""

import codecs
import html
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from eliquare.corpus import documents, wikitext
from eliquare.corpus.documents import (
    CorpusOptions,
    Document,
    Dropped,
    Read,
    Report,
    read_blocks,
)
from eliquare.corpus.extractor import Extractor, PageError, TooSlow
from eliquare.corpus.wikitext import Site
from eliquare.io import InputError, progress

# Why a page is no document, beside the reasons of all corpora.
TIME_LIMIT, SIZE_LIMIT, FAILED = "time_limit", "size_limit", "extraction_failed"
PAGE_BYTES = 1 << 24  # of XML; the longest pages that MediaWiki takes have 2 MiB of text


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
    pages = Pages(options.dump, report)
    templates: Path | None = None
    if options.expand_templates:
        templates = options.output.with_name(f".{options.output.name}.templates")
        templates.parent.mkdir(parents=True, exist_ok=True)
        save_templates(Pages(options.dump, Report(source="")), templates)
    try:
        items = progress(pages, "documents", unit="articles")
        documents.write(options, items, report, Reader(pages.site, templates), drop_lists=True)
    finally:
        close_extractors()
        if templates is not None:
            templates.unlink(missing_ok=True)


# A page becomes text.


class Page(NamedTuple):
    """A page of a dump, its title and text without XML's entities."""

    id: str
    title: str
    text: str
    namespace: str
    is_redirect: bool


@dataclass(frozen=True)
class Reader:
    """Reads the documents in pages; called in worker processes.

    Attributes:
        site: The wiki.
        templates: A file with the pages of templates to expand.
    """

    site: Site
    templates: Path | None

    def __call__(self, pages: Iterable[Page]) -> Iterator[Read]:
        """Yield the document of each page, or why there is none."""
        waiting: deque[tuple[Page, Counter[str]]] = deque()

        def simple() -> Iterator[tuple[str, str]]:
            for page in pages:
                expand = self.templates is not None
                text, dropped = wikitext.simplify(page.text, self.site, page.title, expand)
                waiting.append((page, dropped))
                # WikiExtractor takes a page for a template if its title begins so.
                title = page.title if expand else "-"
                yield f"{wikitext.ITEM * title.startswith(self.site.templates)}{title}", text

        for extracted in extractor(self).texts(simple()):
            page, dropped = waiting.popleft()
            if isinstance(extracted, TooSlow):
                yield dropped_page(page, TIME_LIMIT, f"WikiExtractor {extracted}")
            elif isinstance(extracted, PageError):
                yield dropped_page(page, FAILED, f"WikiExtractor failed: {extracted}")
            else:
                yield cleaned(page, extracted, dropped)


def cleaned(page: Page, extracted: str, dropped: Counter[str]) -> Read:
    """Return the document of WikiExtractor's text."""
    try:
        text = wikitext.clean(extracted, dropped)
    except TimeoutError:
        return dropped_page(page, TIME_LIMIT, "it took too long to clean")
    return Read(Document(page.id, page.title, text), dropped)


def dropped_page(page: Page, reason: str, words: str) -> Read:
    """Return that a page is dropped, with a line for people."""
    return Read(Dropped(reason, f"page {page.id} ({page.title}) is dropped: {words}"), {})


EXTRACTORS: dict[Reader, Extractor] = {}


def extractor(reader: Reader) -> Extractor:
    """Return this process's WikiExtractor."""
    if reader not in EXTRACTORS:
        of_templates = ["--templates", str(reader.templates)]
        arguments = of_templates if reader.templates else ["--no-templates"]
        EXTRACTORS[reader] = Extractor(reader.site.templates, arguments)
    return EXTRACTORS[reader]


def close_extractors() -> None:
    """End this process's programs; those of workers end with these."""
    while EXTRACTORS:
        EXTRACTORS.popitem()[1].close()


# The XML: pages, checked and counted as they stream by.

# A wiki's text is escaped inside the XML, so whatever looks like one of these tags is one.
START = re.compile(rb"\s*(<\?xml[^>]*>)?\s*(<!--.*?-->\s*)*<mediawiki", re.DOTALL)
NAMESPACE = re.compile(rb"<ns>(-?\d+)</ns>")
TITLE = re.compile(rb"<title>([^<]*)</title>")
ID = re.compile(rb"<id>(\d+)</id>")
TEXT = re.compile(rb"<text\b[^>]*(?<!/)>([^<]*)</text>")
HEADER_BYTES = 1 << 16
# The ampersand is the last, so that it makes no entity. xml.sax.saxutils has these, and imports
# http.client.
ENTITIES = {"&gt;": ">", "&lt;": "<", "&quot;": '"', "&apos;": "'", "&#039;": "'", "&amp;": "&"}
OPEN, CLOSE, END = b"<page>", b"</page>", b"</mediawiki>"


class Pages:
    """Iterates over the articles of a dump; counts other pages in ``report``.

    Raises InputError for a dump of no use.

    Attributes:
        site: What the dump's head says of its wiki.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self.report = report
        report.dropped |= dict.fromkeys((TIME_LIMIT, SIZE_LIMIT, FAILED), 0)
        self._blocks = read_blocks(path)
        self._rest = b""
        for block in self._blocks:
            self._rest += block
            if len(self._rest) >= HEADER_BYTES or b"</siteinfo>" in self._rest:
                break
        self._rest = self._rest.removeprefix(codecs.BOM_UTF8)
        head = self._rest.partition(OPEN)[0]
        if not START.match(head) or b"</siteinfo>" not in head:
            raise InputError(
                f"{path}: is not a MediaWiki dump: expected pages-articles, XML in UTF-8 that "
                "begins with <mediawiki and has a <siteinfo> before its pages"
            )
        self.site = Site.of_header(self._decoded(head))

    def __iter__(self) -> Iterator[Page]:
        """Yield the articles that are no redirects."""
        for page in self.all():
            if page.namespace == "0" and not page.is_redirect:
                yield page
            else:
                self.report.pages += 1
                reason = "redirect" if page.namespace == "0" else "other_namespace"
                self.report.dropped[reason] += 1

    def all(self) -> Iterator[Page]:
        """Yield all pages but those that are too long, which are counted."""
        number = 0
        for number, (raw, is_too_long) in enumerate(self._raw(), start=1):
            page = self._page(raw, number)
            if not is_too_long:
                yield page
                continue
            self.report.pages += 1
            self.report.dropped[SIZE_LIMIT] += 1
            self.report.warn(
                f"page {page.id} ({page.title}) is dropped: more than {PAGE_BYTES >> 20} MiB"
            )
        if END not in self._rest:
            cut = self._rest.count(OPEN)
            self.report.warn(
                f"{self.path}: ends without </mediawiki>; its {number:,} complete pages are used, "
                f"{cut} truncated page(s) left out"
            )

    def _raw(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the bytes of each page, and whether it is too long: then those at its begin."""
        rest, position, searched = self._rest, 0, 0
        is_too_long = False
        while True:
            end = rest.find(CLOSE, searched)
            if end >= 0:
                yield rest[max(rest.find(OPEN, position, end), position) : end], is_too_long
                position = searched = end + len(CLOSE)
                is_too_long = False
                continue
            rest = rest[position:]
            if len(rest) > PAGE_BYTES:
                is_too_long = True
                rest = rest[:HEADER_BYTES] + rest[-len(CLOSE) :]
            position, searched = 0, max(len(rest) - len(CLOSE), 0)
            block = next(self._blocks, None)
            if block is None:
                self._rest = rest
                return
            rest += block

    def _page(self, raw: bytes, number: int) -> Page:
        head, _, _ = raw[:HEADER_BYTES].partition(b"<text")
        namespace, title, page_id = (each.search(head) for each in (NAMESPACE, TITLE, ID))
        if namespace is None:
            raise InputError(
                f"{self.path}: page {number} has no <ns>, which says whether it is an article; "
                "fetch a newer dump"
            )
        text = TEXT.search(raw)
        return Page(
            self._decoded(page_id[1]) if page_id else str(number),
            unescape(self._decoded(title[1])) if title else "",
            unescape(self._decoded(text[1])) if text else "",
            namespace[1].decode(),
            b"<redirect" in head,
        )

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}: is not UTF-8 throughout, as dumps are; fetch it again"
            ) from None


def unescape(xml: str) -> str:
    """Return text without XML's entities; those of HTML stay."""
    for entity, character in ENTITIES.items():
        xml = xml.replace(entity, character)
    return xml


def save_templates(pages: Pages, path: Path) -> None:
    """Write the dump's template pages as a file that WikiExtractor reads with ``--templates``."""
    with path.open("w", encoding="utf-8") as file:
        for page in pages.all():
            if page.namespace == "10":
                title, text = (html.escape(each, quote=False) for each in (page.title, page.text))
                file.write(
                    f"<page>\n<title>{title}</title>\n<ns>10</ns>\n<text>{text}</text>\n</page>\n"
                )
