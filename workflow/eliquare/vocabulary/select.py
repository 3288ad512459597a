"""Select the tokens that stay, from counts of the teacher's tokens in the corpus.

    eliquare vocabulary select --model MODEL --text TEXT --min-sentence-fraction 0.0005
        --output vocabulary.csv

Special and added tokens and every single character of the corpus stay whatever the rule says: one
missing character would turn a whole WordPiece word into [UNK]. One rule selects among the rest,
and the most frequent tokens left fill the number up to a multiple, if one is asked for.

A vocabulary file has the columns id, token and reason; a plain list, one token per line, is read
wherever a vocabulary file is.
"""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fontTools import unicodedata
from pydantic import Field

from eliquare.cli import Options
from eliquare.config.base import Problem
from eliquare.config.corpus import not_text
from eliquare.config.model import SELECTION_KEYS, SelectionRule
from eliquare.corpus.counts import Counts, read_counts
from eliquare.corpus.documents import utf8_lines
from eliquare.corpus.tokenization import CorpusTokenizer, encode
from eliquare.io import InputError, atomic_write, open_text, read_as
from eliquare.models.hub import local_folder
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.heads import prompt_ids

COLUMNS = ["id", "token", "reason"]
LINES_AT_ONCE = 1000

logger = logging.getLogger(__name__)


class SelectOptions(Options, SelectionRule):
    """Options of ``vocabulary select``."""

    model: str = Field(description="Folder of the teacher (its tokenizer), or a hub id.")
    counts: list[Path] = Field(
        [], description="Counts of the corpus; several: the rule holds for each by itself."
    )
    characters: list[Path] = Field([], description="characters.json of each of --counts.")
    text: list[Path] = Field(
        [],
        description="Instead of --counts, or beside them: text files, one sentence per line "
        "(.gz, .bz2, .xz, .zst too).",
    )
    output: Path = Field(description="Vocabulary file to write (CSV).")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each text that is a table, markup or a treebank."""
        yield from super().problems()
        yield from not_text(self.text, "text", "write a sentence per line")


class Corpus(NamedTuple):
    """Counts of the teacher's tokens in a corpus, and its characters."""

    counts: Counts
    characters: list[str]


def select(options: SelectOptions) -> None:
    """Write the vocabulary file."""
    folder = local_folder(options.model)
    tokens = tokenizer_json.list_tokens(tokenizer_json.read_description(folder), folder)
    selected = select_tokens(folder, read_corpora(options, folder, tokens), options)
    write_vocabulary(options.output, selected, tokens)
    numbers, reasons = (f"{len(each):,}" for each in (selected, tokens)), selected.values()
    logger.info("%s: %s of %s tokens: %s", options.output, *numbers, describe_reasons(reasons))


def read_corpora(options: SelectOptions, folder: Path, tokens: list[str]) -> list[Corpus]:
    """Read, or count, each corpus; raise InputError where none or a part is given."""
    if len(options.counts) != len(options.characters):
        raise InputError("--characters: give one characters.json for each --counts")
    if not options.counts and not options.text:
        raise InputError("--text: give a text of the language, or --counts and --characters")
    counted = zip(options.counts, options.characters, strict=True)
    return [
        *(
            Corpus(read_counts(counts, tokens), list(read_as(file, dict[str, int])))
            for counts, file in counted
        ),
        *(count_text(text, folder) for text in options.text),
    ]


def count_text(path: str | Path, folder: str | Path) -> Corpus:
    """Count a model's tokens in a text file; each line is a sentence and a document."""
    tokenizer = CorpusTokenizer.load(folder)
    counts, characters = Counts.none(tokenizer.tokens), set[str]()
    texts = filter(None, (line.strip() for line in utf8_lines(path)))
    while batch := list(islice(texts, LINES_AT_ONCE)):
        characters.update(*batch)
        counts.add(encode(tokenizer.words, [[text] for text in batch]))
    if not characters:
        raise InputError(f"{path}: no text in it; expected one sentence per line")
    return Corpus(counts, sorted(characters))


def select_tokens(
    folder: str | Path, corpora: Sequence[Corpus], rule: SelectionRule
) -> dict[int, str]:
    """Return the reasons of the tokens of a model that stay, by id, in the order of the ids.

    The rule holds for each corpus by itself, and the tokens that it keeps for one stay.

    Raises:
        InputError: the rule keeps nothing beyond special tokens and characters.
    """
    name = next(name for name in SELECTION_KEYS if getattr(rule, name) is not None)
    description = tokenizer_json.read_description(folder)
    tokens = tokenizer_json.list_tokens(description)
    specials = tokenizer_json.special_ids(folder, description)
    by_rule, always_keep = (
        set(read_vocabulary(path, tokens) if path else ())
        for path in (rule.tokens, rule.always_keep)
    )
    characters, occurring = script_ids(description, rule.scripts), set[int]()
    for counts, characters_of_corpus in corpora:
        used = {int(index) for index in np.flatnonzero(counts.occurrences)} - specials
        characters |= character_ids(description, characters_of_corpus, [tokens[i] for i in used])
        occurring |= used
        by_rule |= ids_by_rule(rule, counts, specials)
    # Of several reasons the last counts.
    reasons = {
        name: by_rule,
        "character": characters,
        "always_keep": always_keep,
        "prompt": prompt_ids(Path(folder), description),
        "special": specials,
    }
    selected = {index: reason for reason, ids in reasons.items() for index in ids}
    if name not in selected.values():
        raise InputError(
            f"vocabularies: the rule {name}: {getattr(rule, name)} keeps no token beyond the "
            f"special tokens and the single characters ({len(occurring):,} tokens occur in the "
            f"corpus); {'raise' if name in ('top_k', 'coverage') else 'lower'} the threshold or "
            "use a larger corpus"
        )
    occurrences = np.sum([counts.occurrences for counts, _ in corpora], axis=0)
    left = [int(i) for i in np.argsort(-occurrences, kind="stable") if occurrences[i]]
    candidates = [index for index in left if index not in specials]
    return filled_up(complete(selected, description), candidates, rule.rounding, description)


def filled_up(
    selected: Mapping[int, str],
    candidates: Iterable[int],
    multiple: int,
    description: tokenizer_json.Description,
) -> dict[int, str]:
    """Return the selected ids and more candidates, in their order, up to a multiple of a number.

    For BPE a token comes with its route; one that has no room is passed over. Fewer where the
    candidates end.
    """
    filled, room = dict(selected), -len(selected) % multiple
    merges = None
    if room and tokenizer_json.kind_of(description) == "BPE":
        merges = tokenizer_json.Merges(description["model"])
        tokens = tokenizer_json.list_tokens(description)
    for index in candidates:
        if not room:
            break
        needed = {index}
        if merges:
            needed |= {merges.vocabulary[token] for token in merges.route(tokens[index])}
        needed -= filled.keys()
        if len(needed) <= room:
            filled |= dict.fromkeys(needed, "multiple_of")
            room -= len(needed)
    return dict(sorted(filled.items()))


def ids_by_rule(rule: SelectionRule, counts: Counts, specials: set[int]) -> set[int]:
    """Return the ids that a rule of counts keeps; special tokens are no part of the text.

    ``min_sentence_fraction``: in at least that share of the sentences (Abdaoui et al. 2020, as used
    by Singh, De Clercq and Lefever 2023); ``top_k``: the k most frequent; ``coverage``: the fewest
    most frequent that cover that share of the text; ``min_count``: with at least that many
    occurrences. Equal counts are taken in the order of the ids.
    """
    occurrences = counts.occurrences.copy()
    occurrences[sorted(specials)] = 0
    keeps = np.zeros(len(occurrences), dtype=bool)
    order = np.argsort(-occurrences, kind="stable")
    if rule.min_sentence_fraction is not None:
        keeps = counts.sentences >= rule.min_sentence_fraction * counts.all_sentences
    elif rule.min_count is not None:
        keeps = occurrences >= rule.min_count
    elif rule.coverage is not None:
        covered = np.cumsum(occurrences[order])
        wanted = rule.coverage * occurrences.sum()
        keeps[order[: int(np.searchsorted(covered, wanted, side="left")) + 1]] = True
    elif rule.top_k is not None:
        keeps[order[: rule.top_k]] = True
    return {int(index) for index in np.flatnonzero(keeps & (occurrences > 0))}


def character_ids(
    description: tokenizer_json.Description, characters: Iterable[str], occurring: Iterable[str]
) -> set[int]:
    """Return the ids of the corpus's single characters, in all their forms.

    Args:
        description: the tokenizer.
        characters: those of the text before normalization.
        occurring: tokens of the text; their characters count too, since normalization composes
            characters that stand apart in the text.
    """
    normalizer = tokenizer_json.backend_of(description).normalizer
    every = set(characters)
    if normalizer is not None:
        every.update(*map(normalizer.normalize_str, list(every)))
    every.update(*(tokenizer_json.characters_of(description, token) for token in occurring))
    vocabulary = tokenizer_json.model_vocabulary(description)
    forms = (form for c in every for form in tokenizer_json.character_forms(description, c))
    return {vocabulary[form] for form in forms if form in vocabulary}


def script_ids(description: tokenizer_json.Description, scripts: Sequence[str]) -> set[int]:
    """Return the ids of every single character of some scripts (Unicode's names or codes).

    Bytes are no characters, so a tokenizer that works on bytes has none.

    Raises:
        InputError: there is no such script.
    """
    codes = {unicodedata.script_code(name, default=None): name for name in scripts}
    if None in codes:
        raise InputError(
            f"scripts: {codes[None]!r} is no script; write it as Unicode does (Latin, Cyrillic, "
            "Devanagari, Han, …)"
        )
    characters = (
        (tokenizer_json.characters_of(description, token), index)
        for token, index in tokenizer_json.model_vocabulary(description).items()
    )
    return {index for c, index in characters if len(c) == 1 and unicodedata.script(c) in codes}


# Vocabulary files


def write_vocabulary(path: str | Path, selected: Mapping[int, str], tokens: Sequence[str]) -> None:
    """Write the reasons of the selected ids; ``tokens`` are the teacher's by id."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        # The writer of Python 3.11 quotes no carriage return of its own.
        returns = any("\r" in tokens[index] for index in selected)
        csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        writer = csv.writer(
            file, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
        )
        writer.writerows((index, tokens[index], selected[index]) for index in sorted(selected))


def read_vocabulary(path: str | Path, tokens: Sequence[str]) -> dict[int, str]:
    """Read the reasons of the selected ids, in the order of the teacher's ids.

    ``path`` is a vocabulary file, or a plain list (reason ``listed``); ``tokens`` are the teacher's
    by id. Raises InputError if the file is empty, or names a token that the teacher does not have
    (under that id).
    """
    ids = {token: index for index, token in enumerate(tokens)}
    selected: dict[int, str] = {}
    # Only "\n" ends a line: a token may hold "\r".
    with open_text(path, "vocabulary file", newline="\n") as file:
        is_table = file.readline().rstrip("\r\n") == ",".join(COLUMNS)
        if not is_table:
            file.seek(0)
        rows = csv.reader(file) if is_table else ([line.rstrip("\r\n")] for line in file)
        for number, row in enumerate(rows, start=1 + is_table):
            index, token, reason = (
                row if len(row) == len(COLUMNS) else ("", ",".join(row), "listed")
            )
            if not token:
                continue
            if token not in ids or index not in ("", str(ids[token])):
                raise InputError(
                    f"{path}, line {number}: {','.join(row)!r} is not a token of the model, or not "
                    "with this number; select the tokens again from the counts of this model, or "
                    "write them as its tokenizer does (a file of `eliquare vocabulary select` "
                    f"begins with {','.join(COLUMNS)})"
                )
            if ids[token] in selected:
                logger.warning("%s, line %d: %r stands in it twice", path, number, token)
            selected[ids[token]] = reason
    if not selected:
        raise InputError(
            f"{path}: selects no token; make it with `eliquare vocabulary select`, or write the "
            "tokens to keep, one per line"
        )
    return dict(sorted(selected.items()))


def complete(
    selected: Mapping[int, str],
    description: tokenizer_json.Description,
    specials: Iterable[int] = (),
) -> dict[int, str]:
    """Return the selected ids and those that they need beside them, each with its reason.

    These are the special tokens; and for BPE the alphabet and the routes of all selected tokens.
    """
    completed = {**dict.fromkeys(specials, "special"), **selected}
    completed |= tokenizer_json.closing_ids(description, completed)
    return dict(sorted(completed.items()))


def describe_reasons(reasons: Iterable[str]) -> str:
    """Return how many tokens stay for each reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(Counter(reasons).items()))
