"""Let cuDNN choose its kernels by trial, where shapes stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tuned_kernels(device: torch.device, on: bool = True) -> Iterator[None]:
    """Let cuDNN try its algorithms at the first pass of each shape; restore the setting on exit.

    Each new shape costs such a trial, so batches of odd sizes are better run without. Nothing
    changes on other devices, nor where the caller asked for deterministic kernels.

    >>> with tuned_kernels(torch.device("cpu")):
    ...     torch.backends.cudnn.benchmark
    False
    """
    fixed = torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or (on and device.type == "cuda" and not fixed)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
