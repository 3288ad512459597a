"""What a student is trained for: the terms of its objective, beside its teachers.

``Distillation.__call__`` takes the teachers' answers, the student's outputs, and the terms of both.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from eliquare.distillation import state_terms
from eliquare.distillation.collapse import warn_of_collapse
from eliquare.distillation.layers import layer_maps, relation_heads
from eliquare.distillation.logit_terms import KL, MSE, MaskedWords
from eliquare.distillation.projected import LogitTerm, Projection, Use, projected_losses
from eliquare.distillation.projections import add_projections, projected
from eliquare.distillation.teacher import Answer, Teacher
from eliquare.distillation.terms import Term, changing, weights_at
from eliquare.training.attention import make_recordable, recorded
from eliquare.training.outputs import outputs_at, projection_of, unwrapped
from eliquare.training.positions import positions_of
from eliquare.training.terms import Batch, Losses, mean


class Distillation:
    """The objective of a student beside its teachers, all on the same masked sequences.

    The teachers are not part of the trained module, so they are neither saved nor updated. Each
    has a share of every term that reads a teacher. The student gets the projections that its terms
    need. Raises InputError for a term that is impossible for these models.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teachers: Sequence[tuple[PreTrainedModel | Teacher, float]],
        terms: dict[str, Term],
    ):
        self.terms = terms
        all_shares = sum(share for _, share in teachers)
        self.teachers = [(Teacher.of(model), share / all_shares) for model, share in teachers]
        if not any(term.of_teacher for term in terms.values()):
            self.teachers = []
        self.logit_terms = {
            name: logit_term(term) for name, term in terms.items() if term.on_logits
        }
        self.reads_attention = [name for name in ("attention", "relations") if name in terms]
        self.maps = [layer_maps(terms, student, teacher.model) for teacher, _ in self.teachers]
        projection_of(student)
        if self.reads_attention:
            make_recordable(student, self.reads_attention[0])
        for teacher, _ in self.teachers:
            teacher.expect("hidden" in terms, next(iter(self.reads_attention), None))
        add_projections(student, self._widths())

    def look(self, batch: Batch) -> None:
        """Warn of teachers that have nothing to teach."""
        for teacher, _ in self.teachers:
            warn_of_collapse(teacher.model.name_or_path, teacher.model, batch)

    def __call__(self, model: nn.Module, batch: Batch, progress: float = 0.0) -> Losses:
        """The loss of a batch and the sum of each term, ``progress`` through the training."""
        return self.compare(model, batch, self.answers(batch), progress)

    def answers(self, batch: Batch) -> list[Answer]:
        """What each teacher says about a batch: no logits, but what these are projected from."""
        teaches_logits = any(name != "mlm" for name in self.logit_terms)
        which = self._wide if teaches_logits else None
        return [teacher.answer(batch, which) for teacher, _ in self.teachers]

    def compare(
        self,
        model: nn.Module,
        batch: Batch,
        answers: Sequence[Answer],
        progress: float = 0.0,
    ) -> Losses:
        """The loss of the student on a batch that the teachers have answered."""
        chosen = positions_of(batch)
        weights = weights_at(self.terms, progress)
        answer = self._answer(model, batch, chosen.of(self._wide if self.logit_terms else None))
        sums, loss = {}, answer.outputs.nothing
        if self.logit_terms:
            loss, sums = self._on_logits(model, answer, answers, batch, chosen, weights)
        for name, term in self.terms.items():
            if not term.on_logits:
                sums[name] = self._on_states(term, model, answer, answers, batch, chosen)
                total, count = sums[name]
                loss = loss + weights[name] * mean(total, count)
        return Losses(
            loss, {name: sums[name] for name in self.terms}, changing(self.terms, weights)
        )

    @property
    def _wide(self) -> str:
        """The positions at which logits are computed: the most that any term asks for."""
        asked = {term.settings.get("positions", "masked") for term in self.terms.values()}
        return "all" if "all" in asked else "masked"

    def _answer(self, model: nn.Module, batch: Batch, positions: torch.Tensor) -> Answer:
        with recorded(bool(self.reads_attention)) as attention:
            outputs = outputs_at(model, batch, positions, layers="hidden" in self.terms)
        return Answer(outputs, attention)

    def _on_logits(self, model, answer, answers, batch, chosen, weights):
        labels = batch["labels"].flatten()[chosen.of(self._wide)]
        counts = {
            name: chosen.number(self.terms[name].settings.get("positions", "masked"))
            for name in self.logit_terms
        }
        uses = {
            name: Use(term, counts[name], weights[name] / max(counts[name], 1))
            for name, term in self.logit_terms.items()
        }
        taught = any(name != "mlm" for name in uses)
        theirs = [
            (their.logits, share)
            for (_, share), their in zip(self.teachers, answers, strict=True)
            if taught
        ]
        mine = Projection.of(answer.outputs.rows, projection_of(unwrapped(model)))
        loss, sums = projected_losses(mine, theirs, labels, uses)
        return loss, {name: (total, counts[name]) for name, total in sums.items()}

    def _on_states(self, term, model, answer, answers, batch, chosen):
        """One term on hidden states or attention, over all teachers: its sum and the number."""
        student, total, count = unwrapped(model), 0.0, None
        mask = batch["attention_mask"].bool()
        real = chosen.of("all")
        for number, (their, (teacher, share)) in enumerate(
            zip(answers, self.teachers, strict=True)
        ):
            for one, other in self.maps[number].get(term.name, [(None, None)]):
                if term.name == "cosine":
                    states = _rows(answer.outputs.last_hidden, real)
                    states = projected(student, f"cosine-{number}", states)
                    found = state_terms.cosine(states, _rows(their.outputs.last_hidden, real))
                elif term.name == "hidden":
                    states = _rows(answer.outputs.layers[one], real)
                    states = projected(student, f"hidden-{number}-{one}", states)
                    found = state_terms.hidden(states, _rows(their.outputs.layers[other], real))
                else:
                    maps = answer.attention[one - 1], their.attention[other - 1]
                    if term.name == "attention":
                        found = state_terms.attention(*maps, mask, term.settings["of"])
                    else:
                        heads = relation_heads(term, student.config, teacher.model.config)
                        found = state_terms.relations(*maps, mask, heads)
                total, count = total + share * found[0], found[1]
        return total, count

    def _widths(self) -> dict[str, int]:
        """The widths to which the student's states are projected, by the projection's name."""
        widths = {}
        for number, (teacher, _) in enumerate(self.teachers):
            width = teacher.model.config.hidden_size
            if "cosine" in self.terms:
                widths[f"cosine-{number}"] = width
            for layer, _ in self.maps[number].get("hidden", []):
                widths[f"hidden-{number}-{layer}"] = width
        return widths


def logit_term(term: Term) -> LogitTerm:
    """What computes a term on logits."""
    if term.name == "kl":
        return KL(term.settings["direction"], term.settings["temperature"])
    return MSE() if term.name == "mse" else MaskedWords()


def _rows(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return states.flatten(0, 1)[positions]
