"""Compare the label with every other class at a cost linear in their number.

The specification e_y − e_j of all classes is (b, k − 1, k). Behind the last linear layer it is the
difference of two rows of its weight, so nothing of k × k has to be held for each sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .graph import Node
from .ops import DenseOp, ScaleOp

FIRST_CLASSES = 16  # that CROWN bounds first, those nearest by intervals; then twice as many each
Refine = Callable[[Tensor, Tensor], Tensor]  # rows (r,) and classes (r, m) to lower bounds (r, m)


class LogitRows(NamedTuple):
    """Write each logit as weight[j]·h + constant[j], h the last node's value.

    Arguments:
        nodes: of the network up to h.
        weight: `(k, *s)`.
        constant: `(k,)`.
        error: rounding error of the logits beyond that of h `(b, k)`; b may be 1.
    """

    nodes: list[Node]
    weight: Tensor
    constant: Tensor
    error: Tensor

    def differences(self, y: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return coefficients `(b, m, *s)` and constants `(b, m)` of the logit of `y (b,)` minus
        those of `classes (b, m)`, lowered by the rounding of both."""
        label = y[:, None]
        error = self.error.expand(len(y), -1)
        constant = self.constant[label] - self.constant[classes]
        constant = constant - error.gather(1, label) - error.gather(1, classes)
        return self.weight[label] - self.weight[classes], constant


def logit_rows(nodes: list[Node], errors: list[Tensor | None] | None) -> LogitRows:
    """Return the logits by the last linear layer, and by the scaling that follows it.

    Without such a layer the weight is the identity. Coefficients of two logits do not overlap up to
    there, so their rounding errors add up as they do for e_y − e_j.
    """
    last, k = len(nodes) - 1, nodes[-1].shape[0]
    op, device = nodes[last].op, _device(nodes)
    scale = torch.ones(k, dtype=torch.float64, device=device)
    constant, error = torch.zeros_like(scale), torch.zeros_like(scale)[None]

    def shifted(shift: Tensor | None, last: int) -> tuple[Tensor, Tensor]:
        wrong = None if errors is None else errors[last]
        more = constant if shift is None else constant + scale * shift
        return more, error if wrong is None else error + scale.abs() * wrong

    while isinstance(op, ScaleOp):
        constant, error = shifted(op.shift, last)
        scale = scale * op.scale
        (last,) = nodes[last].inputs
        op = nodes[last].op
    if not isinstance(op, DenseOp):
        return LogitRows(nodes[: last + 1], torch.diag(scale), constant, error)
    constant, error = shifted(op.bias, last)
    (before,) = nodes[last].inputs
    return LogitRows(nodes[: before + 1], scale[:, None] * op.weight, constant, error)


def _device(nodes: list[Node]) -> torch.device | None:
    tensors = (getattr(node.op, name, None) for node in nodes for name in ("weight", "scale"))
    return next((t.device for t in tensors if isinstance(t, Tensor)), None)


def elided(nodes: list[Node]) -> list[Node]:
    """Return the nodes that a bound back through affine operations only passes: those at the end,
    and the activations before them."""
    reached, to_visit = set[int](), [len(nodes) - 1]
    while to_visit:
        i = to_visit.pop()
        op = nodes[i].op
        if i not in reached and op is not None and op.affine:
            to_visit += nodes[i].inputs
        reached.add(i)
    return [nodes[i] for i in sorted(reached)]


def least_gaps(
    cheap: Tensor, refine: Refine, *, most: Callable[[int], int], enough: Tensor | None = None
) -> Tensor:
    """Return min_j max(cheap, refined) `(b,)`, refining only the classes that can set the minimum.

    A class whose cheap bound is at least the minimum of the others can not lower it. Classes come
    in the order of their cheap bounds, so the first such class ends a row.

    Arguments:
        cheap: lower bounds `(b, k)`, inf at the label.
        refine: tighter lower bounds for some rows and classes.
        most: the number of classes at once that memory allows, for a number of rows.
        enough: `(b,)` what has to be exceeded: a row also ends once all that remains is above it,
            or one class is not. Its value then lies on the right side of `enough`, and no more.

    >>> cheap = torch.tensor([[torch.inf, -1.0, 3.0]])
    >>> refine = lambda rows, classes: cheap[rows].gather(1, classes) + 2
    >>> least_gaps(cheap, refine, most=lambda rows: 1)
    tensor([1.])
    """
    # NaN first: it stays in the minimum, and nothing is proven of its row.
    order = cheap.nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).argsort(dim=1)
    ranked, k = cheap.gather(1, order), cheap.shape[1] - 1
    least = torch.full_like(ranked[:, 0], torch.inf)
    rows, start, count = torch.arange(len(cheap), device=cheap.device), 0, FIRST_CLASSES
    while start < k:
        rows = rows[_is_open(ranked[rows, start], least, rows, enough)]
        if not len(rows):
            break
        stop = min(start + min(count, most(len(rows))), k)
        classes = order[rows, start:stop]
        tighter = ranked[rows, start:stop].maximum(refine(rows, classes))
        least[rows] = least[rows].minimum(tighter.amin(1))
        start, count = stop, 2 * count
    return least


def _is_open(following: Tensor, least: Tensor, rows: Tensor, enough: Tensor | None) -> Tensor:
    """Return whether more classes can move a row's minimum; note in `least` those that can not."""
    is_open = ~(following >= least[rows])
    if enough is not None:
        is_open &= ~(following > enough[rows]) & ~(least[rows] <= enough[rows])
    least[rows] = torch.where(is_open, least[rows], least[rows].minimum(following))
    return is_open
