"""Scale features to the units that the adversary counts in, and back."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..component import did_you_mean, require
from ..functional.geometry import box_slack

SCALINGS = ("standard", "range")
ROOM = 0.01  # beyond the ball, in a box whose walls it does not reach


class Scaling(NamedTuple):
    """Map features x (n, d) to z = (x − shift) / width `(n, *shape)`.

    Arguments:
        shift, width: float64, one number per feature; width > 0.
        shape: of one sample, as the network takes it.
    """

    shift: np.ndarray
    width: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def fit(cls, kind: str | None, x: np.ndarray, weight: np.ndarray, shape: Any) -> Self:
        """Return the scaling of weighted rows x (n, d).

        Arguments:
            kind: "standard" gives each feature mean 0 and deviation 1; "range" puts the training
                rows into [0, 1]; None leaves features as they are.
            shape: of a sample; None is (d,).

        Raises:
            ValueError: for another kind, or a shape that does not hold the features.
        """
        d = x.shape[1]
        if kind is not None and kind not in SCALINGS:
            raise ValueError(did_you_mean("scaling", str(kind), SCALINGS) + ", and None")
        shape = (d,) if shape is None else shape
        sizes = tuple(int(n) for n in shape) if np.ndim(shape) == 1 else ()
        fits = min(sizes, default=0) > 0 and np.prod(sizes) == d
        require(fits, "shape", shape, f"of {d} numbers, as X has features")
        shift, width = np.zeros(d), np.ones(d)
        if kind == "standard":
            shift = np.average(x, axis=0, weights=weight)
            width = np.sqrt(np.average((x - shift) ** 2, axis=0, weights=weight))
        elif kind == "range":
            shift, width = x.min(0), np.ptp(x, axis=0)
        # a feature that never varies has no width: any will do, and 1 divides nothing by zero
        varies = width > 1e-12 * np.abs(shift)
        return cls(shift, np.where(varies, width, 1.0), sizes)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return z `(n, *shape)` in float64."""
        return ((x - self.shift) / self.width).reshape(len(x), *self.shape)

    def tensor(self, x: np.ndarray) -> Tensor:
        """Return z `(n, *shape)` as the adversary takes it, in float32."""
        return torch.from_numpy(self.apply(x).astype(np.float32))

    def moved(self, x: np.ndarray, before: Tensor, after: Tensor) -> np.ndarray:
        """Return x with the move from `before` to `after`, two points in z.

        A feature that did not move keeps its bits.
        """
        delta = (after.double() - before.double()).reshape(len(x), -1).cpu().numpy()
        return x + delta * self.width


class Scaled(nn.Module):
    """Run a network behind the scaling: features x `(b, d)` or `(b, *shape)` to logits `(b, k)`."""

    shift: Tensor
    width: Tensor

    def __init__(self, network: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.network, self.shape = network, scaling.shape
        weight = next(iter(network.parameters()), torch.zeros(()))
        for name in ("shift", "width"):
            # float32, as weights are: only then do attacks get their gradients in one dtype
            value = torch.from_numpy(getattr(scaling, name)).to(weight)
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        z = (x.flatten(1) - self.shift) / self.width
        return self.network(z.reshape(len(x), *self.shape))


def box(
    kind: str | None,
    bounds: Any,
    z: np.ndarray,
    *,
    eps: float | None,
    before: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return the box of valid points, in the units of z.

    It is the user's bounds, or for "range" the training rows' own, widened to hold all rows; else
    one whose walls a ball of radius eps does not reach.

    Arguments:
        before: a box that it holds, that of the training.

    Raises:
        ValueError: for bounds that are no two numbers, or rows beyond them.
    """
    least, most = (float(z.min()), float(z.max())) if z.size else (0.0, 1.0)
    if bounds is not None:
        allowed = "two numbers (low, high), low < high, for unscaled features (scaling=None)"
        ok = kind is None and np.shape(bounds) == (2,) and bounds[0] < bounds[1]
        require(ok, "bounds", bounds, allowed)
        low, high = float(bounds[0]), float(bounds[1])
        slack = box_slack(low, high)  # z is of float32, and 0.1 is no number of it
        inside = low - slack <= least and most <= high + slack
        require(inside, "bounds", bounds, f"around the features, from {least:.4g} to {most:.4g}")
        return low, high
    if kind == "range":
        low, high = min(0.0, least), max(1.0, most)
    else:
        room = (most - least + 1 if eps is None else eps) + ROOM
        low, high = least - room, most + room
    return (low, high) if before is None else (min(low, before[0]), max(high, before[1]))
