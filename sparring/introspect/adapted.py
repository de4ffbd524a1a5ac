"""Turn a wrapped model into stages that can be traced, preprocessing and all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import freeze
from .float32 import Float32Model, on_float32
from .trace import class_name, has_hooks

ADAPTED = "sparring.models.wrap.Adapted"


def readable(model: object, x: Tensor) -> object:
    """Return the network of a wrapped model behind the same preprocessing, as traceable stages.

    Probabilities stand for their logarithms: the largest is the same. Other models come back as
    they are.

    Raises:
        ValueError: for a wrapper that resizes its inputs, or with hooks.
    """
    wrapper: Any = model
    if isinstance(model, Float32Model) and class_name(model.model) == ADAPTED:
        model = model.model
    if class_name(model) != ADAPTED:
        return model
    adapter: Any = model
    for m in (wrapper, adapter):  # their stages would leave the hooks out
        if has_hooks(m):
            raise ValueError(f"bounds do not know {type(m).__name__} with hooks: remove the hooks")
    if adapter.size is not None:
        raise ValueError("bounds can't read resized inputs: certify the network at its own size")
    network = on_float32(adapter.model)
    stages: list[Any] = [network]
    if not adapter.identity or adapter.scale is not None:
        stages.insert(0, _Preprocess(adapter, x.ndim))
    with freeze.frozen(adapter, "eval"), torch.no_grad():
        z = network(adapter.preprocess(x[:1]))
    if isinstance(z, Tensor) and z.ndim == 2 and z.shape[1] == 1:
        stages.append(_two_columns(z, probability=adapter.outputs == "probabilities"))
    return nn.Sequential(*stages) if len(stages) > 1 else stages[0]


class _Preprocess(nn.Module):
    """Compute (x·scale − mean) / std as x·factor + shift."""

    def __init__(self, adapter: Any, ndim: int) -> None:
        super().__init__()
        tail = [1, -1, *[1] * (ndim - 2)]
        mean, std = (t.detach().double().view(tail) for t in (adapter.mean, adapter.std))
        self.factor = nn.Buffer(((adapter.scale or 1.0) / std).float())
        self.shift = nn.Buffer((-mean / std).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


def _two_columns(z: Tensor, *, probability: bool) -> nn.Linear:
    """Return the layer that makes (0, z) of a logit z, and (1 − z, z) of a probability."""
    layer = nn.Linear(1, 2).to(z)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.0 if probability else 0.0], [1.0]]))
        layer.bias.copy_(torch.tensor([1.0 if probability else 0.0, 0.0]))
    return layer
