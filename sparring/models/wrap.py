"""A model from anywhere as one of ours: inputs in the data's bounds in, logits `(b, k)` out."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..component import require

OUTPUTS = ("logits", "probabilities")


def wrap_model(
    model: Any,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    size: int | Sequence[int] | None = None,
    outputs: str = "logits",
    classes: int | Sequence[Any] | None = None,
) -> nn.Module:
    """The model with its preprocessing inside: attacks and eps keep the data's own units.

    z = model((resize(x)·scale − mean) / std), per channel; then logits are read from z: a tensor,
    an object with `.logits`, a mapping with `"logits"`, or the first of a tuple; one column z of a
    binary model becomes (0, z), or (1 − z, z) for probabilities.

    A classifier of scikit-learn's kind (`decision_function` or `predict_proba`, `classes_`) is
    asked for its scores on flattened inputs: there is no gradient. The class is the arg max of the
    scores, which for an SVC of several classes is `predict` only with `break_ties=True`.

    Arguments:
        model: a module, a function of tensors, or a classifier of scikit-learn's kind.
        mean, std: subtracted and divided by, one number or one a channel, after `scale`.
        scale: 255 for a model that takes 0..255.
        size: the side or (height, width) that images are resized to, bilinear with antialias.
        outputs: `"logits"`, or `"probabilities"`, whose logarithm is taken, floored where they
            vanish so that value and gradient stay finite. A saturated softmax has lost its
            gradient all the same: where you can, take it out of the model instead.
        classes: how many there must be; or their labels in the data's order, where `classes_` is
            not 0..k−1.

    >>> wrap_model(lambda x: x, mean=[0.5, 0.0], std=0.5)(torch.tensor([[1.0, 0.5]]))
    tensor([[1., 1.]])
    >>> wrap_model(lambda x: x, outputs="probabilities")(torch.tensor([[1.0, 0.0]]))
    tensor([[  0.0000, -87.3365]])
    """
    require(outputs in OUTPUTS, "outputs", outputs, "one of " + ", ".join(OUTPUTS))
    count = classes if classes is None or isinstance(classes, int) else len(classes)
    if isinstance(model, type):
        raise ValueError(f"model = {model.__name__} is a class: it must be made first, as Net()")
    if not isinstance(model, nn.Module) and _has_scores(model):
        model, outputs = _estimator(model, classes), "logits"
    require(callable(model), "model", model, "a module, a function or a classifier")
    return Adapted(
        model, mean=mean, std=std, scale=scale, size=size, outputs=outputs, classes=count
    )


class Adapted(nn.Module):
    """A model between its preprocessing and the reading of its logits; see `wrap_model`."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Callable[[Tensor], Any],
        *,
        mean: float | Sequence[float] | None,
        std: float | Sequence[float] | None,
        scale: float | None,
        size: int | Sequence[int] | None,
        outputs: str,
        classes: int | None,
    ) -> None:
        super().__init__()
        require(scale is None or 0 < scale < math.inf, "scale", scale, "a number above 0")
        numbers = {"mean": _numbers("mean", mean, 0.0), "std": _numbers("std", std, 1.0)}
        require(min(numbers["std"]) > 0, "std", std, "above 0")
        home = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        for key, value in numbers.items():
            place = None if home is None else home.device
            self.register_buffer(key, torch.tensor(value, device=place), persistent=False)
        self.normal = numbers == {"mean": [0.0], "std": [1.0]}
        side = (size, size) if isinstance(size, int) else size
        self.size = None if side is None else tuple(side)
        self.model, self.scale, self.outputs, self.classes = model, scale, outputs, classes
        self.training = getattr(model, "training", False)
        self.known = False

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(b, k)` of inputs `(b, *d)` in the data's bounds."""
        z = pick(self.model(self.prepared(x)))
        z = z[:, 0] if z.ndim == 2 and z.shape[1] == 1 else z
        if z.ndim == 1 and len(z) == len(x) and z.is_floating_point():
            other = 1 - z if self.outputs == "probabilities" else torch.zeros_like(z)
            z = torch.stack([other, z], 1)
        if not self.known:
            self._check(z)
        if self.outputs == "probabilities":
            z = z.clamp_min(torch.finfo(z.dtype).tiny).log()
        return z

    @property
    def plain(self) -> Callable[[Tensor], Any]:
        """The network itself where nothing is done before and after it, for what reads layers."""
        bare = self.normal and self.size is None and self.scale is None
        return self.model if bare and self.outputs == "logits" else self

    def prepared(self, x: Tensor) -> Tensor:
        """The inputs as the model wants them."""
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        x = x if self.scale is None else x * self.scale
        if self.normal:
            return x
        for key in ("mean", "std"):
            count = len(getattr(self, key))
            if count not in (1, x.shape[1]):
                raise ValueError(f"{key} has {count} numbers for inputs of {x.shape[1]} channels")
        tail = [1] * (x.ndim - 2)
        return (x - self.mean.view(-1, *tail)) / self.std.view(-1, *tail)

    def _check(self, z: Tensor) -> None:
        """Once: are these the declared classes, and probabilities if they were called so?"""
        count = z.shape[1] if z.ndim == 2 else None
        if self.classes is not None and count is not None:
            require(count == self.classes, "classes", self.classes, f"{count}, as the model gives")
        if self.outputs == "probabilities" and ((z < -1e-4) | (z > 1 + 1e-4)).any():
            raise ValueError(
                "outputs = 'probabilities' is not allowed: the model gives values from "
                f"{z.min().item():.3g} to {z.max().item():.3g}, outside [0, 1]"
            )
        self.known = len(z) > 0

    def extra_repr(self) -> str:
        """The numbers, for `print(model)`."""
        said = f"mean={self.mean.tolist()}, std={self.std.tolist()}, scale={self.scale}"
        inner = "" if isinstance(self.model, nn.Module) else f", model={_called(self.model)}"
        return f"{said}, size={self.size}, outputs={self.outputs!r}{inner}"


class Scores(nn.Module):
    """A model outside torch, asked for its scores: no gradient, no weights.

    Arguments:
        ask: an array `(b, *d)` to scores `(b, k)`.
        digest: tells it from others, since it can't be looked into.
    """

    def __init__(self, ask: Callable[[Any], Any], *, digest: str) -> None:
        super().__init__()
        self.ask, self.digest = ask, digest
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Scores `(b, k)`, detached."""
        return torch.as_tensor(self.ask(x.detach().cpu().numpy())).to(x.device, x.dtype)

    def __deepcopy__(self, memo: Any) -> Scores:
        return self

    def extra_repr(self) -> str:
        """Which one it is."""
        return self.digest


def pick(found: Any) -> Tensor:
    """The logits in what a model answers with.

    >>> pick((torch.ones(1, 2), "attention"))
    tensor([[1., 1.]])
    """
    if isinstance(found, Tensor):
        return found
    if isinstance(found, Mapping) and "logits" in found:
        return pick(found["logits"])
    if isinstance(logits := getattr(found, "logits", None), Tensor):
        return logits
    if isinstance(found, tuple | list) and len(found) and isinstance(found[0], Tensor):
        return found[0]
    if hasattr(found, "__array__"):
        return torch.as_tensor(found)
    raise ValueError(
        f"the model returned a {type(found).__name__}: it must return logits (b, k), an object "
        "with .logits, or a tuple that begins with them"
    )


def _has_scores(model: Any) -> bool:
    return hasattr(model, "decision_function") or hasattr(model, "predict_proba")


def _estimator(model: Any, classes: int | Sequence[Any] | None) -> Scores:
    """The scores of a fitted classifier of scikit-learn's kind, a column a class of the data."""
    labels = list(getattr(model, "classes_", ()))
    require(labels, "model", type(model).__name__, "fitted: it has no classes_ yet")
    count = len(labels) if classes is None else classes
    order = list(range(count) if isinstance(count, int) else count)
    strange = [label for label in labels if label not in order]
    if strange:
        raise ValueError(
            f"the model tells apart {', '.join(map(str, labels[:8]))}; the data's classes are "
            "0 to k−1: hand over classes=[…], the model's labels in the data's order"
        )
    places = [order.index(label) for label in labels]
    raw = hasattr(model, "decision_function")

    def ask(x: Any) -> Tensor:
        if not len(x):
            return torch.zeros(0, len(order))
        flat = x.reshape(len(x), -1).astype("float64")
        z = torch.as_tensor(model.decision_function(flat) if raw else model.predict_proba(flat))
        z = torch.stack([torch.zeros_like(z), z], 1) if z.ndim == 1 else z
        if z.shape[1] != len(labels):
            raise ValueError(f"the model gives {z.shape[1]} scores for {len(labels)} classes")
        z = z if raw else z.clamp_min(torch.finfo(torch.float32).tiny).log()
        if places == list(range(len(order))):
            return z
        wide = (z.amin(1, keepdim=True) - 1).repeat(1, len(order))  # what it can't say comes last
        wide[:, places] = z
        return wide

    return Scores(ask, digest=f"{type(model).__name__} {_fingerprint(model)}")


def _fingerprint(model: Any) -> str:
    """Differs between two fits; what can't be pickled is only like itself."""
    try:
        return hashlib.sha256(pickle.dumps(model)).hexdigest()[:16]
    except Exception:  # pickling runs the object's own code
        return hex(id(model))


def _numbers(key: str, value: float | Sequence[float] | None, default: float) -> list[float]:
    given = default if value is None else value
    found = [float(v) for v in (given if isinstance(given, Sequence) else [given])]
    ok = bool(found) and all(map(math.isfinite, found))
    require(ok, key, value, "one finite number, or one a channel")
    return found


def _called(model: Any) -> str:
    named = model if hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}.{named.__qualname__}"
