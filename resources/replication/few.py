"""Print how well a few labelled texts teach a classifier on models' embeddings as they are.

    python resources/replication/few.py MODEL... --train FILE --test FILE...

A logistic regression learns from 8 texts of each label, as in MTEB (Muennighoff et al. 2023); the
score is the mean over 20 draws of them, the same for each model. Other than there, embeddings are
scaled, and C of the regularization is 0.1 for all models. Prints JSON: macro-F1, and of each two
models the difference with its 95% interval by the paired bootstrap over the test texts.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from eliquare.evaluation import readers
from eliquare.evaluation.embed import Encoder, logistic_regression
from eliquare.models.loading import load_model
from eliquare.reporting import bootstrap

PER_LABEL, DRAWS, INVERSE_STRENGTH = 8, 20, 0.1
# Of SIB-200's tables.
COLUMNS = ("category", "text")
DIGITS = 4


def draw(labels: list[str], seed: int) -> list[int]:
    """Return the rows of PER_LABEL texts of each label."""
    generator = np.random.default_rng(seed)
    given = np.array(labels)
    rows = [
        generator.choice(np.flatnonzero(given == label), PER_LABEL, replace=False)
        for label in sorted({*labels})
    ]
    found: list[int] = np.concatenate(rows).tolist()
    return found


def main() -> None:
    """Score each model, and compare each two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    train, *tests = (
        readers.read("classification", file, COLUMNS) for file in (options.train, *options.test)
    )
    test = [each for part in tests for each in part]
    labels, gold = ([each.labels[0] for each in part] for part in (train, test))
    answered: dict[str, list[bootstrap.Answers]] = {}
    for folder in options.models:
        encoder = Encoder(folder, load_model(folder, torch.float32))
        vectors, others = (
            encoder.embed([each.texts[0] for each in part], encoder.sentence.text_prompt)
            for part in (train, test)
        )
        answered[str(folder)] = [
            bootstrap.answers(
                "classification",
                gold,
                logistic_regression(INVERSE_STRENGTH)
                .fit(vectors[rows], [labels[row] for row in rows])
                .predict(others)
                .tolist(),
            )
            for rows in (draw(labels, seed) for seed in range(DRAWS))
        ]
    scores = {
        name: float(bootstrap.mean_score(runs, np.ones(len(test))))
        for name, runs in answered.items()
    }
    compared = [
        {"model": each["student"], "beside": each["teacher"]}
        | {key: round(each[key], DIGITS) for key in ("difference", "low", "high")}
        for each in bootstrap.compared(list(combinations(answered, 2)), answered)
    ]
    rounded = {name: round(value, DIGITS) for name, value in scores.items()}
    print(json.dumps({"texts": len(test), "macro-F1": rounded, "compared": compared}, indent=1))


if __name__ == "__main__":
    main()
