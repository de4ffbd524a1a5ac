"""Wrap a model from anywhere: inputs in the data's bounds in, logits `(b, k)` out."""

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
from .base import ArrayFunction, register_mean_std, standardize

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
    """Return a model with its preprocessing inside, so that attacks and eps keep the data's units.

    z = model((resize(x)·scale − mean) / std), per channel

    Logits are read from z: a tensor, an object with `.logits`, a mapping with `"logits"`, or the
    first of a tuple. One column z of a binary model becomes (0, z), as a probability (1 − z, z).

    A classifier of scikit-learn's kind (`decision_function` or `predict_proba`, `classes_`) scores
    flattened inputs, without gradient. The class is the arg max of the scores. For an SVC of
    several classes this is `predict` only with `break_ties=True`.

    Arguments:
        model: a module, a function of tensors, or a classifier of scikit-learn's kind.
        mean, std: subtracted and divided by after `scale`, one number or one per channel.
        scale: 255 for a model that takes 0..255.
        size: side or (height, width) to resize images to, bilinear with antialias.
        outputs: `"logits"`, or `"probabilities"`: their logarithm is taken, with a floor that keeps
            value and gradient finite. A saturated softmax has lost its gradient all the same: if
            you can, remove it from the model instead.
        classes: to expect; or their labels in the data's order, if `classes_` is not 0..k−1.

    >>> wrap_model(lambda x: x, mean=[0.5, 0.0], std=0.5)(torch.tensor([[1.0, 0.5]]))
    tensor([[1., 1.]])
    >>> wrap_model(lambda x: x, outputs="probabilities")(torch.tensor([[1.0, 0.0]]))
    tensor([[  0.0000, -87.3365]])
    """
    require(outputs in OUTPUTS, "outputs", outputs, "one of " + ", ".join(OUTPUTS))
    if isinstance(model, type):
        raise ValueError(f"model = {model.__name__} is a class: pass an instance, as Net()")
    scored = hasattr(model, "decision_function") or hasattr(model, "predict_proba")
    if scored and not isinstance(model, nn.Module):
        model, outputs = _estimator(model, classes), "logits"
    require(callable(model), "model", model, "a module, a function or a classifier")
    k = classes if classes is None or isinstance(classes, int) else len(classes)
    return Adapted(model, mean=mean, std=std, scale=scale, size=size, outputs=outputs, classes=k)


class Adapted(nn.Module):  # its first name: the fingerprint of a model covers its repr
    """Run a model behind preprocessing, and read logits from its outputs; see `wrap_model`."""

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
        weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
        device = None if weight is None else weight.device
        numbers = register_mean_std(self, device=device, mean=mean, std=std)
        self.identity = numbers == {"mean": [0.0], "std": [1.0]}
        self.size = (size, size) if isinstance(size, int) else size and tuple(size)
        self.model, self.scale, self.outputs, self.classes = model, scale, outputs, classes
        self.training = getattr(model, "training", False)
        self.checked = False

    def forward(self, x: Tensor) -> Tensor:
        z = read_logits(self.model(self.preprocess(x)))
        z = z[:, 0] if z.ndim == 2 and z.shape[1] == 1 else z
        if z.ndim == 1 and len(z) == len(x) and z.is_floating_point():
            other = 1 - z if self.outputs == "probabilities" else torch.zeros_like(z)
            z = torch.stack([other, z], 1)
        if not self.checked:
            self._check(z)
        if self.outputs == "probabilities":
            z = z.clamp_min(torch.finfo(z.dtype).tiny).log()  # log 0 has no finite gradient
        return z

    @property
    def unwrapped(self) -> Callable[[Tensor], Any]:
        """Return the inner network if the wrapper changes nothing, else the wrapper."""
        bare = self.identity and self.size is None and self.scale is None
        return self.model if bare and self.outputs == "logits" else self

    def preprocess(self, x: Tensor) -> Tensor:
        """Return resized, scaled and normalised inputs."""
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        x = x if self.scale is None else x * self.scale
        if self.identity:
            return x
        for key in ("mean", "std"):
            count = len(getattr(self, key))
            if count not in (1, x.shape[1]):
                raise ValueError(f"{key} has {count} numbers for inputs of {x.shape[1]} channels")
        return standardize(x, self.mean, self.std)

    def _check(self, z: Tensor) -> None:
        """Check the number of classes, and that probabilities lie in [0, 1]."""
        if self.classes is not None and z.ndim == 2:
            fits = z.shape[1] == self.classes
            require(fits, "classes", self.classes, f"{z.shape[1]}, as the model gives")
        if self.outputs == "probabilities" and ((z < -1e-4) | (z > 1 + 1e-4)).any():
            raise ValueError(
                "outputs = 'probabilities' is not allowed: the model gives values from "
                f"{z.min().item():.3g} to {z.max().item():.3g}, outside [0, 1]"
            )
        self.checked = len(z) > 0  # only once: the check waits for the device

    def extra_repr(self) -> str:
        numbers = f"mean={self.mean.tolist()}, std={self.std.tolist()}, scale={self.scale}"
        text = f"{numbers}, size={self.size}, outputs={self.outputs!r}"
        named = self.model if hasattr(self.model, "__qualname__") else type(self.model)
        inner = f", model={named.__module__}.{named.__qualname__}"
        return text if isinstance(self.model, nn.Module) else text + inner


def read_logits(output: Any) -> Tensor:
    """Return the logits in a model's output.

    >>> read_logits((torch.ones(1, 2), "attention"))
    tensor([[1., 1.]])
    """
    if isinstance(output, Mapping) and "logits" in output:
        return read_logits(output["logits"])
    first = output[0] if isinstance(output, tuple | list) and len(output) else None
    for value in (output, getattr(output, "logits", None), first):
        if isinstance(value, Tensor):
            return value
    if hasattr(output, "__array__"):
        return torch.as_tensor(output)
    raise ValueError(
        f"the model returned a {type(output).__name__}: it must return logits (b, k), an object "
        "with .logits, or a tuple that begins with them"
    )


def _estimator(model: Any, classes: int | Sequence[Any] | None) -> ArrayFunction:
    """Return a fitted classifier of scikit-learn's kind as scores, one column per class."""
    labels = list(getattr(model, "classes_", ()))
    require(labels, "model", type(model).__name__, "fitted: it has no classes_ yet")
    count = len(labels) if classes is None else classes
    order = list(range(count) if isinstance(count, int) else count)
    if any(label not in order for label in labels):
        raise ValueError(
            f"the model tells apart {', '.join(map(str, labels[:8]))}; the data's classes are "
            "0 to k−1: pass classes=[…], the model's labels in the data's order"
        )
    columns = [order.index(label) for label in labels]
    raw = hasattr(model, "decision_function")

    def scores(x: Any) -> Tensor:
        if not len(x):
            return torch.zeros(0, len(order))
        flat = x.reshape(len(x), -1).astype("float64")
        z = torch.as_tensor(model.decision_function(flat) if raw else model.predict_proba(flat))
        z = torch.stack([torch.zeros_like(z), z], 1) if z.ndim == 1 else z
        if z.shape[1] != len(labels):
            raise ValueError(f"the model gives {z.shape[1]} scores for {len(labels)} classes")
        z = z if raw else z.clamp_min(torch.finfo(torch.float32).tiny).log()
        if columns == list(range(len(order))):
            return z
        # a class that the model never saw gets the lowest score: it is never predicted
        wide = (z.amin(1, keepdim=True) - 1).repeat(1, len(order))
        wide[:, columns] = z
        return wide

    return ArrayFunction(scores, digest=f"{type(model).__name__} {_fingerprint(model)}")


def _fingerprint(model: Any) -> str:
    """Return a text that differs between two fits; of an object without pickle, its address."""
    try:
        return hashlib.sha256(pickle.dumps(model)).hexdigest()[:16]
    except Exception:  # pickling runs the object's own code
        return hex(id(model))
