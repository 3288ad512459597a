"""Cut documents into sequences of a student's tokenizer, each beside the same text in a teacher's.

Beside the columns of eliquare.corpus.sequences there are the teacher's ids, and for each common
span of characters how many pieces it has on either side. A sequence ends between two spans and has
at most ``--max-length`` tokens on both sides. ``shared.npy`` has for each student id the teacher's
id of the same sub-word, or -1. The documents divide as those of eliquare.corpus.sequences do.
"""

import argparse
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eliquare import stage
from eliquare.corpus import arrow, sequences
from eliquare.corpus import tokenizer as tokenizers
from eliquare.corpus.documents import Document
from eliquare.corpus.documents import read as read_documents
from eliquare.corpus.pairing import Cut, cut, encode
from eliquare.corpus.sentences import split_sentences, units_of
from eliquare.corpus.sequences import SIDES, Tally
from eliquare.corpus.split import Split
from eliquare.pairs import SHARED, Pair, same_pieces
from eliquare.stage import InputError

VERSION = 1


def write(
    documents: Iterable[Document],
    student: Any,
    teacher: Any,
    split: Split,
    language: str,
    max_length: int,
    folder: Path,
) -> tuple[dict[str, Tally], dict[str, int]]:
    """Write train.arrow and validation.arrow; return what each holds, and how the sides compare."""
    frames = tokenizers.frame(student), tokenizers.frame(teacher)
    shared = shared_ids(student, teacher)
    columns = arrow.schema(
        {
            "input_ids": [tokenizers.integer_type(len(shared)).name],
            "length": "uint16",
            "document": "uint32",
            "sentence_starts": ["uint16"],
            "teacher_input_ids": [tokenizers.integer_type(len(tokenizers.subwords(teacher))).name],
            "spans": ["uint16"],
            "teacher_spans": ["uint16"],
        }
    )
    tallies = {side: Tally(np.zeros(max_length + 1, dtype=np.int64)) for side in SIDES}
    compared = dict.fromkeys(("spans", "same_pieces", "teacher_tokens"), 0)
    framing = frames[0].size, frames[1].size
    with ExitStack() as stack:
        writers = {
            side: stack.enter_context(pa.ipc.new_stream(str(folder / f"{side}.arrow"), columns))
            for side in SIDES
        }
        for batch in sequences.batches(documents):
            chosen: dict[str, list[tuple[int, str]]] = {side: [] for side in SIDES}
            for number, text in batch:
                chosen[split.side(text)].append((number, text))
            for side in SIDES:
                numbers = [number for number, _ in chosen[side]]
                texts = [split_sentences(text, language) for _, text in chosen[side]]
                units, begins, owners = units_of(student.backend_tokenizer, texts)
                if not units:
                    continue
                sides = encode(student, units), encode(teacher, units)
                cuts = list(cut(*sides, begins, np.array(owners), frames, max_length))
                if not cuts:
                    continue
                writers[side].write_batch(record_batch(cuts, numbers, columns))
                tally = tallies[side]
                tally.documents += len({document for document, _ in cuts})
                for _, one in cuts:
                    tally.by_length[len(one.ids)] += 1
                    tally.sentences += len(one.sentence_starts)
                    tally.tokens += len(one.ids) - framing[0]
                    compared["teacher_tokens"] += len(one.teacher_ids) - framing[1]
                    compared["spans"] += len(one.spans)
                    pair = Pair(one.ids, one.teacher_ids, one.spans, one.teacher_spans)
                    compared["same_pieces"] += int(same_pieces(pair, shared).sum())
                if student.unk_token_id is not None:
                    tally.unknown += sum(
                        int(np.count_nonzero(one.ids == student.unk_token_id)) for _, one in cuts
                    )
    return tallies, compared


def record_batch(
    cuts: list[tuple[int, Cut]], numbers: list[int], columns: pa.Schema
) -> pa.RecordBatch:
    """The sequences as rows; ``numbers`` are the documents' in the corpus."""
    table = {
        "input_ids": [one.ids for _, one in cuts],
        "length": [len(one.ids) for _, one in cuts],
        "document": [numbers[document] for document, _ in cuts],
        "sentence_starts": [one.sentence_starts for _, one in cuts],
        "teacher_input_ids": [one.teacher_ids for _, one in cuts],
        "spans": [one.spans for _, one in cuts],
        "teacher_spans": [one.teacher_spans for _, one in cuts],
    }
    arrays = [pa.array(table[field.name], type=field.type) for field in columns]
    return pa.record_batch(arrays, schema=columns)


def shared_ids(student: Any, teacher: Any) -> np.ndarray:
    """For each student id the teacher's id of the same sub-word, or -1."""
    vocabulary = teacher.get_vocab()
    return np.array(
        [vocabulary.get(name, -1) for name in tokenizers.subwords(student)], dtype=np.int64
    )


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    options = sequences.parser()
    options.description = __doc__.split("\n")[0]
    options.add_argument(
        "--teacher-tokenizer", required=True, type=Path, help="model folder of the teacher"
    )
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write the sequences folder."""
    sequences.check(arguments)
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    student = tokenizers.load(arguments.tokenizer)
    teacher = tokenizers.load(arguments.teacher_tokenizer)
    frames = []
    for tokenizer, folder in (
        (student, arguments.tokenizer),
        (teacher, arguments.teacher_tokenizer),
    ):
        frames.append(sequences.checked_frame(tokenizer, folder, arguments.max_length))
        if tokenizer.mask_token_id is None:
            raise InputError(f"{folder}: the tokenizer has no mask token")
    split = sequences.split_of(arguments)
    read = stage.progress(read_documents(arguments.documents), "sequences", unit="documents")
    with stage.whole_folder(arguments.output) as folder:
        tallies, compared = write(
            read, student, teacher, split, arguments.language, arguments.max_length, folder
        )
        report = sequences.report_of(arguments, student, frames[0], tallies)
        report["teacher"] = {
            "vocabulary": len(tokenizers.subwords(teacher)),
            "mask_id": teacher.mask_token_id,
            "tokens": compared["teacher_tokens"],
        }
        report["spans"] = {
            "all": compared["spans"],
            "share_of_same_pieces": compared["same_pieces"] / compared["spans"],
        }
        np.save(folder / SHARED, shared_ids(student, teacher))
        stage.write_json(folder / "report.json", report)
    stage.say(
        f"{report['train']['sequences']:,} sequences to train on, "
        f"{report['validation']['sequences']:,} to validate on, in {arguments.output}; "
        f"{report['spans']['share_of_same_pieces']:.1%} of {compared['spans']:,} spans are one "
        "and the same piece on both sides"
    )


if __name__ == "__main__":
    stage.main(parser(), run)
