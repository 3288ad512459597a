"""Where the embeddings and output biases of new sub-words begin."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import sparse
from transformers import PreTrainedModel

from eliquare.stage import InputError
from eliquare.vocabulary.auxiliary import sparsemax, unit_rows
from eliquare.vocabulary.weights import (
    counts_positions_from_padding,
    renumber_config,
    vocabulary_tensors,
)

# Of Arora, Liang and Ma 2017, Section 4.1, for weights from shares of running text.
FREQUENT = 1e-3
ROWS_AT_ONCE = 256


def mean_weights(replaced: Sequence[Sequence[int]], size: int) -> sparse.csr_matrix:
    """For each new sub-word the plain mean of the old pieces it replaces, (new, ``size``)."""
    return weighted(replaced, np.ones(size))


def frequency_weights(
    replaced: Sequence[Sequence[int]], occurrences: np.ndarray
) -> sparse.csr_matrix:
    """A mean in which frequent old pieces, which mean little, count less, (new, old).

    The weight of a piece is a / (a + its share of running text), with a = 0.001 (Arora, Liang and
    Ma 2017, who weigh the words of a sentence so). ``occurrences`` has a number for each old id.
    """
    share = occurrences / max(occurrences.sum(), 1)
    return weighted(replaced, FREQUENT / (FREQUENT + share))


def weighted(replaced: Sequence[Sequence[int]], weights: np.ndarray) -> sparse.csr_matrix:
    """Rows of weights with the sum 1, over the old pieces of each new sub-word."""
    rows = np.repeat(np.arange(len(replaced)), [len(pieces) for pieces in replaced])
    columns = np.array([piece for pieces in replaced for piece in pieces], dtype=np.int64)
    shape = (len(replaced), len(weights))
    matrix = sparse.csr_matrix((weights[columns], (rows, columns)), shape=shape)
    return sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix


def similarity_weights(
    new: Sequence[str],
    old: Mapping[str, int],
    vectors: Mapping[str, np.ndarray],
    otherwise: sparse.csr_matrix,
) -> tuple[sparse.csr_matrix, int]:
    """Weights from similarities in an auxiliary space of embeddings (FOCUS).

    The weights of a new sub-word are the sparsemax of its cosines to all old sub-words that have an
    auxiliary vector (Dobler and de Melo 2023, Section 3). A new sub-word without a vector takes its
    row of ``otherwise``. Returns the weights, (new, old), and how many had no vector. Raises
    InputError where no old sub-word has one.
    """
    neighbours = [piece for piece in old if piece in vectors]
    if not neighbours:
        raise InputError("no sub-word of the model has an auxiliary vector; give other vectors")
    space = unit_rows(np.stack([vectors[piece] for piece in neighbours]))
    columns = np.array([old[piece] for piece in neighbours])
    rows: list[sparse.csr_matrix] = []
    without = 0
    for begin in range(0, len(new), ROWS_AT_ONCE):
        chunk = new[begin : begin + ROWS_AT_ONCE]
        found = [place for place, piece in enumerate(chunk) if piece in vectors]
        part = otherwise[begin : begin + len(chunk)].tolil()
        without += len(chunk) - len(found)
        if found:
            own = unit_rows(np.stack([vectors[chunk[place]] for place in found]))
            for place, weights in zip(found, sparsemax(own @ space.T), strict=True):
                used = np.flatnonzero(weights)
                part[place] = 0
                part[place, columns[used]] = weights[used]
        rows.append(part.tocsr())
    return sparse.vstack(rows).tocsr(), without


def resized(
    model: PreTrainedModel,
    kept: Sequence[int],
    size: int,
    copied: Mapping[int, int],
    weights: sparse.csr_matrix,
) -> PreTrainedModel:
    """The model with ``size`` sub-words; what is not a row of the vocabulary is shared, not copied.

    ``kept`` are the old ids whose numbers the configuration may use, in their new order from 0.
    ``copied`` gives old ids by new ids; all other new ids take, in ascending order, the rows of
    ``weights`` (new, old) times the old rows, in embeddings, output weights and biases alike.
    """
    config = renumber_config(model.config, kept)
    config.vocab_size = size
    if counts_positions_from_padding(model) and config.pad_token_id != model.config.pad_token_id:
        raise InputError(
            "this model counts its positions from the id of its padding token, which would change; "
            "extend the tokenizer instead of replacing it"
        )
    new_ids = torch.tensor([number for number in range(size) if number not in copied])
    targets = torch.tensor(list(copied.keys()))
    sources = torch.tensor(list(copied.values()))
    with torch.device("meta"):
        result = type(model)(config)
    rowed = vocabulary_tensors(model)
    made: dict[int, torch.Tensor] = {}
    filled = {}
    for name, old in model.state_dict().items():
        if name not in rowed:
            filled[name] = old
            continue
        if old.data_ptr() not in made:
            new = old.new_empty(size, *old.shape[1:])
            new[targets] = old[sources]
            if len(new_ids):
                table = old.detach().double().reshape(len(old), -1).numpy()
                mixed = weights @ table[: weights.shape[1]]
                new[new_ids] = torch.from_numpy(mixed).reshape(-1, *old.shape[1:]).to(old.dtype)
            made[old.data_ptr()] = new
        filled[name] = made[old.data_ptr()]
    result.load_state_dict(filled, assign=True)
    result.tie_weights()
    return result
