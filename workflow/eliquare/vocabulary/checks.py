"""What two models with nested vocabularies have in common: ids, merges, rows of sub-words.

These checks look at the whole vocabulary and run no model.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from eliquare.stage import InputError
from eliquare.vocabulary import bpe
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.weights import has_head, load_config, load_model, vocabulary_tensors

ROWS_AT_ONCE = 4096


class Pair(NamedTuple):
    """The two tokenizers, and where each new sub-word stood in the old vocabulary."""

    old: Any
    new: Any
    old_ids: list[int]
    old_description: surgery.Description
    new_description: surgery.Description


def match_vocabularies(model: str | Path, reduced: str | Path) -> Pair:
    """The tokenizers of both folders; raises InputError for sub-words that the old one lacks."""
    old, new = surgery.load_tokenizer(model), surgery.load_tokenizer(reduced)
    old_vocabulary = old.get_vocab()
    old_ids = []
    description = surgery.describe(new)
    for subword in surgery.list_subwords(description):
        if subword not in old_vocabulary:
            raise InputError(f"{reduced}: sub-word {subword!r} is not one of the old model's")
        old_ids.append(old_vocabulary[subword])
    return Pair(old, new, old_ids, surgery.describe(old), description)


def check_merges(reduced: Path, pair: Pair) -> None:
    """Raise an InputError where a BPE word of kept pieces may be cut otherwise than before.

    Together these three suffice: the alphabet is there, the new merges are old ones in the old
    order, and those by which kept sub-words come about are all there.
    """
    if pair.old_description["model"]["type"] != "BPE":
        return
    subwords = surgery.list_subwords(pair.old_description)
    kept = set(pair.new.get_vocab())
    lost = sorted(i for i in bpe.alphabet_ids(pair.old_description) if subwords[i] not in kept)
    if lost:
        kind = "byte" if surgery.spells_bytes(pair.old_description) else "character"
        raise InputError(
            f"{reduced}: the {kind} {subwords[lost[0]]!r} was not kept ({len(lost)} such); text "
            "with it is lost or becomes unknown"
        )
    old, new = (bpe.Merges(d["model"]) for d in (pair.old_description, pair.new_description))
    last, before = -1, None
    for merge in sorted(new.ranks, key=new.ranks.get):
        rank = old.ranks.get(merge)
        if rank is None:
            raise InputError(f"{reduced}: the merge {' + '.join(merge)} is not one of the old ones")
        if rank < last:
            raise InputError(
                f"{reduced}: the merge {' + '.join(merge)} comes after {' + '.join(before)}, and "
                "before it in the old tokenizer; keep the merges in their old order"
            )
        last, before = rank, merge
    for subword in bpe.merged_subwords(pair.old_description).values():
        for merge in old.taken(subword) if subword in kept else ():
            if merge not in new.ranks:
                gone = [p for p in (*merge, old.made_by(merge)) if p not in kept]
                why = f": {gone[0]!r} was not kept" if gone else ""
                raise InputError(
                    f"{reduced}: sub-word {subword!r} came about by the merge "
                    f"{' + '.join(merge)}, which is gone{why}; keep every piece on the way to it"
                )


def check_special_ids(model: str | Path, reduced: Path, pair: Pair) -> None:
    """Raise an InputError for a special id that has its old number or names another token."""
    old_config, new_config = load_config(model), load_config(reduced)
    new_vocabulary = pair.new.get_vocab()
    for key, old_id in old_config.to_dict().items():
        if not key.endswith("_token_id"):
            continue
        of_old, of_new = as_list(old_id), as_list(getattr(new_config, key, None))
        for place, identifier in enumerate(of_old):
            if identifier is None or not 0 <= identifier < len(pair.old):
                continue
            token = pair.old.convert_ids_to_tokens(identifier)
            new_id = of_new[place] if place < len(of_new) else None
            if new_id != new_vocabulary.get(token):
                raise InputError(
                    f"{reduced}/config.json: {key} is {new_id}, but {token!r} is number "
                    f"{new_vocabulary.get(token)} of the new vocabulary"
                )
    for role, token in pair.old.special_tokens_map.items():
        if pair.new.special_tokens_map.get(role) != token:
            raise InputError(
                f"{reduced}: {role} is {pair.new.special_tokens_map.get(role)!r}, not {token!r}"
            )
    # Tokenizer classes mend some of these when they load; other programs read the file as it is.
    description = surgery.read_description(reduced)
    for place, token, identifier in surgery.references(description):
        if identifier != new_vocabulary.get(token):
            raise InputError(
                f"{reduced}/tokenizer.json: {place} gives {token!r} the number {identifier}, "
                f"but it is number {new_vocabulary.get(token)} of the new vocabulary"
            )


def as_list(value: Any) -> list[Any]:
    """The value itself if it is a list, or a list of it alone."""
    return value if isinstance(value, list) else [value]


def check_rows(old_folder: str | Path, reduced: Path, pair: Pair) -> bool:
    """Raise an InputError that names the first sub-word whose row is not its old one.

    Returns whether both models have an MLM head; one that only the old model has is an InputError.
    """
    old_model, new_model = (load_model(folder, torch.float32) for folder in (old_folder, reduced))
    for model, folder, size in (
        (old_model, old_folder, max(pair.old_ids) + 1),
        (new_model, reduced, len(pair.new)),
    ):
        if model.config.vocab_size < size:
            raise InputError(
                f"{folder}: {size:,} sub-words in the tokenizer, "
                f"{model.config.vocab_size:,} rows in the model"
            )
    if has_head(old_model) and not has_head(new_model):
        raise InputError(f"{reduced}: the old model has an MLM head, and this one has none")
    if has_head(new_model) and not has_head(old_model):
        new_model = new_model.base_model
    new_tensors = vocabulary_tensors(new_model)
    for name, old in vocabulary_tensors(old_model).items():
        if name not in new_tensors:
            raise InputError(f"{reduced}: tensor {name} of the old model is missing")
        compare_rows(reduced, name, old, new_tensors[name], pair)
    return has_head(old_model)


def compare_rows(
    reduced: Path, name: str, old: torch.Tensor, new: torch.Tensor, pair: Pair
) -> None:
    """Raise an InputError where a row of ``new`` is not that of its sub-word in ``old``."""
    rows = torch.tensor(pair.old_ids)
    different = [
        (new[start : start + len(part)] != old[part]).reshape(len(part), -1).any(dim=1)
        for start, part in zip(
            range(0, len(rows), ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), strict=True
        )
    ]
    wrong = torch.cat(different).nonzero()
    if len(wrong):
        first = int(wrong[0])
        same = (old == new[first]).reshape(len(old), -1).all(dim=1).nonzero()
        whose = "of no sub-word of the old model"
        if len(same):
            whose = f"that of {pair.old.convert_ids_to_tokens(int(same[0]))!r}"
        raise InputError(
            f"{reduced}: {describe_tensor(name)} of sub-word "
            f"{pair.new.convert_ids_to_tokens(first)!r} is {whose} "
            f"({len(wrong):,} of {len(rows):,} rows are wrong)"
        )


def describe_tensor(name: str) -> str:
    """What a tensor is, in words, with its name."""
    if name.endswith("bias"):
        return f"output bias ({name})"
    return f"{'embedding' if 'embed' in name else 'output weight'} ({name})"
