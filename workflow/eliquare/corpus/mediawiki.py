"""The XML of a MediaWiki dump, checked and counted as it streams by."""

import re
from collections.abc import Iterator
from pathlib import Path

from eliquare.corpus import compressed
from eliquare.stage import InputError

# A wiki's text is escaped inside the XML, so whatever looks like one of these tags is one.
TAG = re.compile(rb"<page>|</page>|</mediawiki>|<ns>(-?\d+)</ns>|<redirect\b")
SCHEMA = re.compile(rb"/export-([0-9.]+)/")
NAMESPACE_10 = re.compile(rb"<ns>10</ns>")
HEADER_BYTES = 1 << 16


class CheckedDump:
    """Iterates over the bytes of a dump and counts its pages; a dump of no use raises InputError.

    Attributes:
        pages: pages that are whole.
        opened_pages: pages that begin; one more than ``pages`` if the dump is cut.
        redirects: articles that only lead to another one.
        other_namespaces: pages that are no articles (talk, templates, categories, ...).
        closed: whether ``</mediawiki>`` was seen.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.pages = self.opened_pages = self.redirects = self.other_namespaces = 0
        self.closed = False
        self._lines = 0
        self._namespace: bytes | None = None
        self._redirect = False
        self._schema = "unknown"

    def __iter__(self) -> Iterator[bytes]:
        """Blocks that end with a whole line; what is left of a cut last line is not passed on."""
        rest = b""
        first = True
        for block in compressed.blocks(self.path):
            rest += block
            if first and len(rest) < HEADER_BYTES and b"</siteinfo>" not in rest:
                continue
            if first:
                rest = self._check_header(rest)
                first = False
            cut = rest.rfind(b"\n") + 1
            whole, rest = rest[:cut], rest[cut:]
            yield self._checked(whole)
        if first:
            rest = self._check_header(rest)
        if b"</page>" in rest or b"</mediawiki>" in rest:
            yield self._checked(rest)

    def _check_header(self, head: bytes) -> bytes:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:200]:
            raise InputError(
                f"{self.path}: is UTF-16; Wikipedia dumps are UTF-8: convert it with "
                "iconv -f UTF-16 -t UTF-8"
            )
        head = head.removeprefix(b"\xef\xbb\xbf")
        start = re.sub(rb"^\s*(<\?xml[^>]*>)?\s*(<!--.*?-->\s*)*", b"", head, flags=re.DOTALL)
        if not start.startswith(b"<mediawiki"):
            raise InputError(
                f"{self.path}: is not a MediaWiki dump: expected XML that begins with <mediawiki"
            )
        if schema := SCHEMA.search(start[:2000]):
            self._schema = schema[1].decode()
        before_pages = start.partition(b"<page>")[0]
        if b"</siteinfo>" not in before_pages:
            raise InputError(
                f"{self.path}: has no <siteinfo> before its pages; expected a whole "
                "pages-articles dump"
            )
        return head

    def _checked(self, block: bytes) -> bytes:
        try:
            block.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self._lines + block.count(b"\n", 0, error.start) + 1
            raise InputError(
                f"{self.path}, line {line}: is not UTF-8; Wikipedia dumps are UTF-8: fetch it again"
            ) from None
        self._lines += block.count(b"\n")
        for match in TAG.finditer(block):
            tag = match[0]
            if tag == b"<page>":
                self.opened_pages += 1
                self._namespace, self._redirect = None, False
            elif tag == b"</page>":
                self._count_page()
            elif tag == b"</mediawiki>":
                self.closed = True
            elif tag == b"<redirect":
                self._redirect = True
            else:
                self._namespace = match[1]
        return block

    def _count_page(self) -> None:
        if self._namespace is None:
            raise InputError(
                f"{self.path}: schema {self._schema}: page {self.opened_pages} has no <ns>, so "
                "articles cannot be told from other pages; schema 0.6 or newer is needed: fetch "
                "a newer dump"
            )
        self.pages += 1
        if self._namespace != b"0":
            self.other_namespaces += 1
        elif self._redirect:
            self.redirects += 1


def save_templates(dump: str | Path, path: str | Path) -> None:
    """Copy the dump's template pages to a file that WikiExtractor reads with ``--templates``."""
    page: list[bytes] = []
    with Path(path).open("wb") as file:
        for line in compressed.lines(dump):
            if line.strip() == b"<page>":
                page = []
            page.append(line + b"\n")
            if line.strip() == b"</page>":
                if any(map(NAMESPACE_10.search, page[:4])):
                    file.writelines(page)
                page = []
