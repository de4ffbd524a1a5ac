"""Interface of a weight perturbation: the step is taken at weights θ + v that raise the loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from ..component import Component
from ..introspect import freeze
from ..runtime import distributed


class WeightPerturbation(Component):
    """Move the weights uphill while the step is taken, then take the move back."""

    def perturbed(
        self, model: nn.Module, closure: Callable[[], Tensor]
    ) -> AbstractContextManager[None]:
        """Return a context in which the weights of `model` are θ + v; take the step inside.

        Arguments:
            closure: returns the loss at θ, `()`.
        """
        raise NotImplementedError

    def climb(
        self, model: nn.Module, closure: Callable[[], Tensor]
    ) -> AbstractContextManager[None]:
        """Return `perturbed(model, closure)`, whose name this was in sparring 0.1."""
        warnings.warn("climb is perturbed since 0.2", DeprecationWarning, stacklevel=2)
        return self.perturbed(model, closure)


def gradients(
    model: nn.Module, closure: Callable[[], Tensor], weights: Sequence[nn.Parameter]
) -> list[Tensor]:
    """Compute the loss's gradients at θ, averaged over processes; running statistics stay."""
    # the same batch passes again in the step itself: running statistics must see it once
    with freeze.frozen_bn(model), torch.enable_grad():
        grads = torch.autograd.grad(closure(), weights, allow_unused=True)
    # averaged by hand, since `autograd.grad` bypasses DDP's hooks
    return [
        torch.zeros_like(w) if g is None else distributed.mean(g)
        for w, g in zip(weights, grads, strict=True)
    ]


@contextmanager
def shifted_weights(weights: Sequence[nn.Parameter], shifts: Sequence[Tensor]) -> Iterator[None]:
    """Add v to the weights, and subtract it on the way out.

    v is subtracted, and not the old weights copied back: the optimizer's step inside must remain.
    Entries of v that are not finite count as 0.
    """
    # θ + NaN − NaN is NaN: a loss that is not finite must leave the weights as they were
    shifts = [v.nan_to_num(0.0, 0.0, 0.0) for v in shifts]
    with torch.no_grad():
        for w, v in zip(weights, shifts, strict=True):
            w.add_(v)
    try:
        yield
    finally:
        with torch.no_grad():
            for w, v in zip(weights, shifts, strict=True):
                w.sub_(v)
