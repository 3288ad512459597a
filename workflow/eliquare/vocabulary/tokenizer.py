"""Work on a tokenizer's description, the content of its tokenizer.json.

WordPiece, Unigram and BPE tokenizers can be reduced to some of their tokens so that text made of
these is segmented as before. Ids are renumbered in the order of the old ones: special tokens at the
front stay there, which tokenizer classes such as XLM-R's rely on.

A BPE token comes about by merges, one after the other, and every token on the way must exist. No
merge crosses the border between two tokens of the final segmentation, so each token comes about as
when it stands alone: its *route*. Text of tokens whose routes are kept takes the same merges as
before. The first merge rule that makes a token need not be the one that is taken: tokenizers made
from SentencePiece list every split of a token as a merge.
"""

import copy
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders

from eliquare.faults import refused
from eliquare.io import InputError, read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Description = dict[str, Any]

KINDS = ("WordPiece", "Unigram", "BPE")
BYTE_TOKENS = frozenset(f"<0x{byte:02X}>" for byte in range(256))
WORD_START = "▁"
PREFIX, SUFFIX = "continuing_subword_prefix", "end_of_word_suffix"


# Reading and saving


def read_description(folder: str | Path) -> Description:
    """Read the tokenizer.json of a model folder.

    A folder that has only older files (vocab.txt, sentencepiece.bpe.model) is converted.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.exists():
        from eliquare.models.loading import load_fast_tokenizer

        return describe(load_fast_tokenizer(folder))
    description = read_json(path)
    with refused(f"{path}: not a tokenizer"):
        backend_of(description)
    return require_reducible(description, path)


def describe(tokenizer: "PreTrainedTokenizerFast") -> Description:
    """Return the description of a loaded tokenizer.

    Tokenizer classes replace parts of the file with their own, so the file alone may differ.
    """
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    return require_reducible(description, tokenizer.name_or_path)


def require_reducible(description: Description, source: Any) -> Description:
    """Return the description; raise InputError if it is not of a kind that can be reduced."""
    model = description["model"]
    # Older files do not name the kind, and write a merge as one text.
    older = "BPE" if "merges" in model else "Unigram" if "unk_id" in model else "WordPiece"
    kind = model.setdefault("type", older)
    if model.get("merges") and isinstance(model["merges"][0], str):
        model["merges"] = [merge.split(" ") for merge in model["merges"]]
    if kind not in KINDS:
        raise InputError(
            f"{source}: its tokenizer is of the kind {kind}, which cannot be reduced; "
            f"use a model whose tokenizer is one of {', '.join(KINDS)}"
        )
    if model.get("dropout"):
        raise InputError(
            f"{source}: its tokenizer leaves out merges at random (dropout {model['dropout']:g}), "
            'so no segmentation can be kept; set "dropout" to null in tokenizer.json'
        )
    return description


def backend_of(description: Description) -> Tokenizer:
    """Build the tokenizer (of the tokenizers library) that a description describes.

    Without the truncation and padding that some folders store: texts are read whole.
    """
    whole = description | {"truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(whole, ensure_ascii=False))


def save_tokenizer(
    tokenizer: "PreTrainedTokenizerFast", description: Description, folder: Path
) -> None:
    """Save a tokenizer with this description instead of its own.

    Raises:
        InputError: the tokenizer's class makes something else of the result when it loads it: some
            classes build parts of the tokenizer with ids of their own.
    """
    from eliquare.models.loading import load_fast_tokenizer

    tokenizer.save_pretrained(folder)
    write_json(folder / "tokenizer.json", description)
    settings = read_json(folder / "tokenizer_config.json")
    if "unk_id" in description["model"] and "unk_id" in settings:
        settings["unk_id"] = description["model"]["unk_id"]
        write_json(folder / "tokenizer_config.json", settings)
    loaded = describe(load_fast_tokenizer(folder))
    for part in ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor"):
        if loaded[part] != description[part]:
            raise InputError(
                f"{tokenizer.name_or_path}: its tokenizer class {type(tokenizer).__name__} builds "
                f"another {part} than the new tokenizer has; save it as PreTrainedTokenizerFast "
                "first"
            )


# Tokens and ids


def kind_of(description: Description) -> str:
    """Return the kind, one of KINDS."""
    return str(description["model"]["type"])


def continuation_prefix(description: Description) -> str:
    """Return the mark before a token inside a word, as ## in WordPiece; empty if there is none."""
    default = "##" if kind_of(description) == "WordPiece" else ""
    return description["model"].get(PREFIX, default) or ""


def model_vocabulary(description: Description) -> dict[str, int]:
    """Return the ids of tokens, without those that were added beyond the model's vocabulary."""
    vocabulary: dict[str, int] | list[list[Any]] = description["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {token: index for index, (token, _) in enumerate(vocabulary)}


def list_tokens(description: Description, source: str | Path = "tokenizer.json") -> list[str]:
    """Return all tokens by id, added ones too.

    Raises InputError, which names ``source``, where ids have gaps or a part of the description
    names one that no token has.
    """
    ids = dict(model_vocabulary(description))
    ids.update((token["content"], token["id"]) for token in description["added_tokens"])
    tokens = sorted(ids, key=lambda token: ids[token])
    for expected, token in enumerate(tokens):
        if ids[token] != expected:
            wrong = "no token has" if ids[token] > expected else f"{token!r} is not alone at"
            at = max(0, min(ids[token], expected))
            raise InputError(
                f"{source}: {wrong} the id {at}; ids run from 0 without gaps. Give the id a token "
                f"of its own in tokenizer.json, as [unused{at}], and fetch the model again"
            )
    for part, token, holder, key in references(description):
        if holder[key] not in range(len(tokens)):
            raise InputError(
                f"{source}: the {part} gives {token!r} the id {holder[key]}, and ids end at "
                f"{len(tokens) - 1}; correct it in tokenizer.json, and fetch the model again"
            )
    return tokens


def require_rows(folder: str | Path, tokens: int, rows: int) -> None:
    """Raise InputError where a model has fewer rows than tokens that it is to have."""
    if rows < tokens:
        raise InputError(
            f"{folder}: {tokens:,} tokens in the tokenizer, and only {rows:,} rows in the model; "
            "leave out the tokens beyond them"
        )


def unknown_token(description: Description) -> str | None:
    """Return the token that stands for what cannot be spelled, if there is one."""
    model = description["model"]
    if "unk_id" in model:
        index = model["unk_id"]
        return None if index is None else str(model["vocab"][index][0])
    name: str | None = model.get("unk_token")
    return name


def protected_ids(description: Description) -> set[int]:
    """Return the ids that every reduction keeps: added tokens, the unknown one, fallback bytes."""
    model = description["model"]
    vocabulary = model_vocabulary(description)
    protected = {holder[key] for _, _, holder, key in references(description)}
    if model.get("unk_id") is not None:
        protected.add(model["unk_id"])
    spelled = BYTE_TOKENS if model.get("byte_fallback") else frozenset()
    return protected | {
        vocabulary[token] for token in (*spelled, model.get("unk_token")) if token in vocabulary
    }


def special_ids(folder: str | Path, description: Description) -> set[int]:
    """Return the ids that always stay: the tokenizer's, and those that config.json names."""
    specials = protected_ids(description)
    if not (Path(folder) / "config.json").exists():
        return specials
    from eliquare.models.loading import load_config

    config = load_config(folder).to_dict()
    named = {index for ids in configured_ids(config).values() for index in ids}
    return specials | named & set(range(len(list_tokens(description))))


def configured_ids(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the ids (or None) of every key of a configuration that ends in ``_token_id``."""
    return {
        key: value if isinstance(value, list) else [value]
        for key, value in config.items()
        if key.endswith("_token_id")
    }


def references(description: Description) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield (part, token, holder, key) wherever a description names a token by its id.

    The id is ``holder[key]``; the vocabulary and its unknown token are left out.
    """
    for token in description["added_tokens"]:
        yield "added_tokens", token["content"], token, "id"
    if padding := description.get("padding"):
        yield "padding", padding["pad_token"], padding, "pad_id"
    for processor in components(description.get("post_processor")):
        for special in processor.get("special_tokens", {}).values():
            for place, name in enumerate(special["tokens"]):
                yield "post_processor", name, special["ids"], place
        for role in ("cls", "sep"):
            if role in processor:
                yield "post_processor", processor[role][0], processor[role], 1


def components(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield a normalizer, pre-tokenizer or post-processor, or the members of a sequence of them."""
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield part
    for name in ("normalizers", "pretokenizers", "processors"):
        for member in part.get(name) or []:
            yield from components(member)


# Characters


def works_on_bytes(description: Description) -> bool:
    """Return whether text reaches the merges as bytes, each written as a printable character."""
    return any(
        part.get("type") == "ByteLevel"
        for place in ("normalizer", "pre_tokenizer")
        for part in components(description.get(place))
    )


def spells_bytes(description: Description) -> bool:
    """Return whether any text at all can be spelled, byte by byte."""
    return bool(description["model"].get("byte_fallback")) or works_on_bytes(description)


def character_forms(description: Description, character: str) -> tuple[str, ...]:
    """Return the forms in which a character can stand in the vocabulary; none if bytes do."""
    if works_on_bytes(description):
        return ()
    prefix = continuation_prefix(description)
    forms = [character, prefix + character]
    if kind_of(description) != "WordPiece":
        suffix = description["model"].get(SUFFIX) or ""
        forms += [form + suffix for form in forms] + [WORD_START + character]
    return tuple(dict.fromkeys(forms))


def characters_of(description: Description, token: str) -> str:
    """Return a token without the mark of its place in a word; nothing if it is made of bytes."""
    if works_on_bytes(description):
        return ""
    token = token.removeprefix(continuation_prefix(description))
    if kind_of(description) == "WordPiece":
        return token
    return token.removesuffix(description["model"].get(SUFFIX) or "").removeprefix(WORD_START)


def text_of(description: Description, token: str) -> str:
    """Return the letters of a token as they stand in text; nothing for a fallback byte."""
    if works_on_bytes(description):
        return str(decoders.ByteLevel().decode([token]))
    return "" if token in BYTE_TOKENS else characters_of(description, token)


# Byte-pair encoding


class Merges:
    """The merges of a BPE model, run as the tokenizers library runs them."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = model
        self.vocabulary: dict[str, int] = model["vocab"]
        self.prefix: str = model.get(PREFIX) or ""
        self.suffix: str = model.get(SUFFIX) or ""
        self.byte_fallback = bool(model.get("byte_fallback"))

    @cached_property
    def ranks(self) -> dict[tuple[str, str], int]:
        """The rank of each merge; of one listed twice the last counts, as in the library."""
        return {(left, right): rank for rank, (left, right) in enumerate(self.model["merges"])}

    def made_by(self, pair: Sequence[str]) -> str:
        """Return the token that a merge makes."""
        return pair[0] + pair[1][len(self.prefix) :]

    def characters(self, token: str) -> list[str]:
        """Return the pieces that merging starts from; bytes for a character without a token."""
        word, first, last = token, "", ""
        if len(word) > len(self.prefix) and word.startswith(self.prefix):
            word, first = word.removeprefix(self.prefix), self.prefix
        if len(word) > len(self.suffix) and word.endswith(self.suffix):
            word, last = word.removesuffix(self.suffix), self.suffix
        pieces: list[str] = []
        for position, character in enumerate(word):
            before = first if position == 0 else self.prefix
            piece = before + character + (last if position == len(word) - 1 else "")
            if piece not in self.vocabulary and self.byte_fallback:
                pieces += [f"<0x{byte:02X}>" for byte in piece.encode()]
            else:
                pieces.append(piece)
        return pieces

    def taken(self, token: str) -> list[tuple[str, str]]:
        """Return the merges that are taken where the token stands alone, in their order."""
        pieces, taken = self.characters(token), []
        while known := [pair for pair in pairwise(pieces) if pair in self.ranks]:
            # The lowest rank goes first, and of equal ones the leftmost.
            pair = min(known, key=self.ranks.__getitem__)
            place = list(pairwise(pieces)).index(pair)
            pieces[place : place + 2] = [self.made_by(pair)]
            taken.append(pair)
        return taken

    def route(self, token: str) -> set[str]:
        """Return every token passed on the way from characters to the token, itself included."""
        passed = {token, *self.characters(token), *map(self.made_by, self.taken(token))}
        return {piece for piece in passed if piece in self.vocabulary}


def merged_tokens(description: Description) -> dict[int, str]:
    """Return the tokens that come about by merges: not added, fallback byte or unknown ones."""
    others = protected_ids(description)
    vocabulary = model_vocabulary(description)
    return {index: token for token, index in vocabulary.items() if index not in others}


def alphabet_ids(description: Description) -> set[int]:
    """Return the ids of the tokens that spell a text of which nothing longer is known.

    The 256 bytes, where the tokenizer falls back on them; otherwise every single character (or byte
    written as one) of the vocabulary, since a missing one becomes unknown.
    """
    merges = Merges(description["model"])
    if merges.byte_fallback:
        return {merges.vocabulary[token] for token in BYTE_TOKENS & merges.vocabulary.keys()}
    longest = len(merges.prefix + merges.suffix) + 1
    tokens = (token for token in merges.vocabulary if len(token) <= longest)
    return {merges.vocabulary[token] for token in tokens if len(merges.characters(token)) == 1}


def closing_ids(description: Description, kept: Collection[int]) -> dict[int, str]:
    """Return the ids that must join the kept ones so that text is segmented as before.

    None for WordPiece and Unigram. For BPE the alphabet (reason ``byte`` or ``character``) and the
    tokens on the routes of the kept ones (reason ``route``).
    """
    if kind_of(description) != "BPE":
        return {}
    merges, tokens = Merges(description["model"]), merged_tokens(description)
    kept, alphabet = set(kept), alphabet_ids(description)
    reasons = dict.fromkeys(alphabet, "byte" if spells_bytes(description) else "character")
    for index in (kept | alphabet) & tokens.keys():
        for piece in merges.route(tokens[index]):
            reasons.setdefault(merges.vocabulary[piece], "route")
    return {index: reason for index, reason in reasons.items() if index not in kept}


# Reduction


def reduce(description: Description, kept: Sequence[int]) -> Description:
    """Return the same tokenizer with the kept ids only, renumbered in their order.

    WordPiece takes the longest known prefix and Unigram the best path, so text whose tokens all
    stay is segmented as before; for BPE the kept ids must be closed (``closing_ids``), and the
    protected ones must always be among them. In Unigram the penalty of an unknown character depends
    on the lowest score of the vocabulary; that score moves to the unknown token, whose own is never
    used.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    result = copy.deepcopy({key: part for key, part in description.items() if key != "model"})
    result["model"] = model = dict(description["model"])
    if isinstance(model["vocab"], dict):
        ordered = sorted(model["vocab"].items(), key=lambda item: item[1])
        known = model["vocab"] = {token: new_ids[old] for token, old in ordered if old in new_ids}
        if "merges" in model:
            made_by = Merges(model).made_by
            model["merges"] = [
                pair
                for pair in model["merges"]
                if all(token in known for token in (*pair, made_by(pair)))
            ]
    else:
        scores = model["vocab"]
        model["vocab"] = [list(scores[old]) for old in kept if old < len(scores)]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
            model["vocab"][model["unk_id"]][1] = min(score for _, score in scores)
    for _, _, holder, key in references(result):
        holder[key] = new_ids[holder[key]]
    return result
