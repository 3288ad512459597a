"""Choose the sub-words that stay, from the counts of the teacher's tokenizer on the corpus.

Special and added tokens and every single character of the corpus stay whatever the rule says: one
missing character would turn a whole WordPiece word into [UNK]. One rule chooses among the rest.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from fontTools import unicodedata

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import bpe
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.counting import Counts, count_text, read_counts
from eliquare.vocabulary.kept import read_kept, write_kept
from eliquare.vocabulary.options import local_folder

VERSION = 1

LIST = "list"
RULES = ["share_of_sentences", "top_k", "coverage", "count", LIST]


def character_ids(
    description: surgery.Description, characters: list[str], occurring: list[str]
) -> set[int]:
    """Ids of the single characters of the corpus, in both forms where the vocabulary has them.

    ``characters`` are those of the text before normalisation. The characters of the ``occurring``
    sub-words count too: normalisation composes characters that stand apart in the text.
    """
    rules = dict(description, model={"type": "Unigram", "vocab": [["?", 0.0]], "unk_id": 0})
    rules |= {"added_tokens": [], "post_processor": None, "padding": None, "truncation": None}
    normalizer = surgery.backend_of(rules).normalizer
    all_characters = set(characters)
    if normalizer is not None:
        for character in characters:
            all_characters.update(normalizer.normalize_str(character))
    for subword in occurring:
        all_characters.update(surgery.characters_of(description, subword))
    vocabulary = surgery.model_vocabulary(description)
    forms = (form for c in all_characters for form in surgery.character_forms(description, c))
    return {vocabulary[form] for form in forms if form in vocabulary}


def script_ids(description: surgery.Description, scripts: list[str]) -> set[int]:
    """Ids of every single character of some scripts (names as Unicode has them, or codes).

    Raises InputError for a script that does not exist. Bytes, which are no characters, are not in
    it.
    """
    codes = {unicodedata.script_code(name, default=None): name for name in scripts}
    if None in codes:
        raise InputError(
            f"--script: {codes[None]!r} is no script; write it as Unicode does (Latin, Cyrillic, "
            "Devanagari, Han, …)"
        )
    if bpe.works_on_bytes(description):
        return set()
    found = set()
    for subword, identifier in surgery.model_vocabulary(description).items():
        character = surgery.characters_of(description, subword)
        if len(character) == 1 and unicodedata.script(character) in codes:
            found.add(identifier)
    return found


def asked_ids(path: str | Path | None, subwords: list[str]) -> set[int]:
    """Ids of the sub-words in a file, one a line (or a kept file)."""
    return set() if path is None else set(read_kept(path, subwords))


def ids_by_rule(rule: str, threshold: float, counts: Counts, specials: set[int]) -> set[int]:
    """Ids that a rule keeps among the sub-words that occur; specials are no part of running text.

    share_of_sentences: in at least that share of the sentences (Abdaoui et al. 2020, as used by
    Singh, De Clercq and Lefever 2023); top_k: the k most frequent; coverage: the fewest most
    frequent that make up that share of running text; count: with at least that many occurrences.
    Equal counts are taken in the order of the ids.
    """
    occurrences = counts.occurrences.copy()
    occurrences[sorted(specials)] = 0
    if rule == "share_of_sentences":
        enough = counts.sentences >= threshold * counts.all_sentences
        return set(np.flatnonzero(enough & (occurrences > 0)).tolist())
    if rule == "count":
        return set(np.flatnonzero(occurrences >= threshold).tolist())
    order = np.argsort(-occurrences, kind="stable")
    order = order[occurrences[order] > 0]
    if rule == "coverage":
        covered = np.cumsum(occurrences[order])
        wanted = threshold * occurrences.sum()
        order = order[: int(np.searchsorted(covered, wanted, side="left")) + 1]
    else:
        order = order[: int(threshold)]
    return set(order.tolist())


def select(
    model: str | Path,
    corpora: list[tuple[Counts, list[str]]],
    rule: str,
    threshold: float | str,
    always_keep: str | Path | None = None,
    scripts: list[str] | None = None,
) -> list[tuple[int, str, str]]:
    """The (id, sub-word, reason) of every sub-word that stays, in the order of the ids.

    ``corpora`` are the counts and the characters of each language; the rule holds for each by
    itself, and what it keeps for one stays. Raises InputError when the rule keeps nothing beyond
    special tokens and characters.
    """
    description = surgery.read_description(model)
    subwords = surgery.list_subwords(description)
    specials = surgery.special_ids(model, description)
    by_rule, characters, occurring = set(), script_ids(description, scripts or []), set()
    for counts, characters_of_text in corpora:
        used = {int(i) for i in np.flatnonzero(counts.occurrences)} - specials
        characters |= character_ids(description, characters_of_text, [subwords[i] for i in used])
        occurring |= used
        if rule != LIST:
            by_rule |= ids_by_rule(rule, threshold, counts, specials)
    if rule == LIST:
        by_rule = asked_ids(threshold, subwords)
    reasons = {
        rule: by_rule,
        "character": characters,
        "asked": asked_ids(always_keep, subwords),
        "special": specials,
    }
    kept = {identifier: reason for reason, ids in reasons.items() for identifier in ids}
    if rule not in kept.values():
        raise InputError(
            f"vocabularies: the rule {rule}: {threshold} keeps no sub-word beyond the special "
            f"tokens and the single characters ({len(occurring):,} sub-words occur in the corpus); "
            + ("raise" if rule in ("top_k", "coverage") else "lower")
            + " the threshold or use a larger corpus"
        )
    kept |= surgery.closing_ids(description, kept)
    return [(identifier, subwords[identifier], kept[identifier]) for identifier in sorted(kept)]


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share above 0 and at most 1")
    return number


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return number


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m eliquare.vocabulary.select", description=__doc__.split("\n\n")[0]
    )
    result.add_argument(
        "--model", required=True, help="folder of the teacher (its tokenizer), or a hub id"
    )
    result.add_argument(
        "--counts",
        action="append",
        default=[],
        help="counts folder of the corpus; several for a model of several languages: the rule "
        "holds for each by itself",
    )
    result.add_argument(
        "--characters",
        action="append",
        default=[],
        help="characters.json of the corpus; as many as --counts",
    )
    result.add_argument(
        "--text",
        action="append",
        default=[],
        help="instead of --counts and --characters: a text file, one sentence a line; may be "
        "repeated as --counts",
    )
    rule = result.add_mutually_exclusive_group(required=True)
    rule.add_argument(
        "--share-of-sentences",
        type=share,
        help="keep sub-words in at least this share of the sentences: 0.0005 in Singh, De Clercq "
        "and Lefever 2023; 0.00005 in the code of Abdaoui et al. 2020 that they cite",
    )
    rule.add_argument("--top-k", type=positive, help="keep the k most frequent sub-words")
    rule.add_argument(
        "--coverage",
        type=share,
        help="keep the fewest sub-words that make up this share of running text",
    )
    rule.add_argument("--count", type=positive, help="keep sub-words that occur this often or more")
    rule.add_argument("--list", help="keep the sub-words of this file, one a line")
    result.add_argument("--always-keep", help="file of sub-words that stay too, one a line")
    result.add_argument(
        "--script",
        action="append",
        default=[],
        help="keep every single character of this script too (Latin, Cyrillic, …); may be repeated",
    )
    result.add_argument("--output", required=True, help="kept file to write (CSV)")
    return result


def read_corpora(arguments: argparse.Namespace, folder: Path) -> list[tuple[Counts, list[str]]]:
    """The counts and characters of each corpus; raises InputError where none or a part is given."""
    if len(arguments.counts) != len(arguments.characters):
        raise InputError("--characters: give one characters.json for each --counts")
    subwords = surgery.list_subwords(surgery.read_description(folder))
    corpora = [
        (read_counts(counts, subwords), list(stage.read_json(characters)))
        for counts, characters in zip(arguments.counts, arguments.characters, strict=True)
    ]
    corpora += [count_text(text, folder, len(subwords)) for text in arguments.text]
    if not corpora:
        raise InputError("--text: give a text of the language, or --counts and --characters")
    return corpora


def run(arguments: argparse.Namespace) -> None:
    rule = next(name for name in RULES if getattr(arguments, name) is not None)
    folder = local_folder(arguments.model)
    rows = select(
        folder,
        read_corpora(arguments, folder),
        rule,
        getattr(arguments, rule),
        arguments.always_keep,
        arguments.script,
    )
    write_kept(arguments.output, rows)
    of = len(surgery.list_subwords(surgery.read_description(folder)))
    by_reason = Counter(reason for _, _, reason in rows)
    details = ", ".join(f"{n:,} {reason}" for reason, n in sorted(by_reason.items()))
    stage.say(f"kept {len(rows):,} of {of:,} sub-words: {details}")


if __name__ == "__main__":
    stage.main(parser(), run)
