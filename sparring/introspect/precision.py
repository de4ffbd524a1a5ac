"""Choose the precision that a device computes in, where the one asked for would be emulated."""

from __future__ import annotations

import warnings
from functools import cache

import torch

from ..runtime import torch_private
from ..runtime.warning import SparringWarning


def settled_precision(precision: str, device: torch.device) -> str:
    """Return the precision to compute in on a device: the one asked for, or float32, with one
    `SparringWarning`, where the device has no units for bfloat16.

    PyTorch emulates bfloat16 there. On a CPU with AVX2, a training of `mnist-net` took 14 times as
    long as in float32; on others, oneDNN refuses its backward pass.

    Arguments:
        precision: `"float32"`, `"bfloat16"` or `"float16"`; float16 is taken as it is.

    >>> settled_precision("float32", torch.device("cpu"))
    'float32'
    """
    if precision != "bfloat16" or torch_private.multiplies_bfloat16(device.type):
        return precision
    _warn_once(device.type)
    return "float32"


@cache
def _warn_once(device_type: str) -> None:
    """Tell that bfloat16 became float32, once a process: a training asks for every attack."""
    warnings.warn(
        f"this {device_type} has no units for bfloat16, which would be much slower than float32: "
        "float32 is used",
        SparringWarning,
        stacklevel=4,
    )
