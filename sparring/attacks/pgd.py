"""Projected gradient ascent, and the attacks that are keywords of it."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import did_you_mean, require
from ..functional import losses
from ..functional.geometry import broadcast_rows
from ..threats.base import Threat
from .base import ActiveSet, Execution, Gain, Maximizer, run_restarts, value_and_grad, value_no_grad


class PGD(Maximizer):
    """z ← project(step(z, ∇f(z), size)), `steps` times, from a random start.

    Called as an attack it returns, per sample, a point confirmed wrong in float32 if the search
    passed one, else the point of highest loss it saw; broken samples leave the batch at once. FGSM,
    BIM and FGSM-RS are keywords of it.

    Arguments:
        threat: where it may go.
        steps: gradient steps of each restart, ≥ 1.
        size: length of a step in input units; None is 2.5·eps/steps (Madry).
        loss: what a call climbs: `"ce"`, `"margin"` or `"dlr"`. A trainer brings its own gain
            instead.
        random_start: begin at `threat.start`, else at x.
        restarts: independent searches; later ones see only the samples that still stand.
        targeted: y is the class to reach.
        best: in training, return the best iterate (one forward more) instead of the last, as
            published.
        mode: of the model meanwhile: `"eval"`, `"train"` or `"keep"`.
        precision: inside the model while searching: `"float32"` or `"bfloat16"`; successes are
            confirmed in float32.
        channels_last: run image models in that memory layout while searching.
        seed: of its own generator.

    Raises:
        ValueError: for a value outside what is said above.

    Source: Madry et al. 2018, sec. 2.1. Differs: returns the best iterate, not the last.

    >>> from sparring.threats import Linf
    >>> atk = PGD(Linf(0.1), steps=3, size=0.1)
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> atk(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([[0.4000, 0.4000]])
    """

    paper = "madry2018pgd"

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
        require(steps >= 1, "steps", steps, "an integer ≥ 1")
        require(
            size is None or size > 0,
            "size",
            size,
            "a length > 0 in input units, or None for 2.5·eps/steps",
        )
        require(restarts >= 1, "restarts", restarts, "an integer ≥ 1")
        if loss not in losses.BY_NAME:
            raise ValueError(did_you_mean("loss", loss, losses.BY_NAME))
        self.threat, self.steps, self.size, self.loss = threat, steps, size, loss
        self.random_start, self.restarts = random_start, restarts
        self.targeted, self.best = targeted, best

    @property
    def length(self) -> float:
        """The step length in force, in input units."""
        if self.size is not None:
            return self.size
        eps = self.threat.reach
        return 2.5 * eps / self.steps

    def _begin(self, batch: Batch) -> Tensor:
        generator = self.generator(batch.x.device)
        return (
            self.threat.random_start(batch, generator)
            if self.random_start
            else self.threat.pack(batch)
        )

    def _next(self, z: Tensor, grad: Tensor, batch: Batch) -> Tensor:
        return self.threat.project(self.threat.step(z, grad, self.length, batch), batch)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """The last iterate; with `best` or restarts, the iterate of highest value, no lower than
        the start."""
        kept = record = None
        for _ in range(self.restarts):
            z = self._begin(batch)
            for _ in range(self.steps):
                gain, grad = value_and_grad(f, z)
                if self.best:
                    kept, record = _higher(kept, record, z, gain)
                z = self._next(z, grad, batch)
            if self.best or self.restarts > 1:
                kept, record = _higher(kept, record, z, value_no_grad(f, z))
        return self.threat.discretize(z if kept is None else kept, batch).detach()

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(
            self, model, x, y, self._round, num_rounds=lambda _: self.restarts, look=False
        )

    def _round(self, active: ActiveSet, turn: int) -> None:
        """One search from a start, on what still stands."""
        z, sign = self._begin(active.batch), -1 if self.targeted else 1
        for step in range(self.steps + 1):
            y = active.y
            climbed = lambda logits, y=y: sign * losses.BY_NAME[self.loss](logits, y)  # noqa: E731
            if step == self.steps:
                logits = active.logits_no_grad(z)
                active.record(z, logits, climbed(logits))
                return
            value, grad, logits = active.value_and_grad(climbed, z)
            keep = active.record(z, logits, value)
            if len(active) == 0:
                return
            if keep is not None:
                z, grad = z[keep], grad[keep]
            z = self._next(z, grad, active.batch)


def _higher(
    kept: Tensor | None, record: Tensor | None, z: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Per sample the point of higher value seen so far, and that value."""
    if kept is None or record is None:
        return z, value
    better = value > record
    return torch.where(broadcast_rows(better, z), z, kept), torch.where(better, value, record)


def FGSM(threat: Threat, *, loss: str = "ce", targeted: bool = False, seed: int = 0) -> PGD:
    """One step from x, long enough to reach the ball's edge. Source: Goodfellow et al. 2015.

    >>> from sparring.threats import Linf
    >>> FGSM(Linf(0.1)).steps
    1
    """
    return PGD(threat, steps=1, random_start=False, loss=loss, targeted=targeted, seed=seed)


def BIM(
    threat: Threat, *, steps: int = 10, size: float | None = None, loss: str = "ce", seed: int = 0
) -> PGD:
    """PGD that starts at x. Source: Kurakin et al. 2017."""
    return PGD(threat, steps=steps, size=size, random_start=False, loss=loss, seed=seed)


def FGSM_RS(threat: Threat, *, ratio: float = 1.25, best: bool = False, seed: int = 0) -> PGD:
    """One step of length ratio·eps from a random start. Source: Wong et al. 2020 (Fast)."""
    require(ratio > 0, "ratio", ratio, "a step > 0 as a fraction of eps")
    return PGD(threat, steps=1, size=ratio * threat.reach or None, best=best, seed=seed)
