"""Byte-pair encoding: which pieces a sub-word is made through, and its merges cut to kept pieces.

A BPE sub-word comes about by merges, one after the other, and every piece on the way must exist.
Where a text is cut into pieces, no merge ever crosses the border between two of them, so that each
piece comes about exactly as it does when it stands alone: its *route*. A set of sub-words that
holds the routes of its members is closed, and text whose pieces are all in a closed set takes the
same merges as before.

The first merge rule that makes a sub-word need not be the one that is taken: tokenizers made from
SentencePiece list every split of a sub-word as a merge.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tokenizers import pre_tokenizers

BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
ARE_BYTES = frozenset(BYTE_TOKENS)


class Merges:
    """The merges of a tokenizer.json's BPE model, run as the tokenizers library runs them."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.vocabulary: dict[str, int] = model["vocab"]
        self.prefix: str = model.get("continuing_subword_prefix") or ""
        self.suffix: str = model.get("end_of_word_suffix") or ""
        self.byte_fallback = bool(model.get("byte_fallback"))
        # Of a pair listed twice the last counts, as in the library.
        self.ranks = {pair: rank for rank, pair in enumerate(map(as_pair, model["merges"]))}

    def made_by(self, pair: tuple[str, str]) -> str:
        """The sub-word that a merge of two pieces makes."""
        return pair[0] + pair[1][len(self.prefix) :]

    def characters(self, subword: str) -> list[str]:
        """The pieces that merging starts from; bytes for a character that is not a sub-word."""
        word, first, last = subword, "", ""
        if self.prefix and len(word) > len(self.prefix) and word.startswith(self.prefix):
            word, first = word.removeprefix(self.prefix), self.prefix
        if self.suffix and len(word) > len(self.suffix) and word.endswith(self.suffix):
            word, last = word.removesuffix(self.suffix), self.suffix
        pieces = []
        for position, character in enumerate(word):
            before = first if position == 0 else self.prefix
            piece = before + character + (last if position == len(word) - 1 else "")
            if piece not in self.vocabulary and self.byte_fallback:
                pieces += [BYTE_TOKENS[byte] for byte in piece.encode()]
            else:
                pieces.append(piece)
        return pieces

    def taken(self, subword: str) -> list[tuple[str, str]]:
        """The merges that are taken where the sub-word stands alone, in their order."""
        pieces = self.characters(subword)
        taken = []
        never = len(self.ranks)
        while len(pieces) > 1:
            # The lowest rank goes first, and of equal ones the leftmost.
            pairs = list(pairwise(pieces))
            ranks = [self.ranks.get(pair, never) for pair in pairs]
            lowest = min(ranks)
            if lowest == never:
                break
            place = ranks.index(lowest)
            taken.append(pairs[place])
            pieces[place : place + 2] = [self.made_by(pairs[place])]
        return taken

    def route(self, subword: str) -> set[str]:
        """Every piece passed on the way from characters to the sub-word, itself included."""
        passed = {subword, *self.characters(subword), *map(self.made_by, self.taken(subword))}
        return {piece for piece in passed if piece in self.vocabulary}


def as_pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge as tokenizer.json has it: two pieces, or (in older files) one text with a space."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def merged_subwords(description: dict[str, Any]) -> dict[int, str]:
    """The sub-words that come about by merges: not added tokens, bytes or the unknown sub-word."""
    model = description["model"]
    others = {token["content"] for token in description["added_tokens"]} | {model.get("unk_token")}
    others |= ARE_BYTES if model.get("byte_fallback") else set()
    return {i: subword for subword, i in model["vocab"].items() if subword not in others}


def close_by_route(description: dict[str, Any], kept: Iterable[int]) -> set[int]:
    """The kept ids of a BPE tokenizer and those of every piece on their routes."""
    merges = Merges(description["model"])
    subwords = merged_subwords(description)
    closed = set(kept)
    for identifier in list(closed):
        if identifier in subwords:
            route = merges.route(subwords[identifier])
            closed.update(merges.vocabulary[piece] for piece in route)
    return closed


def alphabet_ids(description: dict[str, Any]) -> set[int]:
    """Ids of the pieces that every text is spelled with where nothing longer is known.

    The 256 bytes, where the tokenizer works on bytes or falls back on them; otherwise every single
    character of the vocabulary, since one that is missing becomes unknown.
    """
    model = description["model"]
    merges = Merges(model | {"merges": []})
    if merges.byte_fallback:
        pieces = BYTE_TOKENS
    elif works_on_bytes(description):
        pieces = [
            before + byte + after
            for byte in pre_tokenizers.ByteLevel.alphabet()
            for before in {"", merges.prefix}
            for after in {"", merges.suffix}
        ]
    else:
        pieces = [subword for subword in merges.vocabulary if len(merges.characters(subword)) == 1]
    return {merges.vocabulary[piece] for piece in pieces if piece in merges.vocabulary}


def works_on_bytes(description: dict[str, Any]) -> bool:
    """Whether text reaches the merges as bytes, each written as a printable character."""
    return any(
        part.get("type") == "ByteLevel"
        for place in ("normalizer", "pre_tokenizer")
        for part in parts(description.get(place))
    )


def parts(component: dict[str, Any] | None) -> Iterable[dict[str, Any]]:
    """A normalizer or pre-tokenizer, or those of a sequence one by one."""
    if component is None:
        return
    if component.get("type") == "Sequence":
        for inner in component.get("normalizers") or component.get("pretokenizers") or []:
            yield from parts(inner)
    else:
        yield component


def cut_merges(model: dict[str, Any], kept: Iterable[str]) -> list[Any]:
    """The merges whose two pieces and result are all kept, in their old order and form."""
    kept = set(kept)
    merges = Merges(model | {"merges": []})
    return [
        merge
        for merge in model["merges"]
        if kept.issuperset((*as_pair(merge), merges.made_by(as_pair(merge))))
    ]
