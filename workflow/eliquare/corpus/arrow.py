"""Files of sequences: Arrow streams that ``datasets.Dataset.from_file`` maps into memory."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from eliquare.corpus.tokenizer import Frame
from eliquare.stage import InputError, existing


def schema(columns: dict[str, str | list[str]]) -> pa.Schema:
    """An Arrow schema that ``datasets`` reads back; a list of one type stands for a list column."""
    fields, features = [], {}
    for name, kind in columns.items():
        value = {"dtype": kind if isinstance(kind, str) else kind[0], "_type": "Value"}
        arrow = pa.type_for_alias(value["dtype"])
        is_list = not isinstance(kind, str)
        fields.append(pa.field(name, pa.list_(arrow) if is_list else arrow))
        features[name] = {"feature": value, "_type": "List"} if is_list else value
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def batches(path: str | Path) -> Iterator[pa.RecordBatch]:
    """The record batches of a file, one by one; raises InputError if it is missing or damaged."""
    with pa.OSFile(str(existing(path, "file of sequences"))) as file:
        try:
            yield from pa.ipc.open_stream(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a whole Arrow stream ({error}); make it again") from None


def cut(
    ids: np.ndarray,
    is_start: np.ndarray,
    lengths: np.ndarray,
    numbers: np.ndarray,
    frame: Frame,
    max_length: int,
) -> tuple[pa.ListArray, np.ndarray, np.ndarray, pa.ListArray]:
    """Cut tokenized documents into framed sequences of at most ``max_length``.

    ``ids`` and ``is_start`` hold the documents in a row, ``lengths`` and ``numbers`` have one
    value a document. Returns the columns input_ids, length, document and sentence_starts.
    """
    room = max_length - frame.size
    rows_of_document = -(-lengths // room)
    rows = int(rows_of_document.sum())
    first_row = np.cumsum(rows_of_document) - rows_of_document
    begin = (np.arange(rows) - np.repeat(first_row, rows_of_document)) * room
    real = np.minimum(room, np.repeat(lengths, rows_of_document) - begin)
    row_lengths = real + frame.size
    offsets = np.concatenate([[0], np.cumsum(row_lengths)])

    row = np.repeat(np.arange(rows), real)
    position = np.arange(len(ids)) + len(frame.prefix) + row * frame.size
    framed = np.empty(offsets[-1], dtype=ids.dtype)
    framed[position] = ids
    for place, special in enumerate(frame.prefix):
        framed[offsets[:-1] + place] = special
    for place, special in enumerate(reversed(frame.suffix), start=1):
        framed[offsets[1:] - place] = special

    start_rows = row[is_start]
    starts = (position[is_start] - offsets[start_rows]).astype(np.uint16)
    start_offsets = np.concatenate([[0], np.cumsum(np.bincount(start_rows, minlength=rows))])
    return (
        pa.ListArray.from_arrays(offsets.astype(np.int32), framed),
        row_lengths.astype(np.uint16),
        np.repeat(numbers, rows_of_document).astype(np.uint32),
        pa.ListArray.from_arrays(start_offsets.astype(np.int32), starts),
    )
