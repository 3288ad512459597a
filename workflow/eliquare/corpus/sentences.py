"""Sentences of a document, and their sub-words.

Text is tokenized in units that begin where whitespace stands between two sentences, so that the
sub-words are those of the whole text.
"""

import itertools
from typing import Any

import numpy as np
import sentencex


def split_sentences(text: str, language: str) -> list[str]:
    """The sentences of a text; joined, they are the text without the whitespace around it.

    Every line break ends a sentence (it ends a paragraph, a heading or a list item); inside a line
    sentencex decides. Whitespace between two sentences stands at the start of the second.
    """
    sentences = []
    space = ""
    for line in text.strip().split("\n"):
        parts = sentencex.segment(language, line)
        if sum(map(len, parts)) != len(line):
            parts = [line]
        for part in parts:
            words = part.rstrip()
            if words:
                sentences.append(space + words)
                space = ""
            space += part[len(words) :]
        space += "\n"
    return sentences


def breaking_spaces(backend: Any) -> set[str]:
    """The whitespace before which text can be cut without changing its sub-words."""

    def ids(text: str) -> list[int]:
        return backend.encode(text, add_special_tokens=False).ids

    return {space for space in " \n\t" if ids(f"a.{space}a") == ids("a.") + ids(f"{space}a")}


def units_of(
    backend: Any, documents: list[list[str]]
) -> tuple[list[str], list[list[int]], list[int]]:
    """What is tokenized at once: texts, where sentences begin in each, and its document.

    Sentences with nothing between them where the tokenizer can be cut are one unit.
    """
    spaces = breaking_spaces(backend)
    units: list[str] = []
    begins: list[list[int]] = []
    owners: list[int] = []
    for owner, sentences in enumerate(documents):
        for sentence in sentences:
            if owners and owners[-1] == owner and sentence[0] not in spaces:
                begins[-1].append(len(units[-1]))
                units[-1] += sentence
            else:
                units.append(sentence)
                begins.append([0])
                owners.append(owner)
    return units, begins, owners


def encode(tokenizer: Any, documents: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokenize documents that are given as sentences.

    The sentences of a document joined are its text: whitespace between two of them stands at the
    start of the second. Sentences with nothing between them where this tokenizer can be cut are
    tokenized together: in Japanese, say, no space follows a full stop, and a tokenizer that marks
    the start of a word would mark one there.

    Returns the ids of all documents in a row (int64), whether a sentence begins at each of them
    (bool), and how many of them each document has (int64).
    """
    backend = tokenizer.backend_tokenizer
    units, begins, owners = units_of(backend, documents)
    single = [len(begin) == 1 for begin in begins]
    fast = iter(
        backend.encode_batch_fast(list(itertools.compress(units, single)), add_special_tokens=False)
    )
    with_offsets = iter(
        backend.encode_batch(
            [unit for unit, alone in zip(units, single, strict=True) if not alone],
            add_special_tokens=False,
        )
    )
    ids: list[int] = []
    starts: list[int] = []
    lengths = np.zeros(len(documents), dtype=np.int64)
    for owner, begin, alone in zip(owners, begins, single, strict=True):
        encoding = next(fast if alone else with_offsets)
        unit_ids = encoding.ids
        if unit_ids:
            starts.append(len(ids))
        if not alone:
            characters = [offset[0] for offset in encoding.offsets]
            positions = np.unique(np.searchsorted(characters, begin[1:]))
            inside = positions[(positions > 0) & (positions < len(unit_ids))]
            starts.extend((len(ids) + inside).tolist())
        ids.extend(unit_ids)
        lengths[owner] += len(unit_ids)
    is_start = np.zeros(len(ids), dtype=bool)
    is_start[starts] = True
    return np.array(ids, dtype=np.int64), is_start, lengths
