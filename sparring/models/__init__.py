"""Networks: inputs in the data's own bounds in, logits out, normalisation inside, a flat row of named stages."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..part import require
from .base import stages
from .cnn import lenet, mnist_net, small_cnn
from .external import external
from .load import Mismatch, load_weights
from .mlp import mlp
from .normalize import Normalize
from .resnet import preact_resnet18, resnet18
from .wide_resnet import wide_resnet

__all__ = [
    "Mismatch",
    "Normalize",
    "build",
    "lenet",
    "load_weights",
    "mlp",
    "mnist_net",
    "names",
    "preact_resnet18",
    "resnet18",
    "small_cnn",
    "wide_resnet",
]

NETWORKS: dict[str, Callable[..., nn.Sequential]] = {
    "mlp": mlp,
    "mnist-net": mnist_net,
    "small-cnn": small_cnn,
    "lenet": lenet,
    "resnet18": resnet18,
    "preact-resnet18": preact_resnet18,
    "wide-resnet": wide_resnet,
    "wrn-28-10": partial(wide_resnet, depth=28, widen=10),
    "wrn-34-10": partial(wide_resnet, depth=34, widen=10),
}


def names() -> list[str]:
    """The networks that `build` knows by name.

    >>> names()[:3]
    ['mlp', 'mnist-net', 'small-cnn']
    """
    return list(NETWORKS)


def build(
    name: str,
    *,
    shape: Sequence[int],
    classes: int,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    trust: bool = False,
    **kw: Any,
) -> nn.Module:
    """The network of that name, freshly initialised in float32.

    Arguments:
        name: one of `names()`, or "module:Class" for any class or function from outside (see `external`).
        shape: of one input, as (channels, height, width) or (features,).
        mean, std: normalisation before the first layer, one number or one a channel, in input units.
        trust: allow a name from outside; importing it runs its code.
        kw: the network's own arguments.

    >>> build("mlp", shape=(4,), classes=2, hidden=[3], mean=0.5)[0]
    Normalize(mean=[0.5], std=[1.0])
    """
    shape = tuple(shape)
    require(
        shape and all(isinstance(n, int) and n > 0 for n in shape),
        "shape",
        shape,
        "whole numbers above 0",
    )
    require(
        isinstance(classes, int) and classes >= 2,
        "classes",
        classes,
        "a whole number of at least 2",
    )
    normalize = Normalize(mean, std)
    for key, value in (("mean", normalize.mean), ("std", normalize.std)):
        require(
            len(value) in (1, shape[0]),
            key,
            value.tolist(),
            f"one number, or {shape[0]} for {shape[0]} channels",
        )
    if ":" in name:
        if not trust:
            raise ValueError(
                f"model name = {name!r} is code from outside, which runs when it is built; "
                "if you know what it does, pass --trust (in Python: trust=True)"
            )
        model = external(name, shape=shape, classes=classes, **kw)
        rest = {"model": model}
    else:
        model = _known(name, kw)(shape=shape, classes=classes, **kw)
        rest = dict(model.named_children())
    identity = (normalize.mean == 0).all() and (normalize.std == 1).all()
    return model if identity else stages(normalize=normalize, **rest)


def _known(name: str, kw: dict[str, Any]) -> Callable[..., nn.Sequential]:
    """The maker called `name`, after checking that it has the arguments `kw`."""
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise ValueError(
            f'model name = {name!r} is unknown{_near(name, NETWORKS)}; there are {known}, and "module:Class"'
        )
    allowed = [
        key
        for key in inspect.signature(NETWORKS[name]).parameters
        if key not in ("shape", "classes")
    ]
    for key in kw:
        if key not in allowed:
            takes = ", ".join(["mean", "std", *allowed])
            raise ValueError(
                f"model {name!r} has no argument {key!r}{_near(key, allowed)}; it takes {takes}"
            )
    return NETWORKS[name]


def _near(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
