"""A small sample of a corpus, spread over the whole of it, in constant memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from eliquare import stage
from eliquare.corpus import compressed
from eliquare.stage import InputError

SENTENCE_END = re.compile(r"(?<=[.!?؟।])\s+|(?<=[。！？])\s*|\n+")


def sample_texts(source: str | Path, wanted: int) -> Iterator[str]:
    """At most ``wanted`` texts at equal distances, in their order.

    ``source`` is a documents folder, or a text file with one text a line (.gz, .bz2, .zst too).
    """
    source = stage.existing(source, "documents folder or text file")
    path = source / "documents.jsonl.zst" if source.is_dir() else source
    stage.existing(path, "documents file")
    if source.is_dir():
        number_of_texts = stage.read_json(source / "report.json")["documents"]
    else:
        number_of_texts = sum(1 for _ in compressed.lines(path))
    distance = max(1, -(-number_of_texts // wanted))
    for number, line in enumerate(compressed.lines(path)):
        if number % distance:
            continue
        if not source.is_dir():
            yield line.decode("utf-8", errors="replace").strip()
            continue
        try:
            yield json.loads(line)["text"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f'{path}, line {number + 1}: expected a JSON object with "text"'
            ) from None


def split_sentences(text: str) -> list[str]:
    """Sentences by their final mark, well enough for a sample."""
    return [sentence for part in SENTENCE_END.split(text) if (sentence := part.strip())]
