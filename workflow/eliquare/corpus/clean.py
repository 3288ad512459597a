"""What WikiExtractor leaves behind in an article's text."""

import html

import regex

LINE_RULES = [
    # Placeholders for formulas and code are words of no language.
    (r"(?<![A-Za-z0-9_])(?:formula|codice)_\d+", ""),
    # HTML that was never closed in the article.
    (
        r"</?(?:table|tr|td|th|div|span|font|center|br|hr|p|b|i|u|s|big|small|sub|sup|ref|nowiki"
        r"|noinclude|includeonly|onlyinclude|gallery|blockquote|li|ul|ol|dl|dd|dt|code|tt)"
        r"\b[^<>\n]*>",
        " ",
    ),
    # Links and files that were never closed, or closed once too often.
    (r"\[\[[^\[\]|\n]*:[^\[\]|\n]*\.\w{3,4}(?:\|[^\[\]\n]*)?(?:\]\]|$)", ""),
    (r"\[\[(?:[^\[\]|\n]*\|)?([^\[\]|\n]*)\]\]", r"\1"),
    # Brackets that a dropped template has emptied: "(, )", and the start of "(; 1650)".
    (r"([（(])\s*[,;:、，；]+(?:\s*[,;:、，；])*\s*", r"\1"),
    (r"(?<=\w)\s*[,;、，；]+\s*(?=[)）])", ""),
    # ASCII "()" straight after a word is a function call.
    (r"（\s*）|(?<![^\s\p{P}])\(\s*(?:\(\s*\)\s*)*\)", ""),
    (r" +(?=[ \u00a0])", ""),
    (r" +(?=[,.;:!?)](?:\s|$))", ""),
]
RULES = [(regex.compile(pattern, regex.MULTILINE), new) for pattern, new in LINE_RULES]
TABLE_LINE = regex.compile(r"\s*(?:\{\||\|[-}+]|[|!](?!=)).*")


def text(extracted: str) -> str:
    """Clean text: entities as characters, no emptied brackets, no remains of markup."""
    result = html.unescape(extracted).replace("\r", "")
    for pattern, new in RULES:
        result = pattern.sub(new, result)
    lines = (line.strip() for line in result.split("\n"))
    return "\n".join(line for line in lines if line and not TABLE_LINE.fullmatch(line))
