"""Examples of the held-out text for people: masked words, and long words as tokenizers cut them.

They are drawn by hashes of the text alone, so every system of a language has the same ones.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import regex
from transformers import PreTrainedTokenizerFast

from eliquare.corpus.documents import WORD
from eliquare.corpus.sequences import document_number
from eliquare.vocabulary import tokenizer as tokenizer_json

MASKED_SENTENCES = 10
LONG_WORDS = 10
LETTERS = regex.compile(r"[\p{L}\p{M}]+")
# Shorter words are mostly function words, which every model knows.
MIN_LETTERS = 4
INSIDE_WORD = "…"


class Cloze(NamedTuple):
    """A sentence, and where the word begins and ends that is masked in it."""

    text: str
    start: int
    end: int

    def in_parts(self) -> dict[str, str]:
        """Return the text before the word, the word, and the text after it."""
        before, word = self.text[: self.start], self.text[self.start : self.end]
        return {"before": before, "word": word, "after": self.text[self.end :]}


def draw_clozes(texts: Iterable[str], number: int = MASKED_SENTENCES) -> list[Cloze]:
    """Return sentences with a word each, of MIN_LETTERS letters or more where there is one."""
    drawn: list[Cloze] = []
    for text in sorted(set(texts), key=document_number):
        words = [match for match in WORD.finditer(text) if LETTERS.fullmatch(match[0])]
        words = [match for match in words if len(match[0]) >= MIN_LETTERS] or words
        if words and len(drawn) < number:
            chosen = min(words, key=lambda match: document_number(f"{match.start()} {text}"))
            drawn.append(Cloze(text, *chosen.span()))
    return drawn


def long_words(texts: Iterable[str], number: int = LONG_WORDS) -> list[str]:
    """Return the words with most letters, the longest first.

    In a language written without spaces, they are the longest runs of letters.
    """
    words = {word for text in texts for word in LETTERS.findall(text)}
    return sorted(words, key=lambda word: (-len(word), word))[:number]


class Spelling:
    """Writes the tokens of a tokenizer as they stand in text, not in its own marks."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.description = tokenizer_json.describe(tokenizer)
        self.special = {*tokenizer.all_special_tokens}
        self.prefix = tokenizer_json.continuation_prefix(self.description)
        self.on_bytes = tokenizer_json.works_on_bytes(self.description)

    def text(self, token: str) -> str:
        """Return the letters of a token, without the space before it; its name without letters."""
        if token in self.special:
            return token
        return tokenizer_json.text_of(self.description, token).strip() or token

    def answer(self, token: str) -> str:
        """Return the letters of a token, after INSIDE_WORD if it goes on with a word."""
        written = self.text(token)
        if token in self.special or not LETTERS.match(written):
            return written
        if self.prefix:
            return INSIDE_WORD * token.startswith(self.prefix) + written
        starts = "Ġ" if self.on_bytes else tokenizer_json.WORD_START
        return INSIDE_WORD * (not token.startswith(starts)) + written

    def segment(self, words: Sequence[str]) -> list[dict[str, Any]]:
        """Return each word with the letters of its tokens, as after a space."""
        backend = self.tokenizer.backend_tokenizer
        encodings = (backend.encode(f" {word}", add_special_tokens=False) for word in words)
        return [
            {
                "word": word,
                "tokens": [
                    self.text(token)
                    for token in encoding.tokens
                    if token not in ("Ġ", tokenizer_json.WORD_START)
                ],
            }
            for word, encoding in zip(words, encodings, strict=True)
        ]
