"""Losses on logits, computed chunk by chunk, so that all logits never exist at once.

What is left out: autograd through the logits, and every loss but sums of `LogitTerm`. The gradient
is computed with the loss, while a chunk is at hand, for the hidden states before the projection and
for its weight and bias. Beside the matrix products this costs one buffer for the student and one
for each teacher, of ``CHUNK_LOGITS`` numbers at most. Fused kernels do not serve here: none takes a
KL at all positions and a cross-entropy at masked ones from the same logits.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

# 256 MB in float32: large enough for matrix products at full speed.
CHUNK_LOGITS = 2**26
# The terms make several copies of these: few enough for a processor's cache and for little memory,
# and enough that its threads seldom wait for each other.
BLOCK_LOGITS = 2**22

# A teacher's logits of a chunk without their bias, the bias, and the teacher's share of a term.
TeacherLogits = tuple[torch.Tensor, torch.Tensor | None, float]


class LazyLogits(NamedTuple):
    """Logits that are not computed yet: ``hidden @ weight.T + bias``.

    ``hidden[positions, width]``, ``weight[vocabulary, width]``, ``bias[vocabulary]``.
    """

    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, hidden: torch.Tensor, projection: nn.Linear) -> "LazyLogits":
        """Return the logits that a model's projection makes of ``hidden[positions, width]``."""
        return cls(hidden, projection.weight, projection.bias)

    def of_tokens(self, tokens: torch.Tensor) -> "LazyLogits":
        """Return the logits of these token ids alone, in their order."""
        bias = None if self.bias is None else self.bias[tokens]
        return LazyLogits(self.hidden, self.weight[tokens], bias)


class LogitTerm(Protocol):
    """A term of the loss on logits, with its gradient."""

    def __call__(
        self,
        student_logits: torch.Tensor,
        teacher_logits: Sequence[tuple[torch.Tensor, float]],
        labels: torch.Tensor,
        gradient: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Return the sum of the loss over a block of positions, a scalar.

        Args:
            student_logits: ``[positions, vocabulary]``.
            teacher_logits: for each teacher ``[positions, vocabulary]`` and its share of the term.
            labels: ``[positions]``, -100 where nothing is masked.
            gradient: ``[positions, vocabulary]``; ``scale`` times the gradient of the sum is added
                to it. None where no gradient is needed.
            scale: factor of the gradient.
        """


class WeightedTerm(NamedTuple):
    """A term as one batch uses it: on the first ``positions``, its sum multiplied by ``scale``."""

    term: LogitTerm
    positions: int
    scale: float


class PrecomputedGradient(torch.autograd.Function):
    """A loss whose gradients are known already; they serve one backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: torch.Tensor,
        gradients: Sequence[torch.Tensor | None],
        *inputs: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the loss and keep the gradients of ``inputs``."""
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients, multiplied by that of the loss."""
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradients of this loss serve one backward pass")
        (of_loss,) = upstream
        return None, None, *(each if each is None else each.mul_(of_loss) for each in gradients)


def chunked_losses(
    student: LazyLogits,
    teachers: Sequence[tuple[LazyLogits, float]],
    labels: torch.Tensor,
    terms: Mapping[str, WeightedTerm],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the sum of the scaled terms, which has a gradient, and the plain sum of each term.

    ``labels[positions]``, as the positions of student and teachers. Under autocast the matrix
    products run in its type and the terms in float32; otherwise the type of the hidden states
    decides.
    """
    differentiate = torch.is_grad_enabled()
    with torch.no_grad():
        sums, gradients = _sums_and_gradients(student, teachers, labels, terms, differentiate)
        loss = sum(
            (weighted.scale * sums[name] for name, weighted in terms.items()),
            start=labels.new_zeros((), dtype=_exact(_product_type(student.hidden))),
        )
    if differentiate:
        loss = PrecomputedGradient.apply(loss, gradients, *student)  # type: ignore[no-untyped-call]
    return loss, sums


def _sums_and_gradients(
    student: LazyLogits,
    teachers: Sequence[tuple[LazyLogits, float]],
    labels: torch.Tensor,
    terms: Mapping[str, WeightedTerm],
    differentiate: bool,
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor | None]]:
    """Return the sum of each term, and the gradients of the student's hidden, weight and bias."""
    positions, vocabulary = len(student.hidden), len(student.weight)
    dtype = _product_type(student.hidden)
    sums = {name: labels.new_zeros((), dtype=_exact(dtype)) for name in terms}
    gradients = [
        torch.zeros_like(each)
        if differentiate and each is not None and each.requires_grad
        else None
        for each in student
    ]
    of_hidden, of_weight, of_bias = gradients
    differentiate = any(each is not None for each in gradients)
    with torch.autocast(student.hidden.device.type, enabled=False):
        student = _cast(student, dtype)
        teachers = [(_cast(teacher, dtype), share) for teacher, share in teachers]
        size = _chunk_size(positions, vocabulary)
        buffers = [
            logits.hidden.new_empty(size, len(logits.weight))
            for logits in (student, *(teacher for teacher, _ in teachers))
        ]
        for start in range(0, positions, size):
            chunk = slice(start, min(start + size, positions))
            student_logits = _project(student, chunk, buffers[0])
            teacher_logits = [
                (_project(teacher, chunk, buffer), teacher.bias, share)
                for (teacher, share), buffer in zip(teachers, buffers[1:], strict=True)
            ]
            own = student_logits, student.bias
            _terms_of_chunk(own, teacher_logits, labels, chunk, terms, sums, differentiate)
            gradient = student_logits  # now in its place
            if of_hidden is not None:
                of_hidden[chunk] = gradient @ student.weight
            if of_weight is not None and of_weight.dtype == dtype:
                of_weight.addmm_(gradient.t(), student.hidden[chunk])
            elif of_weight is not None:
                of_weight.add_(gradient.t() @ student.hidden[chunk])
            if of_bias is not None:
                of_bias += gradient.sum(0, dtype=of_bias.dtype)
    return sums, gradients


def _terms_of_chunk(
    own: tuple[torch.Tensor, torch.Tensor | None],
    teacher_logits: Sequence[TeacherLogits],
    labels: torch.Tensor,
    chunk: slice,
    terms: Mapping[str, WeightedTerm],
    sums: dict[str, torch.Tensor],
    differentiate: bool,
) -> None:
    """Add the terms of one chunk to ``sums``; put the gradient in the place of the logits.

    ``own`` is ``student_logits[chunk, vocabulary]``, still without the bias, and
    ``bias[vocabulary]``; ``labels`` are of all positions. On a processor a chunk is taken in blocks
    that fit its cache.
    """
    student_logits, bias = own
    size = len(student_logits)
    if student_logits.device.type == "cpu":
        size = max(1, BLOCK_LOGITS // student_logits.shape[1])
    for start in range(0, len(student_logits), size):
        block = slice(start, min(start + size, len(student_logits)))
        first = chunk.start + start
        student = _with_bias(student_logits[block], bias)
        teachers = [(_with_bias(each[block], own), share) for each, own, share in teacher_logits]
        gradient = torch.zeros_like(student) if differentiate else None
        for name, weighted in terms.items():
            count = min(weighted.positions - first, len(student))
            if count > 0:
                sums[name] += weighted.term(
                    student[:count],
                    [(teacher[:count], share) for teacher, share in teachers],
                    labels[first : first + count],
                    None if gradient is None else gradient[:count],
                    weighted.scale,
                )
        if gradient is not None:
            student_logits[block] = gradient


def _chunk_size(positions: int, vocabulary: int) -> int:
    """Return the positions of a chunk, chunks being as alike in size as can be."""
    chunks = -(-positions * vocabulary // CHUNK_LOGITS)
    return max(1, -(-positions // max(chunks, 1)))


def _product_type(hidden: torch.Tensor) -> torch.dtype:
    """Return the type of the matrix products: autocast's, or that of the hidden states."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which terms are computed: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _cast(logits: LazyLogits, dtype: torch.dtype) -> LazyLogits:
    hidden, weight, bias = logits
    cast_bias = None if bias is None else bias.detach().to(dtype)
    return LazyLogits(hidden.detach().to(dtype), weight.detach().to(dtype), cast_bias)


def _project(logits: LazyLogits, chunk: slice, buffer: torch.Tensor) -> torch.Tensor:
    """Return the logits of a chunk without the bias, which is added to a block at a time."""
    out = buffer[: chunk.stop - chunk.start]
    return torch.mm(logits.hidden[chunk], logits.weight.t(), out=out)


def _with_bias(logits: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return a block of logits in full: ``[block, vocabulary]``, float32 at least."""
    exact = _exact(logits.dtype)
    return logits.to(exact) if bias is None else torch.add(logits, bias.to(exact))
