"""What makes a sentence encoder of a model: pooling, normalization, prompts.

A model folder carries them in the files of sentence-transformers (``modules.json`` and what it
names), so that ``SentenceTransformer(folder)`` loads the model. They stay through fetching,
reducing and distilling; a model without them gives states of tokens alone.
"""

import shutil
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel, PositiveInt

from eliquare.config.model import Pooling
from eliquare.io import InputError, read_as, read_json, write_json

if TYPE_CHECKING:
    import torch

POOLINGS = get_args(Pooling)
MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
LENGTH = "sentence_bert_config.json"
POOLING_FOLDER, NORMALIZE_FOLDER = "1_Pooling", "2_Normalize"
PACKAGE = "sentence_transformers.models"
SHORTEST = 1e-12  # length of an embedding, as torch.nn.functional.normalize has it
_KEYS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
}


class UnknownEncoder(InputError):
    """A sentence encoder that makes embeddings in a way that is not known here."""


class Sentence(NamedTuple):
    """How states of tokens become the embedding of a text.

    Attributes:
        pooling: the mean or the maximum over the tokens, or the state of the first one.
        normalize: whether embeddings have the length 1.
        prompts: what is put before a text, by purpose, as ``{"query": "query: "}``.
        prompt: the purpose that is meant where none is named.
        max_length: longest input in tokens, if it is less than the model takes.
    """

    pooling: Pooling
    normalize: bool = True
    prompts: Mapping[str, str] = {}
    prompt: str | None = None
    max_length: int | None = None

    @property
    def query_prompt(self) -> str:
        """What stands before a query."""
        return self._prompt("query")

    @property
    def document_prompt(self) -> str:
        """What stands before a document that queries shall find."""
        return self._prompt("document", "passage", "corpus")

    @property
    def text_prompt(self) -> str:
        """What stands before a text that is neither: E5 wants that of queries.

        Where documents have none of their own, as BGE's, such a text has none either.
        """
        return self.query_prompt if self.document_prompt else ""

    def _prompt(self, *purposes: str) -> str:
        """Return the prompt of the first purpose that has one, or else none."""
        return next((self.prompts[name] for name in purposes if name in self.prompts), "")

    @property
    def training_prompts(self) -> list[str]:
        """What stands before the texts of a training, in turn: all that a user may put there.

        Also nothing, where queries or documents have no prompt.
        """
        return list(
            dict.fromkeys([*self.prompts.values(), self.query_prompt, self.document_prompt])
        )

    def pool(self, states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        """Return the embeddings ``[texts, width]`` in float32.

        Args:
            states: last hidden states, ``[texts, length, width]``.
            mask: 1 at real tokens, ``[texts, length]``.
        """
        states = states.float()
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            real = mask.unsqueeze(-1).bool()
            if self.pooling == "max":
                pooled = states.masked_fill(~real, -inf).amax(1)
            else:
                pooled = (states * real).sum(1) / real.sum(1).clamp(min=1)
        if not self.normalize:
            return pooled
        unit: torch.Tensor = pooled / pooled.norm(dim=-1, keepdim=True).clamp(min=SHORTEST)
        return unit


class Module(BaseModel):
    """An entry of modules.json."""

    type: str
    path: str


class Prompts(BaseModel):
    """The prompts among the settings of a sentence encoder."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None

    def texts(self) -> dict[str, str]:
        """Return the prompts that are not empty, by purpose."""
        return {name: text for name, text in (self.prompts or {}).items() if text}


class Length(BaseModel):
    """The longest input of a sentence encoder."""

    max_seq_length: PositiveInt | None = None


def read_sentence(folder: str | Path) -> Sentence | None:
    """Return what a folder says of sentences; None where it says nothing.

    Raises:
        UnknownEncoder: it has a module or a pooling that is not known here.
        InputError: one of its files cannot be read.
    """
    folder = Path(folder)
    if not (folder / MODULES).exists():
        return None
    kinds = {
        each.type.rpartition(".")[2]: each.path for each in read_as(folder / MODULES, list[Module])
    }
    if unknown := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise UnknownEncoder(
            f"{folder / MODULES}: the module {unknown[0]} comes after the pooling, and a student "
            "would lack it; take a model of Transformer, Pooling and Normalize, or name its "
            "pooling in `pooling` to leave that module out"
        )
    pooling = read_pooling(folder / kinds.get("Pooling", POOLING_FOLDER) / "config.json")
    prompts = read_prompts(folder)
    named = prompts.default_prompt_name
    return Sentence(pooling, "Normalize" in kinds, prompts.texts(), named, read_length(folder))


def read_length(folder: Path) -> int | None:
    """Return the longest input that a folder names; None where it names none."""
    said = read_as(folder / LENGTH, Length) if (folder / LENGTH).exists() else Length()
    longest: int | None = said.max_seq_length
    return longest


def read_prompts(folder: Path) -> Prompts:
    """Return what a folder says of the texts before a text; nothing where it says nothing."""
    found: Prompts = (
        read_as(folder / PROMPTS, Prompts) if (folder / PROMPTS).exists() else Prompts()
    )
    return found


def read_pooling(file: Path) -> Pooling:
    """Return the pooling that a model's file says; raise UnknownEncoder if it is not known here."""
    said = read_json(file)
    given: list[Any] = [str(said["pooling_mode"])] if "pooling_mode" in said else []
    given += [name for name, key in _KEYS.items() if said.get(key)]
    others = [key for key in said if key.startswith("pooling_mode_") and said[key] is True]
    if len({*given}) != 1 or given[0] not in POOLINGS or {*others} - {*_KEYS.values()}:
        raise UnknownEncoder(f"{file}: expected one pooling of {', '.join(POOLINGS)}")
    pooling: Pooling = given[0]
    return pooling


def require_pooling(folder: Path, wanted: Pooling, has_first: bool) -> None:
    """Raise InputError if a model does not pool as it is said to.

    Args:
        folder: The model's folder, which may say how it pools.
        wanted: What the settings say.
        has_first: Whether its tokenizer puts a token before each text.
    """
    for file in folder.glob("*_Pooling/config.json"):
        if (own := read_pooling(file)) != wanted:
            raise InputError(
                f"pooling: {wanted} is asked for, and {file} says {own}; write pooling: {own}"
            )
    if wanted == "cls" and not has_first:
        raise InputError(
            f"pooling: cls is the state of a token before the text, and the tokenizer of {folder} "
            "puts none there; write mean or max"
        )


def copy_sentence_files(source: Path, target: Path) -> None:
    """Copy what a folder says of sentences as it is, modules that are not known here included.

    A file that is in ``target`` already stays.
    """
    if not (source / MODULES).exists():
        return
    for name in (MODULES, PROMPTS, LENGTH):
        if (source / name).exists() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)
    for module in read_as(source / MODULES, list[Module]):
        path = module.path
        if path and Path(path).name == path and (source / path).is_dir():
            shutil.copytree(source / path, target / path)


def write_sentence(folder: Path, sentence: Sentence, width: int) -> None:
    """Write what ``SentenceTransformer(folder)`` reads, for embeddings of a width."""
    modules = [("Transformer", ""), ("Pooling", POOLING_FOLDER)]
    if sentence.normalize:
        modules.append(("Normalize", NORMALIZE_FOLDER))
    described = [
        {"idx": number, "name": str(number), "path": path, "type": f"{PACKAGE}.{kind}"}
        for number, (kind, path) in enumerate(modules)
    ]
    write_json(folder / MODULES, described)
    (folder / POOLING_FOLDER).mkdir(exist_ok=True)
    flags = {key: name == sentence.pooling for name, key in _KEYS.items()}
    write_json(
        folder / POOLING_FOLDER / "config.json", {"word_embedding_dimension": width, **flags}
    )
    if sentence.normalize:
        (folder / NORMALIZE_FOLDER).mkdir(exist_ok=True)
    # encode_document of sentence-transformers 6 takes no other name.
    documents = {"document": text} if (text := sentence.document_prompt) else {}
    write_json(
        folder / PROMPTS,
        {
            "prompts": documents | dict(sentence.prompts),
            "default_prompt_name": sentence.prompt,
            "similarity_fn_name": "cosine",
        },
    )
    write_json(folder / LENGTH, {"max_seq_length": sentence.max_length, "do_lower_case": False})
