"""A model with each head, and text and a task for them."""

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

import families
from eliquare.models.sentence import Sentence, write_sentence


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A text file with a sentence per line."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(families.sentences("qaa")[:60]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tagged(tmp_path_factory):
    """An IOB file in which capitalised words are names."""
    path = tmp_path_factory.mktemp("tagged") / "tagged.iob"
    sentences = [
        "\n".join(
            f"{word} {'B-PER' if word[0].isupper() else 'O'}" for word in line.split() if word
        )
        for line in families.sentences("qaa")[:60]
    ]
    path.write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of small random models, by what `pipeline` does with them."""
    root = tmp_path_factory.mktemp("models")
    families.make_teacher("bert", root / "fill-mask")
    tokenizer = AutoTokenizer.from_pretrained(root / "fill-mask")
    names = ["O", "B-PER", "I-PER"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    for head, kind, options in (
        ("token-classification", AutoModelForTokenClassification, labels),
        ("text-classification", AutoModelForSequenceClassification, {}),
        ("feature-extraction", AutoModel, {}),
    ):
        torch.manual_seed(2)
        kind.from_pretrained(root / "fill-mask", **options).save_pretrained(root / head)
        tokenizer.save_pretrained(root / head)
    write_sentence(root / "feature-extraction", Sentence("mean"), 16)
    return {folder.name: folder for folder in root.iterdir()}
