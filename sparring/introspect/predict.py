"""Predict classes in full float32 with the model frozen in eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..batch import Model
from . import freeze


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in full float32: no autocast, no TF32."""
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
    """Return the logits `(b, k)` of the model in eval mode, in float32 and without gradient."""
    with freeze.frozen(model, "eval"), torch.no_grad(), full_precision(x.device):
        return model(x.float()).float()


def predict(model: Model, x: Tensor) -> Tensor:
    """Return the predicted classes `(b,)`; -1, which is not a class, for logits that are not
    finite."""
    return predicted_class(logits(model, x))


def predicted_class(z: Tensor) -> Tensor:
    """Return the class `(b,)` of the largest logit `(b, k)`; -1 where logits are not finite."""
    return torch.where(torch.isfinite(z).all(1), z.argmax(1), -1)
