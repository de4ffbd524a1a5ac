"""Unlabelled points outside the support: Gaussian noise around the data, in high dimension a thin
shell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import channel_scale
from ..runtime import distributed
from ..runtime.warning import SparringWarning
from .added_rows import AddedRows, anchors
from .source import Source

NONE = (
    "GaussianShell has per = 0 (N_u = 0): it adds no points, so a method like Sparsity keeps "
    "predictions level at the data only, and nothing does so where there are none"
)


class Spread(NamedTuple):
    """Standard deviations of neighbours and of unlabelled points, in units of `scale`."""

    sigma_n: float
    sigma_u: float


class Preset(NamedTuple):
    """What the authors used on a data set: noise and λ in standardised units, and the data's mean
    and standard deviation that these are units of."""

    sigma_n: float
    sigma_u: float
    beta: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


PRESETS = {  # read in the authors' code
    "mnist": Preset(0.0126, 0.0126, 1e5, (0.1307,), (0.3081,)),
    "cifar10": Preset(0.023769, 0.23769, 1e4, (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "imagenette": Preset(0.0138687, 0.138687, 1e4, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def spread(
    x: Tensor, *, scale: float | Sequence[float] = 1.0, rows: int = 2000, seed: int = 0
) -> Spread:
    """sigma_n = mean ‖x_i − x_j‖₂ / d over pairs i < j, and sigma_u = 10·sigma_n.

    Arguments:
        x: inputs `(n, *d)`; `rows` of them are drawn by the seed.
        scale: the unit, as of `GaussianShell`.

    Source: how the authors' CIFAR-10 and Imagenette numbers relate to their histograms of
    distances; their MNIST pair does not follow it.

    Raises:
        ValueError: for fewer than two rows, or rows that are all the same.

    >>> spread(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    Spread(sigma_n=2.5, sigma_u=25.0)
    """
    require(len(x) > 1, "len(x)", len(x), "at least 2")
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:rows]
    flat = (x[chosen.to(x.device)] / channel_scale(scale, x)).flatten(1)
    mean = float(torch.nn.functional.pdist(flat).mean())
    require(mean > 0, "x", "one point", "rows that differ")
    sigma_n = mean / flat.shape[1]
    return Spread(sigma_n, 10 * sigma_n)


class GaussianShell(AddedRows):
    """x + sigma_u·scale·ξ, ξ ~ N(0, I), around the batch's (augmented) rows; unlabelled.

    In d dimensions they lie at sigma_u·√d·(1 ± 1/√(2d)) from their rows. Nothing else keeps them
    outside the support.

    Arguments:
        per: N_u, points for each row; 0 adds none.
        sigma_u: standard deviation in units of `scale`; when omitted, of the rule of `spread`.
        scale: input units of sigma_u: 1, or the data's standard deviation, one or one a channel.
        clip: into the source's bounds; the authors do not.

    Source: Paknezhad et al. 2022, in the form of their code. Differs: each batch brings its own
    rows' points, where theirs are shuffled over the epoch; the law of a point is the same.

    >>> from sparring.batch import Batch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([0, 1]))
    >>> GaussianShell(per=2, sigma_u=0.1)(batch).y
    tensor([-1, -1, -1, -1])
    """

    def __init__(
        self,
        *,
        per: float = 1.0,
        sigma_u: float | None = None,
        scale: float | Sequence[float] = 1.0,
        clip: bool = False,
        weight: float = 1.0,
    ) -> None:
        super().__init__(per=per, weight=weight)
        require(sigma_u is None or sigma_u > 0, "sigma_u", sigma_u, "a standard deviation > 0")
        numbers = [scale] if isinstance(scale, int | float) else list(scale)
        ok = bool(numbers) and all(number > 0 for number in numbers)
        require(ok, "scale", scale, "a number > 0, or one a channel")
        self.sigma_u, self.scale, self.clip = sigma_u, scale, clip
        self._found, self._bounds = sigma_u, (0.0, 1.0)

    def attach(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        """Take the bounds, and sigma_u by the rule where it was omitted; with per = 0 a notice."""
        if self.per == 0:
            warnings.warn(NONE, SparringWarning, stacklevel=2)
        self._bounds = source.bounds
        if self.sigma_u is None:
            self._found = spread(source.val.float(), scale=self.scale).sigma_u

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        assert self._found is not None, "attach it first"
        x = batch.x[anchors(batch, self.count(batch), generator)]
        x = x + self._found * channel_scale(self.scale, x) * distributed.draw(
            "normal", x, generator
        )
        return self.rows(batch, x.clamp(*self._bounds) if self.clip else x)
