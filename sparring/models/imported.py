"""Build networks from outside the package by "module:Class": the user's, timm's, Hugging Face's."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..component import require
from ..introspect.freeze import frozen
from ..introspect.lazy import shape_lazy_layers
from ..runtime.importing import import_object


class Logits(nn.Module):
    """Reduce the output of a network, an object, to the object's `.logits`.

    `wrap_model` reads more kinds of output. This class stays beside it: its state dict has no
    buffers, and the fingerprint of a model covers its name.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def import_network(
    name: str, *, shape: Sequence[int], classes: int, trust: bool = False, **kw: Any
) -> nn.Module:
    """Build the network "module:Class"; check that it maps `(b, *shape)` to `(b, classes)`.

    Arguments:
        shape, classes: passed on if the class or function has arguments of these names.
        trust: allow the import, which runs the module's code.
        kw: passed on; or to the `config_class` of a Hugging Face class, if `config` is not in `kw`.
    """
    maker = import_object(name, key="model.name", trust=trust)
    if getattr(maker, "config_class", None) is not None and "config" not in kw:
        kw = {"config": maker.config_class(**kw)}
    try:
        signature = inspect.signature(maker)
        optional = {"shape": tuple(shape), "classes": classes}
        kw |= {key: value for key, value in optional.items() if key in signature.parameters}
        signature.bind(**kw)
    except TypeError as error:
        message = f"model.name = {name!r} cannot be called with {sorted(kw)}: {error}"
        raise ValueError(message) from error
    model = maker(**kw)
    allowed = f"something that returns a torch.nn.Module, not a {type(model).__name__}"
    require(isinstance(model, nn.Module), "model.name", name, allowed)
    weight = next(model.parameters(), torch.zeros(()))
    samples = torch.zeros(2, *shape, device=weight.device)
    try:
        shape_lazy_layers(model, samples)
        with torch.no_grad(), frozen(model):
            out = model(samples)
    except (RuntimeError, ValueError, TypeError) as error:
        message = f"does not take inputs of shape (b, *{tuple(shape)}): {error}"
        raise ValueError(f"model.name = {name!r} {message}") from error
    logits = getattr(out, "logits", out)
    actual = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if actual != (2, classes):
        message = f"gives {actual} for 2 inputs; it must give logits (2, {classes})"
        raise ValueError(f"model.name = {name!r} {message}")
    return model if logits is out else Logits(model)
