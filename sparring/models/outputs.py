"""Read what a model returns, and what it computes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def first_weight(model: Any) -> list[nn.Parameter]:
    """Return a module's first floating-point parameter in a list, which is empty without one."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return [p for p in parameters if p.is_floating_point()][:1]


def read_logits(output: Any, *, device: torch.device | None = None) -> Tensor:
    """Return the logits in a model's output: arrays go to `device`, tensors stay on theirs.

    >>> read_logits((torch.ones(1, 2), "attention"))
    tensor([[1., 1.]])
    >>> read_logits({"features": torch.zeros(1, 9), "logits": torch.ones(1, 2)})
    tensor([[1., 1.]])
    """
    value = output
    for _ in range(4):  # a tuple in a mapping, or the like
        if isinstance(value, Tensor):
            return value if value.layout == torch.strided else value.to_dense()
        if isinstance(value, Mapping):
            only = next(iter(value.values())) if len(value) == 1 else None
            value = value.get("logits", only)
        elif (logits := getattr(value, "logits", None)) is not None:
            value = logits
        elif isinstance(value, tuple | list) and value:
            value = value[0]
        elif hasattr(value, "__array__"):
            return torch.as_tensor(value, device=device)
    kind = type(output).__name__
    if isinstance(output, Mapping):
        kind += f" of {', '.join(str(key)[:40] for key in list(output)[:8]) or 'nothing'}"
    raise ValueError(
        f"the model returned a {kind}: it must return logits (b, k), an object with .logits, a "
        'mapping with "logits", or a tuple that begins with them'
    )
