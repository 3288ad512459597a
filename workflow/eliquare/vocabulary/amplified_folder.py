"""The files of an amplified model: the list of new sub-words, a model card."""

import csv
from pathlib import Path
from typing import Any

from eliquare.vocabulary import extend as extension
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.new_subwords import Learnt
from eliquare.vocabulary.tokenizer import Description


def write_new(path: Path, old: Description, new: Description, learnt: Learnt) -> None:
    """new_subwords.csv: id, sub-word, its uses in the text, the old pieces of its characters."""
    known = set(surgery.list_subwords(old))
    backend = surgery.backend_of(old)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "subword", "occurrences", "old_pieces"])
        for number, name in enumerate(surgery.list_subwords(new)):
            if name not in known:
                pieces = " ".join(extension.old_pieces(backend, old, name))
                writer.writerow([number, name, learnt.uses[name], pieces])


def card(name: str, report: dict[str, Any]) -> str:
    """A short model card."""
    subwords, text = report["sub_words"], report["text"]
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
base_model: {name}
tags: [vocabulary-amplification]
---

# {name} with {subwords["new"]:,} new sub-words

The masked language model {name} with {subwords["new"]:,} longer sub-words for one language. A word
of the text has {text["sub_words_per_word_after"]:.2f} sub-words, and had
{text["sub_words_per_word_before"]:.2f} before. Nothing was trained: the new sub-words begin from
old ones, and are good for something after more training only.

`new_subwords.csv` lists them, `amplification.json` says what they do to the text, and
`provenance.json` what the model was made from. The terms of {name} hold for this model too.
"""
