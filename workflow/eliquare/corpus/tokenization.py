"""Tokenizers, and the tokens of a document's sentences.

Text is tokenized in units that begin where whitespace stands between two sentences, so that the
tokens are those of the full text.
"""

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sentencex
from tokenizers import Tokenizer

from eliquare.faults import refused
from eliquare.io import InputError, existing, read_json

Int64 = npt.NDArray[np.int64]

WIDE_SPACE = re.compile(r"([A-Z])(?<!\w[A-Z])[^\S\x00-\x7f]\.")
# White space, and what normalizers make white space of.
SPACES = (
    " \t\n\x0b\x0c\r\x85\u00a0\u1680\u2028\u2029\u202f\u205f\u2581\u3000\ufeff\ufffd"
    + "".join(map(chr, range(0x2000, 0x2010)))
)
UNWRITTEN = "\U000fffff"  # for private use
# Ids of tokens are at most so large; the largest vocabularies have a million.
LARGEST_ID = 1 << 24
JOINED_WORDS = 100  # which are tokenized as one text: each text takes as long as some words
REMEMBERED_CHARACTERS = 1 << 21  # of words, with which they take some 60 MB


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
        words: The words that ``encode`` has seen.
        tokens: Each token in the order of the ids, ``""`` for an id without one.
        special_ids: Ids of the special tokens, ascending.
        around: The special tokens around a text.
        mask_id: Id of the mask token, if it has one.
        unk_id: Id of the unknown token, if it has one.
        max_length: Tokens that its model reads at most.
    """

    backend: Tokenizer
    words: "Words"
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
        vocabulary: dict[str, int] = backend.get_vocab()
        require_ids(vocabulary.values(), folder)
        tokens = [""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            tokens[index] = token
        added = backend.get_added_tokens_decoder()
        as_text = names_as_text(backend, unk)
        return cls(
            backend=as_text,
            words=Words(as_text),
            tokens=tokens,
            special_ids=sorted(index for index, token in added.items() if token.special),
            around=SpecialTokens.of(backend),
            mask_id=backend.token_to_id(mask or ""),
            unk_id=backend.token_to_id(unk or ""),
            max_length=max_length,
        )


def names_as_text(backend: Tokenizer, unknown: str | None) -> Tokenizer:
    """Return a tokenizer for which the name of a special token in a text is text.

    It is not looked for there. But a model whose vocabulary holds the name, as a Unigram's does,
    would choose it: there the token has another name, which no text holds, and the same id.

    Args:
        backend: the tokenizer, which is changed.
        unknown: its unknown token.
    """
    backend.encode_special_tokens = True
    added = backend.get_added_tokens_decoder().values()
    names = {token.content: UNWRITTEN + token.content for token in added if token.special}
    chosen = backend.encode(" ".join(names), add_special_tokens=False).tokens
    if not (names.keys() - {unknown}).intersection(chosen):
        return backend
    description = json.loads(backend.to_str())
    model = description["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    else:
        model["vocab"] = {names.get(token, token): index for token, index in model["vocab"].items()}
    if "unk_token" in model:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    for token in description["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    renamed = Tokenizer.from_str(json.dumps(description))
    renamed.encode_special_tokens = True
    return renamed


def require_ids(ids: Collection[int], source: Any) -> None:
    """Raise InputError where there is no token, or a list by id would not fit into memory."""
    if not ids or max(ids) > LARGEST_ID:
        found = f"{max(ids):,}" if ids else "none"
        raise InputError(f"{source}: ids of tokens up to {LARGEST_ID:,} expected, found {found}")


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
        for part in segment(language, line):
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
    plain = WIDE_SPACE.sub(r"\1 .", line)
    try:
        parts: list[str] = sentencex.segment(language, plain)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return [line]
    if "".join(parts) == line:
        return parts
    ends = list(itertools.accumulate(map(len, parts), initial=0))
    return [line[a:b] for a, b in itertools.pairwise(ends)] if ends[-1] == len(line) else [line]


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
    def of(cls, spaces: str, documents: list[list[str]]) -> "Units":
        """Make units of documents that are given as sentences; they begin with one of ``spaces``.

        Sentences with nothing between them where the tokenizer can be split are one unit: in
        Japanese, say, no space follows a full stop, and a tokenizer that marks the start of a word
        would mark one there.
        """
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


def breaking_spaces(backend: Tokenizer) -> str:
    """Return the whitespace before which text can be split without changing its tokens."""

    def ids(text: str) -> list[int]:
        return list(backend.encode(text, add_special_tokens=False).ids)

    def breaks(space: str) -> bool:
        return all(ids(f"{a}{space}a") == ids(a) + ids(f"{space}a") for a in ("a", "a."))

    return "".join(filter(breaks, SPACES))


def is_split_at_spaces(backend: Tokenizer) -> bool:
    """Return whether each token is inside one word, so that words can be tokenized by themselves.

    It is so where the pre-tokenizer splits text there, and no added token holds or takes a space.
    """
    if backend.pre_tokenizer is None:
        return False
    normalizer = backend.normalizer
    text = normalizer.normalize_str("a a") if normalizer else "a a"
    added = backend.get_added_tokens_decoder().values()
    of_several = any(token.rstrip or len(token.content.split()) > 1 for token in added)
    return len(backend.pre_tokenizer.pre_tokenize_str(text)) > 1 and not of_several


class Words:
    """Tokenizes words, each with the whitespace before it, once: most words occur again and again.

    Forgets them all when they have more than REMEMBERED_CHARACTERS. Where words cannot be tokenized
    one by one, a complete text is taken as a word.

    Attributes:
        spaces: The whitespace before which text can be split without changing its tokens.
    """

    def __init__(self, backend: Tokenizer):
        self.backend = backend
        self.spaces = breaking_spaces(backend)
        self._one_by_one = bool(self.spaces) and is_split_at_spaces(backend)
        word = f"[{self.spaces}]*[^{self.spaces}]+|[{self.spaces}]+"
        self._word = re.compile(word if self._one_by_one else "(?s:.+)")
        self._forget()

    def _forget(self) -> None:
        self._number = defaultdict[str, int](itertools.count().__next__)  # new words get the next
        self._characters = 0
        self._ids = np.zeros(0, dtype=np.int64)
        self._ends = np.zeros(1, dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> tuple[Int64, Int64]:
        """Return the tokens of texts, one after the other, and how many each text has."""
        split = list(map(self._word.findall, texts))
        words = list(itertools.chain.from_iterable(split))
        known = len(self._number)
        numbers = np.fromiter(map(self._number.__getitem__, words), np.int64, len(words))
        self._learn(list(itertools.islice(self._number, known, None)))
        ends = self._ends[numbers + 1]
        lengths = ends - self._ends[numbers]
        totals = np.cumsum(lengths)
        ids = self._ids[np.repeat(ends - totals, lengths) + np.arange(lengths.sum())]
        last = np.cumsum(list(map(len, split)), dtype=np.int64)
        of_texts = np.diff(np.append(0, totals)[last], prepend=0)
        if self._characters > REMEMBERED_CHARACTERS:
            self._forget()
        return ids, of_texts

    def _learn(self, words: list[str]) -> None:
        """Remember the tokens of words, several of which are tokenized as one text."""
        groups: list[list[str]] = []
        last = ""
        for word in words:
            # After another word, one without whitespace would be its end, and tokenizers take two
            # spaces for one.
            joins = self._one_by_one and word[0] in self.spaces and last[-1:] not in self.spaces
            if last and joins and len(groups[-1]) < JOINED_WORDS:
                groups[-1].append(word)
            else:
                groups.append([word])
            last = word
        texts = list(map("".join, groups))
        encodings = self.backend.encode_batch(texts, add_special_tokens=False)
        ids = [index for encoding in encodings for index in encoding.ids]
        begins = np.array([o[0] for encoding in encodings for o in encoding.offsets], np.int64)
        sizes = np.array(list(map(len, texts)), np.int64)
        of_text = np.repeat(np.arange(len(texts)), list(map(len, encodings)))
        positions = (np.cumsum(sizes) - sizes)[of_text] + np.minimum(begins, sizes[of_text] - 1)
        ends = np.cumsum(list(map(len, words)), dtype=np.int64)
        lengths = np.bincount(np.searchsorted(ends, positions, "right"), minlength=len(words))
        self._ids = np.append(self._ids, np.array(ids, np.int64))
        self._ends = np.append(self._ends, self._ends[-1] + np.cumsum(lengths))
        self._characters += int(sizes.sum())


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


def encode(words: Words, documents: list[list[str]]) -> EncodedDocuments:
    """Tokenize documents that are given as sentences, as ``split_sentences`` makes them."""
    units = Units.of(words.spaces, documents)
    is_single = np.array([len(begin) == 1 for begin in units.begins], dtype=bool)
    single, several = (
        list(itertools.compress(units.texts, each)) for each in (is_single, ~is_single)
    )
    single_ids, single_lengths = words.encode(single)
    encodings = words.backend.encode_batch(several, add_special_tokens=False)
    lengths = np.zeros(len(units.texts), dtype=np.int64)
    lengths[is_single] = single_lengths
    lengths[~is_single] = [len(encoding) for encoding in encodings]
    is_of_single = np.repeat(is_single, lengths)
    ids = np.zeros(len(is_of_single), dtype=np.int64)
    ids[is_of_single] = single_ids
    ids[~is_of_single] = [index for encoding in encodings for index in encoding.ids]

    begins = np.cumsum(lengths) - lengths
    is_start = np.zeros(len(ids), dtype=bool)
    is_start[begins[lengths > 0]] = True
    for unit, encoding in zip(np.flatnonzero(~is_single), encodings, strict=True):
        characters = [offset[0] for offset in encoding.offsets]
        inside = np.searchsorted(characters, units.begins[unit][1:])
        is_start[begins[unit] + inside[inside < len(encoding)]] = True
    of_documents = np.zeros(len(documents), dtype=np.int64)
    np.add.at(of_documents, units.owners, lengths)
    return EncodedDocuments(ids, is_start, of_documents)
