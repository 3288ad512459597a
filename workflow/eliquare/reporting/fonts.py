"""Fonts for the letters of figures: labels and words may be in any script."""

import unicodedata
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

USUAL = "DejaVu Sans"


def lay_out(figure: Figure) -> set[str]:
    """Lay a figure out, each letter in a font that has it; return the letters that none has."""
    # Labels of axes are made as they are drawn.
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    families, missing = fonts_for("".join(text.get_text() for text in texts))
    if len(families) > 1:
        for text in texts:
            text.set_fontfamily(families)
        figure.draw_without_rendering()
    return missing


def fonts_for(text: str) -> tuple[list[str], set[str]]:
    """Return installed fonts for the letters of a text, the usual one first, and what they lack."""
    families, missing = [USUAL], {each for each in text if not has(USUAL, each)}
    # Noto has a font of one look for every script.
    names = {font.name for font in font_manager.fontManager.ttflist}
    for name in sorted(names, key=lambda name: (not name.startswith("Noto Sans"), name)):
        if not missing:
            break
        if name.startswith("Last Resort"):
            continue
        covered = {each for each in missing if has(name, each)}
        families += [name] * bool(covered)
        missing -= covered
    return families, missing


@cache
def opened(family: str) -> FT2Font:
    """Return a font by its name."""
    return FT2Font(font_manager.findfont(family))


def has(family: str, letter: str) -> bool:
    """Return whether a font has a letter; spaces and marks without a form count as there."""
    return letter.isspace() or opened(family).get_char_index(ord(letter)) != 0


def is_right_to_left(text: str) -> bool:
    """Return whether a text begins in a script that is written from right to left."""
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((each for each in directions if each in ("L", "R", "AL")), "L") != "L"
