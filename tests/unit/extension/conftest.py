"""A small world in two tokenizers: a teacher, the same with new tokens, sequences."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers

import worlds
from eliquare.corpus.masking import MaskOptions
from eliquare.extension import alignment
from eliquare.extension.extend import ExtendOptions, extend

MAX_LENGTH = 48


@dataclass(frozen=True)
class World:
    """The folders of a training of a student with new tokens."""

    documents: Path
    teacher: Path
    extended: Path
    sequences: Path
    masking: Path


def write_teacher(kind: str, folder: Path) -> Path:
    """Write a random model of one layer whose tokenizer knows little of the second language."""
    texts = [*worlds.texts("qaa")[:30], *worlds.texts("qab")[:4]]
    worlds.write_tokenizer(kind, folder, texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    family = transformers.BertConfig if kind == "wordpiece" else transformers.XLMRobertaConfig
    torch.manual_seed(1)
    model = transformers.AutoModelForMaskedLM.from_config(
        family(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=MAX_LENGTH + 2,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["wordpiece", "unigram"])
def world(request, tmp_path_factory) -> World:
    """Write all that a training of a student with new tokens reads."""
    folder = tmp_path_factory.mktemp(f"extension-{request.param}")
    documents = worlds.write_documents(folder / "documents", worlds.texts("qab")[:30])
    teacher = write_teacher(request.param, folder / "teacher")
    extended = folder / "extended"
    rule = {"num_tokens": 100, "min_frequency": 3}
    extend(ExtendOptions(model=str(teacher), documents=documents, output=extended, **rule))
    options = {"documents": documents, "tokenizer": extended, "counts": folder / "counts"}
    options |= {"teacher_tokenizer": teacher, "max_length": MAX_LENGTH, "language": "uk"}
    sequences, masking = folder / "sequences", folder / "masking"
    alignment.tokenize(alignment.TokenizeOptions(**options, output=sequences))
    alignment.mask(
        MaskOptions(
            sequences=sequences,
            counts=folder / "counts",
            tokenizer=extended,
            max_validation_sequences=24,
            output=masking,
        )
    )
    return World(documents, teacher, extended, sequences, masking)
