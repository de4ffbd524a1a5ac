"""Networks from outside the package, by "module:Class": the user's own, timm's, Hugging Face's."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..part import require
from ..probe import hold


class Logits(nn.Module):
    """A network that answers with an object, reduced to that object's `.logits`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(b, k)`."""
        return self.model(x).logits


def find(name: str) -> Callable[..., Any]:
    """The object called "package.module:Class"; importing it runs that module. The current folder is searched too.

    >>> find("collections:OrderedDict.fromkeys")("ab")
    OrderedDict([('a', None), ('b', None)])
    """
    module, _, path = name.partition(":")
    require(module and path, "model name", name, '"module:Class"')
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"model name = {name!r}: cannot import {module!r}: {error}") from error
    finally:
        sys.path.remove(here)
    for part in path.split("."):
        if not hasattr(target, part):
            near = difflib.get_close_matches(part, dir(target), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"model name = {name!r}: {module!r} has no {part!r}{hint}")
        target = getattr(target, part)
    return target


def external(name: str, *, shape: Sequence[int], classes: int, **kw: Any) -> nn.Module:
    """Build the network called "module:Class", check that it maps `(b, *shape)` to `(b, classes)`, give logits.

    `kw` goes to the class or function as it stands; or, where the class names a `config_class` as Hugging Face's do
    and no `config` is given, to that. `shape` and `classes` are handed over if it has arguments of these names.
    """
    maker = find(name)
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
            f"model name = {name!r} cannot be called with {sorted(kw)}: {error}"
        ) from error
    model = maker(**kw)
    kind = type(model).__name__
    require(
        isinstance(model, nn.Module),
        "model name",
        name,
        f"something that gives a torch.nn.Module, not a {kind}",
    )
    return _checked(name, model, shape, classes)


def _checked(name: str, model: nn.Module, shape: Sequence[int], classes: int) -> nn.Module:
    weight = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(), hold(model):
            out = model(torch.zeros(2, *shape, device=weight.device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"model name = {name!r} does not take inputs of shape (b, *{tuple(shape)}): {error}"
        ) from error
    wrap = not isinstance(out, Tensor) and hasattr(out, "logits")
    logits = out.logits if wrap else out
    got = (
        f"shape {tuple(logits.shape)}"
        if isinstance(logits, Tensor)
        else f"a {type(logits).__name__}"
    )
    if got != f"shape {(2, classes)}":
        raise ValueError(
            f"model name = {name!r} gives {got} for 2 inputs; logits of shape (2, {classes}) are needed"
        )
    return Logits(model) if wrap else model
