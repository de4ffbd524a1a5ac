"""Shape lazy layers, as `nn.LazyLinear`, by a pass of samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

LAZY = (UninitializedParameter, UninitializedBuffer)


def shape_lazy_layers(model: nn.Module, samples: Tensor) -> None:
    """Give lazy layers their shapes, and initial weights from the global random state.

    A network without lazy layers is not run.

    >>> model = nn.LazyLinear(2)
    >>> shape_lazy_layers(model, torch.zeros(1, 3))
    >>> model.weight.shape
    torch.Size([2, 3])
    """
    tensors = [*model.parameters(), *model.buffers()]
    if not any(isinstance(t, LAZY) for t in tensors):
        return
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(samples.to(tensors[0].device))
    finally:
        for module, training in modes:
            module.training = training
