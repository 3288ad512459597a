"""A sentence: its words with their annotation, and how they are written."""

from dataclasses import dataclass, field
from typing import NamedTuple

from demo_languages.lexicon import Token

OPENING = frozenset("(«“")
CLOSING = frozenset(",.;:!?)»”।")


class Surface(NamedTuple):
    """An orthographic token: what a reader sees between spaces, and its entity tag (IOB2)."""

    form: str
    tag: str
    first: int
    words: int
    space_after: bool


@dataclass
class Sentence:
    """Words in order, one entity tag each, and what is special about the writing.

    ``contracted`` maps the position of a word to the surface form that it shares with the next
    word (a multiword token of CoNLL-U); ``empty`` holds elided words, each with the number of the
    words before it (an empty node of CoNLL-U).
    """

    words: list[Token]
    tags: list[str]
    contracted: dict[int, str] = field(default_factory=dict)
    empty: list[tuple[int, Token]] = field(default_factory=list)

    def surfaces(self) -> list[Surface]:
        """Return the orthographic tokens; a contraction is one token."""
        result = []
        position, count = 0, len(self.words)
        while position < count:
            width = 2 if position in self.contracted else 1
            form = self.contracted.get(position, self.words[position].form)
            after = position + width
            space = after < count and self.words[after].form not in CLOSING and form not in OPENING
            result.append(Surface(form, self.tags[position], position, width, space))
            position = after
        return result

    @property
    def text(self) -> str:
        """Return the sentence as it is written."""
        return "".join(
            surface.form + " " if surface.space_after else surface.form
            for surface in self.surfaces()
        )
