"""Measure the Jacobian of outputs in inputs by backward passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..component import require
from ..runtime import distributed


def random_directions(
    like: Tensor, count: int = 1, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw `(count, b, k)` unit vectors, uniform on the sphere of the rows of `like (b, k)`.

    Several processes together draw the same vectors as one with the joint batch.

    >>> random_directions(torch.zeros(2, 3), 5).norm(dim=2).allclose(torch.ones(5, 2))
    True
    """
    # Samples first: `distributed.draw` splits the joint batch by its leading dimension.
    rows = torch.zeros(len(like), count, *like.shape[1:], dtype=like.dtype, device=like.device)
    normal = distributed.draw("normal", rows, generator).transpose(0, 1)
    return normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def squared_vjp_norm(
    outputs: Tensor, x: Tensor, directions: Tensor, *, create_graph: bool = True
) -> Tensor:
    """Return ‖vᵀJ‖² per sample, J = ∂outputs/∂x, from one backward pass over the batch.

    It is exact where samples do not affect each other, as with batch norm in eval mode. Batch
    statistics add the small gradient of the other samples' outputs.

    Arguments:
        outputs: `(b, k)`.
        x: `(b, *d)`, which required gradients before the forward pass.
        directions: v `(b, k)`, giving `(b,)`; or `(m, b, k)`, giving `(m, b)` by m backward passes.
        create_graph: make the norm itself differentiable.

    Raises:
        ValueError: if x does not require gradients; or with `create_graph`, if a compiled model
            gave the outputs, since compiled graphs refuse a second derivative.

    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> squared_vjp_norm(x * torch.tensor([3.0, 4.0]), x, torch.ones(1, 2))
    tensor([25.])
    """
    require(x.requires_grad, "x.requires_grad", False, "True before the forward pass")
    if create_graph:
        require_double_backward(outputs)
    rows = directions if directions.ndim > outputs.ndim else directions[None]
    squares = []
    for row in rows:
        (g,) = torch.autograd.grad(outputs, x, row, create_graph=create_graph, retain_graph=True)
        squares.append(g.flatten(1).square().sum(1))
    return torch.stack(squares).reshape(directions.shape[:-1])


def squared_jacobian_norm(outputs: Tensor, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """Return ‖J‖²_F per sample `(b,)`, exactly, by one backward pass per output.

    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> squared_jacobian_norm(x * torch.tensor([3.0, 4.0]), x)
    tensor([25.])
    """
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for column in torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device):
        v = column.expand_as(outputs)
        total = total + squared_vjp_norm(outputs, x, v, create_graph=create_graph)
    return total


def require_double_backward(outputs: Tensor) -> None:
    """Raise unless the outputs can be differentiated twice.

    Raises:
        ValueError: if a compiled model gave them.
    """
    visited: set[Any] = set()
    nodes = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in visited:
            continue
        # PyTorch's own error comes from inside the backward pass and does not name the cause.
        if node.name().startswith("CompiledFunction"):
            raise ValueError(
                "outputs come from a compiled model, which refuses double backward: "
                "run the model itself, as ModelView(model) or compile = false"
            )
        visited.add(node)
        nodes += [after for after, _ in node.next_functions]
