"""A sample of the text that no student was trained on, the same for every system of a language.

eliquare corpus sample --documents DOCUMENTS --language sw --output TEXT --pairs PAIRS

With ``--part training`` it is of the other text, on which teachers of tasks teach (task
distillation).

Sentences, of which language models predict the tokens; pairs of a title and its document, of which
embeddings find the document. A document without a title is looked for by its first sentence, which
is taken out of it.
"""

import csv
import heapq
import logging
from collections.abc import Iterable, Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from eliquare.cli import Options
from eliquare.corpus.documents import WORD, Document, read
from eliquare.corpus.sequences import document_number, split_threshold
from eliquare.corpus.tokenization import split_sentences
from eliquare.io import InputError, atomic_write

# Headings and list items say little of a language; a few endless lines would take all the time.
MIN_WORDS = 5
MAX_CHARACTERS = 200
# Encoders read no more of a document than its first few hundred tokens.
MAX_DOCUMENT_CHARACTERS = 2000
# Of fewer pairs the share that is found says nothing of a model.
MIN_PAIRS, PAIRS = 20, 200

logger = logging.getLogger(__name__)


class SampleOptions(Options):
    """Options of ``corpus sample``."""

    outputs: ClassVar = ("output", "pairs")

    documents: Path = Field(description="Documents folder.")
    language: str = Field("en", description="Wikipedia code whose rules end sentences.")
    validation_fraction: float = Field(
        0.1, gt=0, le=0.5, description="Share of the documents kept for validation."
    )
    part: Literal["validation", "training"] = Field(
        "validation", description="Documents to sample."
    )
    sentences: int = Field(64, ge=1, description="Sentences at most.")
    output: Path = Field(description="Text file to write, a sentence per line.")
    pairs: Path | None = Field(
        None, description="Table to write: `query`, the title of a document, and its `text`."
    )


def sample(options: SampleOptions) -> None:
    """Write sentences of a part of the documents, one of each document, more if these are few.

    Documents and sentences are drawn by hashes of their text: their order changes nothing.
    """
    threshold = split_threshold(options.documents, options.validation_fraction)
    numbered = ((document_number(each.text), each) for each in read(options.documents))
    is_validation = options.part == "validation"
    wanted = (pair for pair in numbered if (pair[0] < threshold) == is_validation)
    drawn = [
        document
        for _, document in heapq.nsmallest(
            max(options.sentences, PAIRS), wanted, key=lambda pair: (pair[0], pair[1].text)
        )
    ]
    columns = [
        sorted(set(usable_sentences(each.text, options.language)), key=document_number)
        for each in drawn[: options.sentences]
    ]
    in_turn = filter(None, chain.from_iterable(zip_longest(*columns)))
    chosen = list(islice(in_turn, options.sentences))
    if not chosen:
        raise InputError(
            f"{options.documents}: no sentence of {MIN_WORDS} words in the {len(columns)} "
            f"{options.part} documents; add documents of running text"
        )
    logger.info("%d sentences of %d %s documents", len(chosen), len(columns), options.part)
    if options.pairs:
        found = list(queries(drawn, options.language))
        if len(found) < MIN_PAIRS:
            logger.info("%d titles with a document: retrieval needs %d", len(found), MIN_PAIRS)
            found = []
        with atomic_write(options.pairs) as partial, partial.open("w", newline="") as file:
            table = csv.writer(file, delimiter="\t")
            table.writerow(["query", "text"])
            table.writerows(found)
    with atomic_write(options.output) as partial:
        partial.write_text("".join(f"{text}\n" for text in chosen), encoding="utf-8")


def queries(documents: Iterable[Document], language: str) -> Iterator[tuple[str, str]]:
    """Yield what finds a document, its title or its first sentence, and the rest of it."""
    for document in documents:
        query, text = document.title, document.text
        if not query.strip():
            query = next(usable_sentences(text, language), "")
            text = " ".join(text.split()).partition(query)[2] if query else ""
        text = " ".join(text[:MAX_DOCUMENT_CHARACTERS].split())
        if len(WORD.findall(text)) >= MIN_WORDS:
            yield " ".join(query.split()), text


def usable_sentences(text: str, language: str) -> Iterator[str]:
    """Yield the sentences of a text that have a few words; long ones end at a space."""
    for sentence in split_sentences(text, language):
        words = " ".join(sentence.split())
        if len(words) > MAX_CHARACTERS:
            words = words[:MAX_CHARACTERS].rpartition(" ")[0] or words[:MAX_CHARACTERS]
        if len(WORD.findall(words)) >= MIN_WORDS:
            yield words
