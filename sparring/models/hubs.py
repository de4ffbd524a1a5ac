"""Networks of public hubs by name: "timm:resnet18", "hf:microsoft/resnet-18"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..introspect.freeze import frozen
from ..runtime.importing import reason
from ..runtime.text import printable
from . import hugging_face, robustbench, timm_network
from .base import Numbers, register_mean_std, standardize
from .outputs import read_logits

# The published network behind a name, for inputs in [0, 1], with its normalisation inside. A
# network whose files are pickles belongs here too, if its loader reads weights alone.
PREFIXES: dict[str, Callable[[str], nn.Module]] = {
    "timm:": lambda name: published(timm_network, name),
    "hf:": lambda name: published(hugging_face, name),
    "robustbench:": robustbench.load,
}
RUNS_CODE = {"robustbench:"}  # hubs whose files may be pickles


class RecipeHub(NamedTuple):
    """Hold what a hub offers to recipes.

    Arguments:
        check: raise `ValueError` for a name or arguments that no data would make right.
        facts: of a name, the keys of `[model]` that a run must keep: mean, std, config.
        build: a fresh or pretrained network for data of a shape and classes.
    """

    check: Callable[..., None]
    facts: Callable[..., dict[str, Any]]
    build: Callable[..., tuple[nn.Module, dict[str, Any]]]


RECIPES = {
    "timm:": RecipeHub(timm_network.check, timm_network.facts, timm_network.build),
    "hf:": RecipeHub(hugging_face.check, hugging_face.facts, hugging_face.build),
}


class HubNetwork(nn.Module):
    """Normalize inputs `(b, c, h, w)` in [0, 1], run a hub's network, and read its logits.

    Arguments:
        size: (height, width) to which inputs of another size are resized, bilinear with antialias;
            default: none are.
        options: passed on to the network in each pass.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Numbers = 0.0,
        std: Numbers = 1.0,
        size: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        register_mean_std(self, mean=mean, std=std)
        self.network = network
        self.size = None if size is None else tuple(size)
        self.options = dict(options or {})
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        z = self.network(standardize(x, self.mean, self.std), **self.options)
        return read_logits(z, device=x.device)

    def extra_repr(self) -> str:
        text = f"mean={self.mean.tolist()}, std={self.std.tolist()}"
        rest = {"size": self.size, "options": self.options}
        return text + "".join(f", {key}={value}" for key, value in rest.items() if value)


def is_hub_name(text: object) -> bool:
    """Return whether a text names a hub's network.

    >>> [is_hub_name(name) for name in ("timm:resnet18", "resnet18", "package.module:Class")]
    [True, False, False]
    """
    return isinstance(text, str) and text.startswith(tuple(PREFIXES))


def load_hub_model(text: str, *, trust: bool = False) -> nn.Module:
    """Return the pretrained network that a hub publishes, for inputs in [0, 1], in eval mode.

    Arguments:
        text: a name with its prefix, one of `PREFIXES`.
        trust: allow a hub whose files can run code; no effect on networks of safetensors.

    Raises:
        ValueError: for an unknown name, a missing package, weights that are not at hand, or
            weights that are pickles.
    """
    prefix, name = split(text)
    if prefix in RUNS_CODE and not trust:
        raise ValueError(
            f"model = {printable(text, 100)} loads files that can run code: if you trust them, "
            "pass --trust (trust=True in Python)"
        )
    return PREFIXES[prefix](name).eval()


def split(text: str) -> tuple[str, str]:
    """Return prefix and name.

    >>> split("hf:microsoft/resnet-18")
    ('hf:', 'microsoft/resnet-18')
    """
    prefix = next(prefix for prefix in PREFIXES if text.startswith(prefix))
    return prefix, text.removeprefix(prefix)


def published(hub: Any, name: str) -> nn.Module:
    """Return a published network with its own head, normalisation and size.

    Arguments:
        hub: a module with `load` and `facts`.
    """
    network, size = hub.load(name)
    facts = hub.facts(name, {})
    return HubNetwork(network, mean=facts["mean"], std=facts["std"], size=size)


def recipe_hub(text: str) -> RecipeHub:
    """Return what the hub of a name offers to recipes.

    Raises:
        ValueError: for a hub whose networks cannot be trained by a recipe.
    """
    prefix, _ = split(text)
    if prefix not in RECIPES:
        raise ValueError(
            f"name = {printable(repr(text))} is not allowed: a recipe builds networks of "
            + ", ".join(RECIPES)
        )
    return RECIPES[prefix]


def check_hub_options(name: str, **model: Any) -> None:
    """Raise `ValueError` for a table `[model]` of a hub's network that no data would make right."""
    prefix, hub = split(name)[0], recipe_hub(name)
    hub.check(name.removeprefix(prefix), **model)


def hub_facts(text: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `[model]` that a hub knows and the table leaves out.

    A run keeps them in its recipe, so that it loads without the hub.
    """
    _, name = split(text)
    known = recipe_hub(text).facts(name, model)
    channels = (model.get("shape") or [0])[0]
    for key in ("mean", "std"):
        numbers = known.get(key)
        if isinstance(numbers, list) and channels not in (0, len(numbers)):
            known[key] = [sum(numbers) / len(numbers)]  # grey pictures for a network of colours
    return {key: value for key, value in known.items() if key not in model}


def build_hub_network(
    text: str,
    *,
    shape: Sequence[int],
    classes: int,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    **kw: Any,
) -> HubNetwork:
    """Build a hub's network for the data, and check that it maps `(b, *shape)` to `(b, classes)`.

    Arguments:
        mean, std: of the normalisation; default: the hub's.
        kw: arguments of `timm_network.build` or `hugging_face.build`.

    Raises:
        ValueError: for an unknown name or argument, or data that do not fit the network.
    """
    hub, (_, name) = recipe_hub(text), split(text)
    if len(shape) != 3:
        allowed = "(channels, height, width), as pictures have"
        raise ValueError(f"shape = {tuple(shape)} is not allowed for {printable(text)}: {allowed}")
    given = {"mean": mean, "std": std, "shape": shape, **kw}
    facts = hub_facts(text, {key: value for key, value in given.items() if value is not None})
    kw |= {key: value for key, value in facts.items() if key == "config"}
    network, options = hub.build(name, shape=tuple(shape), classes=classes, **kw)
    mean = facts["mean"] if mean is None else mean
    std = facts["std"] if std is None else std
    model = HubNetwork(network, mean=mean, std=std, options=options)
    _check_logits(text, model, tuple(shape), classes)
    return model


def _check_logits(text: str, model: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Raise `ValueError` unless the network gives logits of the classes on pictures of the data."""
    weight = next(model.parameters(), torch.zeros(()))
    name = printable(repr(text))
    try:
        with torch.no_grad(), frozen(model):
            actual = tuple(model(torch.zeros(2, *shape, device=weight.device)).shape)
    except Exception as error:  # foreign code may raise anything
        size = f"pictures of {shape[1]} × {shape[2]} with {shape[0]} channels"
        hint = "data.size sets another size of a folder's pictures"
        raise ValueError(f"name = {name} does not take {size}: {reason(error)}; {hint}") from error
    if actual != (2, classes):
        message = f"gives {actual} for 2 inputs; it must give logits (2, {classes})"
        raise ValueError(f"name = {name} {message}")
