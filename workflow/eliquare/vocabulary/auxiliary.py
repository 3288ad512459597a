"""Auxiliary embeddings of sub-words: from a file, or learnt quickly from their neighbours."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from eliquare import stage
from eliquare.stage import InputError

WINDOW = 5
DIMENSIONS = 100
TEXTS_AT_ONCE = 256


def read_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """Vectors as word2vec and fastText write them in text: a sub-word and its numbers a line.

    A first line with two numbers (how many, how wide) is passed over. Raises InputError that names
    the line where the width changes or a value is no number.
    """
    vectors: dict[str, np.ndarray] = {}
    width = None
    with stage.existing(path, "file of vectors").open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            name, *values = line.rstrip("\n").split(" ")
            values = [value for value in values if value]
            if number == 1 and len(values) == 1:
                continue
            try:
                vector = np.array([float(value) for value in values])
            except ValueError:
                vector = np.empty(0)
            width = width or len(vector)
            if not len(vector) or len(vector) != width or not np.isfinite(vector).all():
                raise InputError(
                    f"{path}, line {number}: expected a sub-word and {width or 'some'} numbers, "
                    "separated by spaces"
                )
            if vector.any():
                vectors[name] = vector
    if not vectors:
        raise InputError(f"{path}: no vectors")
    return vectors


def learn_vectors(
    backend: Any, names: list[str], texts: Iterable[str], dimensions: int = DIMENSIONS
) -> dict[str, np.ndarray]:
    """Vectors of the sub-words in ``texts``: positive pointwise mutual information, then SVD.

    Two sub-words are neighbours within WINDOW positions. The vectors are the left singular ones
    times the square root of their values (Levy, Goldberg and Dagan 2015, eigenvalue weighting 1/2).
    A sub-word that does not occur has none.
    """
    size = len(names)
    together = sparse.csr_matrix((size, size))
    texts = iter(texts)
    while batch := list(islice(texts, TEXTS_AT_ONCE)):
        rows, columns = [], []
        for encoding in backend.encode_batch_fast(batch, add_special_tokens=False):
            ids = np.array(encoding.ids, dtype=np.int64)
            for distance in range(1, WINDOW + 1):
                rows.append(ids[:-distance])
                columns.append(ids[distance:])
        row, column = np.concatenate(rows), np.concatenate(columns)
        together = together + sparse.csr_matrix((np.ones(len(row)), (row, column)), (size, size))
    together = (together + together.T).tocoo()
    if not together.nnz:
        raise InputError("the documents are too short to learn auxiliary vectors from")
    sums = np.asarray(together.sum(axis=1)).ravel()
    information = np.log(together.data * sums.sum() / (sums[together.row] * sums[together.col]))
    positive = information > 0
    matrix = sparse.csr_matrix(
        (information[positive], (together.row[positive], together.col[positive])), (size, size)
    )
    wanted = min(dimensions, size - 1)
    left, values, _ = svds(matrix, k=wanted, v0=np.ones(size), solver="arpack")
    table = left * np.sqrt(values)
    return {
        names[place]: table[place] for place in np.flatnonzero(np.abs(table).max(axis=1) > 1e-9)
    }


def unit_rows(table: np.ndarray) -> np.ndarray:
    """Rows of length 1, (rows, dimensions); a row of zeros stays."""
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return table / np.where(lengths > 0, lengths, 1)


def sparsemax(scores: np.ndarray) -> np.ndarray:
    """The point of the simplex nearest to each row, (rows, values): Martins and Astudillo 2016."""
    ordered = -np.sort(-scores, axis=1)
    sums = np.cumsum(ordered, axis=1)
    places = np.arange(1, scores.shape[1] + 1)
    support = np.count_nonzero(1 + places * ordered > sums, axis=1)
    threshold = (sums[np.arange(len(scores)), support - 1] - 1) / support
    return np.maximum(scores - threshold[:, None], 0)
