"""Cast weights to lower precision once for many passes, where autocast would in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


@contextmanager
def cast_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Give the linear and convolution modules of a model copies of their weights in `dtype`, for
    passes under autocast to it.

    Autocast casts frozen weights at each pass. These casts are made once here, so values and input
    gradients are the same, bit for bit. A module is left as it is where it computes anything else:
    a subclass, a weight that is computed (spectral norm, pruning), hooks before it, other padding
    than zeros. The copies are of this moment: weights must not change inside.

    >>> net, x = nn.Linear(2, 2).requires_grad_(False), torch.rand(1, 2)
    >>> with torch.autocast("cpu", torch.bfloat16), cast_weights(net, torch.bfloat16):
    ...     net(x).dtype
    torch.bfloat16
    """
    plain = [module for module in model.modules() if _is_plain(module)]
    try:
        for module in plain:
            # The forward, not the weight: any other reader of the weight sees it in float32.
            module.forward = _forward(module, dtype)
        yield
    finally:
        for module in plain:
            vars(module).pop("forward", None)


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module's output is one function of its input, weight and bias."""
    kind = type(module)
    if kind is not nn.Linear and kind not in CONVOLUTIONS:
        return False
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    hooked = vars(module).get("_forward_pre_hooks") or "forward" in vars(module)
    zeros = getattr(module, "padding_mode", "zeros") == "zeros"
    return weight is not None and weight.dtype == torch.float32 and zeros and not hooked


def _forward(module: Any, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of a module with weights in `dtype`."""
    usual = module.forward
    weight, bias = (None if t is None else t.detach() for t in (module.weight, module.bias))
    weight, bias = (None if t is None else t.to(dtype) for t in (weight, bias))
    function: Callable[..., Tensor] = CONVOLUTIONS.get(type(module), F.linear)
    convolves = type(module) in CONVOLUTIONS
    rest = (module.stride, module.padding, module.dilation, module.groups) if convolves else ()

    def forward(input: Tensor) -> Tensor:
        device = input.device.type
        casts = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == dtype
        if not casts or module.weight.requires_grad:  # a weight to be trained needs its own graph
            return usual(input)
        return function(input, weight, bias, *rest)

    return forward
