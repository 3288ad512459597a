"""Surgery on a tokenizer's description, the content of its tokenizer.json.

Ids are renumbered in the order of the old ones, so that special tokens at the front stay where
they are; tokenizer classes such as XLM-R's rely on that.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders

from eliquare.stage import InputError
from eliquare.vocabulary import bpe

Description = dict[str, Any]

KINDS = ("WordPiece", "Unigram", "BPE")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
WORD_START = "▁"
CONTINUING, ENDING = "continuing_subword_prefix", "end_of_word_suffix"


def read_description(model: str | Path) -> Description:
    """The tokenizer.json of a model folder, read without loading the model's libraries.

    A folder that has only the older files (vocab.txt, sentencepiece.bpe.model) is converted.
    """
    path = Path(model) / "tokenizer.json"
    if not path.exists():
        return describe(load_tokenizer(model))
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    return checked(description, path)


def load_tokenizer(model: str | Path):
    """The model's fast tokenizer as AutoTokenizer gives it, or an InputError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{model}: AutoTokenizer cannot load a tokenizer from it: {reason}"
        ) from None
    if not tokenizer.is_fast:
        raise InputError(
            f"{model}: its tokenizer has no fast version (no tokenizer.json can be made from it); "
            "convert it to a fast one first"
        )
    return tokenizer


def describe(tokenizer) -> Description:
    """What a loaded tokenizer really does, in the form of a tokenizer.json.

    Tokenizer classes replace parts of the file with their own, so that the file alone may differ.
    """
    return checked(json.loads(tokenizer.backend_tokenizer.to_str()), tokenizer.name_or_path)


def checked(description: Description, source: Any) -> Description:
    """The description, if it is of a kind that can be cut; otherwise an InputError."""
    model = description["model"]
    # Older files do not name the kind.
    older = "BPE" if "merges" in model else "Unigram" if "unk_id" in model else "WordPiece"
    kind = model.setdefault("type", older)
    if kind not in KINDS:
        raise InputError(
            f"{source}: its tokenizer is of the kind {kind}, which cannot be cut; "
            f"use a model whose tokenizer is one of {', '.join(KINDS)}"
        )
    if model.get("dropout"):
        raise InputError(
            f"{source}: its tokenizer leaves out merges at random (dropout {model['dropout']:g}), "
            "so that no segmentation can be kept; "
            'set "dropout" to null in tokenizer.json'
        )
    return description


def backend_of(description: Description) -> Tokenizer:
    """The tokenizer that a description describes, one of the tokenizers library's own."""
    return Tokenizer.from_str(json.dumps(description, ensure_ascii=False))


def kind_of(description: Description) -> str:
    """One of KINDS."""
    return description["model"]["type"]


def continuing(description: Description) -> str:
    """What stands before a piece inside a word, as ## in WordPiece."""
    otherwise = "##" if kind_of(description) == "WordPiece" else ""
    return description["model"].get(CONTINUING, otherwise) or ""


def model_vocabulary(description: Description) -> dict[str, int]:
    """Sub-word to id, without the tokens that were added beyond the model's vocabulary."""
    vocabulary = description["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {piece: identifier for identifier, (piece, _) in enumerate(vocabulary)}


def list_subwords(description: Description) -> list[str]:
    """All sub-words, added tokens too, by id. Raises InputError where ids have gaps."""
    ids = dict(model_vocabulary(description))
    ids.update((token["content"], token["id"]) for token in description["added_tokens"])
    subwords = sorted(ids, key=ids.get)
    if [ids[subword] for subword in subwords] != list(range(len(subwords))):
        raise InputError("the tokenizer's ids do not run from 0 without gaps or repetitions")
    return subwords


def protected_ids(description: Description) -> set[int]:
    """Ids that every reduction keeps: added tokens, the unknown sub-word, bytes to fall back on."""
    model = description["model"]
    vocabulary = model_vocabulary(description)
    protected = {token["id"] for token in description["added_tokens"]}
    if model.get("unk_id") is not None:
        protected.add(model["unk_id"])
    if model.get("unk_token") in vocabulary:
        protected.add(vocabulary[model["unk_token"]])
    protected.update(identifier for _, _, identifier in references(description))
    if model.get("byte_fallback"):
        protected.update(vocabulary[piece] for piece in vocabulary if BYTE.fullmatch(piece))
    return protected


def special_ids(model: str | Path, description: Description) -> set[int]:
    """Tokens that always stay: the tokenizer's, and those that the model's configuration names."""
    specials = protected_ids(description)
    size = len(list_subwords(description))
    for key, value in configuration(model).items():
        if key.endswith("_token_id"):
            identifiers = value if isinstance(value, list) else [value]
            specials.update(i for i in identifiers if i is not None and 0 <= i < size)
    return specials


def configuration(model: str | Path) -> dict[str, Any]:
    """What config.json says, with the defaults of its class; nothing for a tokenizer alone."""
    from transformers import AutoConfig

    if not (Path(model) / "config.json").exists():
        return {}
    try:
        return AutoConfig.from_pretrained(model).to_dict()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{model}: no model configuration loads from it: {reason}") from None


def closing_ids(description: Description, kept: Collection[int]) -> dict[int, str]:
    """Ids that must join the kept ones so that text is cut as before, each with the reason.

    None for WordPiece and Unigram. For BPE the alphabet (reason ``byte`` or ``character``), and the
    pieces on the routes of the kept sub-words (reason ``route``).
    """
    if kind_of(description) != "BPE":
        return {}
    alphabet = bpe.alphabet_ids(description)
    reason = "byte" if spells_bytes(description) else "character"
    closed = bpe.close_by_route(description, {*kept, *alphabet}) - set(kept)
    return {identifier: reason if identifier in alphabet else "route" for identifier in closed}


def spells_bytes(description: Description) -> bool:
    """Whether any text at all can be spelled, byte by byte."""
    return bool(description["model"].get("byte_fallback")) or bpe.works_on_bytes(description)


def character_forms(description: Description, character: str) -> tuple[str, ...]:
    """The forms in which a single character can stand in the vocabulary; none if bytes do."""
    model = description["model"]
    if bpe.works_on_bytes(description):
        return ()
    if kind_of(description) == "WordPiece":
        return character, continuing(description) + character
    if kind_of(description) == "BPE":
        before, after = continuing(description), model.get(ENDING) or ""
        forms = (character, before + character, character + after, before + character + after)
        return tuple(dict.fromkeys((*forms, WORD_START + character)))
    return character, WORD_START + character


def spelled(description: Description, word: str) -> list[str]:
    """The single characters of a word in the forms that its place in the word asks for."""
    model = description["model"]
    if kind_of(description) == "BPE":
        return bpe.Merges(model | {"merges": []}).characters(word)
    if kind_of(description) == "WordPiece":
        before = continuing(description)
        return [before + c if place else c for place, c in enumerate(word)]
    return list(word)


def characters_of(description: Description, subword: str) -> str:
    """A sub-word without the mark that says where in a word it stands; none if it is of bytes."""
    model = description["model"]
    if bpe.works_on_bytes(description):
        return ""
    subword = subword.removeprefix(continuing(description))
    if kind_of(description) == "WordPiece":
        return subword
    if kind_of(description) == "BPE":
        subword = subword.removesuffix(model.get(ENDING) or "")
    return subword.removeprefix(WORD_START)


def as_text(description: Description, subword: str) -> str:
    """The letters of a sub-word as they stand in text; nothing for a byte to fall back on."""
    if bpe.works_on_bytes(description):
        return decoders.ByteLevel().decode([subword])
    return "" if BYTE.fullmatch(subword) else characters_of(description, subword)


def references(description: Description) -> Iterator[tuple[str, str, int]]:
    """Every (place, token, id) at which a tokenizer.json names a token beside its vocabulary."""
    for token in description["added_tokens"]:
        yield "added_tokens", token["content"], token["id"]
    if description.get("padding"):
        yield "padding", description["padding"]["pad_token"], description["padding"]["pad_id"]
    for processor in post_processors(description.get("post_processor")):
        for special in processor.get("special_tokens", {}).values():
            for token, identifier in zip(special["tokens"], special["ids"], strict=True):
                yield "post_processor", token, identifier
        for role in ("cls", "sep"):
            if role in processor:
                yield "post_processor", *processor[role]


def post_processors(processor: dict | None) -> Iterator[dict]:
    """A post-processor, or those of a sequence one by one."""
    if processor is None:
        return
    if processor["type"] == "Sequence":
        for inner in processor["processors"]:
            yield from post_processors(inner)
    else:
        yield processor


def cut(description: Description, kept: Sequence[int]) -> Description:
    """The same tokenizer with the kept ids only, renumbered in their order.

    WordPiece takes the longest known prefix and Unigram the best path, so that text whose pieces
    all stay is cut as before; for BPE the kept ids must be closed (``closing_ids``). In Unigram the
    penalty of an unknown character hangs on the lowest score of the vocabulary; that score moves to
    the unknown sub-word, whose own is never used.

    Raises InputError where a token that must stay is not among the kept.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    require_protected(description, new_ids)
    result = json.loads(json.dumps({k: v for k, v in description.items() if k != "model"}))
    result["model"] = dict(description["model"])
    model = result["model"]
    if isinstance(model["vocab"], dict):
        ordered = sorted(model["vocab"].items(), key=lambda item: item[1])
        model["vocab"] = {piece: new_ids[old] for piece, old in ordered if old in new_ids}
        if "merges" in model:
            model["merges"] = bpe.cut_merges(description["model"], model["vocab"])
    else:
        scores = model["vocab"]
        model["vocab"] = [list(scores[old]) for old in kept if old < len(scores)]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
            model["vocab"][model["unk_id"]][1] = min(score for _, score in scores)
    for token in result["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    if result.get("padding"):
        result["padding"]["pad_id"] = new_ids[result["padding"]["pad_id"]]
    for processor in post_processors(result.get("post_processor")):
        for special in processor.get("special_tokens", {}).values():
            special["ids"] = [new_ids[identifier] for identifier in special["ids"]]
        for role in ("cls", "sep"):
            if role in processor:
                processor[role][1] = new_ids[processor[role][1]]
    return result


def require_protected(description: Description, kept: Collection[int]) -> None:
    """Raise an InputError that names tokens which must stay, or ids that do not exist."""
    subwords = list_subwords(description)
    if max(kept, default=0) >= len(subwords):
        raise InputError(
            f"kept id {max(kept)} is beyond the tokenizer's {len(subwords):,} sub-words; "
            "select the sub-words again from the counts of this model"
        )
    missing = sorted(protected_ids(description) - set(kept))
    if missing:
        names = ", ".join(repr(subwords[identifier]) for identifier in missing[:5])
        raise InputError(
            f"the kept sub-words lack {len(missing)} special or added token(s) of the tokenizer "
            f"({names}); add them, or select the sub-words with eliquare.vocabulary.select"
        )
