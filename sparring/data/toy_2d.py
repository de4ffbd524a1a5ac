"""Toy sets in the plane, drawn by a seed, to show what a method does to a decision boundary."""

from __future__ import annotations

import numpy as np

from .layouts import RawDataset
from .readers import require_package

SCALE = 8.0  # standard deviations that the box [0, 1] is wide
Points = tuple[np.ndarray, np.ndarray]


def moons(n: int, seed: int) -> Points:
    """Draw two interlocking half circles with noise 0.08, by scikit-learn."""
    return _sklearn("make_moons", n, seed, noise=0.08)


def circles(n: int, seed: int) -> Points:
    """Draw a circle inside one of twice its radius with noise 0.05, by scikit-learn."""
    return _sklearn("make_circles", n, seed, noise=0.05, factor=0.5)


def blobs(n: int, seed: int) -> Points:
    """Draw three Gaussian clouds on the corners of a triangle, by scikit-learn."""
    centers = [(0.0, 1.0), (-0.87, -0.5), (0.87, -0.5)]
    return _sklearn("make_blobs", n, seed, centers=centers, cluster_std=0.25)


def spirals(n: int, seed: int) -> Points:
    """Draw two spiral arms that wind one and a half times around each other."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    # √ of a uniform number spreads the points evenly along the arms, which grow with the angle
    angle = 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, n))
    x = angle[:, None] * np.stack([np.cos(angle + np.pi * y), np.sin(angle + np.pi * y)], 1)
    return x + rng.normal(scale=0.25, size=x.shape), y


def checkers(n: int, seed: int) -> Points:
    """Draw points on a board of 4 × 4 squares in two colours, with gaps between the squares."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, 4, (n, 2))
    return cell + rng.uniform(0.1, 0.9, (n, 2)), cell.sum(1) % 2


SHAPES = {shape.__name__: shape for shape in (moons, circles, blobs, spirals, checkers)}


def read(name: str, *, n: int = 4000, seed: int = 0) -> RawDataset:
    """Return `n` points `(n, 2)` float32 in [0, 1]²: standardised, then 1/2 + x/8.

    A step of 0.125 is a standard deviation, and the data keep a margin to the box.

    >>> raw = read("moons", n=100)
    >>> raw.train[0].shape, [round(float(v), 3) for v in raw.train[0].std(0)]
    ((100, 2), [0.125, 0.125])
    """
    x, y = SHAPES[name](n, seed)
    x = (x - x.mean(0)) / x.std(0)
    return RawDataset((np.clip(0.5 + x / SCALE, 0, 1).astype(np.float32), y.astype(np.int64)))


def _sklearn(name: str, n: int, seed: int, **options: object) -> Points:
    make = getattr(require_package("sklearn.datasets", "scikit-learn"), name)
    return make(n_samples=n, random_state=seed, **options)
