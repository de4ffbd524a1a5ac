"""Adversarial weight perturbation."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from ..component import require
from ..runtime.warning import SparringWarning
from .base import WeightPerturbation, gradients, shifted_weights

# Names of weights: as such; under weight norm (the direction) and spectral norm, of both kinds; of
# recurrent layers.
WEIGHT = re.compile(
    r"weight$|weight_(v|orig|(ih|hh|hr)_l\d+(_reverse)?)$|parametrizations\.\w*weight\w*\.original1?$"
)


class AWP(WeightPerturbation):
    """Perturb each layer's weights along their gradient, in proportion to their norm.
    v_l = gamma·‖w_l‖·g_l/‖g_l‖ for each weight l of two or more dimensions, g its gradient.

    Of a layer with weight norm the direction moves and the length stays; with spectral norm, the
    weight before it is divided. Of recurrent layers every matrix moves.

    Arguments:
        gamma: norm of the move relative to that of the layer's weights, ≥ 0; 0 is off (schedule it
            for a late start).

    Source: Wu et al. 2020, eq. 10 and alg. 1. Differs: it ascends the training loss itself, on
    the model and not on a copy.

    >>> AWP(gamma=0.01), AWP().gamma
    (AWP(), 0.01)
    """

    paper = "wu2020awp"

    def __init__(self, *, gamma: float = 0.01) -> None:
        super().__init__()
        require(gamma >= 0, "gamma", gamma, "a relative size ≥ 0")
        self.gamma = gamma

    def perturbed(
        self, model: nn.Module, closure: Callable[[], Tensor]
    ) -> AbstractContextManager[None]:
        if not self.gamma:
            return nullcontext()
        # matrices and kernels alone, as in the paper's code: no bias, no scale of a norm layer
        named = [(n, p) for n, p in model.named_parameters() if p.ndim > 1 and p.requires_grad]
        weights = [p for n, p in named if WEIGHT.search(n)]
        if not weights:
            warnings.warn(
                "AWP moves nothing: the model has no trained parameter of two or more dimensions "
                "that is called weight",
                SparringWarning,
                stacklevel=2,
            )
            return nullcontext()
        grads = gradients(model, closure, weights)
        shifts = [
            self.gamma * w.detach().norm() * g / (g.norm() + 1e-20)
            for w, g in zip(weights, grads, strict=True)
        ]
        return shifted_weights(weights, shifts)
