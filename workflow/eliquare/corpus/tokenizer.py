"""The tokenizer of a model folder, as the corpus needs it: fast, its special tokens known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eliquare.stage import InputError, existing, read_json

# AutoTokenizer imports torch, which takes longer than to read a small corpus. Of these families it
# takes these classes as a folder names them, and the classes by themselves need no torch.
FAMILIES = (None, "bert", "distilbert", "roberta", "xlm-roberta", "deberta-v2")
CLASSES = ("BertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "TokenizersBackend")


@dataclass(frozen=True)
class Frame:
    """The special tokens that a model expects around one text, as [CLS] … [SEP]."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many tokens of a sequence the frame takes."""
        return len(self.prefix) + len(self.suffix)


def load(folder: str | Path) -> Any:
    """The fast tokenizer of a model folder, without truncation or padding.

    The names of special tokens in running text (``<s>`` or ``[MASK]`` in an article about them)
    are read as text. Raises InputError where the folder holds no fast tokenizer.
    """
    existing(folder, "model folder with a tokenizer")
    try:
        tokenizer = tokenizer_class(Path(folder)).from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{folder}: no tokenizer that transformers can load ({reason})") from None
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{folder}: the tokenizer is not a fast one; expected a tokenizer.json")
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return tokenizer


def tokenizer_class(folder: Path) -> Any:
    """The class that loads the tokenizer of a folder as AutoTokenizer does."""
    import transformers

    named, family = (
        read_json(folder / name) if (folder / name).exists() else {}
        for name in ("tokenizer_config.json", "config.json")
    )
    plain = family.get("model_type") in FAMILIES and "auto_map" not in named
    if plain and named.get("tokenizer_class") in CLASSES:
        return getattr(transformers, named["tokenizer_class"])
    return transformers.AutoTokenizer


def subwords(tokenizer: Any) -> list[str]:
    """Every sub-word in id order, added tokens too; an id that no sub-word has gives ''."""
    vocabulary = tokenizer.get_vocab()
    names = [""] * (max(vocabulary.values()) + 1)
    for name, number in vocabulary.items():
        names[number] = name
    return names


def special_ids(tokenizer: Any) -> list[int]:
    """The ids of the special tokens, those added later too, in ascending order."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(added | set(tokenizer.all_special_ids))


def frame(tokenizer: Any) -> Frame:
    """What the tokenizer's post-processor puts before and after one text."""
    backend = tokenizer.backend_tokenizer
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    for begin in range(len(framed) - len(plain) + 1):
        end = begin + len(plain)
        if plain and framed[begin:end] == plain:
            return Frame(tuple(framed[:begin]), tuple(framed[end:]))
    raise InputError("tokenizer: its special tokens do not stand around the text; cannot use it")


def integer_type(size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds ``size`` ids."""
    return np.dtype(np.uint16 if size <= 2**16 else np.uint32)


def require_same(sequences: Path, size: int, folder: Path) -> None:
    """Raise InputError where a tokenizer of ``size`` sub-words did not make these sequences."""
    made = read_json(sequences / "report.json").get("vocabulary")
    if made != size:
        raise InputError(
            f"{folder}: {size} sub-words, but {sequences} was made with a tokenizer of {made}; "
            "expected the same tokenizer"
        )
