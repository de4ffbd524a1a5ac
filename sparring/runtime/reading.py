"""Read a number from a device without stopping the work that follows it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def start_reading(value: Tensor) -> Callable[[], float]:
    """Begin to read a number `()`, and return a function that waits for it.

    On a GPU the wait is for what computes the number alone, not for what was sent after it.

    >>> start_reading(torch.tensor(2.0))()
    2.0
    """
    if not value.is_cuda:
        return lambda: float(value.item())
    copy = value.to("cpu", non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(value.device))

    def read() -> float:
        done.synchronize()
        return float(copy.item())

    return read
