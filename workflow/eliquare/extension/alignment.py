"""One text in two tokenizers, a student's and a teacher's: common spans, masks on both sides.

A span is the smallest stretch of characters that begins and ends between two tokens on both sides;
a special token around the text ([CLS], [SEP]) is a span of its own. A sequence ends between two
spans and has at most ``max_length`` tokens on both sides. Beside the columns of
``eliquare.corpus.sequences`` there are the teacher's ids, and for each span its number of tokens on
either side; ``shared.npy`` has for each student id the teacher's id of the same token, or -1.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer

from eliquare.corpus import masking, sequences
from eliquare.corpus.masking import IGNORE_INDEX, Masking, read_array, rows_column
from eliquare.corpus.sequences import SIDES, column
from eliquare.corpus.tokenization import (
    CorpusTokenizer,
    EncodedDocuments,
    SpecialTokens,
    Units,
    integer_type,
)
from eliquare.io import InputError, atomic_dir, read_json, write_json

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
SHARED = "shared.npy"
# Characters from the start of a text to that of the next, where several are counted through.
STRIDE = 2**32

logger = logging.getLogger(__name__)

# Masks on both sides


class AlignedSequence(NamedTuple):
    """One sequence on both sides: ids[length], and the number of tokens of each span."""

    input_ids: Ints
    teacher_input_ids: Ints
    spans: Ints
    teacher_spans: Ints


class MaskedSequence(NamedTuple):
    """A masked sequence on both sides.

    ``labels`` are the student's, IGNORE_INDEX where nothing is predicted; ``same[spans]`` says
    whether a span is one token on both sides, and the same one.
    """

    input_ids: Ints
    labels: Ints
    teacher_input_ids: Ints
    spans: Ints
    teacher_spans: Ints
    same: Bools


@dataclass(frozen=True)
class MaskAligner:
    """Draws masks of the student's tokens, and puts them on the teacher's.

    ``to_teacher[student id]`` is the teacher's id of the same token, or -1.
    """

    masking: Masking
    to_teacher: Ints
    teacher_mask_id: int

    @classmethod
    def load(cls, sequences: str | Path, masking: Masking) -> "MaskAligner":
        """Return the aligner of a folder of sequences; InputError if they are in one tokenizer.

        The random tokens of the student's ``masking`` become those that both sides have.
        """
        shared = Path(sequences) / SHARED
        if not shared.exists():
            raise InputError(
                f"{sequences}: sequences in one tokenizer; make them with `extension tokenize` for "
                "a student whose tokenizer is not its teacher's"
            )
        teacher = read_json(shared.with_name("report.json"))["teacher"]
        to_teacher = read_array(shared, np.integer, "table of shared tokens")
        both = masking.random_ids[to_teacher[masking.random_ids] >= 0]
        return cls(replace(masking, random_ids=both), to_teacher, teacher["mask_id"])

    def draw_batch(
        self, rows: Mapping[str, Sequence[Ints]], epoch: int, numbers: Sequence[int]
    ) -> list[MaskedSequence]:
        """Mask several sequences, given by the columns of AlignedSequence and their numbers."""
        drawn = self.masking.draw_batch(rows["input_ids"], epoch, numbers)
        columns = [rows[name] for name in AlignedSequence._fields]
        return [
            self.align(AlignedSequence(*values), masked, labels)
            for *values, masked, labels in zip(*columns, *drawn, strict=True)
        ]

    def align(self, sequence: AlignedSequence, masked: Ints, labels: Ints) -> MaskedSequence:
        """Make the masks of a student's sequence full spans, and put them on both sides.

        A span with a drawn token is drawn in full, and treated as its first drawn token: all its
        tokens become the mask, on both sides; or all become one random token, which both have; or
        all stay. All tokens of a drawn span are predicted. ``masked[length]`` and
        ``labels[length]`` are as ``Masking.draw_batch`` gives them.
        """
        ids, teacher_ids, *sizes = sequence
        spans, teacher_spans = (np.repeat(np.arange(len(each)), each) for each in sizes)
        places = np.flatnonzero(labels != IGNORE_INDEX)
        drawn, first = np.unique(spans[places], return_index=True)
        tokens, ids = masked[places[first]], ids.astype(np.int64)
        # What each span becomes; -1 where nothing is drawn, -2 where it stays as it is.
        of_span = np.full(len(sequence.spans), -1, dtype=np.int64)
        of_span[drawn] = np.where(tokens != ids[places[first]], tokens, -2)
        new, of_teacher = of_span[spans], of_span[teacher_spans]
        teacher_new = self.to_teacher[of_teacher]
        teacher_new[of_teacher == self.masking.mask_id] = self.teacher_mask_id
        return MaskedSequence(
            np.where(new >= 0, new, ids),
            np.where(new == -1, IGNORE_INDEX, ids),
            np.where(of_teacher >= 0, teacher_new, teacher_ids),
            sequence.spans,
            sequence.teacher_spans,
            same_tokens(sequence, self.to_teacher),
        )


def same_tokens(sequence: AlignedSequence, to_teacher: Ints) -> Bools:
    """Return for each span whether it is one token on both sides, and the same one."""
    first, teacher_first = (
        np.cumsum(sizes, dtype=np.int64) - sizes
        for sizes in (sequence.spans, sequence.teacher_spans)
    )
    single = (sequence.spans == 1) & (sequence.teacher_spans == 1)
    teacher_ids = to_teacher[sequence.input_ids[first]]
    result: Bools = single & (teacher_ids == sequence.teacher_input_ids[teacher_first])
    return result


# Common spans


class Encoded(NamedTuple):
    """The tokens of several texts in one tokenizer: ids, starts, ends, their text's number.

    Starts and ends are characters, counted through all texts, which begin STRIDE apart.
    """

    ids: Ints
    starts: Ints
    ends: Ints
    texts: Ints

    @classmethod
    def of(cls, backend: Tokenizer, texts: Sequence[str]) -> "Encoded":
        """Encode the texts, without special tokens."""
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
        numbers = np.repeat(np.arange(len(encodings)), [len(e.ids) for e in encodings])
        offsets = np.array([pair for e in encodings for pair in e.offsets], dtype=np.int64)
        starts, ends = offsets.reshape(-1, 2).T + numbers * STRIDE
        ids = np.array([token for e in encodings for token in e.ids], dtype=np.int64)
        return cls(ids, starts, ends, numbers)


def common_spans(*sides: Encoded) -> list[Ints]:
    """Return the number of each token's span, on both sides, counted through all texts.

    Both sides have tokens of the same texts. A token may begin a span where none before it reaches
    further than its start: byte-level tokens that share one character do not.
    """
    begins = []
    for side in sides:
        first = np.diff(side.texts, prepend=-1) != 0
        starts = np.where(first, side.texts * STRIDE, side.starts)
        reached = np.maximum.accumulate(side.ends)
        places = np.flatnonzero(first | (starts >= np.append(0, reached[:-1])))
        starts, unique = np.unique(starts[places], return_index=True)
        begins.append((starts, places[unique]))
    common = np.intersect1d(begins[0][0], begins[1][0], assume_unique=True)
    return [
        np.searchsorted(places[np.isin(starts, common)], np.arange(len(side.ids)), "right") - 1
        for side, (starts, places) in zip(sides, begins, strict=True)
    ]


def sentence_starts(student: Encoded, begins: Sequence[Sequence[int]]) -> Bools:
    """Return whether a sentence begins at each token; ``begins`` are characters in each text."""
    wanted = np.array([text * STRIDE + c for text, each in enumerate(begins) for c in each])
    places = np.searchsorted(student.starts, wanted)
    inside = np.append(student.texts, -1)[places] == wanted // STRIDE
    return np.isin(np.arange(len(student.ids)), places[inside])


# Stages


class TokenizeOptions(sequences.TokenizeOptions):
    """Options of ``extension tokenize``."""

    teacher_tokenizer: Path = Field(description="Model folder of the teacher.")


def tokenize(options: TokenizeOptions) -> None:
    """Turn documents into sequences of the student's tokenizer, the teacher's tokens beside them.

    The documents divide as those of ``corpus tokenize`` do.
    """
    sequences.use_threads(options.threads)
    encode = AlignedEncoder.load(options.tokenizer, options.teacher_tokenizer, options.max_length)
    student, teacher = encode.student, encode.teacher
    with atomic_dir(options.output) as folder, atomic_dir(options.counts) as counts:
        tallies, total = sequences.write(student, encode, options, folder)
        same_share = encode.same / max(encode.spans, 1)
        report = sequences.report(options, student, tallies)
        report["teacher"] = {"vocabulary": len(teacher.tokens), "mask_id": teacher.mask_id}
        report["teacher"]["tokens"] = encode.teacher_tokens
        report["spans"] = {"all": encode.spans, "same_share": same_share}
        np.save(folder / SHARED, encode.to_teacher)
        write_json(folder / "report.json", report)
        total.save(counts)
    logger.info(
        "%s: %d sequences to train on, %d to validate on; %.1f%% of the spans are the same token "
        "on both sides",
        *(options.output, *(tallies[side].sequences for side in SIDES), 100 * same_share),
    )


@dataclass
class AlignedEncoder:
    """Encodes documents on both sides, for ``corpus.sequences.write``, and counts how they compare.

    ``to_teacher[student id]`` is the teacher's id of the same token, or -1; ``room`` is the tokens
    of a sequence on either side, without the special tokens, of which both sides have as many.
    """

    student: CorpusTokenizer
    teacher: CorpusTokenizer
    to_teacher: Ints
    room: int
    spans: int = 0
    same: int = 0
    teacher_tokens: int = 0

    @classmethod
    def load(cls, student: Path, teacher: Path, max_length: int) -> "AlignedEncoder":
        """Load both tokenizers; raise InputError where they cannot be used beside each other."""
        own, other = (sequences.load_checked(folder, max_length) for folder in (student, teacher))
        shapes = [
            (len(each.around.prefix), len(each.around.suffix), each.mask_id is None)
            for each in (own, other)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{student}: its special tokens (the mask, those around a text) are not as many as "
                f"those of {teacher}; use a student whose tokenizer was extended from its teacher's"
            )
        ids = {token: index for index, token in enumerate(other.tokens) if token}
        to_teacher = np.array([ids.get(token, -1) for token in own.tokens], dtype=np.int64)
        return cls(own, other, to_teacher, max_length - own.around.size)

    def __call__(
        self, sentences: list[list[str]], numbers: NDArray[np.int64]
    ) -> tuple[EncodedDocuments, dict[str, pa.Array]]:
        """Encode documents, given as sentences; return the student's tokens and the columns.

        ``numbers[documents]`` are their numbers in the corpus. Spans of more than ``room`` tokens
        on a side are left out.
        """
        units = Units.of(self.student.words.spaces, sentences)
        sides = [Encoded.of(each.backend, units.texts) for each in (self.student, self.teacher)]
        both = np.intersect1d(sides[0].texts, sides[1].texts)
        student, teacher = (
            Encoded(*(column[np.isin(side.texts, both)] for column in side)) for side in sides
        )
        spans, teacher_spans = common_spans(student, teacher)
        sizes, teacher_sizes = np.bincount(spans), np.bincount(teacher_spans)
        fits = (sizes <= self.room) & (teacher_sizes <= self.room)
        texts = student.texts[np.cumsum(sizes) - sizes][fits]
        owners = np.array(units.owners, dtype=np.int64)[texts]
        ids, teacher_ids = student.ids[fits[spans]], teacher.ids[fits[teacher_spans]]
        text = AlignedSequence(ids, teacher_ids, sizes[fits], teacher_sizes[fits])
        is_start = sentence_starts(student, units.begins)[fits[spans]]
        lengths = np.bincount(owners, weights=text.spans, minlength=len(sentences))
        encoded = EncodedDocuments(ids, is_start, lengths.astype(np.int64))
        if not len(owners):
            return encoded, {}
        self.spans += len(text.spans)
        self.same += int(same_tokens(text, self.to_teacher).sum())
        self.teacher_tokens += len(teacher_ids)
        return encoded, self._columns(text, is_start, numbers[owners])

    def _columns(self, text: AlignedSequence, is_start: Bools, owners: Ints) -> dict[str, pa.Array]:
        """Divide documents into sequences of as many spans as have room on both sides.

        ``owners[spans]`` is the number of each span's document.
        """
        ends, teacher_ends = (
            np.append(0, np.cumsum(each)) for each in (text.spans, text.teacher_spans)
        )
        begins, begin = list[int](), 0
        while begin < len(owners):
            begins.append(begin)
            limits = [np.searchsorted(owners, owners[begin], "right")]
            for total in (ends, teacher_ends):
                limits.append(np.searchsorted(total, total[begin] + self.room, "right") - 1)
            begin = int(min(limits))

        cuts, around = np.array(begins[1:], dtype=int), self.student.around
        ones = SpecialTokens((1,) * len(around.prefix), (1,) * len(around.suffix))
        cuts_of = AlignedSequence(ends[cuts], teacher_ends[cuts], cuts, cuts)
        frames = (around, self.teacher.around, ones, ones)
        parts = {
            name: [np.concatenate([frame.prefix, part, frame.suffix]) for part in np.split(*values)]
            for name, frame, *values in zip(text._fields, frames, text, cuts_of, strict=True)
        }
        starts = np.split(is_start, ends[cuts])
        first_tokens = [np.flatnonzero(row) + len(around.prefix) for row in starts]
        lengths = np.diff(ends[[*begins, -1]]) + around.size
        kind, teacher_kind = (
            integer_type(len(each.tokens)) for each in (self.student, self.teacher)
        )
        return {
            "input_ids": rows_column(parts["input_ids"], kind),
            "length": column(lengths.astype(np.uint16)),
            "document": column(owners[begins].astype(np.uint32)),
            "sentence_starts": rows_column(first_tokens, np.uint16),
            "teacher_input_ids": rows_column(parts["teacher_input_ids"], teacher_kind),
            "spans": rows_column(parts["spans"], np.uint16),
            "teacher_spans": rows_column(parts["teacher_spans"], np.uint16),
        }


def mask(options: masking.MaskOptions) -> None:
    """Write the masking weights, and a validation set whose masks are fixed on both sides."""
    tokenizer = CorpusTokenizer.load(options.tokenizer)
    aligner = MaskAligner.load(options.sequences, Masking.from_counts(options, tokenizer))
    path = options.sequences / "validation.arrow"
    sample = masking.sample_sequences(path, options.max_validation_sequences)
    numbers = [number for number, _ in sample]
    rows = aligned_columns(sequences.open_sequences(path))[numbers]
    items = aligner.draw_batch(rows, masking.VALIDATION_EPOCH, numbers)
    kinds = {"input_ids": np.uint32, "labels": np.int32, "teacher_input_ids": np.uint32}
    columns = {
        name: rows_column([getattr(item, name) for item in items], kinds.get(name, np.uint16))
        for name in MaskedSequence._fields
    }
    columns["length"] = column(np.array([len(item.labels) for item in items], dtype=np.uint16))
    with atomic_dir(options.output) as folder:
        aligner.masking.save(folder, columns)
    drawn = sum(int(np.count_nonzero(item.labels != IGNORE_INDEX)) for item in items)
    logger.info("%s: %d validation sequences, %d masked tokens", options.output, len(items), drawn)


def aligned_columns(dataset: Any) -> Any:
    """Return the columns of AlignedSequence of a dataset, as arrays."""
    return dataset.select_columns(list(AlignedSequence._fields)).with_format("numpy")
