"""The guard between an attack and the model counts passes and refuses what no model can answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Model
from ..functional.geometry import SLACK
from .budget import Budget


class Guard(nn.Module):
    """A model that counts the samples passed forward and backward, and checks inputs and outputs.

    Arguments:
        low, high: the valid inputs.
        shape: of one sample; the first batch decides when omitted.
        strict: a query outside the bounds or with NaN raises, and so does a model that changes its
            own mode; else such queries are only counted, on the device, since what an attack
            returns is judged anyway.
        budget: told of every pass; once it is spent, a pass raises `Spent`.

    Attributes:
        forwards, backwards: samples that went through, by any caller.
        classes: k of the logits `(b, k)`, None before the first pass.

    Raises:
        ValueError: for inputs that are not finite floats of the shape within the bounds, or outputs
            that are not `(b, k)`.

    >>> guard = Guard(lambda x: x)
    >>> x = torch.rand(4, 3, requires_grad=True)
    >>> guard(x).sum().backward()
    >>> guard.forwards, guard.backwards, guard.classes
    (4, 4, 3)
    """

    def __init__(
        self,
        model: Model,
        *,
        low: float = 0.0,
        high: float = 1.0,
        shape: tuple[int, ...] | None = None,
        strict: bool = True,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.low, self.high, self.shape, self.strict = low, high, shape, strict
        self.budget = budget
        self.classes: int | None = None
        self.training = getattr(model, "training", False)
        self.restart()

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(b, k)` of the model."""
        self.shape = self.shape or tuple(x.shape[1:])
        inputs(x, self.low, self.high, self.shape, strict=self.strict)
        if not self.strict:
            self._strays = self._strays + strays(x, self.low, self.high)
        if self.budget is not None:
            self.budget.check()
            self.budget.note(len(x))
        before = self._modes() if self.strict else []
        logits = self.model(x)
        if self.strict and self._modes() != before:
            raise ValueError(
                "the model changes its own mode when it is called: in evaluation every module must "
                "stay in the mode it is put in"
            )
        self.classes = outputs(logits, len(x), self.classes)
        self.forwards += len(x)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _modes(self) -> list[bool]:
        return [m.training for m in self.modules()]

    def _backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)

    def restart(self) -> None:
        """Count from zero again."""
        self.forwards = self.backwards = 0
        self._strays: Tensor | int = 0

    @property
    def strays(self) -> int:
        """Samples asked about outside the bounds, or with NaN."""
        return int(self._strays)


def strays(x: Tensor, low: float, high: float) -> Tensor:
    """How many rows of `x (b, *d)` are NaN or not in [low, high]: `()`, on its device."""
    if x.numel() == 0:
        return torch.zeros((), dtype=torch.long, device=x.device)
    least, most = torch.aminmax(x.detach().flatten(1), dim=1)
    return (~((least >= low - SLACK) & (most <= high + SLACK))).sum()


def inputs(
    x: Tensor, low: float, high: float, shape: tuple[int, ...], *, strict: bool = True
) -> None:
    """Raise a `ValueError` for inputs that are no floats of the shape; if `strict`, for strays."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(
            f"x has samples of shape {tuple(x.shape[1:])}, the data have {tuple(shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"x has dtype {x.dtype}: a model is evaluated on floats in [{low:g}, {high:g}]"
        )
    if not strict or x.numel() == 0 or not strays(x, low, high):
        return
    least, most = (t.item() for t in torch.aminmax(x.detach()))
    if least != least:
        raise ValueError(f"x has NaN values: the model takes finite floats in [{low:g}, {high:g}]")
    raise ValueError(
        f"x reaches from {least:.4g} to {most:.4g}, its bounds are [{low:g}, {high:g}]: "
        "hand over unnormalised inputs and put normalisation into the model"
    )


def outputs(logits: object, rows: int, classes: int | None) -> int:
    """The number of classes k of logits `(rows, k)`, or a `ValueError`."""
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model returned a {type(logits).__name__}: it must return logits (b, k), a tensor"
        )
    said = tuple(logits.shape)
    if (
        logits.ndim != 2
        or len(logits) != rows
        or logits.shape[1] < 2
        or not logits.is_floating_point()
    ):
        raise ValueError(
            f"the model returned {logits.dtype} of shape {said} for {rows} samples: "
            "it must return logits (b, k)"
        )
    if classes not in (None, logits.shape[1]):
        raise ValueError(f"the model returned {logits.shape[1]} classes, and {classes} before")
    return logits.shape[1]


def labels(y: Tensor, classes: int) -> None:
    """Raise a `ValueError` unless every label is an integer in 0..classes−1.

    >>> labels(torch.tensor([0, 3]), 3)
    Traceback (most recent call last):
    ValueError: y has labels from 0 to 3: a model of 3 classes has 0 to 2 (outside: 1 rows)
    """
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(f"y is {y.dtype} of shape {tuple(y.shape)}: labels must be integers (n,)")
    outside = int(((y < 0) | (y >= classes)).sum())
    if outside:
        raise ValueError(
            f"y has labels from {int(y.min())} to {int(y.max())}: "
            f"a model of {classes} classes has 0 to {classes - 1} (outside: {outside} rows)"
        )
