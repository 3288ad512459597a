"""MediaWiki dumps as the public host publishes them (export schema 0.11)."""

import bz2
import datetime
import hashlib
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from demo_languages.articles import Page
from demo_languages.orthography import Language
from demo_languages.world import DATE

SCHEMA = "http://www.mediawiki.org/xml/export-0.11/"
FIRST_EDIT = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"
NAMESPACES = {
    -2: "Media",
    -1: "Special",
    0: "",
    1: "Talk",
    2: "User",
    3: "User talk",
    4: "Wikipedia",
    5: "Wikipedia talk",
    6: "File",
    7: "File talk",
    8: "MediaWiki",
    9: "MediaWiki talk",
    10: "Template",
    11: "Template talk",
    12: "Help",
    13: "Help talk",
    14: "Category",
    15: "Category talk",
    828: "Module",
    829: "Module talk",
}


def dump_name(code: str) -> str:
    """Return the file name of a wiki's dump."""
    return f"{code}wiki-{DATE}-pages-articles.xml.bz2"


def sha1_base_36(data: bytes) -> str:
    """Return MediaWiki's checksum of a revision: SHA-1 in base 36, 31 digits."""
    number = int.from_bytes(hashlib.sha1(data).digest(), "big")
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = BASE_36[digit] + digits
    return digits.rjust(31, "0")


def header(language: Language) -> str:
    """Return the opening tag and the siteinfo."""
    lines = [
        f'<mediawiki xmlns="{SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{SCHEMA} http://www.mediawiki.org/xml/export-0.11.xsd" '
        f'version="0.11" xml:lang="{language.code}">',
        "  <siteinfo>",
        "    <sitename>Wikipedia</sitename>",
        f"    <dbname>{language.code}wiki</dbname>",
        f"    <base>https://{language.code}.example.org/wiki/Main_Page</base>",
        "    <generator>MediaWiki 1.46.0-wmf.7</generator>",
        "    <case>first-letter</case>",
        "    <namespaces>",
    ]
    for key, name in NAMESPACES.items():
        content = f">{name}</namespace>" if name else " />"
        lines.append(f'      <namespace key="{key}" case="first-letter"{content}')
    return "\n".join([*lines, "    </namespaces>", "  </siteinfo>", ""])


def page_element(page: Page, number: int) -> str:
    """Return the <page> element of a page."""
    data = page.text.encode()
    sha1 = sha1_base_36(data)
    time = FIRST_EDIT + datetime.timedelta(minutes=7 * number)
    redirect = f"    <redirect title={quoteattr(page.redirect)} />\n" if page.redirect else ""
    text = escape(page.text, {'"': "&quot;"})
    return f"""  <page>
    <title>{escape(page.title)}</title>
    <ns>{page.namespace}</ns>
    <id>{number}</id>
{redirect}    <revision>
      <id>{1000 + number}</id>
      <timestamp>{time:%Y-%m-%dT%H:%M:%SZ}</timestamp>
      <contributor>
        <username>Scribe</username>
        <id>1</id>
      </contributor>
      <comment>first &amp; only version</comment>
      <origin>{1000 + number}</origin>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text bytes="{len(data)}" sha1="{sha1}" xml:space="preserve">{text}</text>
      <sha1>{sha1}</sha1>
    </revision>
  </page>
"""


def write(language: Language, pages: Iterable[Page], mirror: Path) -> None:
    """Write a wiki's dump and its checksum lists under the host's paths."""
    name = dump_name(language.code)
    dated = mirror / f"{language.code}wiki" / DATE
    latest = dated.with_name("latest")
    dated.mkdir(parents=True)
    latest.mkdir()
    with bz2.open(dated / name, "wt", encoding="utf-8", newline="\n") as file:
        file.write(header(language))
        for number, page in enumerate(pages, start=1):
            file.write(page_element(page, number))
        file.write("</mediawiki>\n")
    digest = hashlib.sha1((dated / name).read_bytes()).hexdigest()
    line = f"{digest}  {name}\n"
    wiki = f"{language.code}wiki"
    (dated / f"{wiki}-{DATE}-sha1sums.txt").write_text(line, encoding="utf-8")
    (latest / f"{wiki}-latest-sha1sums.txt").write_text(line, encoding="utf-8")
