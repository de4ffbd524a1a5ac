"""Run free adversarial training: the backward pass of the weights moves the perturbation too."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require, require_at_least
from ..runtime import distributed
from ..threats.base import Threat
from .base import Float32Execution, Gain, Maximizer


class Free(Maximizer):
    """Return x + δ as a leaf, and step δ with the gradient that the loss's backward pass leaves
    there, without a pass of its own.

    The trainer uses each batch `replays` times. δ passes on to the next batch of the same shape, as
    published, and is part of the state. Each process has that of its rows, a checkpoint has all.

    Arguments:
        replays: m, how often a batch is used, ≥ 1.
        size: step in input units; default: None, eps.

    Source: Shafahi et al. 2019, alg. 1. Differs: the δ that passes on has been clipped to the box
    [low, high] at its own image too; published: to [−ε, ε] only.

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
        require_at_least(1, replays=replays)
        lengths = "a length > 0 in input units, or None for eps"
        require(size is None or size > 0, "size", size, lengths)
        self.threat, self.replays, self.size = threat, replays, size
        self._delta: Tensor | None = None  # of the rows of this process
        self._joint: Tensor | None = None  # of those of all, where there are several

    def get_extra_state(self) -> Tensor | None:
        # so that a resumed run goes on with it
        return self._delta if distributed.world() == 1 else self._joint

    def set_extra_state(self, state: Tensor | None) -> None:
        self._delta = self._joint = state
        if state is not None and distributed.world() > 1:
            rows = len(state) // distributed.world()
            self._delta = state[distributed.rank() * rows :][:rows]

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Collect δ of all processes for a checkpoint, which the first one writes alone."""
        # not in the hook: other processes may be elsewhere in their backward passes
        if self._delta is not None and distributed.world() > 1:
            self._joint = distributed.gather(self._delta)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        start = self.threat.pack(batch)
        if self._delta is not None and self._delta.shape == start.shape:
            start = self.threat.project(start + self._delta, batch)
        z = start.detach().clone().requires_grad_()

        def step_delta(grad: Tensor) -> None:
            size = self.threat.reach if self.size is None else self.size
            with torch.no_grad():
                z_next = self.threat.project(self.threat.step(z, grad, size, batch), batch)
                self._delta = z_next - self.threat.pack(batch)

        # A hook on z, so that the loop's backward needs no change; passes that do not differentiate
        # in z, as those of a weight perturbation, do not call it.
        z.register_hook(step_delta)
        return z
