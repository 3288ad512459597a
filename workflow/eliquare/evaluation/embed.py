"""Score the embeddings of texts as they are, without fine-tuning.

Topics, as in MTEB (Muennighoff et al. 2023): logistic regression on frozen embeddings of few texts
of each label. Retrieval: each query's nearest document by cosine. Similarity: Spearman's
correlation of the cosines of pairs with people's judgement, as in MTEB too. Beside fine-tuned
models, what embeddings tell is probed by logistic regression on all of train.

A sentence encoder pools as its folder says; of another model the mean of the last hidden states is
taken, which ``pooling`` says. Each text has the prompt of what it is: a query, a document, neither.
"""

import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import PreTrainedModel

from eliquare.evaluation import data, readers
from eliquare.evaluation.trainer import score
from eliquare.io import InputError
from eliquare.models.loading import load_fast_tokenizer, max_sequence_length
from eliquare.models.sentence import Sentence, read_sentence

LONGEST_INPUT = 512
TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
# Of topics, as MTEB has them: its draws too, where train is in the same order.
TEXTS_PER_LABEL, DRAWS, SEED = 8, 10, 42
# How strong the regularization of a probe is, the strongest first; chosen on validation, of equals
# the strongest.
INVERSE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
MEAN_OF_STATES = Sentence("mean", normalize=False)

Embeddings = NDArray[np.float32]


class Embeds(Protocol):
    """What makes embeddings of texts, and how it pools and what it puts before them."""

    sentence: Sentence

    def embed(self, texts: Sequence[str], prompt: str = "") -> Embeddings:
        """Return the embeddings ``[texts, width]``."""


def embeddings(
    encoder: "Encoder",
    tasks: Mapping[str, data.Splits],
    held_out: Sequence[tuple[str, str]],
    pairs: Mapping[str, Sequence[readers.Example]],
) -> dict[str, Any]:
    """Return how well a model's embeddings tell topics, find documents and tell what is alike.

    Args:
        encoder: The model.
        tasks: Texts with labels, by name.
        held_out: Titles, each with its own document of the corpus; none to leave them out.
        pairs: By name, queries with their documents, or texts with a number.
    """
    return {
        "pooling": encoder.sentence.pooling,
        "said_by_model": encoder.said_by_model,
        "topics": {name: topics(encoder, splits) for name, splits in tasks.items()},
        "retrieval": retrieval(encoder, held_out) if held_out else None,
        "pairs": {
            name: similarity(encoder, examples)
            if examples[0].labels
            else retrieval(encoder, [each.texts for each in examples])
            for name, examples in pairs.items()
        },
    }


def read_titles(path: Path) -> list[tuple[str, str]]:
    """Return (title, document) of each line of a table."""
    with readers.reported_together(path) as report:
        rows = [row for _, row in readers.table_rows(path, report, ["query", "text"])]
    pairs = [(row["query"], row["text"]) for row in rows]
    if len(pairs) == 1:
        raise InputError(f"{path}: 1 pair; expected two or more to choose among, or none")
    return pairs


class Encoder:
    """A model that makes embeddings of texts.

    Attributes:
        sentence: how it makes them.
        said_by_model: whether the model's folder says so.

    Raises:
        UnknownEncoder: the folder names a module or a pooling that is not known here.
        InputError: one of its files cannot be read.
    """

    def __init__(self, folder: Path, model: PreTrainedModel) -> None:
        said = read_sentence(folder)
        self.sentence, self.said_by_model = said or MEAN_OF_STATES, said is not None
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = model.base_model.to(self.device).eval()
        self.tokenizer = load_fast_tokenizer(folder)
        self.longest = min(
            max_sequence_length(model), self.sentence.max_length or LONGEST_INPUT, LONGEST_INPUT
        )

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], prompt: str = "") -> Embeddings:
        """Return the embeddings ``[texts, width]``, batched by length."""
        inputs = self.tokenizer(
            [prompt + text for text in texts], truncation=True, max_length=self.longest
        )["input_ids"]
        order = sorted(range(len(texts)), key=lambda number: -len(inputs[number]))
        found = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        start = 0
        while start < len(order):
            size = max(TOKENS_PER_BATCH[self.device] // len(inputs[order[start]]), 1)
            rows = order[start : start + size]
            batch = self.tokenizer.pad(
                {"input_ids": [inputs[row] for row in rows]}, return_tensors="pt"
            ).to(self.device)
            mask = batch["attention_mask"]
            states = self.model(input_ids=batch["input_ids"], attention_mask=mask)
            found[rows] = self.sentence.pool(states.last_hidden_state, mask).cpu().numpy()
            start += size
        return found


def topics(encoder: Embeds, splits: data.Splits) -> dict[str, Any]:
    """Return how well logistic regressions on frozen embeddings tell the labels of texts.

    Each learns from one draw of few texts of each label, with the settings that scikit-learn has by
    default, as in MTEB. ``validation`` and ``test`` hold accuracy and macro F1, the means
    over the draws; ``labels`` are of the test texts, ``predicted[draws][texts]`` what was said;
    ``texts`` counts those of train that were drawn, and those of the other splits.
    """
    prompt = encoder.sentence.text_prompt
    texts = [["\n".join(each.texts) for each in part] for part in splits[:3]]
    labels = [[each.labels[0] for each in part] for part in splits[:3]]
    drawn = [*draws(labels[0])]
    used = sorted({*chain(*drawn)})
    train = encoder.embed([texts[0][row] for row in used], prompt)
    with warnings.catch_warnings():
        # After 100 steps MTEB goes on without convergence.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = [
            LogisticRegression().fit(
                train[np.searchsorted(used, rows)], [labels[0][row] for row in rows]
            )
            for rows in drawn
        ]
    vectors = [encoder.embed(part, prompt) for part in texts[1:]]
    validation, test = ([each.predict(part).tolist() for each in fitted] for part in vectors)
    return {
        "texts_per_label": TEXTS_PER_LABEL,
        "texts": [len(used), len(texts[1]), len(texts[2])],
        "validation": mean_score(labels[1], validation),
        "test": mean_score(labels[2], test),
        "labels": labels[2],
        "predicted": test,
    }


def draws(labels: Sequence[str]) -> Iterator[list[int]]:
    """Yield the rows of TEXTS_PER_LABEL texts of each label, or of all that it has, DRAWS times."""
    order = list(range(len(labels)))
    for _ in range(DRAWS):
        # The order of the last draw is shuffled again, each time alike.
        np.random.RandomState(SEED).shuffle(order)
        of_label: dict[str, list[int]] = defaultdict(list)
        for row in order:
            of_label[labels[row]].append(row)
        yield [row for rows in of_label.values() for row in rows[:TEXTS_PER_LABEL]]


def mean_score(gold: list[str], predicted: list[list[str]]) -> dict[str, float]:
    """Return the mean over draws of each metric of classification."""
    scores = [score("classification", gold, each) for each in predicted]
    return {metric: statistics.fmean(each[metric] for each in scores) for metric in scores[0]}


def probe(encoder: Embeds, kind: str, splits: data.Splits) -> dict[str, Any]:
    """Return how well one logistic regression on all of train tells labels, of texts or of words.

    Words have no context: what one means alone is all that is seen. ``validation`` and ``test``
    hold the metrics of the kind of task; ``inverse_strength`` is that under which the validation
    labels are likeliest, since macro F1 of a hundred texts is too coarse to choose by.
    """
    whole = kind == "classification"
    parts = [
        [each._replace(texts=("\n".join(each.texts),)) if whole else each for each in part]
        for part in splits[:3]
    ]
    texts = sorted({text for part in parts for each in part for text in each.texts})
    row = {text: number for number, text in enumerate(texts)}
    vectors = encoder.embed(texts, encoder.sentence.text_prompt)

    def counted(part: Sequence[readers.Example]) -> tuple[Embeddings, list[str], list[int]]:
        # Each text with a label once, as often as it stands there.
        pairs = Counter(pair for each in part for pair in zip(each.texts, each.labels, strict=True))
        rows = [row[text] for text, _ in pairs]
        return vectors[rows], [label for _, label in pairs], [*pairs.values()]

    inputs, labels, counts = counted(parts[0])
    weights = {"logisticregression__sample_weight": counts}
    fitted = [
        logistic_regression(strength).fit(inputs, labels, **weights)
        for strength in INVERSE_STRENGTHS
    ]
    validation = counted(parts[1])
    chosen = int(np.argmax([log_likelihood(each, *validation) for each in fitted]))
    said = dict(zip(texts, fitted[chosen].predict(vectors).tolist(), strict=True))

    def scores(part: Sequence[readers.Example]) -> dict[str, float]:
        gold: list[Any] = [list(each.labels) for each in part]
        predicted: list[Any] = [[said[text] for text in each.texts] for each in part]
        if whole:
            gold, predicted = [*chain(*gold)], [*chain(*predicted)]
        return score(kind, gold, predicted)

    return {
        "inverse_strength": INVERSE_STRENGTHS[chosen],
        "validation": scores(parts[1]),
        "test": scores(parts[2]),
    }


def log_likelihood(
    classifier: Any, vectors: Embeddings, labels: Sequence[str], counts: Sequence[int]
) -> float:
    """Return the summed log-probability of labels, without those that training never had."""
    known = np.flatnonzero(np.isin(labels, classifier.classes_))
    columns = np.searchsorted(classifier.classes_, np.asarray(labels)[known])
    found = classifier.predict_log_proba(vectors)[known, columns]
    return float(found @ np.asarray(counts)[known])


def logistic_regression(strength: float) -> Any:
    """Return a logistic regression on scaled inputs, with this inverse of regularization."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def similarity(encoder: Embeds, examples: Sequence[readers.Example]) -> dict[str, Any]:
    """Return whether texts that people found more alike have the higher cosine: Spearman's rho.

    ``scores`` are people's and ``cosines`` the model's, of each pair, in their order.
    """
    prompt = encoder.sentence.text_prompt
    first, second = (
        of_length_1(encoder.embed([each.texts[number] for each in examples], prompt))
        for number in (0, 1)
    )
    scores = [float(each.labels[0]) for each in examples]
    cosines = (first * second).sum(1, dtype=np.float64).round(6)
    # Where all are the same there are no ranks: the model, or the data, tells nothing.
    told = len({*scores}) > 1 and len({*cosines}) > 1
    return {
        "pairs": len(examples),
        "spearman": float(spearmanr(scores, cosines).statistic) if told else 0.0,
        "scores": scores,
        "cosines": cosines.tolist(),
    }


def retrieval(encoder: Embeds, pairs: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Return how often a query's own document is the nearest, and the mean reciprocal rank.

    Of a query with several documents, the nearest of them counts. ``ranks`` are of the right
    documents, from 1, in the order of the queries.
    """
    documents: dict[str, int] = {}
    right: dict[str, list[int]] = {}
    for query, text in pairs:
        right.setdefault(query, []).append(documents.setdefault(text, len(documents)))
    queries = of_length_1(encoder.embed([*right], encoder.sentence.query_prompt))
    among = of_length_1(encoder.embed([*documents], encoder.sentence.document_prompt))
    ranks = []
    for query, own in zip(queries, right.values(), strict=True):
        similarity = among @ query
        # A tie is a rank lower: a model that says the same of all texts finds nothing.
        ranks.append(1 + int((np.delete(similarity, own) >= similarity[own].max()).sum()))
    found = np.array(ranks)
    return {
        "pairs": len(right),
        "documents": len(documents),
        "top_1": float((found == 1).mean()),
        "mean_reciprocal_rank": float((1 / found).mean()),
        "ranks": ranks,
    }


def of_length_1(vectors: Embeddings) -> Embeddings:
    """Return vectors divided by their length."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Embeddings = vectors / length.clip(1e-12)
    return scaled
