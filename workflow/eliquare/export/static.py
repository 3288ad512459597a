"""Make static embeddings of a model: a vector per token, the mean of them per text.

    eliquare export static --model FOLDER --counts COUNTS --output FOLDER

The method of model2vec (Tulkens and van Dongen 2024): each token goes through the encoder alone,
its vector is the mean of the states; the vectors are reduced by principal components; and each is
weighted by SIF, a / (a + p), where p is the token's share of text (Arora et al. 2017). model2vec
guesses p from the rank of a token in the vocabulary (Zipf's law); here it is counted. The folder
loads with sentence-transformers and with model2vec.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA
from tokenizers import Tokenizer

from eliquare import cli
from eliquare.config.export import StaticShape
from eliquare.config.model import Benchmark
from eliquare.corpus.counts import read_counts
from eliquare.corpus.tokenization import SpecialTokens
from eliquare.evaluation import benchmark, data, embed
from eliquare.evaluation.finetune import Task
from eliquare.io import InputError, atomic_dir, checksum, provenance, write_json
from eliquare.models.loading import load_fast_tokenizer, load_model, quiet
from eliquare.models.sentence import MODULES, NORMALIZE_FOLDER, PACKAGE, Sentence
from eliquare.vocabulary import tokenizer as tokenizer_json

TOKENS_PER_BATCH = 1024

Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)


class StaticOptions(cli.Options, StaticShape):
    """Options of ``export static``."""

    model: Path = Field(description="Model folder.")
    counts: Path = Field(description="Folder with the counts of its tokens in the language.")
    output: Path = Field(description="Folder to make.")


def export(options: StaticOptions) -> None:
    """Write a model's static embeddings."""
    with atomic_dir(options.output) as partial:
        report = write_static(options, partial)
        write_json(partial / "provenance.json", provenance(report, {"model": options.model}))
    logger.info("%s: %s vectors of %s numbers", options.output, report["tokens"], report["width"])


def write_static(options: StaticOptions, folder: Path) -> dict[str, Any]:
    """Write static embeddings into a folder; return what was made.

    Raises:
        InputError: the counts are of another tokenizer.
    """
    quiet()
    tokenizer = load_fast_tokenizer(options.model)
    description = tokenizer_json.describe(tokenizer)
    tokens = tokenizer_json.list_tokens(description, tokenizer.name_or_path)
    share = shares(options.counts, tokens)
    vectors = token_vectors(options.model, len(tokens))
    reduced, explained = principal_components(vectors, options.dimensions)
    weighted = (reduced * sif(share, options.sif)[:, None]).astype(np.float32)
    weighted[sorted(tokenizer.all_special_ids)] = 0
    save_file({"embeddings": np.ascontiguousarray(weighted)}, folder / "model.safetensors")
    bare = tokenizer_json.backend_of(description)
    bare.save(str(folder / "tokenizer.json"), pretty=False)
    report = {
        "tokens": len(tokens),
        "width": weighted.shape[1],
        "explained_variance": explained,
        "sif": options.sif,
        "counts": checksum(options.counts),
        "bytes": (folder / "model.safetensors").stat().st_size,
    }
    # What model2vec and sentence-transformers read.
    write_json(
        folder / "config.json",
        {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
        | {"embedding_dtype": "float32", "apply_pca": options.dimensions}
        | {"sif_coefficient": options.sif, "hidden_dim": weighted.shape[1]},
    )
    kinds = (("StaticEmbedding", "."), ("Normalize", NORMALIZE_FOLDER))
    write_json(
        folder / MODULES,
        [
            {"idx": number, "name": str(number), "path": path, "type": f"{PACKAGE}.{kind}"}
            for number, (kind, path) in enumerate(kinds)
        ],
    )
    (folder / NORMALIZE_FOLDER).mkdir()
    write_json(folder / "report.json", report)
    return report


def shares(folder: Path, tokens: list[str]) -> NDArray[np.float64]:
    """Return each token's share of text; the counts may have more tokens, as before a reduction."""
    counts = read_counts(folder)
    ids = {token: index for index, token in enumerate(counts.tokens)}
    if lacking := [token for token in tokens if token not in ids]:
        raise InputError(
            f"{folder}: does not count {lacking[0]!r} ({len(lacking):,} such); give the counts of "
            "this model's tokenizer, or of the one that it was reduced from"
        )
    occurrences = counts.occurrences[[ids[token] for token in tokens]]
    share: NDArray[np.float64] = occurrences / max(occurrences.sum(), 1)
    return share


@torch.inference_mode()
def token_vectors(folder: Path, tokens: int) -> Vectors:
    """Return ``[tokens, width]``: the mean of the states of each token between special ones."""
    model: Any = load_model(folder, torch.float32).base_model
    special = SpecialTokens.of(load_fast_tokenizer(folder).backend_tokenizer)
    before, after = torch.tensor(special.prefix).long(), torch.tensor(special.suffix).long()
    found = []
    for start in range(0, tokens, TOKENS_PER_BATCH):
        ids = torch.arange(start, min(start + TOKENS_PER_BATCH, tokens)).unsqueeze(1)
        rows = [part.expand(len(ids), -1) for part in (before, ids, after)]
        inputs = torch.cat(rows, dim=1)
        mask = torch.ones_like(inputs)
        states = model(input_ids=inputs, attention_mask=mask).last_hidden_state
        found.append(Sentence("mean", normalize=False).pool(states, mask).numpy())
    vectors: Vectors = np.concatenate(found)
    return vectors


def principal_components(vectors: Vectors, number: int) -> tuple[Vectors, float]:
    """Return centred vectors in their first components, and the share of variance in these.

    ``number`` are taken, or all where there are fewer.
    """
    pca = PCA(min(number, *vectors.shape), svd_solver="covariance_eigh")
    found: Vectors = pca.fit_transform(vectors.astype(np.float64)).astype(np.float32)
    return found, float(pca.explained_variance_ratio_.sum())


def sif(share: NDArray[np.float64], coefficient: float) -> NDArray[np.float64]:
    """Return the weights of tokens by their share of text: 1 for those that never occur."""
    weights: NDArray[np.float64] = coefficient / (coefficient + share)
    return weights


# What they score, and how fast they are


class StaticEncoder:
    """Static embeddings of a folder: the mean of a text's token vectors, of length 1."""

    sentence = Sentence("mean")

    def __init__(self, folder: Path) -> None:
        self.vectors = torch.from_numpy(load_file(folder / "model.safetensors")["embeddings"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def embed(self, texts: Sequence[str], prompt: str = "") -> embed.Embeddings:
        """Return the embeddings ``[texts, width]``; of a text without tokens, zeros."""
        given = self.tokenizer.encode_batch_fast(
            [prompt + text for text in texts], add_special_tokens=False
        )
        ids = [torch.tensor(each.ids).long() for each in given]
        starts = np.cumsum([0, *map(len, ids)])[:-1]
        found: embed.Embeddings = self.pool(torch.cat(ids), torch.from_numpy(starts)).numpy()
        return found

    def pool(self, ids: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of texts whose tokens stand in one row, each from its start."""
        bags = F.embedding_bag(ids, self.vectors, starts, mode="mean")
        return F.normalize(bags, dim=-1)


def measure(folder: Path, tasks: Sequence[Task], how: Benchmark) -> dict[str, Any]:
    """Return the latency of static embeddings, and their scores on tasks of words or single texts.

    A logistic regression is trained on them for each task, of words without their context.
    """
    encoder = StaticEncoder(folder)
    texts, length = min(how.batch_sizes), how.sequence_length
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(encoder.vectors), (texts * length,), generator=generator)
    starts = torch.arange(texts) * length
    with benchmark.on_threads(how.threads):
        timed = benchmark.latency(
            lambda: encoder.pool(ids, starts), how.repeats, torch.device("cpu")
        )
    scores = {}
    for task in tasks:
        if task.kind == "pair" or data.unavailable_task(task):
            continue
        splits = data.load(task, task.finetuning.max_train_samples)
        found = embed.probe(encoder, task.kind, splits)
        scores[task.name] = {"metric": data.MAIN_METRIC[task.kind]} | found
    return {"latency_ms": timed, "tasks": scores}
