"""Let gradients pass the quantised operators of a converted program."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

QUANTIZE = "QuantizeLinear"


class StraightThrough(nn.Module):
    """Quantise as the module inside, with the gradient of scaling and clamping alone.

    y = clamp(round(x / scale) + zero), whose rounding has gradient 1 in place of 0

    Whole numbers come out as floats, of the same values: integers of torch carry no gradient.

    Source: Bengio, Léonard, Courville 2013, "Estimating or propagating gradients through
    stochastic neurons for conditional computation".
    """

    def __init__(self, quantize: nn.Module) -> None:
        super().__init__()
        self.quantize = quantize

    def forward(self, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        whole = self.quantize(x.detach(), *([scale] if zero is None else [scale, zero]))
        info = torch.iinfo(whole.dtype)
        if scale.ndim == 1:  # one number per channel
            shape = [1] * x.ndim
            shape[int(getattr(self.quantize, "dim", 1))] = -1
            scale = scale.reshape(shape)
            zero = None if zero is None else zero.reshape(shape)
        line = x / scale if zero is None else x / scale + zero.to(x.dtype)
        line = line.clamp(info.min, info.max)
        return whole.to(x.dtype) + (line - line.detach())  # adds 0, exactly


def pass_gradients_through(program: nn.Module) -> bool:
    """Replace the quantising modules directly inside a program; return whether there were any."""
    modules: dict[str, Any] = dict(program.named_children())
    quantised = [name for name, m in modules.items() if type(m).__name__ == QUANTIZE]
    for name in quantised:
        setattr(program, name, StraightThrough(modules[name]))
    return bool(quantised)
