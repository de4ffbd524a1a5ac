"""Functions of the rows of a search: gains and their gradients, the better points, who leaves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..functional.geometry import broadcast_rows
from ..functional.gradient import input_gradient

Gain = Callable[[Tensor], Tensor]  # of a point z: what the adversary maximizes, per sample (b,)


def value_and_grad(f: Gain, z: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gain at z, detached, and its gradient with respect to z only; each row of the
    gain depends on its own row of z.

    Raises:
        ValueError: if the gain does not depend on z: a model that detaches, rounds or leaves torch.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        value = f(z)
        return value.detach(), input_gradient(value, z)


def value_no_grad(f: Gain, z: Tensor) -> Tensor:
    """Compute the gain at z without a gradient."""
    with torch.no_grad():
        return f(z)


def higher(
    best: Tensor | None, best_value: Tensor | None, z: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Return per sample the point of higher value, and that value; z where none is best yet."""
    if best is None or best_value is None:
        return z, value
    better = value > best_value
    return torch.where(broadcast_rows(better, z), z, best), torch.where(better, value, best_value)


def wrong_classes(logits: Tensor, y: Tensor) -> Tensor:
    """Return the k − 1 classes other than `y (a,)`, highest logit first `(a, k - 1)`."""
    # -1, no label, counts as class 0: such a row is wrong already, and any class will do. Clamped:
    # a masked class, of logit −inf, comes last, but still before y.
    others = logits.clamp_min(torch.finfo(logits.dtype).min)
    others = others.scatter(1, y.clamp_min(0)[:, None], -torch.inf)
    # stable: tied classes come in the same order in every round
    return others.sort(dim=1, descending=True, stable=True).indices[:, :-1]


def split_rows(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row numbers where a mask `(a,)` is True, and the others, both in order; the host
    waits once, where two masked reads would make it wait twice.

    >>> split_rows(torch.tensor([False, True, False]))
    (tensor([1]), tensor([0, 2]))
    """
    order = (~mask).to(torch.uint8).argsort(stable=True)
    count = int(mask.sum())
    return order[:count], order[count:]
