"""Run a network of another precision on float32 inputs, as attacks and judge hand them over."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Model


class Float32Model(nn.Module):
    """Hand inputs to a network in its own dtype, and return its logits in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.to(self.dtype)).float()


def on_float32(model: Model) -> Model:
    """Return a model that takes float32: itself, or a wrapper where its weights are of another
    floating dtype, the same in all.

    >>> on_float32(nn.Linear(2, 2).double())(torch.zeros(1, 2)).dtype
    torch.float32
    """
    if not isinstance(model, nn.Module):
        return model
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    dtypes = dtypes or {b.dtype for b in model.buffers() if b.is_floating_point()}
    if len(dtypes) != 1 or dtypes == {torch.float32}:
        return model
    return Float32Model(model, dtypes.pop())
