"""Build networks of the package timm by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..component import did_you_mean
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from ..runtime.text import printable

# Of `timm.create_model`: from the data, or able to read files of anybody.
REFUSED = {
    **dict.fromkeys(("num_classes", "in_chans", "img_size"), "it comes from the data"),
    **dict.fromkeys(
        ("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"),
        "train.start names weights",
    ),
    **dict.fromkeys(("features_only", "out_indices", "scriptable", "exportable", "no_jit"), ""),
}


def _timm(name: str) -> Any:
    """Import timm; raise `ValueError` for a name that it does not know."""
    timm = import_extra("timm", extra="timm", purpose=f"timm:{printable(name)}")
    architecture, _, tag = name.partition(".")
    if not name or not timm.is_model(architecture) or ":" in name:
        raise ValueError(did_you_mean("timm network", name, timm.list_models()))
    if tag:
        tags = timm.list_models(f"{architecture}.*", pretrained=True)
        if name not in tags:
            raise ValueError(did_you_mean("timm network", name, tags))
    return timm


def _pretrained_cfg(name: str) -> Any:
    timm = _timm(name)
    return timm.get_pretrained_cfg(name)


def check(name: str, **model: Any) -> None:
    """Raise `ValueError` for an unknown name, or an argument that no recipe sets."""
    for key in model.keys() & REFUSED.keys():
        why = f": {REFUSED[key]}" if REFUSED[key] else ""
        raise ValueError(f"{key} is not allowed in [model] with timm:{printable(name)}{why}")
    _timm(name)


def facts(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and std of the inputs that a network's published weights expect, as lists."""
    if "mean" in model and "std" in model:
        return {}
    cfg = _pretrained_cfg(name)
    if cfg is None:
        return {"mean": [0.0], "std": [1.0]}
    return {"mean": [float(v) for v in cfg.mean], "std": [float(v) for v in cfg.std]}


def build(
    name: str,
    *,
    shape: Sequence[int],
    classes: int,
    pretrained: bool = False,
    fetch: bool = True,
    **kw: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network for the data, with a head of the right size.

    Arguments:
        pretrained: start from the published weights, but for a head of other classes.
        fetch: load these weights; without, the network has their shapes alone.
        kw: passed on to `timm.create_model`.

    Raises:
        ValueError: for an unknown name or argument, or weights that are not at hand.
    """
    check(name, **kw)
    cfg = _pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        kw["img_size"] = tuple(shape[1:])
    return _create(name, pretrained and fetch, num_classes=classes, in_chans=shape[0], **kw), {}


def load(name: str) -> tuple[nn.Module, tuple[int, int] | None]:
    """Return a published network, and the only size of pictures that it takes, or None.

    Raises:
        ValueError: for an unknown name, a network without a head, or weights that are not at hand.
    """
    cfg = _pretrained_cfg(name)
    if cfg is not None and cfg.num_classes == 0:
        text = "is published without classes: its outputs are features; a recipe trains a head"
        raise ValueError(f"timm:{printable(name)} {text}")
    network = _create(name, pretrained=True)
    if cfg is None or not cfg.fixed_input_size:
        return network, None
    return network, tuple(cfg.input_size[1:])


def _create(name: str, pretrained: bool, **kw: Any) -> nn.Module:
    timm, shown = _timm(name), f"timm:{printable(name)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's own: of features that it will remove
            network = timm.create_model(name, pretrained=False, **kw)
            if not pretrained:
                return network
    except Exception as error:  # each network has its own constructor
        raise ValueError(f"name = {shown!r} cannot be built: {reason(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return timm.create_model(name, pretrained=True, **kw)
    except Exception as error:
        raise ValueError(
            f"the pretrained weights of {shown} are not here and can't be downloaded "
            f"({reason(error)}); pretrained = false starts from random weights"
        ) from error
