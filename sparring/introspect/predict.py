"""Judging from outside: what the model says in float32, and whether a point was allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..batch import Model
from ..evaluation.judge import _said
from . import freeze


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Full float32 inside: no autocast, no TF32."""
    both: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    backends = both if device.type == "cuda" else ()
    saved = [b.allow_tf32 for b in backends]
    try:
        for b in backends:
            b.allow_tf32 = False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for b, value in zip(backends, saved, strict=True):
            b.allow_tf32 = value


def logits(model: Model, x: Tensor) -> Tensor:
    """Logits `(b, k)` of the bare model in eval mode, float32 and without gradient."""
    with freeze.hold(model, "eval"), torch.no_grad(), exact(x.device):
        return model(x.float()).float()


def predict(model: Model, x: Tensor) -> Tensor:
    """Predicted classes `(b,)`; -1, which is no class, where the logits are not finite."""
    return _said(logits(model, x))
