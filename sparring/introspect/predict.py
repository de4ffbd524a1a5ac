"""Predict classes in full float32 with the model frozen in eval mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Model
from ..runtime.exact_float32 import exact_float32
from . import freeze
from .forward import is_marked


def logits(model: Model, x: Tensor) -> Tensor:
    """Return the logits `(b, k)` of the model in eval mode, in float32 and without gradient."""
    with freeze.frozen(model, "eval") as run, torch.no_grad(), exact_float32(x.device):
        return run(x.float()).float()


def predict(model: Model, x: Tensor) -> Tensor:
    """Return the predicted classes `(b,)`; -1, which is not a class, for logits without one."""
    return predicted_class(logits(model, x))


def is_without_gradient(model: Model) -> bool:
    """Return whether a model says that it has no gradient by its kind, as trees do: a module with
    `without_gradient = True` is in it.

    >>> is_without_gradient(nn.Linear(2, 2))
    False
    """
    return isinstance(model, nn.Module) and is_marked(model, "without_gradient")


def predicted_class(z: Tensor) -> Tensor:
    """Return the class `(b,)` of the largest logit `(b, k)`; -1 where there is none."""
    return torch.where(has_class(z), z.argmax(1), -1)


def has_class(z: Tensor) -> Tensor:
    """Return where logits `(b, k)` name a class `(b,)`: no NaN or +inf, and not all −inf, which
    masks a class.

    >>> has_class(torch.tensor([[0.5, -torch.inf], [0.5, torch.nan], [-torch.inf, -torch.inf]]))
    tensor([ True, False, False])
    """
    return z.amax(1).isfinite()  # the maximum of a row with NaN is NaN
