"""The scripts of a vocabulary's tokens."""

from collections import Counter
from collections.abc import Iterable

from fontTools import unicodedata

from eliquare.vocabulary.tokenizer import Description, text_of

# Scripts that electronics2023, Figure 1, counts together.
GROUPS = {
    "CJK": ("Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"),
    "Indic": (
        *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu"),
        *("Kannada", "Malayalam", "Sinhala"),
    ),
}


def count_scripts(description: Description, tokens: Iterable[str]) -> dict[str, int]:
    """Count tokens by script, most first.

    A token is of the script of its first letter that has one; the others are "Common" (digits,
    marks, and bytes that are no complete letter).
    """
    scripts = Counter[str]()
    for token in tokens:
        codes = map(unicodedata.script, text_of(description, token))
        code = next((code for code in codes if code not in ("Zyyy", "Zinh", "Zzzz")), "Zyyy")
        scripts[unicodedata.script_name(code)] += 1
    return dict(sorted(scripts.items(), key=lambda item: (-item[1], item[0])))


def grouped(scripts: dict[str, int]) -> dict[str, int]:
    """Return the counts with the scripts of each of GROUPS as one, most first."""
    group_of = {script: group for group, scripts in GROUPS.items() for script in scripts}
    counts = Counter[str]()
    for script, number in scripts.items():
        counts[group_of.get(script, script)] += number
    return dict(counts.most_common())
