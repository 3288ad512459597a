"""Documents as sequences of token ids, for training and for validation, and their counts.

Documents are divided by hashes of their text, so that neither their order nor the number of threads
changes what comes out. A sequence holds tokens of one document only. A sequences folder holds
``train.arrow`` and ``validation.arrow``, which ``datasets`` maps into memory, and ``report.json``.
"""

import hashlib
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from fontTools import unicodedata
from pydantic import Field
from tokenizers import decoders

from eliquare.cli import Options
from eliquare.config.base import Threads
from eliquare.config.corpus import Sequences
from eliquare.corpus.counts import Counts
from eliquare.corpus.documents import WORD, Document, read
from eliquare.corpus.tokenization import (
    CorpusTokenizer,
    EncodedDocuments,
    encode,
    integer_type,
    split_sentences,
)
from eliquare.io import InputError, atomic_dir, existing, progress, read_as, write_json

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_CHARACTERS = 1_000_000
LOOK_AHEAD = 10_000
FILL_BATCH = 32
SIDES = ("train", "validation")
# A tokenizer does not know a language where it needs more tokens per word, or a larger share of
# unknown tokens, or lacks a script of so many of its letters.
MAX_FERTILITY, MAX_UNKNOWN, SCRIPT_SHARE = 4.0, 0.01, 0.05
ADVICE = "give the teacher new tokens, adapt it, then distil (docs/your-language.md, Teachers)"
# New tokens are joined from old ones.
OF_SCRIPTS = "take a teacher that has it, or pre-train one (docs/your-language.md, Teachers)"

# Tokenizes documents, given as sentences, with their numbers; returns their tokens, and the columns
# of a sequences file.
Encoder = Callable[
    [list[list[str]], npt.NDArray[np.int64]], tuple[EncodedDocuments, dict[str, pa.Array]]
]

logger = logging.getLogger(__name__)


class TokenizeOptions(Options, Sequences):
    """Options of ``corpus tokenize``."""

    outputs: ClassVar = ("output", "counts")
    documents: Path = Field(description="Documents folder.")
    tokenizer: Path = Field(description="Model folder whose tokenizer is used.")
    language: str = Field(
        "en",
        description="Wikipedia code whose rules end sentences; English rules for codes without "
        "their own.",
    )
    threads: Threads = Field(1, description="Threads that tokenize.")
    output: Path = Field(description="Sequences folder to write.")
    counts: Path = Field(description="Counts folder to write.")


def tokenize(options: TokenizeOptions) -> None:
    """Turn documents into sequences, and count their tokens."""
    use_threads(options.threads)
    tokenizer = load_checked(options.tokenizer, options.max_length)
    encoder = partial(pack, tokenizer, options.max_length)
    with atomic_dir(options.output) as folder, atomic_dir(options.counts) as counts:
        tallies, total = write(tokenizer, encoder, options, folder)
        found = report(options, tokenizer, tallies)
        found |= knowledge(tokenizer, found, tallies["validation"], options.documents)
        write_json(folder / "report.json", found)
        total.save(counts)
    for warning in found["warnings"]:
        logger.warning("warning: %s: %s", options.tokenizer, warning)
    sizes = [tallies[side].sequences for side in SIDES]
    occurring = np.count_nonzero(total.occurrences)
    logger.info(
        "%s: %d sequences to train on, %d to validate on; %d of %d tokens occur",
        *(options.output, *sizes, occurring, len(tokenizer.tokens)),
    )


def use_threads(threads: int) -> None:
    """Set the threads of tokenizers; its pool reads this once, when it first works."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)


def load_checked(folder: Path, max_length: int) -> CorpusTokenizer:
    """Load a tokenizer; raise InputError where sequences of this length do not suit it."""
    tokenizer = CorpusTokenizer.load(folder)
    special = tokenizer.around.size
    if not special < max_length <= tokenizer.max_length:
        raise InputError(
            f"--max-length: {max_length}; expected more than the {special} special tokens and at "
            f"most the {tokenizer.max_length} tokens that the model in {folder} reads"
        )
    return tokenizer


def validation_threshold(
    numbers: Iterable[int], fraction: float, source: str | Path = "corpus"
) -> int:
    """Return the number below which documents are for validation, the others for training.

    It gives this share of the documents, moved just so far that both sides hold one. Reads no more
    of ``numbers`` than it needs. Raises InputError where there are no two different ones.
    """
    threshold = int(fraction * 2**64)
    lowest, highest, count = 2**64, -1, 0
    for number in numbers:
        lowest, highest, count = min(lowest, number), max(highest, number), count + 1
        if lowest < threshold <= highest:
            return threshold
    if lowest >= highest:
        raise InputError(
            f"{source}: {count} documents; expected at least two different documents, to train "
            "and to validate"
        )
    return min(max(threshold, lowest + 1), highest)


def split_threshold(documents: Path, fraction: float) -> int:
    """Return the number below which the documents of a folder are for validation."""
    texts = (document.text for document in itertools.islice(read(documents), LOOK_AHEAD))
    numbers = (document_number(text) for text in texts if text.strip())
    return validation_threshold(numbers, fraction, documents)


def document_number(text: str) -> int:
    """Return a number below 2**64 from a document's text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()[:8], "little")


@dataclass
class Tally:
    """The contents of one side of the split; ``by_length[n]`` counts its sequences of length n.

    Words are counted for validation alone, which is enough.
    """

    counts: Counts
    by_length: npt.NDArray[np.int64]
    words: int = 0

    @property
    def sequences(self) -> int:
        """Return the number of sequences."""
        return int(self.by_length.sum())


def fill(by_length: npt.NDArray[np.int64], batch: int) -> float:
    """Return the share of positions that are not padding, in batches sorted by length."""
    longest_first = np.cumsum(by_length[::-1])
    sequences = int(longest_first[-1])
    leaders = np.arange(0, sequences, batch)
    widths = len(by_length) - 1 - np.searchsorted(longest_first, leaders, side="right")
    rows = np.minimum(batch, sequences - leaders)
    return float(by_length @ np.arange(len(by_length)) / (widths @ rows))


def report(
    options: TokenizeOptions, tokenizer: CorpusTokenizer, tallies: dict[str, Tally]
) -> dict[str, Any]:
    """Return the contents of report.json; raise InputError where one side has no tokens."""
    around = tokenizer.around
    result: dict[str, Any] = {
        "vocabulary": len(tokenizer.tokens),
        "max_length": options.max_length,
        "prefix": list(around.prefix),
        "suffix": list(around.suffix),
    }
    for side, tally in tallies.items():
        counts, special = tally.counts, tally.sequences * around.size
        tokens = int(counts.occurrences.sum())
        if not tokens:
            raise InputError(f"{options.documents}: no document with tokens for the {side}")
        unknown = 0 if tokenizer.unk_id is None else int(counts.occurrences[tokenizer.unk_id])
        result[side] = {
            "documents": counts.all_documents,
            "sentences": counts.all_sentences,
            "sequences": tally.sequences,
            "tokens": tokens,
            "special_tokens": special,
            "mean_length": (tokens + special) / tally.sequences,
            "unknown_share": unknown / tokens,
            "fill": fill(tally.by_length, FILL_BATCH),
        }
    return result


def knowledge(
    tokenizer: CorpusTokenizer, found: Mapping[str, Any], tally: Tally, documents: Path
) -> dict[str, Any]:
    """Return what shows whether a tokenizer knows the language, on the validation side.

    ``fertility`` is tokens per word; in a script without spaces a character counts as a word.
    ``warnings`` has a line if it does not.
    """
    fertility = found["validation"]["tokens"] / max(tally.words, 1)
    unknown = found["validation"]["unknown_share"]
    scripts = missing_scripts(tokenizer, read_as(documents / "characters.json", dict[str, int]))
    reasons = [f"it lacks the script {script}" for script in scripts]
    if fertility > MAX_FERTILITY:
        reasons.append(f"{fertility:.1f} tokens per word (more than {MAX_FERTILITY:g})")
    if unknown > MAX_UNKNOWN:
        reasons.append(f"{unknown:.1%} unknown tokens (more than {MAX_UNKNOWN:.0%})")
    advice = OF_SCRIPTS if scripts else ADVICE
    warnings = [f"this tokenizer does not know the language: {', '.join(reasons)}; {advice}"]
    return {
        "fertility": fertility,
        "missing_scripts": scripts,
        "warnings": warnings if reasons else [],
    }


def missing_scripts(tokenizer: CorpusTokenizer, characters: Mapping[str, int]) -> list[str]:
    """Return the scripts of the corpus of whose letters most are in no token.

    ``characters`` counts each character of the corpus. Scripts of less than SCRIPT_SHARE of its
    letters are passed over.
    """
    normalizer = tokenizer.backend.normalizer
    known = set("".join(tokenizer.tokens))
    if "ByteLevel(" in f"{normalizer} {tokenizer.backend.pre_tokenizer}":
        # Each character of such a token stands for a byte.
        byte_level, normalizer = decoders.ByteLevel(), None
        known = set("".join(byte_level.decode([token]) for token in tokenizer.tokens))
    letters, missing = Counter[str](), Counter[str]()
    for character, count in characters.items():
        if character.isalpha():
            script = unicodedata.script(character)
            normal = normalizer.normalize_str(character) if normalizer else character
            letters[script] += count
            missing[script] += count * bool(set(normal) - known)
    least = SCRIPT_SHARE * letters.total()
    found = [s for s, count in letters.items() if count >= least and missing[s] > count / 2]
    return sorted(map(unicodedata.script_name, found))


def write(
    tokenizer: CorpusTokenizer, encode: Encoder, options: TokenizeOptions, folder: Path
) -> tuple[dict[str, Tally], Counts]:
    """Write train.arrow and validation.arrow; return each side's tally, and the counts of both."""
    threshold = split_threshold(options.documents, options.validation_fraction)
    documents = progress(read(options.documents), "tokenize", unit="documents")
    tallies = {
        side: Tally(Counts.none(tokenizer.tokens), np.zeros(options.max_length + 1, np.int64))
        for side in SIDES
    }
    writers: dict[str, pa.RecordBatchStreamWriter] = {}
    with ExitStack() as stack:
        for batch in document_batches(documents, threshold):
            for side, chosen in batch.items():
                sentences = [split_sentences(text, options.language) for _, text in chosen]
                encoded, columns = encode(sentences, np.array([number for number, _ in chosen]))
                if not len(encoded.ids):
                    continue
                rows = record_batch(columns)
                if side not in writers:
                    stream = pa.ipc.new_stream(str(folder / f"{side}.arrow"), rows.schema)
                    writers[side] = stack.enter_context(stream)
                writers[side].write_batch(rows)
                tallies[side].counts.add(encoded)
                if side == "validation":
                    tallies[side].words += sum(len(WORD.findall(text)) for _, text in chosen)
                lengths = np.from_dlpack(columns["length"])
                tallies[side].by_length += np.bincount(lengths, minlength=options.max_length + 1)
    return tallies, tallies["train"].counts + tallies["validation"].counts


def document_batches(
    documents: Iterable[Document], threshold: int
) -> Iterator[dict[str, list[tuple[int, str]]]]:
    """Yield about BATCH_CHARACTERS of text: for each side its documents' numbers and texts."""
    batch: dict[str, list[tuple[int, str]]] = {side: [] for side in SIDES}
    characters = 0
    for number, document in enumerate(documents):
        is_validation = document_number(document.text) < threshold
        batch[SIDES[is_validation]].append((number, document.text))
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = {side: [] for side in SIDES}, 0
    yield batch


def pack(
    tokenizer: CorpusTokenizer,
    max_length: int,
    sentences: list[list[str]],
    numbers: npt.NDArray[np.int64],
) -> tuple[EncodedDocuments, dict[str, pa.Array]]:
    """Tokenize documents, and divide them into sequences of at most ``max_length`` tokens.

    ``numbers[documents]`` are their numbers in the corpus. Returns the documents' tokens, and the
    columns, with one row per sequence.
    """
    encoded, around = encode(tokenizer.words, sentences), tokenizer.around
    room = max_length - around.size
    lengths = encoded.lengths
    rows_of_document = -(-lengths // room)
    rows = int(rows_of_document.sum())
    first_row = np.cumsum(rows_of_document) - rows_of_document
    begin = (np.arange(rows) - np.repeat(first_row, rows_of_document)) * room
    real = np.minimum(room, np.repeat(lengths, rows_of_document) - begin)
    row_lengths = real + around.size
    offsets = np.concatenate([[0], np.cumsum(row_lengths)])

    row = np.repeat(np.arange(rows), real)
    position = np.arange(len(encoded.ids)) + len(around.prefix) + row * around.size
    ids = np.empty(offsets[-1], dtype=integer_type(len(tokenizer.tokens)))
    ids[position] = encoded.ids
    for place, special in enumerate(around.prefix):
        ids[offsets[:-1] + place] = special
    for place, special in enumerate(reversed(around.suffix), start=1):
        ids[offsets[1:] - place] = special

    start_rows = row[encoded.is_start]
    starts = (position[encoded.is_start] - offsets[start_rows]).astype(np.uint16)
    start_offsets = np.concatenate([[0], np.cumsum(np.bincount(start_rows, minlength=rows))])
    return encoded, {
        "input_ids": list_column(ids, offsets),
        "length": column(row_lengths.astype(np.uint16)),
        "document": column(np.repeat(numbers, rows_of_document).astype(np.uint32)),
        "sentence_starts": list_column(starts, start_offsets),
    }


def column(values: npt.NDArray[Any]) -> pa.Array:
    """Return ``values[rows]`` as an Arrow array; pyarrow's own way imports pandas."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def list_column(values: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> pa.Array:
    """Return lists as an Arrow array: row n is ``values[offsets[n] : offsets[n + 1]]``."""
    return pa.ListArray.from_arrays(column(offsets.astype(np.int32)), column(values))


def record_batch(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Return columns of numbers, or lists of them, as a batch that ``datasets`` reads back."""
    features = {}
    for name, array in columns.items():
        is_list = pa.types.is_list(array.type)
        kind = array.type.value_type if is_list else array.type
        value = {"dtype": str(kind), "_type": "Value"}
        features[name] = {"feature": value, "_type": "List"} if is_list else value
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.record_batch(list(columns.values()), names=list(columns), metadata=metadata)


def batches(path: str | Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a file of sequences; InputError if it is missing or damaged."""
    with complete_stream(path), pa.OSFile(str(path)) as file:
        yield from pa.ipc.open_stream(file)


def open_sequences(path: str | Path, columns: Iterable[str] = ("input_ids",)) -> "Dataset":
    """Map a file of sequences into memory.

    Raises InputError where it is missing or truncated, or has not these columns.
    """
    from datasets import Dataset

    with complete_stream(path):
        sequences = Dataset.from_file(str(path))
    if missing := {*columns} - {*sequences.column_names}:
        raise InputError(f"{path}: has no column {min(missing)!r}; it is another stage's file")
    return sequences


@contextmanager
def complete_stream(path: str | Path) -> Iterator[None]:
    """Raise InputError where a file of sequences is missing, or the block cannot read it."""
    existing(path, "file of sequences")
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a complete Arrow stream ({reason}); make it again") from None
