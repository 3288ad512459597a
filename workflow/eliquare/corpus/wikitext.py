"""Wikitext before and after WikiExtractor.

WikiExtractor drops list items, links whose title holds a colon and lines in brackets; one element,
template or table that is never closed takes the text up to its last closing tag; elements that it
does not know stay. ``simplify`` takes these out of its way, ``clean`` removes what it leaves. Both
take time in proportion to the page.

What must pass WikiExtractor untouched is written in characters for private use, ``guarded``.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import regex

from eliquare.config import catalogue
from eliquare.corpus.documents import is_running_text

# Parts of pages that are dropped and counted.
LIST_ITEM, TABLE, TEMPLATE, REFERENCE, FORMULA, OTHER = PARTS = (
    "list_items",
    "tables",
    "templates",
    "references",
    "formulas",
    "other_elements",
)
CLEAN_SECONDS = 60  # of one rule of ``clean`` on one page; usual is a thousandth

# Characters for private use: markup that is text, the begin of a list item, a dropped part, and
# the begin of a heading of level 1 to 6. Pages have none of them (U+F0000 is in no font).
GUARDS = 0xF0000
ITEM = chr(GUARDS + 0x100)
# What stands for an element that was dropped, and for a template as long as these are counted.
HOLE, TEMPLATE_HOLE = chr(GUARDS + 0x110), chr(GUARDS + 0x111)
HEADING = tuple(chr(GUARDS + 0x100 + level) for level in range(1, 7))
PRIVATE = re.compile(f"[{chr(GUARDS)}-{chr(GUARDS + 0x1FF)}]")
TO_GUARDS = {code: GUARDS + code for code in b"!#&'()*+,-:;<=>[]_{|}~"}
FROM_GUARDS = {chr(guard): chr(code) for code, guard in TO_GUARDS.items()}
LESS, MORE = (chr(TO_GUARDS[ord(sign)]) for sign in "<>")

# Elements whose content is no running text. <ref> and <references> are counted as references.
FORMULAS = ("math", "chem", "ce")
DROPPED = (
    *("ref", "references", *FORMULAS, "score", "syntaxhighlight", "source", "pre", "hiero"),
    *("gallery", "timeline", "graph", "chart", "mapframe", "maplink", "imagemap", "indicator"),
    *("includeonly", "templatedata", "templatestyles", "inputbox", "categorytree", "phonos"),
    *("dynamicpagelist", "form", "select", "textarea", "style", "script", "del", "rt", "rp"),
)
ELEMENT = re.compile(rf"<!--|<({'|'.join(DROPPED)}|nowiki|code|table)\b([^<>]*)>", re.IGNORECASE)
BLOCKS = (
    *("p", "div", "center", "blockquote", "h[1-6]", "dl", "dt", "dd", "poem", "hr", "caption"),
    *("table", "tr", "tabs", "tab"),
)
ITEMS = ("li", "ul", "ol", "menu", "dir")
SPACES = ("br", "td", "th", "nobr")
INLINE = (
    *("a", "abbr", "b", "bdi", "bdo", "big", "button", "charinsert", "cite", "code", "col"),
    *("colgroup", "data", "dfn", "em", "font", "i", "img", "input", "ins", "kbd", "label"),
    *("labeledsectiontransclusion", "languages", "link", "mark", "meta", "noinclude", "nowiki"),
    *("onlyinclude", "option", "pagelist", "pages", "plaintext", "q", "rb", "rbc", "rtc", "ruby"),
    *("s", "samp", "section", "small"),
    *("span", "strike", "strong", "sub", "sup", "tbody", "tfoot", "thead", "time", "translate"),
    *("tt", "tvar", "u", "var", "wbr", "listing", "xmp", *DROPPED),
)


def tags_of(*names: str) -> re.Pattern[str]:
    """Return the pattern of the tags of elements."""
    return re.compile(rf"</?(?:{'|'.join(names)})\b[^<>]*>", re.IGNORECASE)


REPLACED = (
    (tags_of(*BLOCKS), "\n"),
    (tags_of(*ITEMS), "\n* "),
    (tags_of(*SPACES), " "),
    (tags_of(*INLINE), ""),
)
KINDS = {"ref": REFERENCE, "references": REFERENCE, "table": TABLE} | dict.fromkeys(
    FORMULAS, FORMULA
)
NOT_HERE = (-1, -1)
BRACES = re.compile(r"\{{2,}|\}{2,}")
# Parser functions that WikiExtractor computes.
FUNCTIONS = r"\s*(?i:formatnum|lc|uc|lcfirst|ucfirst|#\w+)\s*:"
FUNCTION = re.compile(rf"\{{\{{{FUNCTIONS}")
INNERMOST = re.compile(rf"\{{\{{(?!\{{|{FUNCTIONS})[^{{}}]*\}}\}}(?!\}})")
PAGE_NAME = re.compile(r"\{\{\s*(?i:(?:full)?pagename)\s*\}\}")
PARAMETER = re.compile(r"\{\{\{[^{}]*\}\}\}")
TEMPLATE_NAME = re.compile(r"[^|{}\n]*\|")
CONVERTED = re.compile(r"-\{([^{}]*)\}-")
VARIANT = re.compile(r"\s*(?:[^:;{}]*=>)?\s*[a-z]{2,3}(?:-[a-zA-Z]+)*\s*:(.*)", re.DOTALL)
NEXT_VARIANT = re.compile(r";(?=[^:;]*:)|;\s*$")
FLAGS = re.compile(r"[A-Za-z;\s-]*")
# A link whose title holds a colon; its label may hold single brackets.
COLON_LINK = re.compile(
    r"\[\[(:?)([^\[\]|:\n]*):([^\[\]|\n]*)"
    r"(?:\|([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*))?\]\]"
)
# Any other link, the form that is written most.
PLAIN_LINK = re.compile(r"\[\[([^\[\]{}|:\n]*)(?:\|([^\[\]{}|\n]*))?\]\]")
FILE_NAME = re.compile(
    r"\.(?:jpe?g|png|gif|svg|tiff?|webp|xcf|pdf|djvu|og[gav]|webm|wav|mp3|mid|flac|opus|stl)\s*$",
    re.IGNORECASE,
)
ADDRESS = r"\[(?:[a-z][a-z+.-]{1,12}:)?//[^\s\[\]<>\"]*+"
EXTERNAL_LINK = re.compile(rf"{ADDRESS}[^\S\n]*+([^\[\]\n]*)\]", re.IGNORECASE)
EXTERNAL_START = re.compile(ADDRESS, re.IGNORECASE)
LAST_BRACE = re.compile(r"(?<!\})\}$", re.MULTILINE)
TABLE_EDGE = re.compile(r"\n[ \t:*#]*(\{\||\|\})")
STRAY_EDGE = re.compile(r"(?<!\{)\{\||\|\}(?!\})")
TABLE_ROW = re.compile(r"\n[ \t:*#]*(?:\{\||\||!)[^\n]*")
SWITCH = regex.compile(
    r"__(?:(?![a-z])[\p{L}\p{M}]+(?:_[\p{L}\p{M}]+)*|(?:no|force)?toc|nogallery|noeditsection)__"
)
RULER = re.compile(r"\n-{4,}")
LOW_QUOTE = re.compile(r"(?<!\S),,(?=\w)")  # two commas, as many type it
ITEMS_BEGIN = re.compile(r"\n:*[*#;][*#;: ]*")
INDENT = re.compile(r"\n:[: ]*")
HEADING_LINE = re.compile(r"\n=[^\n]*")
UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\p{Tibetan}"
)
# A letter or digit of a script with spaces between words.
SPACED = rf"[[\p{{L}}\p{{N}}]--[{UNSPACED}]]"
# Emphasis, quotes and brackets around nothing but dropped parts.
SIGNS = r"[\s,;:、，；၊]"  # between them
PAIRS = ("[]", "()", "（）", "“”", "„“", "„”", "«»", "‹›", "‘’", "‚‘", "「」", "『』", "《》")
EMPTIED = regex.compile(
    rf"(?<!{SPACED}|[.,;:!?…»”'\"])('{{5}}|'{{2,3}}|\"){HOLE}+\1(?!{SPACED}|['\"])|"
    + "|".join(
        rf"{re.escape(pair[0])}{SIGNS}*{HOLE}(?:{HOLE}|{SIGNS})*{re.escape(pair[1])}"
        for pair in PAIRS
    ),
    regex.VERSION1,
)
# Where a dropped part stood between two words that are to stay apart, in a script with spaces.
GAP = regex.compile(
    rf"(?<=[^\s\u00a0(\[{{'\"«„“‚‘¿¡–/=|>{HOLE}-]){HOLE}++(?={SPACED})", regex.VERSION1
)


@dataclass(frozen=True)
class Site:
    """What a dump says of its wiki: the names of its namespaces, in small letters.

    Attributes:
        templates: The name of the template namespace as it is written.
        unseen: Prefixes of links that a reader does not see: files, categories, other languages.
        namespaces: Prefixes of pages that are no articles.
    """

    templates: str
    unseen: frozenset[str]
    namespaces: frozenset[str]

    @classmethod
    def of_header(cls, header: str) -> "Site":
        """Read the names of namespaces in a dump's <siteinfo>; a short one may have none."""
        found = re.findall(r'<namespace key="(-?\d+)"[^>]*>([^<]*)</namespace>', header)
        names = {int(number): html.unescape(name) for number, name in found}
        unseen = {prefix(names[key]) for key in (6, 14) if names.get(key)}
        codes = {code.lower() for code in catalogue.languages()}
        codes |= {"nb", "zh-min-nan", "be-x-old", "zh-tw", "zh-cn", "jp", "cz", "dk", "nan"}
        return cls(
            templates=names.get(10) or "Template",
            unseen=frozenset(unseen | codes | {"file", "image", "category"}),
            namespaces=frozenset({prefix(name) for name in names.values() if name} | NAMESPACES),
        )


# Those of MediaWiki in English, and the prefixes of other projects.
NAMESPACES = frozenset(
    {
        *("talk", "user", "wikipedia", "project", "template", "mediawiki", "help", "portal"),
        *("draft", "module", "special", "media", "w", "wikt", "wiktionary", "s", "wikisource"),
        *("b", "wikibooks", "n", "wikinews", "q", "wikiquote", "v", "wikiversity", "voy"),
        *("wikivoyage", "d", "wikidata", "c", "commons", "m", "meta", "mw", "species", "phab"),
        *("wikispecies", "doi", "isbn", "pmid"),
    }
)


def prefix(name: str) -> str:
    """Return the name of a namespace as it is compared."""
    return " ".join(name.replace("_", " ").split()).lower()


# Before WikiExtractor.


def simplify(text: str, site: Site, title: str, expand: bool) -> tuple[str, Counter[str]]:
    """Return wikitext that WikiExtractor reads well, and how many parts were dropped.

    Args:
        text: The page.
        site: Its wiki.
        title: The page's title.
        expand: Whether templates stay, for WikiExtractor to expand.
    """
    dropped: Counter[str] = Counter()
    text = PRIVATE.sub("", text.replace("\r\n", "\n").replace("\r", " "))
    if "<" in text:
        text = drop_elements(text, dropped)
        for tags, new in REPLACED:
            text = tags.sub(new, text)
        text = text.replace("<", LESS)
    text = text.replace("&lt;", LESS).replace("&gt;", MORE).replace(">>", 2 * MORE)
    text = LOW_QUOTE.sub(guarded(",,"), text)
    if not expand and ("{{" in text or "}}" in text):
        text = drop_templates(PAGE_NAME.sub(lambda _: title, text))
        dropped[TEMPLATE] = text.count(TEMPLATE_HOLE)
        text = text.replace(TEMPLATE_HOLE, HOLE)
    if HOLE in text:
        text = EMPTIED.sub(HOLE, EMPTIED.sub(HOLE, text))  # the inner and the outer ones
        text = GAP.sub(" ", text).replace(HOLE, "")
    if "{|" in text:
        text = drop_tables(text, dropped)
    if not expand:
        text = STRAY_EDGE.sub(lambda match: guarded(match[0]), text)
        if "}\n" in text or text.endswith("}"):
            text = LAST_BRACE.sub(guarded("}"), text)
    if "-{" in text:
        text = convert(text)
    if "[" in text:
        text = COLON_LINK.sub(lambda match: seen_of_link(match, site), text)
        if "[[[" in text:
            text = re.sub(r"\[{3,}", "[[", text)
        # WikiExtractor does the same, and needs ten times as long.
        text = PLAIN_LINK.sub(
            lambda match: match[1] if match[2] is None else match[2].strip(), text
        )
        text = EXTERNAL_LINK.sub(r"\1", text)
        text = EXTERNAL_START.sub("", text)
    if "__" in text:
        text = SWITCH.sub("", text)
    return mark_lines(text), dropped


def guarded(text: str) -> str:
    """Return the text with all characters of markup as characters for private use."""
    return text.translate(TO_GUARDS)


def drop_elements(text: str, dropped: Counter[str]) -> str:
    """Return the text without comments and elements that hold no running text.

    An element that is not closed before the next one of its name begins loses only its tag, so a
    forgotten closing tag costs no text. What <nowiki> holds is guarded.
    """
    parts: list[str] = []
    position = 0
    unclosed: set[str] = set()
    tables: dict[int, tuple[int, int]] | None = None
    while match := ELEMENT.search(text, position):
        name = (match[1] or "comment").lower()
        begin, end = match.span()
        parts.append(text[position:begin])
        position = end
        if name in unclosed or (match[2] or "").endswith("/"):
            continue
        close: tuple[int, int] | None
        if name == "table":
            tables = table_ends(text) if tables is None else tables
            close = tables.get(begin, NOT_HERE)
        else:
            close = closing(name, text, end)
        if close is None:
            unclosed.add(name)
        elif close != NOT_HERE:
            content, position = text[end : close[0]], close[1]
            if name == "nowiki":
                parts.append(guarded(content))
            elif name == "code" and "\n" not in content:
                parts.append(content)
            elif name != "comment":
                parts.append(HOLE)
                dropped[KINDS.get(name, OTHER)] += 1
    return "".join([*parts, text[position:]])


def closing(name: str, text: str, position: int) -> tuple[int, int] | None:
    """Return begin and end of the tag that closes an element, or None if no more are closed.

    NOT_HERE where another element of its name begins before.
    """
    if name == "comment":
        end = text.find("-->", position)
        return None if end < 0 else (end, end + 3)
    for match in tags_of_name(name).finditer(text, position):
        if match[1]:
            return match.span()
        if not match[2].endswith("/"):
            return NOT_HERE
    return None


@cache
def tags_of_name(name: str) -> re.Pattern[str]:
    """Return the pattern of the tags of one element: the slash of a closing one, what it holds."""
    return re.compile(rf"<(/?){name}\b([^<>]*)>", re.IGNORECASE)


def table_ends(text: str) -> dict[int, tuple[int, int]]:
    """Return begin and end of the tag that closes a table, for where each table begins."""
    opened: list[int] = []
    ends: dict[int, tuple[int, int]] = {}
    for match in tags_of_name("table").finditer(text):
        if not match[1]:
            opened.append(match.start())
        elif opened:
            ends[opened.pop()] = match.span()
    return ends


def drop_templates(text: str) -> str:
    """Return the text with a TEMPLATE_HOLE for each; one never closed loses its name alone."""
    for _ in range(3):  # of templates in templates most are found so
        text, number = INNERMOST.subn(TEMPLATE_HOLE, PARAMETER.sub(TEMPLATE_HOLE, text))
        if not number:
            break
    if "{{" not in text and "}}" not in text:
        return text
    closed, stray = braces(text)
    templates = [span for span in apart(closed) if not FUNCTION.match(text, span[0])]
    return without(text, apart(templates + stray), TEMPLATE_HOLE)


def without(text: str, spans: list[tuple[int, int]], new: str) -> str:
    """Return the text with something new for each span; spans are in order and apart."""
    parts, position = [], 0
    for begin, end in spans:
        parts += [text[position:begin], new]
        position = end
    return "".join([*parts, text[position:]])


def braces(text: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the spans of templates and parameters, and those of braces that match no others.

    A run of braces closes those opened last, three (a parameter) or two (a template) at a time. The
    span of an opening that is never closed holds the template's name.
    """
    closed: list[tuple[int, int]] = []
    stray: list[tuple[int, int]] = []
    opened: list[tuple[int, int]] = []  # begin and length of runs
    for run in BRACES.finditer(text):
        position, length = run.start(), len(run[0])
        if run[0][0] == "{":
            opened.append((position, length))
            continue
        while length > 1 and opened:
            begin, open_length = opened.pop()
            used = 3 if min(length, open_length) > 2 else 2
            open_length -= used
            length -= used
            position += used
            closed.append((begin + open_length, position))
            if open_length > 1:
                opened.append((begin, open_length))
        if length:
            stray.append((position, position + length))
    for begin, length in opened:
        name = TEMPLATE_NAME.match(text, begin + length)
        stray.append((begin, name.end() if name else begin + length))
    return closed, stray


def apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order without those inside others."""
    result: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not result or span[0] >= result[-1][1]:
            result.append(span)
    return result


def drop_tables(text: str, dropped: Counter[str]) -> str:
    """Return the text without tables; of one that is never closed only the rows are dropped."""
    text = "\n" + text
    opened: list[int] = []
    closed: list[tuple[int, int]] = []
    for edge in TABLE_EDGE.finditer(text):
        if edge[1] == "{|":
            opened.append(edge.start())
        elif opened:
            closed.append((opened.pop(), edge.end()))
    tables = apart(closed)
    dropped[TABLE] += len(tables) + len(opened[:1])
    begin = opened[0] if opened else len(text)
    before = without(text[:begin], [span for span in tables if span[0] < begin], "\n")
    after = [(start - begin, end - begin) for start, end in tables if start >= begin]
    return before[1:] + TABLE_ROW.sub("", without(text[begin:], after, "\n"))


def convert(text: str) -> str:
    """Return the text with the first variant of what the wiki converts between scripts."""
    for _ in range(4):  # deeper nesting is no markup
        text, number = CONVERTED.subn(variant, text)
        if not number:
            break
    return text


def variant(match: re.Match[str]) -> str:
    """Return what a reader sees of ``-{flags|code:text;code:text}-``."""
    flags, bar, rules = match[1].partition("|")
    if not bar or not FLAGS.fullmatch(flags):
        flags, rules = "", match[1]
    if {"H", "T", "-"} & set(flags.replace(" ", "").split(";")):
        return ""
    seen = None if "R" in flags.split(";") else VARIANT.match(NEXT_VARIANT.split(rules, 1)[0])
    return seen[1].strip() if seen else rules


def seen_of_link(match: re.Match[str], site: Site) -> str:
    """Return what a reader sees of a link whose title holds a colon, or the link to drop."""
    colon, before, after, label = match.groups()
    name = prefix(before)
    label = label.rpartition("|")[2].strip() if label is not None else None
    if not colon and name in site.unseen:
        return match[0]
    if not colon and FILE_NAME.search(after):
        return ""
    if after.startswith("//"):  # an external link in one bracket too many
        return label or after.partition(" ")[2]
    if colon or name in site.namespaces:
        return label or (after if colon else "")
    # A title, or an alias of a namespace, which a dump does not tell: such links have no space
    # after the colon and, as those of categories, stand on a line of their own.
    begin, end = match.span()
    alone = match.string[max(begin - 1, 0) : begin] in "\n" and match.string[end : end + 1] in "\n"
    if alone and not after.startswith(" "):
        return ""
    return f"{before}:{after}" if label is None else label or after.strip()


def mark_lines(text: str) -> str:
    """Return the text so that WikiExtractor keeps its lines: items and headings get a mark."""
    text = ITEMS_BEGIN.sub(f"\n{ITEM}", "\n" + text)
    text = INDENT.sub("\n", text)
    text = RULER.sub("\n", text)
    text = HEADING_LINE.sub(heading, text)
    for begin in ("(", "++"):
        text = text.replace(f"\n{begin}", f"\n{guarded(begin)}")
    return text[1:]


def heading(match: re.Match[str]) -> str:
    """Return a heading with the mark of its level, or the line if it is none."""
    line = match[0].strip()
    level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
    title = line.strip("= ")
    if level and title:
        return f"\n{HEADING[level - 1]}{title}" + ("" if title[-1] in "!?" else ".")
    return f"\n{guarded('=')}{line[1:]}"


# After it.

# What to replace, by what, in texts that hold one of these; most texts hold none.
RULES = [
    (regex.compile(pattern, regex.MULTILINE), new, signs)
    for signs, pattern, new in [
        # Placeholders for formulas and code are words of no language.
        (("formula_", "codice_"), r"(?<![A-Za-z0-9_])(?:formula|codice)_\d+", ""),
        # Tags of expanded templates, and such that an editor has written as text.
        (("<",), rf"(?i)</?(?:{'|'.join((*BLOCKS, *ITEMS, *SPACES, *INLINE))})\b[^<>\n]*>", " "),
        # Links and files that were never closed, or closed once too often.
        (("[[",), r"\[\[[^\[\]|\n]*:[^\[\]|\n]*\.\w{3,4}(?:\|[^\[\]\n]*)?(?:\]\]|$)", ""),
        (("[[",), r"\[\[(?:[^\[\]|\n]*\|)?([^\[\]|\n]*)\]\]?", r"\1"),
        (("]]",), r"\[(?:[^\[\]|\n]*\|)([^\[\]|\n]*)\]\]", r"\1"),
        (("[[", "]]"), r"\[\[+|\]\]+", ""),
        # Headings that do not stand alone on their line, and apostrophes that match no others.
        (("==",), r"^=={1,5}[^\S\n]*([^=\n]+?)[^\S\n]*=={1,5}", r"\1 "),
        (("==",), r"^==++|(?<!=)==++$", ""),
        (("''",), r"''+", ""),
        # Brackets that a dropped template has emptied: "(, )", and the start of "(; 1650)".
        (("(", "（"), r"([（(])\s*[,;:、，；]+(?:\s*[,;:、，；])*\s*", r"\1"),
        ((")", "）"), r"[,;、，；][,;、，；\s]*(?=[)）])", ""),
        # ASCII "()" straight after a word, in a script with spaces, is a function call.
        (("(", "（"), rf"（\s*）|(?<![^\s\p{{P}}{UNSPACED}])\(\s*(?:\(\s*\)\s*)*\)", ""),
        (("  ", " \u00a0"), r" +(?=[ \u00a0])", ""),
        ((" ,", " .", " ;", " :", " !", " ?", " )"), r" +(?=[,.;:!?)](?:\s|$))", ""),
    ]
]
TABLE_STARTS = ("{|", "|")
TABLE_LINE = regex.compile(r"\s*(?:\{\||\|[-}+]|\|(?!=)).*")


def clean(extracted: str, dropped: Counter[str] | None = None) -> str:
    """Return clean text: entities as characters, no emptied brackets, no remains of markup.

    List items that are no running text, and headings with no text below them, are left out.
    Raises TimeoutError if it takes too long.
    """
    text = html.unescape(extracted).replace("\r\n", "\n").replace("\r", " ")
    text = "\n".join(kept_lines(text, dropped if dropped is not None else Counter()))
    text = PRIVATE.sub(lambda match: FROM_GUARDS.get(match[0], ""), text)
    for pattern, new, signs in RULES:
        if any(sign in text for sign in signs):
            text = pattern.sub(new, text, timeout=CLEAN_SECONDS)
    return "\n".join(filter(None, map(str.strip, text.split("\n"))))


def kept_lines(extracted: str, dropped: Counter[str]) -> Iterator[str]:
    """Yield the lines that stay, without their marks."""
    headings: list[tuple[str, str]] = []  # marks and lines that wait for text below them
    for raw in extracted.split("\n"):
        line = raw.strip()
        if not line or (line.startswith(TABLE_STARTS) and TABLE_LINE.fullmatch(line)):
            continue
        if line[0] in HEADING:
            headings = [each for each in headings if each[0] < line[0]]
            headings.append((line[0], line[1:].strip()))
            continue
        text = line.lstrip(f"{ITEM}*").strip()
        if text != line and not is_running_text(text):
            dropped[LIST_ITEM] += 1
            continue
        yield from (heading for _, heading in headings)
        headings.clear()
        yield text
