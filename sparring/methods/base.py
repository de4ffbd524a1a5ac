"""The interface of methods: the adversary's gain and the model's loss, both per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import Component
from ..functional.losses import cross_entropy

SampleGain = Callable[[Tensor, Tensor], Tensor]  # (x_adv, y_adv) to gains (b,)


def adversarial_pair(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the adversarial inputs and labels of a batch; without such labels, y.

    Raises:
        ValueError: if `Objective.maximize` has not filled them.
    """
    if batch.x_adv is None:
        raise ValueError("batch.x_adv is missing: call objective.maximize(model, batch) first")
    return batch.x_adv, batch.y if batch.y_adv is None else batch.y_adv


class Method(Component):
    """Define the gain that the adversary maximizes and the loss that the model minimizes.

    A subclass sets `shapes_gradients` if its loss acts on Jacobians or input gradients. Its models
    are then checked for masked gradients in every evaluation.
    """

    shapes_gradients: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1  # of a batch that the loss is defined on

    @property
    def differentiates_twice(self) -> bool:
        """Return whether the loss is differentiated through a gradient, as it is set now.

        Compiled networks and `SyncBatchNorm` refuse that, so a training asks before it begins.
        Default: `shapes_gradients`.
        """
        return self.shapes_gradients

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        """Return the adversary's gain `(b,)` as a function of x' `(b, *d)` and y'; default:
        cross-entropy.

        Labels y' are `(b,)` integers or `(b, k)` probabilities.
        """
        return lambda x_adv, y_adv: cross_entropy(model(x_adv), y_adv)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the model's loss on a batch that has its `x_adv`."""
        raise NotImplementedError
