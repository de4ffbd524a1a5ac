"""What is fought over: the adversary's gain and the model's per-sample loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import Component
from ..functional.losses import cross_entropy

SampleGain = Callable[[Tensor, Tensor], Tensor]  # of x_adv and y_adv, per sample (b,)


class Method(Component):
    """A method says what the adversary climbs and what the model descends; both stay per sample.

    A subclass sets `shapes_gradients` if its loss presses on Jacobians or input gradients: what it
    trains is then looked at for masked gradients, whatever the suite.
    """

    shapes_gradients: ClassVar[bool] = False

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        """The adversary's gain as a function of `(x' (b, *d), y' (b,) or (b, k))`; cross-entropy by
        default."""

        def f(x_adv: Tensor, y_adv: Tensor) -> Tensor:
            logits = model(x_adv)
            return cross_entropy(logits, y_adv)

        return f

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The model's loss on a batch whose `x_adv` is filled."""
        raise NotImplementedError
