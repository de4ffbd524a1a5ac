"""Run projected gradient ascent (PGD), and the attacks that are PGD with other keywords."""

from __future__ import annotations

import math
from typing import Any, Unpack

from torch import Tensor

from ..batch import Batch, Model
from ..component import checked, did_you_mean, require, require_at_least
from ..functional import losses
from ..threats.base import Threat
from . import base
from .base import ActiveSet, Execution, Gain, Maximizer


class PGD(Maximizer):
    """Climb the loss by projected gradient steps from a random start.
    z ← project(step(z, ∇f(z), size)), `steps` times. A call returns, per sample, a point confirmed
    wrong in float32 if the search passed one, else the point of highest loss on its way. Broken
    samples leave the batch at once. FGSM, BIM and FGSM-RS are PGD with other keywords.

    Arguments:
        threat: where it may go.
        steps: gradient steps of each restart, ≥ 1.
        size: length of a step in input units; default: None, 2.5·eps/steps (Madry et al.).
        loss: climbed by a call: `"ce"`, `"margin"` or `"dlr"`; a trainer brings its own gain.
        random_start: begin at `threat.random_start`, else at x.
        restarts: independent searches; later ones see only the samples that are not broken yet.
        targeted: y is the class to reach.
        best: in training, return the best iterate (one more forward pass), not the published last.
        mode, precision, channels_last, seed: as in `Execution`.

    Raises:
        ValueError: for a value that these arguments do not allow.

    Source: Madry et al. 2018, sec. 2.1. Differs: returns the best iterate, not the last.

    >>> import torch
    >>> from sparring.threats import Linf
    >>> atk = PGD(Linf(0.1), steps=3, size=0.1)
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> atk(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([[0.4000, 0.4000]])
    """

    paper = "madry2018pgd"
    _ratio: float | None = None  # of a step to eps, where `FGSM_RS` sets it in place of a size

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 10,
        size: float | None = None,
        loss: str = "ce",
        random_start: bool = True,
        restarts: int = 1,
        targeted: bool = False,
        best: bool = True,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, steps=steps, restarts=restarts)
        lengths = "a length > 0 in input units, or None for 2.5·eps/steps"
        require(size is None or size > 0, "size", size, lengths)
        if loss not in losses.BY_NAME:
            raise ValueError(did_you_mean("loss", loss, losses.BY_NAME))
        self.threat, self.steps, self.size, self.loss = threat, steps, size, loss
        self.random_start, self.restarts = random_start, restarts
        self.targeted, self.best = targeted, best

    @property
    def step_size(self) -> float:
        """The step length in use, in input units."""
        # 2.5 times the radius in all: the iterates can cross from any start to any point of the
        # ball, and still have steps left to move along its edge. A property, for schedules of eps.
        if self.size is not None:
            return self.size
        reach = self.threat.reach
        return 2.5 * reach / self.steps if self._ratio is None else self._ratio * reach

    def config(self) -> dict[str, Any]:
        config = super().config()
        # no argument holds the ratio, so a record has the length that it makes now
        if self._ratio is not None and self.size is None and 0 < self.step_size < math.inf:
            config["size"] = self.step_size
        return config

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """Return the last iterate; with `best` or restarts, the highest, start included."""
        best = best_value = None
        for _ in range(self.restarts):
            z = self._start(batch)
            for _ in range(self.steps):
                value, grad = base.value_and_grad(f, z)
                if self.best:
                    best, best_value = base.higher(best, best_value, z, value)
                z = self._step(z, grad, batch)
            # the last point has no value yet: one more pass, where somebody compares it
            if self.best or self.restarts > 1:
                best, best_value = base.higher(best, best_value, z, base.value_no_grad(f, z))
        return self.threat.discretize(z if best is None else best, batch).detach()

    def search(self, active: ActiveSet, round_index: int) -> None:
        """Run one restart of a call: as `maximize`, on rows that leave once they are broken."""
        loss, sign = losses.BY_NAME[self.loss], -1 if self.targeted else 1
        gain = lambda logits: sign * loss(logits, active.y)  # noqa: E731
        z = self._start(active.batch)
        for _ in range(self.steps):
            value, grad, logits = active.value_and_grad(gain, z)
            keep = active.record(z, logits, value)
            if len(active) == 0:
                return
            if keep is not None:
                z, grad = z[keep], grad[keep]
            z = self._step(z, grad, active.batch)
        logits = active.logits_no_grad(z)
        active.record(z, logits, gain(logits))

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        # No pass at x alone: the first step's own pass shows which samples are broken already.
        return base.run_restarts(self, model, x, y, self.search, skip_misclassified=False)

    def _start(self, batch: Batch) -> Tensor:
        if self.random_start:
            return self.threat.random_start(batch, self.generator(batch.x.device))
        return self.threat.pack(batch)

    def _step(self, z: Tensor, grad: Tensor, batch: Batch) -> Tensor:
        return self.threat.project(self.threat.step(z, grad, self.step_size, batch), batch)


@checked
def FGSM(threat: Threat, *, loss: str = "ce", targeted: bool = False, seed: int = 0) -> PGD:
    """Build PGD of one step from x that reaches the ball's edge. Source: Goodfellow et al. 2015.

    >>> from sparring.threats import Linf
    >>> FGSM(Linf(0.1)).steps
    1
    """
    return PGD(threat, steps=1, random_start=False, loss=loss, targeted=targeted, seed=seed)


@checked
def BIM(
    threat: Threat, *, steps: int = 10, size: float | None = None, loss: str = "ce", seed: int = 0
) -> PGD:
    """Build PGD that starts at x. Source: Kurakin et al. 2017."""
    return PGD(threat, steps=steps, size=size, random_start=False, loss=loss, seed=seed)


@checked
def FGSM_RS(threat: Threat, *, ratio: float = 1.25, best: bool = False, seed: int = 0) -> PGD:
    """Build PGD of one step of length ratio·eps from a random start; 1.25 is the paper's ratio.

    The length follows a schedule of eps.

    Source: Wong et al. 2020 (Fast).
    """
    require(ratio > 0, "ratio", ratio, "a step > 0 as a fraction of eps")
    attack = PGD(threat, steps=1, best=best, seed=seed)
    attack._ratio = ratio
    return attack
