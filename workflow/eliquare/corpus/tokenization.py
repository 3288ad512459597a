"""Tokenizers, and the tokens of a document's sentences.

Text is tokenized in units that begin where whitespace stands between two sentences, so that the
tokens are those of the full text.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sentencex
from tokenizers import Tokenizer

from eliquare.faults import refused
from eliquare.io import InputError, existing, read_json

WIDE_SPACE = re.compile(r"(?<!\w)([A-Z])[^\S\x00-\x7f]\.")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that a model expects around one text, as in ``[CLS] … [SEP]``."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def of(cls, backend: Tokenizer) -> "SpecialTokens":
        """Return what the tokenizer's post-processor puts before and after one text."""
        plain = backend.encode("a", add_special_tokens=False).ids
        framed = backend.encode("a", add_special_tokens=True).ids
        for begin in range(len(framed) - len(plain) + 1):
            end = begin + len(plain)
            if plain and framed[begin:end] == plain:
                return cls(tuple(framed[:begin]), tuple(framed[end:]))
        raise InputError(
            "tokenizer: its special tokens do not stand around the text; cannot use it"
        )

    @property
    def size(self) -> int:
        """Return how many tokens of a sequence they take."""
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True)
class CorpusTokenizer:
    """The tokenizer of a model folder, as the corpus needs it.

    Attributes:
        backend: Tokenizes, without truncation or padding; the names of special tokens in running
            text (``<s>`` or ``[MASK]`` in an article about them) are read as text.
        tokens: Each token in the order of the ids, ``""`` for an id without one.
        special_ids: Ids of the special tokens, ascending.
        around: The special tokens around a text.
        mask_id: Id of the mask token, if it has one.
        unk_id: Id of the unknown token, if it has one.
        max_length: Tokens that its model reads at most.
    """

    backend: Tokenizer
    tokens: list[str]
    special_ids: list[int]
    around: SpecialTokens
    mask_id: int | None
    unk_id: int | None
    max_length: int

    @classmethod
    def load(cls, folder: str | Path) -> "CorpusTokenizer":
        """Load the tokenizer that AutoTokenizer loads, without its seconds of imports if possible.

        What transformers 5 has saved (it writes ``backend``) is what it loads again, so the file is
        read as it stands. Older folders go through transformers, which rebuilds some tokenizers
        from other files. Raises InputError where there is no fast tokenizer.
        """
        folder = existing(folder, "model folder with a tokenizer")
        path = folder / "tokenizer_config.json"
        config = read_json(path) if path.exists() else {}
        with refused(f"{folder}: no tokenizer that can be used"):
            return cls.described(folder, config)

    @classmethod
    def described(cls, folder: Path, config: Mapping[str, Any]) -> "CorpusTokenizer":
        """Load the tokenizer of a folder, whose tokenizer_config.json says ``config``."""
        file = folder / "tokenizer.json"
        if config.get("backend") == "tokenizers" and "auto_map" not in config and file.exists():
            backend = Tokenizer.from_file(str(file))
            named = (config.get("mask_token"), config.get("unk_token"))
            mask, unk = (each["content"] if isinstance(each, dict) else each for each in named)
            max_length = int(config.get("model_max_length", 1e30))
        else:
            from eliquare.models.loading import load_fast_tokenizer

            loaded = load_fast_tokenizer(folder)
            mask, unk = loaded.mask_token, loaded.unk_token
            backend, max_length = loaded.backend_tokenizer, loaded.model_max_length
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        vocabulary: dict[str, int] = backend.get_vocab()
        tokens = [""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            tokens[index] = token
        added = backend.get_added_tokens_decoder()
        return cls(
            backend=backend,
            tokens=tokens,
            special_ids=sorted(index for index, token in added.items() if token.special),
            around=SpecialTokens.of(backend),
            mask_id=backend.token_to_id(mask or ""),
            unk_id=backend.token_to_id(unk or ""),
            max_length=max_length,
        )


def integer_type(size: int) -> np.dtype[Any]:
    """Return the smaller of uint16 and uint32 that holds ``size`` ids."""
    return np.dtype(np.uint16 if size <= 2**16 else np.uint32)


def require_same(sequences: str | Path, size: int, name: str | Path) -> None:
    """Raise InputError where a tokenizer of ``size`` tokens did not make these sequences."""
    made = read_json(Path(sequences) / "report.json").get("vocabulary")
    if made != size:
        raise InputError(
            f"{name}: {size} tokens, but {sequences} was made with a tokenizer of {made}; "
            "expected the same tokenizer"
        )


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text; joined, they are the text without the whitespace around it.

    Every line break ends a sentence (it ends a paragraph, a heading or a list item); inside a line
    sentencex decides. Whitespace between two sentences stands at the start of the second.
    """
    sentences = []
    space = ""
    for line in text.strip().split("\n"):
        parts = segment(language, line)
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


def segment(language: str, line: str) -> list[str]:
    """Return the sentences of a line; it is one sentence where sentencex fails.

    sentencex ends with Rust's PanicException at a letter, a space of several bytes and a full stop
    ("vitamin C ." with no-break spaces), so it sees such spaces as plain ones.
    """
    plain = WIDE_SPACE.sub(lambda match: f"{match[1]} .", line)
    try:
        parts: list[str] = sentencex.segment(language, plain)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return [line]
    begins = itertools.accumulate(map(len, parts), initial=0)
    return [line[begin : begin + len(part)] for begin, part in zip(begins, parts, strict=False)]


class Units(NamedTuple):
    """The texts that are tokenized at once.

    Attributes:
        texts: The units.
        begins: For each unit, the characters at which its sentences begin; the first is 0.
        owners: For each unit, the number of its document.
    """

    texts: list[str]
    begins: list[list[int]]
    owners: list[int]

    @classmethod
    def of(cls, backend: Tokenizer, documents: list[list[str]]) -> "Units":
        """Make units of documents that are given as sentences.

        Sentences with nothing between them where the tokenizer can be split are one unit: in
        Japanese, say, no space follows a full stop, and a tokenizer that marks the start of a word
        would mark one there.
        """
        spaces = breaking_spaces(backend)
        units = cls([], [], [])
        for owner, sentences in enumerate(documents):
            for sentence in sentences:
                if units.owners and units.owners[-1] == owner and sentence[0] not in spaces:
                    units.begins[-1].append(len(units.texts[-1]))
                    units.texts[-1] += sentence
                else:
                    units.texts.append(sentence)
                    units.begins.append([0])
                    units.owners.append(owner)
        return units


def breaking_spaces(backend: Tokenizer) -> set[str]:
    """Return the whitespace before which text can be split without changing its tokens."""

    def ids(text: str) -> list[int]:
        return list(backend.encode(text, add_special_tokens=False).ids)

    return {space for space in " \n\t" if ids(f"a.{space}a") == ids("a.") + ids(f"{space}a")}


class EncodedDocuments(NamedTuple):
    """The tokens of several documents, one after the other.

    Attributes:
        ids: ``ids[tokens]``.
        is_start: ``is_start[tokens]``, whether a sentence begins there.
        lengths: ``lengths[documents]``, the tokens of each document.
    """

    ids: npt.NDArray[np.int64]
    is_start: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]


def encode(backend: Tokenizer, documents: list[list[str]]) -> EncodedDocuments:
    """Tokenize documents that are given as sentences, as ``split_sentences`` makes them."""
    units = Units.of(backend, documents)
    single = [len(begin) == 1 for begin in units.begins]
    several = [not alone for alone in single]
    texts, joined = (list(itertools.compress(units.texts, each)) for each in (single, several))
    fast = iter(backend.encode_batch_fast(texts, add_special_tokens=False))
    with_offsets = iter(backend.encode_batch(joined, add_special_tokens=False))
    ids: list[int] = []
    starts: list[int] = []
    lengths = np.zeros(len(documents), dtype=np.int64)
    for owner, begin, alone in zip(units.owners, units.begins, single, strict=True):
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
    return EncodedDocuments(np.array(ids, dtype=np.int64), is_start, lengths)
