"""Measure the distance to the boundary along random directions, and along the gradient's sign."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..batch import Model
from ..component import require, require_at_least
from ..functional import losses
from .base import Metric, chunked_logits, gradient

MAX_ELEMENTS = 2**24  # of direction vectors in memory at once


class EBD(Metric):
    """Compute the empirical boundary distance along random directions.
    The least magnitude m of 0, step, 2·step, … at which clip(x + m·√d·q) is wrong for some random
    orthonormal direction q; `most` if there is none.

    √d·q has an RMS of 1 per coordinate, so m is the RMS change before clipping. It is an upper
    bound of the distance, loose in high dimension: no direction is chosen to fool the model.

    Arguments:
        directions: number of directions in a sample's orthonormal frame, at most d.
        step, most: of the magnitudes, in input units; a robust sample gets `most`.

    Source: Guo et al. 2023, as coded in DIG-Beihang/AISafety (`ebd.py`): 1,000 directions, 0 to
    126/255 in steps of 2/255. Differs: fewer directions by default.

    >>> model = lambda x: torch.stack([0 * x[:, 0], x.sum(1) - 1.25], 1)
    >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> EBD(step=0.01)(model, x, y)
    tensor([0.1300])
    """

    paper = "guo2023framework"
    unit = "input units, RMS"

    def __init__(
        self,
        *,
        directions: int = 100,
        step: float = 2 / 255,
        most: float = 126 / 255,
        low: float = 0.0,
        high: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(low=low, high=high)
        require_at_least(1, directions=directions)
        require(step > 0, "step", step, "a magnitude > 0")
        require(most >= step, "most", most, "a magnitude ≥ step")
        self.directions, self.step, self.most, self.seed = directions, step, most, seed

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        generator, d = self.generator(), x[0].numel()
        few = max(1, MAX_ELEMENTS // (d * min(d, self.directions)))
        parts = zip(x.split(few), y.split(few), strict=True)
        return torch.cat([self._scan(model, *part, generator) for part in parts])

    def _scan(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return the first wrong magnitude per sample."""
        way = frames(x, self.directions, generator)
        magnitude, rows = x.new_full((len(x),), self.most), torch.arange(len(x), device=x.device)
        for k in range(math.floor(self.most / self.step + 1e-6) + 1):
            z = (x[rows, None] + k * self.step * way[rows]).clamp(self.low, self.high)
            pred = chunked_logits(model, z.flatten(0, 1)).argmax(1).view(len(rows), -1)
            wrong = (pred != y[rows, None]).any(1)
            magnitude[rows[wrong]] = k * self.step
            rows = rows[~wrong]
            if not len(rows):
                break
        return magnitude


class EBD2(Metric):
    """Count the sign steps up the loss until the model is wrong.
    x ← clip(x + size·sign(∇ cross-entropy)) until x is wrong: 0 where it is wrong at once, NaN
    where it is still right after `cap` steps.

    The count times `size` is the Linf length of the path, if the path is straight.

    Arguments:
        size: of a step, in input units.
        cap: largest number of steps.

    Source: Guo et al. 2023, as coded in DIG-Beihang/AISafety (`ebd2.py`): 5e-4, 1,000.

    >>> model = lambda x: torch.stack([0 * x[:, 0], x.sum(1) - 1.25], 1)
    >>> EBD2(size=0.01)(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([13.])
    """

    paper = "guo2023framework"
    unit = "steps"

    def __init__(
        self, *, size: float = 5e-4, cap: int = 1000, low: float = 0.0, high: float = 1.0
    ) -> None:
        super().__init__(low=low, high=high)
        require(size > 0, "size", size, "a length > 0 in input units")
        require_at_least(1, cap=cap)
        self.size, self.cap = size, cap

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        steps, rows, z = x.new_full((len(x),), torch.nan), torch.arange(len(x), device=x.device), x
        for step in range(self.cap + 1):
            wrong = x.new_zeros(len(z), dtype=torch.bool)

            def loss(v: Tensor, label: Tensor = y[rows], out: Tensor = wrong) -> Tensor:
                logits = model(v)
                out.copy_(logits.argmax(1) != label)
                return losses.cross_entropy(logits, label)

            grad = gradient(self, loss, z)[1]
            steps[rows[wrong]] = step
            rows, z, grad = rows[~wrong], z[~wrong], grad[~wrong]
            if not len(rows):
                break
            z = (z + self.size * grad.nan_to_num().sign()).clamp(self.low, self.high)
        return steps


def frames(x: Tensor, directions: int, generator: torch.Generator) -> Tensor:
    """Draw √d times orthonormal directions, a frame per sample: `(b, m, *d)`, m at most d."""
    d, m = x[0].numel(), min(directions, x[0].numel())
    # Drawn in float32 on the CPU, so that every device measures along the same directions.
    q, r = torch.linalg.qr(torch.randn(len(x), d, m, generator=generator))
    # The signs of r's diagonal make q uniform: LAPACK's convention alone leaves one side unseen.
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return (math.sqrt(d) * q.mT).to(x).reshape(len(x), m, *x.shape[1:])
