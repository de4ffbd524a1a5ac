"""Networks from outside the package, by "module:Class": the user's own, timm's, Hugging Face's."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..component import require
from ..introspect.freeze import frozen
from ..runtime.importing import import_object


class Logits(nn.Module):
    """A network that answers with an object, reduced to that object's `.logits`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(b, k)`."""
        return self.model(x).logits


def import_network(
    name: str, *, shape: Sequence[int], classes: int, trust: bool = False, **kw: Any
) -> nn.Module:
    """Build the network called "module:Class"; check that it maps `(b, *shape)` to `(b, classes)`.

    `kw` goes to the class or function as it stands; or, where a class names its `config_class` as
    Hugging Face's do and no `config` is given, to that. `shape` and `classes` are handed over if it
    has arguments of these names.
    """
    maker = import_object(name, key="model.name", trust=trust)
    configure = getattr(maker, "config_class", None)
    if configure is not None and "config" not in kw:
        kw = {"config": configure(**kw)}
    try:
        signature = inspect.signature(maker)
        offered = {"shape": tuple(shape), "classes": classes}
        kw |= {key: value for key, value in offered.items() if key in signature.parameters}
        signature.bind(**kw)
    except TypeError as error:
        raise ValueError(
            f"model.name = {name!r} cannot be called with {sorted(kw)}: {error}"
        ) from error
    model = maker(**kw)
    kind = type(model).__name__
    require(
        isinstance(model, nn.Module),
        "model.name",
        name,
        f"something that gives a torch.nn.Module, not a {kind}",
    )
    return _checked(name, model, shape, classes)


def _checked(name: str, model: nn.Module, shape: Sequence[int], classes: int) -> nn.Module:
    weight = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(), frozen(model):
            out = model(torch.zeros(2, *shape, device=weight.device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"model.name = {name!r} does not take inputs of shape (b, *{tuple(shape)}): {error}"
        ) from error
    logits = getattr(out, "logits", out)
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != (2, classes):
        raise ValueError(
            f"model.name = {name!r} gives {got} for 2 inputs; it must give logits (2, {classes})"
        )
    return model if logits is out else Logits(model)
