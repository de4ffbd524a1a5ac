"""Look inside a model, or hold it still, without changing it.

Names are dotted names of submodules, as `model.named_modules()` gives them, of the bare model:
a `ModelView`, an average (`AveragedModel`) or a DDP wrapper around it is looked through.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..component import require
from ..runtime import distributed


def directions(like: Tensor, count: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
    """`(count, b, k)` unit vectors, uniform on the sphere of the rows of `like (b, k)`; as many
    processes draw what one does.

    >>> directions(torch.zeros(2, 3), 5).norm(dim=2).allclose(torch.ones(5, 2))
    True
    """
    rows = torch.zeros(len(like), count, *like.shape[1:], dtype=like.dtype, device=like.device)
    drawn = distributed.draw("normal", rows, generator).transpose(0, 1)
    return drawn / drawn.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def vjp_norm(
    outputs: Tensor, x: Tensor, directions: Tensor, *, create_graph: bool = True
) -> Tensor:
    """‖vᵀJ‖² per sample, J = ∂outputs/∂x: one backward pass over the batch.

    Where samples do not see each other (batch norm in eval mode) it is exact; batch statistics add
    the small gradient of the other samples' outputs.

    Arguments:
        outputs: `(b, k)`; x: `(b, *d)`, required gradients before the forward pass.
        directions: `(b, k)` gives `(b,)`; `(m, b, k)` gives `(m, b)`, a backward pass each.
        create_graph: so that the norm can itself be differentiated.

    Raises:
        ValueError: if x does not require gradients, or the outputs come from a compiled model and
            `create_graph` is asked for: compiled graphs refuse a second derivative.

    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> vjp_norm(x * torch.tensor([3.0, 4.0]), x, torch.ones(1, 2))
    tensor([25.])
    """
    require(x.requires_grad, "x.requires_grad", False, "True before the forward pass")
    if create_graph:
        twice(outputs)
    rows = directions if directions.ndim > outputs.ndim else directions[None]
    squares = []
    for row in rows:
        (g,) = torch.autograd.grad(outputs, x, row, create_graph=create_graph, retain_graph=True)
        squares.append(g.flatten(1).square().sum(1))
    return torch.stack(squares).reshape(directions.shape[:-1])


def jacobian_norm(outputs: Tensor, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """‖J‖²_F per sample `(b,)`, exactly: a backward pass an output.

    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> jacobian_norm(x * torch.tensor([3.0, 4.0]), x)
    tensor([25.])
    """
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for column in torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device):
        one = column.expand_as(outputs)
        total = total + vjp_norm(outputs, x, one, create_graph=create_graph)
    return total


def twice(outputs: Tensor) -> None:
    """Refuse outputs that cannot be differentiated twice.

    Raises:
        ValueError: if a compiled model gave them.
    """
    seen: set[Any] = set()
    nodes = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        if node.name().startswith("CompiledFunction"):
            raise ValueError(
                "outputs come from a compiled model, which refuses double backward: "
                "run the model itself, as ModelView(model) or compile = false"
            )
        seen.add(node)
        nodes += [after for after, _ in node.next_functions]
