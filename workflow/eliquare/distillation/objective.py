"""What a student is trained for: the terms of its objective, beside its teachers.

`Distillation.__call__` runs the teachers and the student on a batch and adds up the terms; the
terms themselves are in ``losses.py``, their settings in ``eliquare/config/objective.py``.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from eliquare.config import objective as settings
from eliquare.corpus.masking import IGNORE_INDEX
from eliquare.distillation import losses
from eliquare.distillation.chunked_loss import (
    LazyLogits,
    LogitTerm,
    WeightedTerm,
    chunked_losses,
)
from eliquare.io import InputError
from eliquare.models.sentence import Sentence
from eliquare.training.outputs import (
    Batch,
    Outputs,
    make_recordable,
    outputs_at,
    positions_of,
    projection_of,
    unwrapped,
)
from eliquare.training.trainer import Losses

# (student layer, teacher layer), counted from 1; layer 0 is the embeddings.
LayerPairs = list[tuple[int, int]]

PROJECTIONS = "distillation_projections"
# Trained teachers, however small, were seen at 1.4 to 3.4 nats, one after 24 steps at 0.003.
COLLAPSED_BELOW_NATS = 0.05
# Published sentence encoders were seen at up to 0.85 (multilingual-e5).
ALIKE_ABOVE = 0.9
COLLAPSE_SEQUENCES, COLLAPSE_POSITIONS = 4, 256

logger = logging.getLogger(__name__)


class Teacher(NamedTuple):
    """A model that is neither trained nor saved, and its weight among the teachers.

    Attributes:
        model: the model, in the class of its masked form.
        weight: its weight among the teachers.
        predicts: whether its MLM head was trained; that of an encoder was not.
    """

    model: PreTrainedModel
    weight: float = 1.0
    predicts: bool = True


class Distillation:
    """The objective of a student beside its teachers, all on the same masked sequences.

    Each teacher has a share of every term that reads a teacher. The student gets the projections
    that its terms need; `remove_projections` takes them away before it is saved.

    Args:
        student: the model to train.
        teachers: one teacher or several, of the student's vocabulary.
        objective: the terms.
        sentence: how teachers and student make the embedding of a text, if they do. Such models
            read text without masks, unless a term is on predictions.

    Raises:
        InputError: a term is impossible for these models.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teachers: Sequence[Teacher],
        objective: settings.Objective,
        sentence: Sentence | None = None,
    ):
        self.terms = objective.terms()
        self.sentence = sentence
        self.weights = {name: term.weight for name, term in self.terms.items()}
        self.best_by = "kl" if "kl" in self.terms else "loss"
        total = sum(teacher.weight for teacher in teachers)
        self.teachers = [
            teacher._replace(
                model=teacher.model.eval().requires_grad_(False), weight=teacher.weight / total
            )
            for teacher in teachers
            if self.terms.keys() != {"mlm"}
        ]
        self.logit_terms = {
            name: logit_term(term) for name, term in self.terms.items() if term.on_logits
        }
        check_teachers(self.terms, self.teachers, sentence)
        self.unmasked = sentence is not None and not self.logit_terms
        self.maps = [
            layer_maps(self.terms, student.config, teacher.model.config)
            for teacher in self.teachers
        ]
        reads_attention = [name for name in ("attention", "relations") if name in self.terms]
        self.reads_attention = bool(reads_attention)
        for model in (student, *(teacher.model for teacher in self.teachers)):
            projection_of(model)
            if reads_attention:
                make_recordable(model, reads_attention[0])
        widths = {}
        for index, teacher in enumerate(self.teachers):
            width = teacher.model.config.hidden_size
            if "cosine" in self.terms:
                widths[f"cosine-{index}"] = width
            if {"sentence_cosine", "sentence_mse"} & self.terms.keys():
                widths[f"sentence-{index}"] = width
            for layer, _ in self.maps[index].get("hidden", []):
                widths[f"hidden-{index}-{layer}"] = width
        add_projections(student, widths)

    def to(self, device: torch.device) -> None:
        """Move the teachers to the device."""
        for teacher in self.teachers:
            nn.Module.to(teacher.model, device)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return over how many positions each term sums: pairs of them for attention."""
        positions = positions_of(batch)
        counts = {name: positions.count(where(term)) for name, term in self.terms.items()}
        if "attention" in counts:
            counts["attention"] = int(batch["attention_mask"].sum(1).square().sum())
        texts = len(batch["input_ids"])
        of_texts = {"sentence_cosine": texts, "sentence_mse": texts}
        # Each text has the similarity 1 to itself.
        of_texts["similarity"] = texts * (texts - 1)
        return counts | {name: count for name, count in of_texts.items() if name in counts}

    def __call__(self, model: nn.Module, batch: Batch, scales: Mapping[str, float]) -> Losses:
        """Return the loss of a batch, each term's sum multiplied by its scale, and the sums."""
        positions = positions_of(batch)
        if self.unmasked:
            labels = batch["labels"]
            ids = torch.where(labels == IGNORE_INDEX, batch["input_ids"], labels)
            batch = batch | {"input_ids": ids}
        # Logits are computed at the most positions that any term asks for: all, masked, or none.
        asked = {where(self.terms[name]) for name in self.logit_terms}
        at = positions.of("all" if "all" in asked else next(iter(asked), None))
        student = self._run(model, batch, at)
        with torch.no_grad():
            of_teacher = at if self.logit_terms.keys() - {"mlm"} else positions.of(None)
            answers = [self._run(teacher.model, batch, of_teacher) for teacher in self.teachers]

        loss = student.zero
        sums: dict[str, torch.Tensor] = {}
        if self.logit_terms:
            logits = LazyLogits.of(student.head, projection_of(unwrapped(model)))
            teacher_logits = [
                (LazyLogits.of(answer.head, projection_of(teacher.model)), teacher.weight)
                for teacher, answer in zip(self.teachers, answers, strict=True)
                if self.logit_terms.keys() - {"mlm"}
            ]
            weighted = {
                name: WeightedTerm(term, positions.count(where(self.terms[name])), scales[name])
                for name, term in self.logit_terms.items()
            }
            labels = batch["labels"].flatten()[at]
            on_logits, sums = chunked_losses(logits, teacher_logits, labels, weighted)
            loss = loss + on_logits
        for name, term in self.terms.items():
            if not term.on_logits:
                beside_each = [
                    self._on_states(name, term, unwrapped(model), batch, student, index, answer)
                    * self.teachers[index].weight
                    for index, answer in enumerate(answers)
                ]
                sums[name] = torch.stack(beside_each).sum()
                loss = loss + scales[name] * sums[name]
        return Losses(loss, {name: sums[name] for name in self.terms})

    def _run(self, model: nn.Module, batch: Batch, positions: torch.Tensor) -> Outputs:
        return outputs_at(
            model, batch, positions, layers="hidden" in self.terms, attention=self.reads_attention
        )

    def _on_states(
        self,
        name: str,
        term: settings.Term,
        model: PreTrainedModel,
        batch: Batch,
        student: Outputs,
        index: int,
        teacher: Outputs,
    ) -> torch.Tensor:
        """Return one term on hidden states or attention beside one teacher, a sum.

        A term over several pairs of layers is the sum over the pairs, as in TinyBERT.
        """
        real = positions_of(batch).of("all")
        if name == "cosine":
            states = projected(model, f"cosine-{index}", at_positions(student.last_hidden, real))
            return losses.cosine(states, at_positions(teacher.last_hidden, real))
        if name in settings.SENTENCE_TERMS:
            return self._on_embeddings(name, model, batch, student, index, teacher)
        mask = batch["attention_mask"].bool()
        total = student.last_hidden.new_zeros(())
        for own, other in self.maps[index][name]:
            if isinstance(term, settings.Hidden):
                states = at_positions(student.layers[own], real)
                states = projected(model, f"hidden-{index}-{own}", states)
                loss = losses.hidden(states, at_positions(teacher.layers[other], real))
            else:
                maps = student.attention[own - 1], teacher.attention[other - 1]
                if isinstance(term, settings.Attention):
                    loss = losses.attention(*maps, mask, term.of)
                else:
                    assert isinstance(term, settings.Relations)
                    config = self.teachers[index].model.config
                    loss = losses.relations(*maps, mask, relation_heads(term, model.config, config))
            total = total + loss
        return total

    def _on_embeddings(
        self,
        name: str,
        model: PreTrainedModel,
        batch: Batch,
        student: Outputs,
        index: int,
        teacher: Outputs,
    ) -> torch.Tensor:
        """Return one term on the embeddings of texts beside one teacher, a sum."""
        assert self.sentence
        # Normalized last, in the teacher's width.
        sentence = self.sentence._replace(normalize=False)
        own, other = (
            sentence.pool(states.last_hidden, batch["attention_mask"])
            for states in (student, teacher)
        )
        if name == "similarity":
            return losses.similarity(own, other)
        own = projected(model, f"sentence-{index}", own)
        if name == "sentence_cosine":
            return losses.cosine(own, other)
        if self.sentence.normalize:
            own, other = F.normalize(own, dim=-1), F.normalize(other, dim=-1)
        return losses.squared_distance(own, other)


def check_teachers(
    terms: Mapping[str, settings.Term], teachers: Sequence[Teacher], sentence: Sentence | None
) -> None:
    """Raise InputError for a term on predictions, or embeddings, that a teacher does not make."""
    for teacher in teachers:
        lacking = () if teacher.predicts else settings.TERMS_OF_A_HEAD
        for name in lacking:
            if name in terms:
                raise InputError(
                    f"{name}: {teacher.model.name_or_path} has no head for masked language "
                    "modelling, so it predicts no tokens; use `preset: sentence`, cosine, hidden, "
                    "attention or relations"
                )
    for name in settings.SENTENCE_TERMS if sentence is None else ():
        if name in terms:
            raise InputError(
                f"{name}: the teacher does not say how it makes the embedding of a text; fetch it "
                "with its pooling (mean, cls or max)"
            )


def where(term: settings.Term) -> str:
    """Return at which positions a term is taken: "all" or "masked"."""
    if isinstance(term, settings.KL | settings.MSE):
        return term.positions
    return "masked" if isinstance(term, settings.MLM) else "all"


def logit_term(term: settings.Term) -> LogitTerm:
    """Return what computes a term on logits."""
    if isinstance(term, settings.KL):
        return losses.KL(term.direction, term.temperature)
    if isinstance(term, settings.MSE):
        return losses.MSE()
    if isinstance(term, settings.MLM):
        return losses.MaskedCrossEntropy()
    raise TypeError(f"no loss computes the term {type(term).__name__}")


def at_positions(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return ``states[batch, length, width]`` at flattened positions, ``[positions, width]``."""
    return states.flatten(0, 1)[positions]


# Projections from the student's width to the teacher's, which only the training has


def add_projections(student: PreTrainedModel, widths: Mapping[str, int]) -> None:
    """Give the student a linear map to each width, by name; none where it is its own."""
    own = student.config.hidden_size
    maps = {
        name: nn.Linear(own, width, bias=False) for name, width in widths.items() if width != own
    }
    if maps:
        setattr(student, PROJECTIONS, nn.ModuleDict(maps).to(student.dtype))


def projected(student: PreTrainedModel, name: str, states: torch.Tensor) -> torch.Tensor:
    """Return the student's ``states[positions, width]`` in the teacher's width."""
    maps: Mapping[str, nn.Module] = getattr(student, PROJECTIONS, {})
    return maps[name](states) if name in maps else states


def remove_projections(student: PreTrainedModel) -> None:
    """Take the projections away, so that the student is saved as a plain model."""
    if hasattr(student, PROJECTIONS):
        delattr(student, PROJECTIONS)


# Which layers of student and teacher a term compares, and whether it can


def layer_maps(
    terms: Mapping[str, settings.Term], student: PreTrainedConfig, teacher: PreTrainedConfig
) -> dict[str, LayerPairs]:
    """Return the pairs of layers of each term that compares layers.

    By default ``hidden`` and ``attention`` map evenly spread layers (Jiao et al. 2020),
    ``relations`` the last to the last.

    Raises:
        InputError: a layer does not exist, or the heads do not fit.
    """
    maps = {
        name: layer_pairs(name, term.layers, student, teacher)
        for name, term in terms.items()
        if isinstance(term, settings.Hidden | settings.Attention | settings.Relations)
    }
    heads = student.num_attention_heads, teacher.num_attention_heads
    if "attention" in terms and heads[0] != heads[1]:
        raise InputError(
            f"attention: the student has {heads[0]} attention heads and the teacher {heads[1]}, "
            f"and maps are compared head by head; give the student {heads[1]} heads, or use "
            "relations, which split into any number of heads"
        )
    relations = terms.get("relations")
    if isinstance(relations, settings.Relations):
        relation_heads(relations, student, teacher)
    return maps


def layer_pairs(
    name: str,
    layers: Mapping[str, int] | None,
    student: PreTrainedConfig,
    teacher: PreTrainedConfig,
) -> LayerPairs:
    """Return the pairs of layers of one term, as it is set or by default."""
    depths = student.num_hidden_layers, teacher.num_hidden_layers
    if layers is None and name == "relations":
        return [depths]
    first = 0 if name == "hidden" else 1
    if layers is None:
        return [(layer, layer * depths[1] // depths[0]) for layer in range(first, depths[0] + 1)]
    pairs = sorted((int(own), int(other)) for own, other in layers.items())
    for pair in pairs:
        for whose, layer, depth in zip(("student", "teacher"), pair, depths, strict=True):
            if not first <= layer <= depth:
                raise InputError(
                    f"{name}.layers: layer {layer} of the {whose}, whose layers are {first} to "
                    f"{depth}"
                )
    return pairs


def relation_heads(
    term: settings.Relations, student: PreTrainedConfig, teacher: PreTrainedConfig
) -> int:
    """Return the number of relation heads: as it is set, or the teacher's attention heads."""
    heads: int = term.heads or teacher.num_attention_heads
    for whose, config in (("student", student), ("teacher", teacher)):
        if config.hidden_size % heads:
            divisors = [
                divisor
                for divisor in range(1, heads)
                if student.hidden_size % divisor == teacher.hidden_size % divisor == 0
            ]
            raise InputError(
                f"relations: the {whose}'s width of {config.hidden_size} does not split into "
                f"{heads} relation heads; write heads: {divisors[-1]}, which divides both widths"
            )
    return heads


# A teacher whose predictions do not depend on what it reads has nothing to teach


def warn_of_sameness(teacher: Teacher, batch: Batch, sentence: Sentence | None) -> None:
    """Warn where a teacher says nearly the same of everything that it reads."""
    if teacher.predicts:
        warn_of_collapse(teacher.model, batch)
    elif sentence and (mean := mean_similarity(teacher.model, batch, sentence)) > ALIKE_ABOVE:
        logger.warning(
            "%s: the embeddings of this teacher are nearly alike (mean cosine of different texts "
            "%.3f): what tells texts apart is in small differences. Add the term similarity, and "
            "look at what its student retrieves",
            teacher.model.name_or_path,
            mean,
        )


@torch.no_grad()
def mean_similarity(model: PreTrainedModel, batch: Batch, sentence: Sentence) -> float:
    """Return the mean cosine of the embeddings of different texts of a batch; 0 of one text."""
    outputs = outputs_at(model, batch, positions_of(batch).of(None))
    pooled = F.normalize(sentence.pool(outputs.last_hidden, batch["attention_mask"]), dim=-1)
    texts = len(pooled)
    return float((pooled @ pooled.mT).sum() - texts) / max(texts * (texts - 1), 1)


def warn_of_collapse(teacher: PreTrainedModel, batch: Batch) -> None:
    """Warn where a teacher predicts nearly the same at all positions of a batch."""
    information = prediction_mutual_information(teacher, batch)
    if information < COLLAPSED_BELOW_NATS:
        logger.warning(
            "%s: this teacher predicts nearly the same tokens at every position (on the first "
            "validation sequences %.3f nats from its mean prediction, a trained one 1 or more): it "
            "has collapsed or was hardly trained, and its student will be no better. Look at its "
            "history.jsonl; train it longer, or with a lower learning rate",
            teacher.name_or_path,
            information,
        )


@torch.no_grad()
def prediction_mutual_information(model: PreTrainedModel, batch: Batch) -> float:
    """Return how far a model's predictions are from their mean, in nats: 0 if all are the same.

    The mean over real positions of KL(prediction || mean prediction), which is the mutual
    information of position and predicted token. Taken on predictions, since hidden states of
    healthy models may all point one way (Ethayarajh 2019). A few of the first sequences are read.
    """
    few = {name: batch[name][:COLLAPSE_SEQUENCES] for name in ("input_ids", "attention_mask")}
    real = few["attention_mask"].flatten().nonzero().squeeze(-1)
    chosen = real[:: math.ceil(len(real) / COLLAPSE_POSITIONS)]
    logits = projection_of(model)(outputs_at(model, few, chosen).head)
    log_p = F.log_softmax(logits.float(), dim=-1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return float((log_p.exp() * (log_p - log_mean)).sum(-1).mean())
