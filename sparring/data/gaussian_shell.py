"""Unlabelled points outside the support: Gaussian noise around the data, in high d a thin shell."""

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
from .added_rows import AddedRows, anchor_rows
from .source import Source

NO_POINTS = (
    "GaussianShell has per = 0 (N_u = 0): it adds no points, so a method like Sparsity keeps "
    "predictions level at the data only, not in the space around them"
)


class ShellSpread(NamedTuple):
    """Standard deviations of a method's neighbours and of the unlabelled points, in `scale`."""

    sigma_n: float
    sigma_u: float


class Preset(NamedTuple):
    """The authors' noise and λ for a data set, standardised by its `mean` and `std` per channel."""

    sigma_n: float
    sigma_u: float
    beta: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


PRESETS = {  # from the authors' code
    "mnist": Preset(0.0126, 0.0126, 1e5, (0.1307,), (0.3081,)),
    "cifar10": Preset(0.023769, 0.23769, 1e4, (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "imagenette": Preset(0.0138687, 0.138687, 1e4, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def shell_spread(
    x: Tensor, *, scale: float | Sequence[float] = 1.0, rows: int = 2000, seed: int = 0
) -> ShellSpread:
    """Estimate both standard deviations from distances in the data.

    sigma_n = mean ‖x_i − x_j‖₂ / d over pairs i < j, and sigma_u = 10·sigma_n

    Arguments:
        x: inputs `(n, *d)`; `rows` of them are drawn by the seed.
        scale: the unit, as for `GaussianShell`.

    Raises:
        ValueError: for fewer than two rows, or rows that are all the same.

    Source: the relation of the authors' CIFAR-10 and Imagenette numbers to their histograms of
    distances; their MNIST pair does not follow it.

    >>> shell_spread(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    ShellSpread(sigma_n=2.5, sigma_u=25.0)
    """
    require(len(x) > 1, "len(x)", len(x), "at least 2")
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:rows]
    flat = (x[chosen.to(x.device)] / channel_scale(scale, x)).flatten(1)
    mean = float(torch.nn.functional.pdist(flat).mean())
    require(mean > 0, "x", "one point", "rows that differ")
    sigma_n = mean / flat.shape[1]
    return ShellSpread(sigma_n, 10 * sigma_n)


class GaussianShell(AddedRows):
    """Unlabelled points x + sigma_u·scale·ξ, ξ ~ N(0, I), around the batch's augmented rows.

    In d dimensions the points lie at distance sigma_u·√d·(1 ± 1/√(2d)) from their rows. Nothing
    else keeps them outside the support.

    Arguments:
        per: N_u, points per row; 0 adds none.
        sigma_u: standard deviation in units of `scale`; default: the rule of `shell_spread`.
        scale: input units of sigma_u: 1, or the data's standard deviation, one or one per channel.
        clip: clip the points to the source's bounds; the authors do not.

    Source: Paknezhad et al. 2022, in the form of their code. Differs: a batch gets points around
    its own rows; theirs are shuffled over the epoch. The law of a point is the same.

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
        require(ok, "scale", scale, "a number > 0, or one per channel")
        self.sigma_u, self.scale, self.clip = sigma_u, scale, clip
        self._sigma_u, self._bounds = sigma_u, (0.0, 1.0)

    def prepare(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        """Read the bounds, and estimate sigma_u if it is None; warn if per = 0."""
        if self.per == 0:
            warnings.warn(NO_POINTS, SparringWarning, stacklevel=2)
        self._bounds = source.bounds
        if self.sigma_u is None:
            self._sigma_u = shell_spread(source.val.float(), scale=self.scale).sigma_u

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        assert self._sigma_u is not None, "call prepare(source) first"
        x = batch.x[anchor_rows(batch, self.count(batch), generator)]
        noise = distributed.draw("normal", x, generator)
        x = x + self._sigma_u * channel_scale(self.scale, x) * noise
        return self.rows(batch, x.clamp(*self._bounds) if self.clip else x)
