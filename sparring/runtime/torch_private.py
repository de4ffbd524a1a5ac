"""Guard the private names of torch that the package uses: each has a stand-in without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

try:
    BATCH_NORM: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._BatchNorm,)
except AttributeError:
    BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batched_tensor_check() -> Callable[[Tensor], bool] | None:
    """Return torch's check for a tensor of `is_grads_batched`, or None in a torch without it."""
    try:
        return torch._C._functorch.is_legacy_batchedtensor  # type: ignore[attr-defined]
    except AttributeError:
        return None


def tensor_version(t: Tensor) -> int:
    """Return how often a tensor was written to in place; 0 where torch does not count it."""
    try:
        return t._version
    except (AttributeError, RuntimeError):  # a tensor of inference_mode has no count
        return 0


def cpu_speed(dtype: torch.dtype) -> float:
    """Return about how many multiplications of a convolution a core does per nanosecond.

    By what the processor can do, never by timing: the same machine always chooses alike.
    """
    if dtype != torch.bfloat16:
        return {"AVX512": 50.0, "AVX2": 30.0}.get(torch.backends.cpu.get_cpu_capability(), 15.0)
    known = (("_is_amx_tile_supported", 150.0), ("_is_avx512_bf16_supported", 75.0))
    for name, speed in known:
        if getattr(torch.cpu, name, bool)():
            return speed
    return 20.0  # emulated


def lerp_all(targets: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """Move each target to its end by the share `weight`, in place; on a GPU all in few kernels.

    >>> t = torch.zeros(2)
    >>> lerp_all([t], [torch.ones(2)], 0.25)
    >>> t
    tensor([0.2500, 0.2500])
    """
    together = getattr(torch, "_foreach_lerp_", None)
    if together is not None:
        together(list(targets), list(ends), weight)
        return
    for target, end in zip(targets, ends, strict=True):
        target.lerp_(end, weight)
