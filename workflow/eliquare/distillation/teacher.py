"""A teacher that reads each batch once, however many students learn from it."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from eliquare.distillation.projected import Computed, Projection
from eliquare.training.attention import AttentionInputs, make_recordable, recorded
from eliquare.training.outputs import Outputs, encoded, head_rows, projection_of
from eliquare.training.positions import positions_of
from eliquare.training.terms import Batch


@dataclass
class Answer:
    """What one model says about a batch; ``logits`` are a teacher's."""

    outputs: Outputs
    attention: list[AttentionInputs]
    logits: Projection | Computed | None = None


class Teacher:
    """A model that is neither trained nor saved; it answers students about batches.

    Its encoder runs once for each batch, with all that any of its students reads. The head runs for
    the positions that are asked for, once for each choice, so that a student gets the same numbers
    whether it shares the teacher or not; so does the projection to the vocabulary, where several
    students share it and all its logits fit into one piece.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model.eval().requires_grad_(False)
        projection_of(model)
        self.layers = self.attention = False
        self.students = 0
        self._batch: Batch | None = None

    @classmethod
    def of(cls, model: "PreTrainedModel | Teacher") -> "Teacher":
        """A model as a teacher; a teacher as it is, to be shared."""
        return model if isinstance(model, cls) else cls(model)

    def expect(self, layers: bool, attention: str | None) -> None:
        """Say, before the first batch, what a student reads: hidden states of all layers; what
        attention reads, for the term of this name.
        """
        self.students += 1
        self.layers |= layers
        if attention:
            make_recordable(self.model, attention)
            self.attention = True

    @torch.no_grad()
    def answer(self, batch: Batch, which: str | None) -> Answer:
        """The answer at "all" real positions, the "masked" ones, or none."""
        if batch is not self._batch:
            self._read(batch)
        if which not in self._heads:
            hidden = self._output.last_hidden_state.flatten(0, 1)[positions_of(batch).of(which)]
            rows = head_rows(self.model, batch, hidden)
            logits = Projection.of(rows, projection_of(self.model))
            self._heads[which] = rows, logits.computed() if self.students > 1 else logits
        states = tuple(self._output.hidden_states) if self.layers else ()
        rows, logits = self._heads[which]
        outputs = Outputs(rows, self._output.last_hidden_state, states, rows.new_zeros(()))
        return Answer(outputs, self._attention, logits)

    def _read(self, batch: Batch) -> None:
        self.model.to(batch["input_ids"].device)
        # Let go of the last batch's states before those of this one are made.
        self._batch = self._output = self._attention = None
        self._heads: dict[str | None, tuple[torch.Tensor, Projection | Computed]] = {}
        with recorded(self.attention) as self._attention:
            self._output = encoded(self.model, batch, self.layers)
        self._batch = batch
