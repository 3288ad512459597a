"""Losses on logits, computed piece by piece, so that all logits never exist at once.

The student's gradient is computed with the loss, while a piece is at hand: for the rows that the
projection reads, its weight and its bias. What it costs beside the matrix products is one buffer
for the student and one for each teacher, of ``LOGITS_AT_ONCE`` numbers at most.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import nn

# 256 MB in float32: large enough for matrix products at full speed.
LOGITS_AT_ONCE = 2**26
# Of these the terms make several copies: few enough for a processor's cache and for little memory,
# and enough that its threads seldom wait for each other.
LOGITS_OF_TERMS = 2**22


class Projection(NamedTuple):
    """Logits before they are computed: rows (positions, width), and the map to the vocabulary."""

    rows: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, rows: torch.Tensor, projection: nn.Linear) -> "Projection":
        """The rows before a model's own projection."""
        return cls(rows, projection.weight, projection.bias)

    def to(self, subwords: torch.Tensor) -> "Projection":
        """The map to these sub-words alone, in their order."""
        bias = None if self.bias is None else self.bias[subwords]
        return Projection(self.rows, self.weight[subwords], bias)

    def computed(self) -> "Projection | Computed":
        """The logits, for several uses, where all of them fit into one piece; else itself."""
        positions = len(self.rows)
        if _piece(positions, len(self.weight)) < positions:
            return self
        own = _cast(self, _type_of(self.rows))
        with torch.autocast(self.rows.device.type, enabled=False):
            logits = _project(own, slice(0, positions), _buffer(own, positions))
        return Computed(logits, own.bias)


class Computed(NamedTuple):
    """The logits of all positions, (positions, vocabulary), and the bias that they still lack."""

    logits: torch.Tensor
    bias: torch.Tensor | None


class LogitTerm(Protocol):
    """A term of the loss on logits."""

    def __call__(
        self,
        student: torch.Tensor,
        teachers: Sequence[tuple[torch.Tensor, float]],
        labels: torch.Tensor,
        gradient: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """The sum of the loss over the first rows of a block, as many as the term is about.

        ``student`` and each teacher have shape (positions, vocabulary), each teacher its share of
        the loss; ``labels`` (positions,), -100 where nothing was masked. ``scale`` times the
        gradient of the sum is added to ``gradient``, of the student's shape.
        """


class Use(NamedTuple):
    """A term as one batch uses it: at the first ``positions`` rows, its sum scaled by ``scale``."""

    term: LogitTerm
    positions: int
    scale: float


class WithGradient(torch.autograd.Function):
    """A loss whose gradients are known already; they serve one backward pass."""

    @staticmethod
    def forward(ctx, loss, gradients, *inputs):
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx, upstream):
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradients of this loss serve one backward pass")
        return None, None, *(each if each is None else each.mul_(upstream) for each in gradients)


def projected_losses(
    student: Projection,
    teachers: Sequence[tuple[Projection | Computed, float]],
    labels: torch.Tensor,
    uses: dict[str, Use],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The scaled sum of terms on logits, which has a gradient, and the plain sum of each.

    ``labels`` has shape (positions,), as the rows. Under autocast the matrix products run in its
    type, all else in float32; the rows' own type decides otherwise.
    """
    with torch.no_grad():
        loss, sums, gradients = _by_pieces(student, teachers, labels, uses)
    if torch.is_grad_enabled():
        loss = WithGradient.apply(loss, gradients, *student)
    return loss, sums


def _by_pieces(student, teachers, labels, uses):
    positions, vocabulary = len(student.rows), len(student.weight)
    device, dtype = student.rows.device, _type_of(student.rows)
    exact = torch.promote_types(dtype, torch.float32)
    sums = {name: torch.zeros((), device=device, dtype=exact) for name in uses}
    wanted = [torch.is_tensor(each) and each.requires_grad for each in student]
    gradients = [
        torch.zeros_like(each) if want else None for each, want in zip(student, wanted, strict=True)
    ]
    rows_gradient, weight_gradient, bias_gradient = gradients
    with torch.autocast(device.type, enabled=False):
        mine = _cast(student, dtype)
        theirs = [(_cast(teacher, dtype), share) for teacher, share in teachers]
        size = _piece(positions, vocabulary)
        buffers = [_buffer(each, size) for each in (mine, *(teacher for teacher, _ in theirs))]
        for start in range(0, positions, size):
            piece = slice(start, min(start + size, positions))
            logits = _project(mine, piece, buffers[0])
            answers = [
                (_project(teacher, piece, buffer), teacher.bias, share)
                for (teacher, share), buffer in zip(theirs, buffers[1:], strict=True)
            ]
            _terms_of_piece(
                (logits, mine.bias), answers, labels, piece, uses, sums, any(wanted), exact
            )
            if rows_gradient is not None:
                rows_gradient[piece] = logits @ mine.weight
            if weight_gradient is not None:
                _accumulate(weight_gradient, logits, mine.rows[piece])
            if bias_gradient is not None:
                bias_gradient += logits.sum(0, dtype=bias_gradient.dtype)
    loss = sum(use.scale * sums[name] for name, use in uses.items())
    return loss, sums, gradients


def _piece(positions: int, vocabulary: int) -> int:
    """How many positions a piece has: pieces as like in size as can be."""
    pieces = -(-positions * vocabulary // LOGITS_AT_ONCE)
    return max(1, -(-positions // max(pieces, 1)))


def _type_of(rows: torch.Tensor) -> torch.dtype:
    """The type of the matrix products: autocast's, or the rows' own."""
    device = rows.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype


def _cast(logits: Projection | Computed, dtype: torch.dtype) -> Projection | Computed:
    return type(logits)(*(each if each is None else each.detach().to(dtype) for each in logits))


def _buffer(logits: Projection | Computed, positions: int) -> torch.Tensor | None:
    """Room for the logits of so many positions, if they are to be computed."""
    if isinstance(logits, Computed):
        return None
    return logits.rows.new_empty(positions, len(logits.weight))


def _project(
    logits: Projection | Computed, piece: slice, buffer: torch.Tensor | None
) -> torch.Tensor:
    """The logits of a piece but for the bias, which is added to a block at a time."""
    if isinstance(logits, Computed):
        return logits.logits[piece]
    out = buffer[: piece.stop - piece.start]
    return torch.mm(logits.rows[piece], logits.weight.t(), out=out)


def _accumulate(total: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor) -> None:
    if total.dtype == rows.dtype:
        total.addmm_(logits.t(), rows)
    else:
        total.add_(logits.t() @ rows)


def _terms_of_piece(own, answers, labels, piece, uses, sums, differentiate, exact):
    """Add the terms of one piece to ``sums``, and put its gradient in the place of the logits."""
    logits, bias = own
    size = len(logits)
    if logits.device.type == "cpu":
        size = max(1, LOGITS_OF_TERMS // logits.shape[1])
    for start in range(0, len(logits), size):
        block = slice(start, min(start + size, len(logits)))
        first = piece.start + start
        values = _with_bias(logits[block], bias, exact)
        teachers = [
            (_with_bias(answer[block], bias, exact), share) for answer, bias, share in answers
        ]
        gradient = torch.zeros_like(values) if differentiate else None
        for name, use in uses.items():
            count = min(use.positions - first, len(values))
            if count > 0:
                sums[name] += use.term(
                    values[:count],
                    [(answer[:count], share) for answer, share in teachers],
                    labels[first : first + count],
                    None if gradient is None else gradient[:count],
                    use.scale,
                )
        if gradient is not None:
            logits[block] = gradient


def _with_bias(logits: torch.Tensor, bias: torch.Tensor | None, exact: torch.dtype) -> torch.Tensor:
    """The logits of a block; those in the buffer stay, as another student may read them."""
    return logits.to(exact) if bias is None else torch.add(logits, bias.to(exact))
