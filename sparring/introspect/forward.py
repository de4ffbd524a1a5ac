"""Run a model without harm to its caller's tensors, and check what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.geometry import box_slack
from ..runtime.torch_private import tensor_version


class SafeForward:
    """Run a model so that the caller's input stays as it is, in a dtype that the model takes.

    The first call runs on a copy. It shows whether the model writes to its input: only then later
    calls copy too. Where the model refuses x for its dtype, it gets x in that of its weights.

    Raises:
        ValueError: for a model on another device than x, one that writes to its input in later
            calls only, or one that raises `StopIteration`.

    >>> x = torch.tensor([[-1.0, 2.0]])
    >>> SafeForward(nn.ReLU(inplace=True))(x), x
    (tensor([[0., 2.]]), tensor([[-1.,  2.]]))
    """

    def __init__(self, run: Callable[[Tensor], Any]) -> None:
        self.run, self.probed, self.copies = run, False, False
        self.dtype: torch.dtype | None = None

    def __call__(self, x: Tensor) -> Any:
        if not self.probed:
            return self._probe(x)
        if self.dtype is not None:
            x = x.to(self.dtype)
        if self.copies:
            return self._run(x.clone())
        version = tensor_version(x)
        output = self._run(x)
        if tensor_version(x) != version:
            raise ValueError(
                "the model writes to its input, though not in its first call: "
                "let its forward begin with x = x.clone()"
            )
        return output

    def _run(self, z: Tensor) -> Any:
        try:
            return self.run(z)
        except StopIteration as error:
            # it would end the caller's own loop without a word
            raise ValueError(
                f"the model raised StopIteration({error}): an iterator inside it has ended"
            ) from error

    def _probe(self, x: Tensor) -> Any:
        """Run the first call, on a copy."""
        z = x.clone()
        version = tensor_version(z)
        try:
            output = self._run(z)
        except RuntimeError as error:
            z, output = self._run_in_other_dtype(x, error)
            version = tensor_version(z)  # it may have been counted up by the cast
        # contents too: a write through `.data` or numpy is not counted
        kept = tensor_version(z) == version and torch.equal(z, x.to(z.dtype))
        self.copies, self.probed = not kept, len(x) > 0
        return output

    def _run_in_other_dtype(self, x: Tensor, error: RuntimeError) -> tuple[Tensor, Any]:
        """Run on x in the dtype of the weights; raise `error` where that does not help."""
        weights = list(self.run.parameters()) if isinstance(self.run, nn.Module) else []
        devices = {w.device for w in weights}
        if devices and x.device not in devices:
            names = ", ".join(sorted(map(str, devices)))
            raise ValueError(f"x is on {x.device} and the model on {names}: move one of them")
        known = dict.fromkeys(w.dtype for w in weights if w.is_floating_point())
        for dtype in known or (torch.float32, torch.float64):
            if dtype == x.dtype or "type" not in str(error):
                continue
            z = x.to(dtype, copy=True)
            try:
                output = self._run(z)
            except RuntimeError:
                continue
            self.dtype = dtype
            return z, output
        raise error


def attack_inputs(x: object, y: object, *, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return x detached, and y as int64 on the device of x.

    Raises:
        ValueError: for inputs that an attack in the box [low, high] cannot start from.
    """
    if not isinstance(x, Tensor):
        made = "torch.as_tensor(x, dtype=torch.float32)"
        raise ValueError(f"x is a {type(x).__name__}: it must be a tensor, as {made} makes one")
    if x.dtype not in (torch.float32, torch.float64):
        half = x.is_floating_point()
        hint = "; x.float() is enough for a model in half precision" if half else ""
        floats = f"floats in [{low}, {high}], torch.float32 or torch.float64"
        raise ValueError(f"x has dtype {x.dtype}: an attack needs {floats}{hint}")
    # a tensor of inference_mode cannot enter a graph: its clone outside of that mode can
    x = x.clone() if x.is_inference() else x.detach()
    y = label_numbers(y).to(x.device)
    if x.ndim == 0 or len(x) != len(y):
        rows = f"{len(x)} rows" if x.ndim else "no rows"
        raise ValueError(f"x has {rows} and y has {len(y)}: they must be the same samples")
    if x.numel() == 0:
        return x, y
    least, most = x.amin().item(), x.amax().item()
    slack = box_slack(low, high)
    # not (a and b) instead of its negation: NaN fails every comparison, so it is refused too
    if not (low - slack <= least and most <= high + slack):
        raise ValueError(
            f"x reaches from {least:.4g} to {most:.4g}, the threat's box is [{low}, {high}]: "
            "put normalisation into the model and hand the attack unnormalised inputs without NaN"
        )
    return x, y


def is_approximate(model: object) -> bool:
    """Return whether a model's passes are those of another up to rounding, as a folded network's
    are: it says so by `approximates = True`, or a module inside its wrappers does.

    >>> is_approximate(nn.Linear(2, 2))
    False
    """
    return is_marked(model, "approximates")


def is_marked(model: object, mark: str) -> bool:
    """Return whether a model, or a module inside it, has an attribute of this name that is True.

    >>> is_marked(nn.Sequential(nn.Linear(2, 2)), "training")
    True
    """
    parts = model.modules() if isinstance(model, nn.Module) else (model,)
    return any(getattr(part, mark, False) is True for part in parts)


def check_outputs(logits: object, rows: int, classes: int | None = None) -> int:
    """Return the number of classes k of logits `(rows, k)`, or raise a `ValueError`.

    >>> check_outputs(torch.zeros(4, 3), 4)
    3
    """
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model returned a {type(logits).__name__}: it must return logits (b, k), a tensor"
        )
    fits = logits.ndim == 2 and len(logits) == rows and logits.shape[1] >= 2
    if not (fits and logits.is_floating_point()):
        raise ValueError(
            f"the model returned {logits.dtype} of shape {tuple(logits.shape)} for {rows} samples: "
            "it must return logits (b, k), one float for each of at least two classes"
        )
    if classes not in (None, logits.shape[1]):
        raise ValueError(f"the model returned {logits.shape[1]} classes, and {classes} before")
    return logits.shape[1]


def label_numbers(y: object) -> Tensor:
    """Return labels `(b,)` as int64, from integers of any width.

    Raises:
        ValueError: for another type or shape, as of one-hot labels.

    >>> label_numbers(torch.tensor([0, 3], dtype=torch.uint8))
    tensor([0, 3])
    """
    if not isinstance(y, Tensor):
        raise ValueError(
            f"y is a {type(y).__name__}: labels must be a tensor, as torch.as_tensor(y) makes one"
        )
    if y.ndim != 1 or y.is_floating_point() or y.is_complex():
        hint = ", as y.argmax(1) of one-hot labels" if y.ndim == 2 else ""
        raise ValueError(
            f"y is {y.dtype} of shape {tuple(y.shape)}: labels must be integers (n,){hint}"
        )
    return y.detach().long()


def check_labels(y: Tensor, classes: int, *, least: int = 0) -> None:
    """Raise a `ValueError` unless every label is an integer in `least`..classes−1.

    >>> check_labels(torch.tensor([0, 3]), 3)
    Traceback (most recent call last):
    ValueError: y has labels from 0 to 3: a model of 3 classes has 0 to 2 (outside: 1 rows)
    """
    y = label_numbers(y)
    outside = int(((y < least) | (y >= classes)).sum())
    if outside:
        raise ValueError(
            f"y has labels from {int(y.min())} to {int(y.max())}: "
            f"a model of {classes} classes has 0 to {classes - 1} (outside: {outside} rows)"
        )
