"""Initial embeddings and output biases of new tokens: mixtures of the old rows.

The weights of a mixture are even, by rarity, or by similarity in an auxiliary space of embeddings,
which is read from a file or learnt quickly from neighbouring tokens.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from eliquare.io import InputError, open_text
from eliquare.models.loading import vocabulary_tensors
from eliquare.vocabulary.reduce import check_positions, renumbered

Array = NDArray[np.float64]
# Of Arora, Liang and Ma 2017, Section 4.1, for weights from shares of running text.
ARORA = 1e-3
WINDOW = 5
DIMENSIONS = 100
BATCH = 256


def average_weights(sources: Sequence[Sequence[int]], weights: Array) -> sparse.csr_matrix:
    """Return mixtures[new, old] with the sum 1, over the old tokens that each new one replaces.

    ``weights[old]`` says how much each old token counts beside others.
    """
    rows = np.repeat(np.arange(len(sources)), [len(tokens) for tokens in sources])
    columns = np.array([token for tokens in sources for token in tokens], dtype=np.int64)
    shape = (len(sources), len(weights))
    matrix = sparse.csr_matrix((weights[columns], (rows, columns)), shape=shape)
    return sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix


def rarity_weights(occurrences: Array) -> Array:
    """Return weights[old] by which frequent tokens, which mean little, count less.

    a / (a + share of running text), with a = 0.001 (Arora, Liang and Ma 2017, who weigh the words
    of a sentence so).
    """
    weights: Array = ARORA / (ARORA + occurrences / max(occurrences.sum(), 1))
    return weights


def similarity_weights(
    new: Sequence[str],
    old: Mapping[str, int],
    vectors: Mapping[str, Array],
    fallback: sparse.csr_matrix,
) -> tuple[sparse.csr_matrix, int]:
    """Return mixtures[new, old] by similarity in an auxiliary space (FOCUS).

    The weights of a new token are the sparsemax of its cosines to all old tokens that have an
    auxiliary vector (Dobler and de Melo 2023, Section 3). A new token without a vector takes its
    row of ``fallback[new, old]``; also returns how many do. Raises InputError where no old token
    has a vector.
    """
    neighbours = [token for token in old if token in vectors]
    if not neighbours:
        raise InputError("no token of the model has an auxiliary vector; give other vectors")
    space = unit_rows(np.stack([vectors[token] for token in neighbours]))
    columns = np.array([old[token] for token in neighbours])
    result = fallback.tolil()
    known = [row for row, token in enumerate(new) if token in vectors]
    for begin in range(0, len(known), BATCH):
        rows = known[begin : begin + BATCH]
        queries = unit_rows(np.stack([vectors[new[row]] for row in rows]))
        for row, weights in zip(rows, sparsemax(queries @ space.T), strict=True):
            used = np.flatnonzero(weights)
            result[row] = 0
            result[row, columns[used]] = weights[used]
    return result.tocsr(), len(new) - len(known)


def read_vectors(path: str | Path) -> dict[str, Array]:
    """Read vectors as word2vec and fastText write them in text: a token and its numbers per line.

    A first line with two numbers (how many, how wide) is skipped. Raises InputError that names the
    line where the width changes or a value is no number.
    """
    vectors: dict[str, Array] = {}
    width = 0
    with open_text(path, "file of vectors") as file:
        for number, line in enumerate(file, start=1):
            token, *values = line.rstrip().split(" ")
            if number == 1 and len(values) == 1:
                continue
            try:
                vector = np.array([float(value) for value in values if value])
                width = width or len(vector)
                if not 0 < len(vector) == width or not np.isfinite(vector).all():
                    raise ValueError
            except ValueError:
                raise InputError(
                    f"{path}, line {number}: expected a token and {width or 'some'} numbers, "
                    "separated by spaces"
                ) from None
            if vector.any():
                vectors[token] = vector
    return vectors


def learn_vectors(
    backend: Tokenizer, tokens: Sequence[str], texts: Iterable[str], dimensions: int = DIMENSIONS
) -> dict[str, Array]:
    """Learn vectors of the tokens: positive pointwise mutual information, then an SVD.

    Two tokens are neighbours within WINDOW positions. The vectors are the left singular ones times
    the square root of their values (Levy, Goldberg and Dagan 2015, eigenvalue weighting 1/2). A
    token that does not occur has none.
    """
    size = len(tokens)
    counts = sparse.csr_matrix((size, size))
    texts = iter(texts)
    while batch := list(islice(texts, BATCH)):
        encodings = backend.encode_batch_fast(batch, add_special_tokens=False)
        sequences = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        shifts = [(ids, shift) for ids in sequences for shift in range(1, WINDOW + 1)]
        rows = np.concatenate([ids[:-shift] for ids, shift in shifts])
        columns = np.concatenate([ids[shift:] for ids, shift in shifts])
        counts = counts + sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (size, size))
    counts = (counts + counts.T).tocoo()
    if not counts.nnz:
        raise InputError("the documents are too short to learn auxiliary vectors from")
    sums = np.asarray(counts.sum(axis=1)).ravel()
    information = np.log(counts.data * sums.sum() / (sums[counts.row] * sums[counts.col]))
    positive = information > 0
    places = counts.row[positive], counts.col[positive]
    matrix = sparse.csr_matrix((information[positive], places), (size, size))
    left, values, _ = svds(matrix, k=min(dimensions, size - 1), v0=np.ones(size), solver="arpack")
    table = left * np.sqrt(values)
    used = np.abs(table).max(axis=1) > 1e-9
    return {token: row for token, row, found in zip(tokens, table, used, strict=True) if found}


def unit_rows(table: Array) -> Array:
    """Return rows[n, dimensions] of length 1."""
    result: Array = table / np.linalg.norm(table, axis=1, keepdims=True)
    return result


def sparsemax(scores: Array) -> Array:
    """Return the point of the simplex nearest to each row of scores[n, values].

    Source: Martins and Astudillo 2016, Algorithm 1.
    """
    ordered = -np.sort(-scores, axis=1)
    sums = np.cumsum(ordered, axis=1)
    support = np.count_nonzero(1 + np.arange(1, scores.shape[1] + 1) * ordered > sums, axis=1)
    threshold = (sums[np.arange(len(scores)), support - 1] - 1) / support
    result: Array = np.maximum(scores - threshold[:, None], 0)
    return result


def resize(
    model: PreTrainedModel,
    kept: Sequence[int],
    size: int,
    copied: Mapping[int, int],
    mixtures: sparse.csr_matrix,
) -> PreTrainedModel:
    """Return the model with ``size`` tokens; tensors without vocabulary rows are shared.

    ``kept`` are the old ids that the configuration may use, in their new order from 0. ``copied``
    gives old ids by new ids; all other new ids take, in ascending order, ``mixtures[new, old]``
    times the old rows, in embeddings, output weights and biases alike. Raises InputError where
    positions are counted from the padding id and that id would change.
    """
    config = copy.deepcopy(model.config)
    config.update(renumbered(config.to_dict(), kept) | {"vocab_size": size})
    check_positions(model, kept)
    new_ids = [token for token in range(size) if token not in copied]
    with torch.device("meta"):
        result: Any = type(model)(config)
    if getattr(model, "pooler", None) is None and getattr(result, "pooler", None) is not None:
        result.pooler = None  # the class makes one for a bare encoder, whose folder had none
    state = model.state_dict()
    made: dict[int, torch.Tensor] = {}
    for name, old in vocabulary_tensors(model).items():
        # Tied tensors share their memory.
        if old.data_ptr() not in made:
            new = old.new_empty(size, *old.shape[1:])
            new[list(copied)] = old[list(copied.values())]
            rows = old.detach().double().reshape(len(old), -1).numpy()
            mixed = torch.from_numpy(mixtures @ rows[: mixtures.shape[1]])
            new[new_ids] = mixed.reshape(-1, *old.shape[1:]).to(old.dtype)
            made[old.data_ptr()] = new
        state[name] = made[old.data_ptr()]
    result.load_state_dict(state, assign=True)
    result.tie_weights()
    resized: PreTrainedModel = result
    return resized
