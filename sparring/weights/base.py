"""What happens to the weights themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..component import Component
from ..introspect import freeze
from ..runtime import distributed


class WeightPerturbation(Component):
    """Moves the weights uphill while the loss is computed and the step is taken, then takes the
    move back."""

    def climb(
        self, model: nn.Module, closure: Callable[[], Tensor]
    ) -> AbstractContextManager[None]:
        """A context in which `model` stands at θ + v; `closure()` is the loss at θ. Inside, take
        the step."""
        raise NotImplementedError


def slopes(
    model: nn.Module, closure: Callable[[], Tensor], weights: list[nn.Parameter]
) -> list[Tensor]:
    """Gradients of the loss at the present weights, averaged over processes; batch-norm statistics
    untouched."""
    with freeze.frozen_bn(model), torch.enable_grad():
        grads = torch.autograd.grad(closure(), weights, allow_unused=True)
    return [
        torch.zeros_like(w) if g is None else distributed.mean(g)
        for w, g in zip(weights, grads, strict=True)
    ]


class moved:
    """Context: the weights stand at w + v, and v is subtracted again afterwards."""

    def __init__(self, weights: list[nn.Parameter], moves: list[Tensor]) -> None:
        self.weights, self.moves = weights, moves

    def __enter__(self) -> None:
        with torch.no_grad():
            for w, v in zip(self.weights, self.moves, strict=True):
                w.add_(v)

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for w, v in zip(self.weights, self.moves, strict=True):
                w.sub_(v)
