"""Print how well few labelled texts teach a classifier on a model's embeddings as they are.

    python resources/replication/few.py MODEL... --train FILE --test FILE...

As MTEB does (Muennighoff et al. 2023): a logistic regression on a few texts of each label, the mean
over draws, the same for each model. It distinguishes models that 700 texts for training do not: a
classifier with much to learn from makes up for worse embeddings. The regularization is the same for
all, and no validation is needed. Prints JSON: macro-F1 and its standard deviation over draws.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch

from eliquare.evaluation import readers
from eliquare.evaluation.embed import Encoder, logistic_regression
from eliquare.evaluation.trainer import score
from eliquare.models.loading import load_model

STRENGTH = 0.1


def draws(labels: list[str], per_label: int, number: int) -> list[list[int]]:
    """Return rows of a few texts of each label, for each draw."""
    rows = {label: [n for n, each in enumerate(labels) if each == label] for label in {*labels}}
    found = []
    for seed in range(number):
        generator = np.random.default_rng(seed)
        found.append(
            [
                int(row)
                for label in sorted(rows)
                for row in generator.choice(rows[label], per_label, replace=False)
            ]
        )
    return found


def main() -> None:
    """Score each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--label-column", default="category")
    parser.add_argument("--per-label", type=int, default=8)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    columns = (options.label_column, "text")
    train = readers.read("classification", options.train, columns)
    test = [each for file in options.test for each in readers.read("classification", file, columns)]
    labels, expected = ([each.labels[0] for each in part] for part in (train, test))
    chosen = draws(labels, options.per_label, options.draws)
    found = {}
    for folder in options.models:
        encoder = Encoder(folder, load_model(folder, torch.float32))
        vectors, others = (
            encoder.embed([each.texts[0] for each in part], encoder.sentence.text_prompt)
            for part in (train, test)
        )
        scores = []
        for rows in chosen:
            classifier = logistic_regression(STRENGTH)
            classifier.fit(vectors[rows], [labels[row] for row in rows])
            predicted = classifier.predict(others).tolist()
            scores.append(score("classification", expected, predicted)["macro_f1"])
        found[str(folder)] = [round(fmean(scores), 4), round(stdev(scores), 4)]
    print(json.dumps({"texts": len(test), "draws": options.draws, "macro-F1": found}, indent=1))


if __name__ == "__main__":
    main()
