"""A tokenizer with more sub-words, in its own kind, that cuts as before wherever it needs none.

What each kind needs for that:

- WordPiece takes the longest piece that fits, from the front. If the new cut of a word holds no new
  piece, each piece of it was the longest old one, so the cut is the old one. A new piece may leave
  a rest that no piece fits, which makes the whole word [UNK]: so every character that any piece
  holds after a word's start gets a piece of its own there.
- Unigram takes the path of the highest score. A path without new pieces is an old path. The score
  of a new piece is that of its best old path and a little more for each piece that it saves: so
  the new cut is an old best one in which runs of pieces are replaced, and as many as possible.
- BPE applies merges in their order. The new ones come after all old ones and make tokens that no
  old merge takes, so that they join what the old ones leave.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.merging import Merge
from eliquare.vocabulary.tokenizer import Description
from eliquare.vocabulary.words import cut_word

# Far below the differences between scores, far above the rounding of their sums.
SCORE_FOR_A_SAVED_PIECE = 1e-4


def joiner(description: Description) -> Callable[[str, str], str]:
    """How two neighbours are written as one."""
    prefix = surgery.continuing(description)
    return lambda left, right: left + right.removeprefix(prefix)


def old_pieces(backend: Any, description: Description, piece: str) -> list[str]:
    """The pieces into which a tokenizer cuts a sub-word's own characters, where it stands.

    Of a sub-word inside a word the first piece is one for inside a word, too.
    """
    prefix = surgery.continuing(description)
    if surgery.kind_of(description) != "WordPiece" or not piece.startswith(prefix):
        return list(cut_word(backend, piece))
    vocabulary = surgery.model_vocabulary(description)
    pieces, begin = [], len(prefix)
    while begin < len(piece):
        end = len(piece)
        while end > begin and prefix + piece[begin:end] not in vocabulary:
            end -= 1
        if end == begin:
            return [description["model"]["unk_token"]]
        pieces.append(prefix + piece[begin:end])
        begin = end
    return pieces


def missing_characters(description: Description) -> list[str]:
    """WordPiece: the characters that stand inside words but are no piece there, in order."""
    if surgery.kind_of(description) != "WordPiece":
        return []
    prefix = surgery.continuing(description)
    vocabulary = surgery.model_vocabulary(description)
    subwords = surgery.list_subwords(description)
    special = {subwords[number] for number in surgery.protected_ids(description)}
    inside: dict[str, None] = {}
    for piece in vocabulary:
        if piece not in special:
            first = len(prefix) if piece.startswith(prefix) else 1
            inside.update(dict.fromkeys(piece[first:]))
    return sorted(prefix + one for one in inside if prefix + one not in vocabulary)


def extend(
    description: Description,
    pieces: Sequence[str],
    merges: Iterable[Merge] = (),
    scores: dict[str, float] | None = None,
) -> Description:
    """The tokenizer with ``pieces`` added in their order, their ids after all old ones.

    BPE needs the ``merges`` that make them, in order. Unigram takes ``scores`` where they are
    given, for old pieces too; by default new pieces get theirs from their best old path and old
    ones keep their own. Raises InputError for a piece that the tokenizer has already.
    """
    kind = surgery.kind_of(description)
    result = copy.deepcopy(description)
    model = result["model"]
    subwords = surgery.list_subwords(description)
    known = set(subwords)
    for piece in pieces:
        if piece in known:
            raise InputError(f"the tokenizer has the sub-word {piece!r} already")
        known.add(piece)
    if kind == "Unigram":
        floor = min(score for _, score in model["vocab"])
        # Added tokens beyond the list would move when it grows: they become part of it.
        model["vocab"] += [[token, floor] for token in subwords[len(model["vocab"]) :]]
        if scores is None:
            new = path_scores(description, pieces)
        else:
            new = scores
            model["vocab"] = [[piece, scores.get(piece, score)] for piece, score in model["vocab"]]
        model["vocab"] += [[piece, new[piece]] for piece in pieces]
        return result
    ids = {token: number for number, token in enumerate([*subwords, *pieces])}
    model["vocab"] = ids
    if kind == "BPE":
        as_text = bool(model["merges"]) and isinstance(model["merges"][0], str)
        pairs = [[merge.left, merge.right] for merge in merges]
        model["merges"] += [" ".join(pair) for pair in pairs] if as_text else pairs
    return result


def path_scores(description: Description, pieces: Iterable[str]) -> dict[str, float]:
    """The score of each new piece of a Unigram tokenizer: see the module's head.

    Where a character of some old piece is no piece itself, no new score falls below the lowest old
    one: tokenizers takes the score of such a character from the lowest of all.
    """
    model = description["model"]
    scores = {piece: score for piece, score in model["vocab"]}
    unknown = model.get("unk_id")
    backend = surgery.backend_of(description)
    added = {token["content"] for token in description["added_tokens"]}
    closed = all(one in scores for piece in scores if piece not in added for one in piece)
    lowest = float("-inf") if closed else min(scores.values())
    result = {}
    for piece in pieces:
        tokens = backend.model.tokenize(piece)
        if any(token.id == unknown for token in tokens):
            raise InputError(f"the new sub-word {piece!r} has characters that no old piece covers")
        path = sum(scores[token.value] for token in tokens)
        score = max(path + SCORE_FOR_A_SAVED_PIECE * (len(tokens) - 1), lowest)
        # tokenizers reads a number of few digits exactly, and one of many perhaps not.
        result[piece] = round(score, 6)
    return result
