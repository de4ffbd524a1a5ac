"""Free adversarial training: the weights' own backward pass moves the perturbation too."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..threats.base import Threat
from .base import Float32Execution, Gain, Maximizer


class Free(Maximizer):
    """Hands out x + δ as a leaf, and steps δ with the gradient that the loss's backward leaves
    there: no extra pass.

    Each batch is used `replays` times by the trainer; δ is carried to the next batch of the same
    shape, as published, and is part of the state.

    Arguments:
        replays: m, how often a batch is used, ≥ 1.
        size: step in input units; None is eps.

    Source: Shafahi et al. 2019, alg. 1.

    >>> from sparring.threats import Linf
    >>> Free(Linf(0.1)).replays
    8
    """

    paper = "shafahi2019free"

    def __init__(
        self,
        threat: Threat,
        *,
        replays: int = 8,
        size: float | None = None,
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        require(replays >= 1, "replays", replays, "an integer ≥ 1")
        require(
            size is None or size > 0, "size", size, "a length > 0 in input units, or None for eps"
        )
        self.threat, self.replays, self.size = threat, replays, size
        self._delta: Tensor | None = None

    def get_extra_state(self) -> Tensor | None:
        """δ, so that a resumed run goes on with it."""
        return self._delta

    def set_extra_state(self, state: Tensor | None) -> None:
        """Take δ over."""
        self._delta = state

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """x + δ as a leaf that waits for its gradient."""
        start = self.threat.pack(batch)
        delta = self._delta
        if delta is not None and delta.shape == start.shape:
            start = self.threat.project(start + delta, batch)
        z = start.detach().clone().requires_grad_()

        def absorb(grad: Tensor) -> None:
            size = self.size if self.size is not None else self.threat.reach
            with torch.no_grad():
                moved = self.threat.project(self.threat.step(z, grad, size, batch), batch)
                self._delta = moved - self.threat.pack(batch)

        z.register_hook(absorb)
        return z
