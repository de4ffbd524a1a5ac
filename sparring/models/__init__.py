"""Networks: map inputs in the data's bounds to logits, normalise inside, and name their stages."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..component import arguments, did_you_mean, fit_parameters, require, require_at_least
from .base import Numbers, as_numbers, stages
from .cnn import cifar_net, conv_small, lenet, mnist_net, small_cnn
from .estimator_file import is_estimator_file, load_estimator
from .hubs import build_hub_network, is_hub_name, load_hub_model
from .imported import import_network
from .mlp import mlp
from .monotone import monotone
from .normalize import Normalize
from .program import load_program
from .resnet import preact_resnet18, resnet18
from .resnet9 import resnet9
from .state_dict import WeightMismatch, load_weights
from .wide_resnet import wide_resnet
from .wrap import wrap_model
from .xresnet import xresnet18

__all__ = [
    "Normalize",
    "WeightMismatch",
    "build",
    "cifar_net",
    "conv_small",
    "is_estimator_file",
    "lenet",
    "load_estimator",
    "load_hub_model",
    "load_program",
    "load_weights",
    "mlp",
    "mnist_net",
    "monotone",
    "names",
    "preact_resnet18",
    "resnet9",
    "resnet18",
    "small_cnn",
    "wide_resnet",
    "wrap_model",
    "xresnet18",
]


def __dir__() -> list[str]:
    return sorted(__all__)


# how `build` made each network, as long as it lives: a run of the trainer records it
_TABLES: weakref.WeakKeyDictionary[nn.Module, dict[str, Any]] = weakref.WeakKeyDictionary()
STAND_IN = (64, 64)  # pixels, as every network of pictures takes
OLD_NAMES = {"adapt": wrap_model, "foreign": load_program}  # of sparring 0.1


def __getattr__(name: str) -> Any:
    """Return a function by its name in sparring 0.1, with a `DeprecationWarning`."""
    if name not in OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{name} is {OLD_NAMES[name].__name__} since 0.2", DeprecationWarning, 2)
    return OLD_NAMES[name]


# To add a network: write a function of `shape` and `classes` that returns `base.stages(...)`, and
# name it here.
NETWORKS: dict[str, Callable[..., nn.Sequential]] = {
    "mlp": mlp,
    "monotone": monotone,
    "mnist-net": mnist_net,
    "conv-small": conv_small,
    "small-cnn": small_cnn,
    "lenet": lenet,
    "cifar-net": cifar_net,
    "lenet-sigmoid": partial(lenet, activation="sigmoid"),
    "resnet9": resnet9,
    "resnet18": resnet18,
    "preact-resnet18": preact_resnet18,
    "wide-resnet": wide_resnet,
    "wrn-28-10": partial(wide_resnet, depth=28, widen=10),
    "wrn-34-10": partial(wide_resnet, depth=34, widen=10),
    "xresnet18": xresnet18,
}


def names() -> list[str]:
    """Return the names of the networks that `build` knows.

    >>> names()[:3]
    ['mlp', 'monotone', 'mnist-net']
    """
    return list(NETWORKS)


def build(
    name: str,
    *,
    shape: Sequence[int],
    classes: int,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    trust: bool = False,
    **kw: Any,
) -> nn.Module:
    """Build the network of that name, freshly initialised in float32.

    Arguments:
        name: one of `names()`; "timm:NAME" or "hf:NAME" of a hub (see `hubs`); or "module:Class" of
            another package (see `import_network`).
        shape: of one input, as (channels, height, width) or (features,).
        mean, std: of the normalisation, one number or one per channel, in input units; default: 0
            and 1, or what the hub's network expects.
        trust: allow a name of another package; importing it runs its code.

    >>> build("mlp", shape=(4,), classes=2, hidden=[3], mean=0.5)[0]
    Normalize(mean=[0.5], std=[1.0])
    """
    shape = tuple(shape)
    is_valid = shape and all(isinstance(n, int) and n > 0 for n in shape)
    require(is_valid, "shape", shape, "whole numbers above 0")
    is_valid = isinstance(classes, int) and classes >= 2
    require(is_valid, "classes", classes, "a whole number of at least 2")
    if is_hub_name(name):
        return build_hub_network(name, shape=shape, classes=classes, mean=mean, std=std, **kw)
    normalize = Normalize(0.0 if mean is None else mean, 1.0 if std is None else std)
    for key in ("mean", "std"):
        count = len(getattr(normalize, key))
        require(count in (1, shape[0]), f"len({key})", count, f"1, or {shape[0]} as the channels")
    if ":" in name:
        model: nn.Module = import_network(name, shape=shape, classes=classes, trust=trust, **kw)
        rest = {"model": model}
    else:
        if name not in NETWORKS:
            message = did_you_mean("model.name", name, NETWORKS, listed="models")
            raise ValueError(message + '; or give "timm:NAME", "hf:NAME" or "module:Class"')
        known = {"mean", "std", *inspect.signature(NETWORKS[name]).parameters}
        for key in kw.keys() - known:
            raise ValueError(did_you_mean(f"argument of {name}", key, known - {"shape", "classes"}))
        kw = fit_parameters(arguments(NETWORKS[name]), kw, floats=True)
        require_at_least(1, **{k: v for k, v in kw.items() if type(v) is int})
        model = NETWORKS[name](shape=shape, classes=classes, **kw)
        rest = dict(model.named_children())
    built = model if normalize.identity else stages(normalize=normalize, **rest)
    if ":" not in name:  # of a network from elsewhere its code would run again
        table = {"name": name, "shape": list(shape), "classes": classes, "mean": mean, "std": std}
        _TABLES[built] = {**table, **kw}
    return built


def table_of(model: nn.Module) -> dict[str, Any] | None:
    """Return the arguments of `build` that make this network; None if it was made or changed
    otherwise.

    >>> table_of(build("mlp", shape=(4,), classes=2))["name"]
    'mlp'
    """
    table = _TABLES.get(model)
    if table is None:
        return None
    with torch.random.fork_rng(devices=[]):
        twin = build(**table)
    same = str(twin) == str(model) and twin.state_dict().keys() == model.state_dict().keys()
    return dict(table) if same else None


def check_options(
    name: str,
    *,
    shape: Sequence[int] | None = None,
    classes: int = 2,
    mean: Numbers = 0.0,
    std: Numbers = 1.0,
    **options: Any,
) -> None:
    """Raise `ValueError` for options that `build` refuses, whatever the data's shape is.

    >>> check_options("lenet", activation="sine")
    Traceback (most recent call last):
    ValueError: activation = 'sine' is not allowed: activation must be one of relu, sigmoid, tanh
    """
    channels = max(len(as_numbers(k, v)) for k, v in (("mean", mean), ("std", std)))
    shape = (channels, *STAND_IN) if shape is None else shape
    with torch.device("meta"):  # which draws no weights and takes no memory
        build(name, shape=shape, classes=classes, mean=mean, std=std, **options)
