"""The gradient of a model's output with respect to its input."""

from __future__ import annotations

import torch
from torch import Tensor


def input_gradient(value: Tensor, z: Tensor, *, retain_graph: bool = False) -> Tensor:
    """Compute the gradient of Σ value with respect to z, and leave no `.grad` behind.

    Raises:
        ValueError: if the value does not depend on z, as of a model that detaches or leaves torch.

    >>> z = torch.tensor([2.0], requires_grad=True)
    >>> input_gradient(z.square(), z)
    tensor([4.])
    """
    if value.requires_grad:
        # autograd.grad, not backward: it leaves no .grad on the model's parameters. A quantised
        # network's output requires a gradient, and yet z is not in its graph.
        with torch.enable_grad():
            total = value.sum()
        (grad,) = torch.autograd.grad(total, z, retain_graph=retain_graph, allow_unused=True)
        if grad is not None:
            return grad
    raise ValueError(
        "the model's output has no gradient with respect to its input: it detaches or leaves torch"
    )
