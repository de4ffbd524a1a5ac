"""Private names of torch, each with a fallback for a version that lacks it."""

from __future__ import annotations

from torch import Tensor


def tensor_version(t: Tensor) -> int:
    """Return how often a tensor was written to in place; 0 where torch does not count it."""
    return getattr(t, "_version", 0)
