"""Guard the private names of torch that the package uses: each has a stand-in without it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

# Units of x86 for bfloat16, and multiplications of a convolution per core and nanosecond.
X86_BFLOAT16 = (("_is_amx_tile_supported", 150.0), ("_is_avx512_bf16_supported", 75.0))

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
    for name, speed in X86_BFLOAT16:
        if getattr(torch.cpu, name, bool)():
            return speed
    return 20.0  # emulated by AVX512, or of another family


@cache
def multiplies_bfloat16(device_type: str) -> bool:
    """Return whether a device has units for bfloat16; True for one that cannot be asked."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return any(getattr(torch.cpu, name, bool)() for name, _ in X86_BFLOAT16)
    # By oneDNN, whose convolutions would not run in bfloat16; on x86 it counts emulation, too.
    ask = getattr(getattr(torch.ops, "mkldnn", None), "_is_mkldnn_bf16_supported", None)
    return ask is None or bool(ask())


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
