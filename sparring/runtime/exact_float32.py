"""Compute in true float32: without autocast, TF32 or another shorthand for float32 products.

A GPU may round the factors of a float32 product to TF32, which keeps 10 bits of each, and does so
for convolutions by default. Logits then err by about as much as in float16.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

_REQUESTED = ContextVar("exact float32 requested", default=False)
Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]  # read, write, the exact value


def is_rounded(device: torch.device) -> bool:
    """Return whether float32 products on this device are rounded to fewer bits.

    >>> is_rounded(torch.device("cpu"))
    False
    """
    return any(read() not in ("none", exact) for read, _, exact in _settings(device))


def is_requested() -> bool:
    """Return whether the caller is inside `exact_float32`: a recorded CUDA graph, which keeps the
    precision it was recorded in, must not run there."""
    return _REQUESTED.get()


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute in true float32 on the device inside the context; restore all settings after it.

    >>> with exact_float32(torch.device("cpu")):
    ...     is_requested()
    True
    """
    saved: list[tuple[Setting, Any]] = []
    token = _REQUESTED.set(True)
    try:
        if is_rounded(device):
            # the older settings first: they write the newer ones too
            saved = [(s, _read(s)) for s in (*_older_settings(device), *_settings(device))]
            for setting, value in saved:
                _write(setting, None if value is None else setting[2])
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for setting, value in saved:
            _write(setting, value)
        _REQUESTED.reset(token)


def _settings(device: torch.device) -> list[Setting]:
    """Return the settings that decide on a device."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    on_gpu = device.type == "cuda"
    if not hasattr(cuda.matmul, "fp32_precision"):
        return [_attribute(o, "allow_tf32", False) for o in (cuda.matmul, cudnn) if on_gpu]
    parts = {"matmul": cuda, "conv": cudnn, "rnn": cudnn}
    owners = [getattr(owner if on_gpu else mkldnn, name, None) for name, owner in parts.items()]
    return [_attribute(o, "fp32_precision", "ieee") for o in owners if hasattr(o, "fp32_precision")]


def _older_settings(device: torch.device) -> list[Setting]:
    """Return older settings beside those of `_settings`, which PyTorch wants to see agree."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return []
    matmul = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"
    # written by the setting above for the CPU, whatever the device
    mkldnn: Any = torch.backends.mkldnn
    beside = _attribute(mkldnn.matmul, "fp32_precision", "ieee")
    cudnn = [_attribute(torch.backends.cudnn, "allow_tf32", False)] if device.type == "cuda" else []
    return [matmul, beside, *cudnn]


def _attribute(owner: Any, name: str, exact: Any) -> Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value), exact


def _read(setting: Setting) -> Any:
    """Return the value, or None where older and newer settings disagree: the newer ones count."""
    try:
        return setting[0]()
    except RuntimeError:
        return None


def _write(setting: Setting, value: Any) -> None:
    if value is not None:
        with warnings.catch_warnings():  # PyTorch warns of the older names
            warnings.simplefilter("ignore")
            setting[1](value)
