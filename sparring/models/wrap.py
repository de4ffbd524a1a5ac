"""Wrap a model from anywhere: inputs in the data's bounds in, logits `(b, k)` out."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from ..component import require
from ..runtime.warning import SparringWarning
from .base import Numbers, register_mean_std, standardize
from .estimator import estimator_module, estimator_scores, is_estimator
from .outputs import first_weight, read_logits
from .runner import as_program

OUTPUTS = ("logits", "probabilities")
SHAPING = re.compile("Alias|Permute|Reshape|Select|Slice|Squeeze|ToCopy|Transpose|View")
ENOUGH_ROWS = 16  # that all lie in [0, 1]: a column of logits would not


def wrap_model(
    model: Any,
    *,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    scale: float | None = None,
    size: int | Sequence[int] | None = None,
    outputs: str = "logits",
    classes: int | Sequence[Any] | None = None,
) -> nn.Module:
    """Return a model with its preprocessing inside, so that attacks and eps keep the data's units.

    z = model((resize(x)·scale − mean) / std), per channel

    Logits are read from z: a tensor, an object with `.logits`, a mapping with `"logits"` or of one
    value, or the first of a tuple. One column z of a binary model becomes (0, z), as a probability
    (1 − z, z). Inputs take the dtype of the weights, logits that of the inputs, float32 at least.

    A classifier of scikit-learn's kind (`decision_function` or `predict_proba`, `classes_`) scores
    flattened inputs, without gradient. The class is the arg max of the scores; scores of pairs of
    classes count as votes, and a decision threshold, as `FixedThresholdClassifier` has one, is
    subtracted. For an SVC of several classes this is `predict` only with
    `break_ties=True`. One that has `to_module()`, as `sparring.sklearn.RobustClassifier`, keeps its
    gradient.

    Arguments:
        model: a module, a function of tensors, or a classifier of scikit-learn's kind.
        mean, std: subtracted and divided by after `scale`, one number or one per channel: a list,
            an array or a tensor.
        scale: 255 for a model that takes 0..255.
        size: side or (height, width) to resize images to, bilinear with antialias.
        outputs: `"logits"`, or `"probabilities"`: their logarithm is taken, with a floor that keeps
            value and gradient finite. A saturated softmax has lost its gradient all the same: if
            you can, remove it from the model instead.
        classes: to expect; or their labels in the data's order, if `classes_` is not 0..k−1.

    Raises:
        ValueError: for what is no model, or has no weights yet; in the first pass, for outputs that
            are not what `outputs` says.

    >>> wrap_model(lambda x: x, mean=[0.5, 0.0], std=0.5)(torch.tensor([[1.0, 0.5]]))
    tensor([[1., 1.]])
    >>> wrap_model(lambda x: x, outputs="probabilities")(torch.tensor([[1.0, 0.0]]))
    tensor([[  0.0000, -87.3365]])
    """
    require(outputs in OUTPUTS, "outputs", outputs, "one of " + ", ".join(OUTPUTS))
    if isinstance(model, type):
        raise ValueError(f"model = {model.__name__} is a class: pass an instance, as Net()")
    classes = int(classes) if isinstance(classes, Integral) else classes
    model = as_program(model)
    if isinstance(model, nn.Module):
        _check_weights(model)
    elif hasattr(model, "to_module"):
        model, outputs = estimator_module(model, classes), "logits"
    elif is_estimator(model):
        model, outputs = estimator_scores(model, classes), "logits"
    elif not callable(model):
        raise ValueError(_no_model(model))
    k = classes if classes is None or isinstance(classes, int) else len(classes)
    return Adapted(model, mean=mean, std=std, scale=scale, size=size, outputs=outputs, classes=k)


def _no_model(model: Any) -> str:
    """Return the message for an object that is no model, without the object's content."""
    kind = type(model).__name__
    if isinstance(model, Mapping) and any(isinstance(v, Tensor | Mapping) for v in model.values()):
        return (
            f"model is a {kind} of {len(model)} entries, weights without their network: build the "
            "network, call models.load_weights(network, state_dict), and pass the network"
        )
    files = "; models.load_program reads files" if isinstance(model, str) else ""
    return f"model is a {kind}: it must be a module, a function or a classifier{files}"


def _check_weights(model: nn.Module) -> None:
    """Raise `ValueError` for weights that are not there yet, or that no gradient passes."""
    for name, t in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(t):
            raise ValueError(
                f"model has a lazy layer without weights yet ({name}): load its weights, or run a "
                "batch through it before it is trained"
            )
        if t.is_meta:
            raise ValueError(
                f"model has no numbers in {name}, on the device 'meta': load its weights"
            )
        if t.is_inference():
            raise ValueError(
                f"model was made inside torch.inference_mode ({name}), so that it has no gradient: "
                "make it outside"
            )


class Adapted(nn.Module):  # its first name: the fingerprint of a model covers its repr
    """Run a model behind preprocessing, and read logits from its outputs; see `wrap_model`."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Callable[[Tensor], Any],
        *,
        mean: Numbers | None,
        std: Numbers | None,
        scale: float | None,
        size: int | Sequence[int] | None,
        outputs: str,
        classes: int | None,
    ) -> None:
        super().__init__()
        ok = scale is None or (isinstance(scale, Real) and 0 < scale < math.inf)
        require(ok, "scale", scale, "a number above 0")
        weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
        device = None if weight is None else weight.device
        numbers = register_mean_std(self, device=device, mean=mean, std=std)
        self.identity = numbers == {"mean": [0.0], "std": [1.0]}
        self.size = _height_and_width(size)
        # A list hides the parameter from `parameters()`; looking it up there costs as much as a
        # small layer at each call.
        self.first_weight = first_weight(model)
        self.model, self.scale, self.outputs, self.classes = model, scale, outputs, classes
        self.training = getattr(model, "training", False)
        self.checked = False

    def forward(self, x: Tensor) -> Tensor:
        z = self._output(x)
        z = z[:, 0] if z.ndim == 2 and z.shape[1] == 1 else z
        one_column = z.ndim == 1 and len(z) == len(x) and z.is_floating_point()
        if one_column:
            if not self.checked and self.outputs == "logits":
                self._check_logit(z, x)
            other = 1 - z if self.outputs == "probabilities" else torch.zeros_like(z)
            z = torch.stack([other, z], 1)
        if not self.checked:
            self._check(z)
            # only once: the check waits for the device
            self.checked = len(z) >= (ENOUGH_ROWS if one_column else 1)
        if self.outputs == "probabilities":
            z = z.clamp_min(torch.finfo(z.dtype).tiny).log()  # log 0 has no finite gradient
        if any(weight.dtype != x.dtype for weight in self.first_weight):
            return z.to(torch.promote_types(x.dtype, torch.float32))
        return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z

    def _output(self, x: Tensor) -> Tensor:
        """Return what the model gives for `x`, handed to it in the dtype of its weights."""
        z = self.preprocess(x)
        for weight in self.first_weight:
            z = z if z.dtype == weight.dtype else z.to(weight.dtype)
        try:
            return read_logits(self.model(z), device=x.device)
        except RuntimeError as error:
            if "numpy() on Tensor that requires grad" not in str(error):
                raise
            raise ValueError(
                "the model has no gradient with respect to its input: it calls numpy(). Let it "
                "call x.detach().numpy(), and attack it by suite = 'black-box'"
            ) from error

    def preprocess(self, x: Tensor) -> Tensor:
        """Return resized, scaled and normalised inputs."""
        if self.size is not None:
            if x.ndim != 4:
                shape = tuple(x.shape[1:])
                raise ValueError(f"size = {self.size} is for images, not for inputs of {shape}")
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        x = x if self.scale is None else x * self.scale
        if not self.identity:
            for key in ("mean", "std"):
                count = len(getattr(self, key))
                if count not in (1, *x.shape[1:2]):
                    channels = x.shape[1] if x.ndim > 1 else 0
                    raise ValueError(f"{key} has {count} numbers for inputs of {channels} channels")
            mean, std = self.mean, self.std
            if mean.device != x.device:  # of a function, which has no weights that name a device
                mean, std = mean.to(x.device), std.to(x.device)
            x = standardize(x, mean, std)
        return x

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

    def _check_logit(self, z: Tensor, x: Tensor) -> None:
        """Check that one column `z (b,)` is a logit: a probability taken for one always says 1."""
        if not len(z) or not ((z >= 0) & (z <= 1)).all():
            return
        varied = len(z) >= ENOUGH_ROWS and bool(z.max() > z.min())
        last = self._last_step(x[:2])
        text = (
            f"the model gives one column, from {z.min().item():.3g} to {z.max().item():.3g}. A "
            "column within [0, 1] is a probability: pass outputs='probabilities' (--outputs "
            "probabilities). For a logit z, give two columns, (0, z)"
        )
        if last.startswith(("Sigmoid", "Softmax")) or (varied and not last):
            raise ValueError(text)
        if varied:  # logits of a network that always says 1, or an unusual form of a sigmoid
            warnings.warn(text, SparringWarning, stacklevel=2)

    def _last_step(self, x: Tensor) -> str:
        """Return the name of the model's last operation, but for reshaping; "" if none is known."""
        if self.training:  # another pass would move running statistics
            return ""
        x = x.detach().clone() if x.is_floating_point() else x.float()
        with torch.enable_grad():
            node: Any = self._output(x.requires_grad_()).grad_fn
        while node is not None and SHAPING.match(node.name()):
            node = node.next_functions[0][0]
        return "" if node is None else node.name()

    def extra_repr(self) -> str:
        numbers = f"mean={self.mean.tolist()}, std={self.std.tolist()}, scale={self.scale}"
        text = f"{numbers}, size={self.size}, outputs={self.outputs!r}"
        named = self.model if hasattr(self.model, "__qualname__") else type(self.model)
        inner = f", model={named.__module__}.{named.__qualname__}"
        return text if isinstance(self.model, nn.Module) else text + inner


def _height_and_width(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return (height, width) from one side or both; None as it is."""
    if size is None:
        return None
    sides = list(size) if isinstance(size, Sequence) else [size, size]
    ok = len(sides) == 2 and all(isinstance(side, Integral) and side >= 1 for side in sides)
    require(ok, "size", size, "a side, or (height, width), in whole pixels")
    return int(sides[0]), int(sides[1])
