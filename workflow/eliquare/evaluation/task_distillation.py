"""Task distillation: a system learns a task from its labels and from a fine-tuned teacher.

The loss is that of Hinton et al. 2015: the cross-entropy of the labels, and the KL of both models'
predictions at a temperature, times its square. DistilBERT was taught SQuAD so (Sanh et al. 2019),
TinyBERT every task (Jiao et al. 2020). The teacher's fine-tuning leaves its logits in the store: a
row per text, or per word where each has a label, in the order of the task's training examples and
of the unlabelled sentences. So teacher and system share texts and words, and may have different
tokenizers: the row of a word belongs to the first token that each has of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from eliquare.config.systems import TaskDistillation
from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.evaluation.encoding import Encoded


def rows_of(encoded: Encoded, first: int = 0) -> list[list[int]]:
    """Return for each window the rows of its text, or of the words that are scored in it.

    ``first`` is the row of the split's first text or word.
    """
    of_words = isinstance(encoded.gold[0], list)
    sizes = [len(gold) if of_words else 1 for gold in encoded.gold]
    starts = list(accumulate(sizes, initial=first))
    return [
        [starts[window.example] + word for word in (window.words if of_words else [0])]
        for window in encoded.windows
    ]


def number_of_rows(encoded: Encoded) -> int:
    """Return how many texts a split has, or words where each has a label."""
    return sum(len(gold) if isinstance(gold, list) else 1 for gold in encoded.gold)


@torch.no_grad()
def logits_of(
    model: torch.nn.Module, batches: Iterable[dict[str, Any]], encoded: Encoded
) -> torch.Tensor:
    """Return a model's ``logits[rows, labels]`` of a split, which ``batches`` hold in order."""
    result = torch.empty(number_of_rows(encoded), len(encoded.labels))
    windows = zip(rows_of(encoded), encoded.windows, strict=True)
    model.eval()
    for batch in batches:
        answers = model(**batch).logits.float().cpu()
        for answer, (rows, window) in zip(answers, windows, strict=False):
            result[rows] = answer[window.positions] if window.positions else answer
    return result


@dataclass(frozen=True)
class Lesson:
    """What a system learns of a task with one seed.

    Attributes:
        features: Inputs of the system, whose ``labels`` are rows of the two tensors below.
        labels: ``labels[rows]``, label ids; IGNORE_INDEX for unlabelled text.
        logits: ``logits[rows, labels]`` of the teacher.
        settings: Temperature and weight.
    """

    features: list[dict[str, Any]]
    labels: torch.Tensor
    logits: torch.Tensor
    settings: TaskDistillation

    @classmethod
    def of(cls, file: Path, splits: Mapping[str, Encoded], settings: TaskDistillation) -> Self:
        """Return the lesson of a teacher's logits for each split: train, and unlabelled text.

        Of unlabelled text, the file may have more rows than the split.
        """
        stored = load_file(file)
        features: list[dict[str, Any]] = []
        labels: list[int] = []
        logits = []
        for name, encoded in splits.items():
            first, size = len(labels), number_of_rows(encoded)
            labels += [IGNORE_INDEX] * size
            logits.append(stored[name][:size])
            windows = zip(encoded.features, encoded.windows, rows_of(encoded, first), strict=True)
            for feature, window, rows in windows:
                numbers: int | list[int] = rows[0]
                if window.positions:
                    numbers = [IGNORE_INDEX] * len(window.input_ids)
                    for position, row in zip(window.positions, rows, strict=True):
                        numbers[position], labels[row] = row, feature["labels"][position]
                else:
                    labels[rows[0]] = feature["labels"]
                features.append(feature | {"labels": numbers})
        return cls(features, torch.tensor(labels), torch.cat(logits), settings)

    def loss(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the loss of ``logits[…, labels]`` at the positions with a row in ``rows[…]``.

        The means over the labelled texts or words of the batch, and over those of the teacher.
        """
        taught = rows != IGNORE_INDEX
        chosen, found = rows[taught].cpu(), logits[taught].float()
        labels = self.labels[chosen].to(found.device)
        cross_entropy = F.cross_entropy(found, labels, ignore_index=IGNORE_INDEX, reduction="sum")
        temperature, weight = self.settings.temperature, self.settings.weight
        divergence = F.kl_div(
            F.log_softmax(found / temperature, dim=-1),
            F.log_softmax(self.logits[chosen].to(found.device) / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        labelled = (labels != IGNORE_INDEX).sum().clamp(min=1)
        return (1 - weight) * cross_entropy / labelled + weight * temperature**2 * divergence
