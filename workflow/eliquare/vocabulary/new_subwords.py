"""Which new sub-words a corpus asks for: learnt, counted as the tokenizer really cuts, guarded."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import extend as extension
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.merging import Merge, Merging
from eliquare.vocabulary.tokenizer import Description
from eliquare.vocabulary.words import Words, closed_pieces, cut_word

POINTS = 40
ROUNDS = 4
# Learnt beyond the number asked for, since some are not used or do harm when the text is cut.
MORE = 1.05


@dataclass
class Learnt:
    """New sub-words in the order of learning, and what adding them step by step does.

    ``curve`` has (sub-words added, pieces of the text); ``uses`` how often each piece stands in the
    text as learnt; ``harmful`` are those that made more of the text longer than shorter.
    """

    pieces: list[str]
    merges: list[Merge]
    curve: list[tuple[int, int]]
    uses: Counter[str]
    characters: list[str] = field(default_factory=list)
    harmful: list[str] = field(default_factory=list)


def learn(
    description: Description,
    words: Words,
    add: int | None,
    gain: float,
    least: int,
) -> Learnt:
    """Join pieces until ``add`` new ones are in use, or until one more saves too little.

    ``gain`` is the share of the text's pieces that the last one must save; it decides where ``add``
    is None. ``least`` is how often a new sub-word must occur. A piece that is only part of longer
    new ones is not counted and not added, except to BPE, whose merges need it.
    """
    ordered = ((cut, words.counts[word]) for word, cut in words.cuts.items())
    known = set(surgery.list_subwords(description))
    join, closed = extension.joiner(description), closed_pieces(description)
    learning = Merging(ordered, join, known, closed, least)
    every = surgery.kind_of(description) == "BPE"
    merges: list[Merge] = []
    results: dict[str, None] = {}
    curve = [(0, learning.pieces)]
    enough = gain * learning.pieces

    def added() -> int:
        return len(results) if every else len(learning.alive)

    with_progress = stage.progress(iter(learning.step, None), "new sub-words", total=add)
    wanted = add if every or add is None else round(MORE * add) + 1
    while added() < wanted if add is not None else learning.peek() >= max(enough, 1):
        merge = next(with_progress, None)
        if merge is None:
            break
        merges.append(merge)
        results[merge.result] = None
        curve.append((added(), learning.pieces))
    pieces = [piece for piece in results if every or piece in learning.alive]
    return Learnt(pieces, merges, thinned(curve), learning.uses)


def thinned(curve: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most about POINTS points of the curve, the first and the last among them."""
    # The number in use can fall for a step; only a new height is a point.
    rising, highest = [], -1
    for point in curve:
        if point[0] > highest:
            rising.append(point)
            highest = point[0]
    every = max(1, -(-len(rising) // POINTS))
    chosen = rising[::every]
    return chosen if chosen[-1] == rising[-1] else [*chosen, rising[-1]]


def guard(
    description: Description, words: Words, learnt: Learnt, least: int, add: int | None = None
) -> None:
    """Take out of ``learnt`` what does not pay when the text is really cut with it.

    Of the others the first ``add`` stay, if it is given.

    WordPiece may cut a word into more pieces than before where a new piece ends at a bad place, and
    Unigram and WordPiece may not use a piece at all. A piece goes if it is used fewer than
    ``least`` times, or if the words that hold it became longer by more than they became shorter.
    Adds the characters that keep WordPiece from new [UNK]. The merges of BPE act as learnt.
    """
    if surgery.kind_of(description) == "BPE":
        return
    learnt.characters = extension.missing_characters(description)
    for last in (False,) * ROUNDS + (True,):
        added = [*learnt.characters, *learnt.pieces]
        backend = surgery.backend_of(extension.extend(description, added))
        new, uses, saved = set(learnt.pieces), Counter(), Counter()
        for word, old in words.cuts.items():
            if len(old) < 2:
                continue
            cut, count = cut_word(backend, word), words.counts[word]
            for piece in new.intersection(cut):
                uses[piece] += count * cut.count(piece)
                saved[piece] += count * (len(old) - len(cut))
        bad = [piece for piece in learnt.pieces if uses[piece] < least or saved[piece] <= 0]
        learnt.uses = uses
        learnt.harmful += [piece for piece in bad if uses[piece] >= least]
        gone = set(bad)
        learnt.pieces = [piece for piece in learnt.pieces if piece not in gone]
        too_many = add is not None and len(learnt.pieces) > add
        if too_many and (last or not bad):
            learnt.pieces = learnt.pieces[:add]
            learnt.curve = [point for point in learnt.curve if point[0] <= add]
        elif not bad:
            return


def effect(words: Words, backend: Any) -> dict[str, float]:
    """What a new tokenizer does to the words: pieces for a written word, shares of running words.

    ``made_shorter`` and ``made_longer`` are shares of the occurrences of words.
    """
    before = after = shorter = longer = 0
    for word, old in words.cuts.items():
        count, cut = words.counts[word], cut_word(backend, word)
        before += count * len(old)
        after += count * len(cut)
        shorter += count * (len(cut) < len(old))
        longer += count * (len(cut) > len(old))
    occurrences = sum(words.counts.values())
    if not words.written:
        raise InputError("the documents hold no words")
    return {
        "sub_words_per_word_before": before / words.written,
        "sub_words_per_word_after": after / words.written,
        "words_made_shorter": shorter / occurrences,
        "words_made_longer": longer / occurrences,
    }
