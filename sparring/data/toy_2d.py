"""Toy sets in the plane, drawn by a seed: what a method does to a boundary can be looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .layouts import Raw
from .readers import needs

ROWS = 4000
SCALE = 8.0  # standard deviations that the box [0, 1] is wide
Points = tuple[np.ndarray, np.ndarray]


def moons(n: int, seed: int) -> Points:
    """Two half circles that interlock, noise 0.08; scikit-learn's."""
    return _sklearn("make_moons", n, seed, noise=0.08)


def circles(n: int, seed: int) -> Points:
    """A circle in another of twice its radius, noise 0.05; scikit-learn's."""
    return _sklearn("make_circles", n, seed, noise=0.05, factor=0.5)


def blobs(n: int, seed: int) -> Points:
    """Three Gaussian clouds on the corners of a triangle; scikit-learn's."""
    centers = [(0.0, 1.0), (-0.87, -0.5), (0.87, -0.5)]
    return _sklearn("make_blobs", n, seed, centers=centers, cluster_std=0.25)


def spirals(n: int, seed: int) -> Points:
    """Two arms that wind once and a half around each other."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    turn = 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, n))
    x = turn[:, None] * np.stack([np.cos(turn + np.pi * y), np.sin(turn + np.pi * y)], 1)
    return x + rng.normal(scale=0.25, size=x.shape), y


def checkers(n: int, seed: int) -> Points:
    """A board of 4 × 4 squares in two colours, with a gap between them."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, 4, (n, 2))
    return cell + rng.uniform(0.1, 0.9, (n, 2)), cell.sum(1) % 2


SHAPES: dict[str, Callable[[int, int], Points]] = {
    "moons": moons,
    "circles": circles,
    "blobs": blobs,
    "spirals": spirals,
    "checkers": checkers,
}


def read(name: str, *, n: int = ROWS, seed: int = 0) -> Raw:
    """`n` points `(n, 2)` float32 in [0, 1]²: standardised, then 1/2 + x/8.

    So a step of 0.125 is a standard deviation, and the data leave a margin to the box.

    >>> raw = read("moons", n=100)
    >>> raw.train[0].shape, [round(float(v), 3) for v in raw.train[0].std(0)]
    ((100, 2), [0.125, 0.125])
    """
    x, y = SHAPES[name](n, seed)
    x = (x - x.mean(0)) / x.std(0)
    return Raw((np.clip(0.5 + x / SCALE, 0, 1).astype(np.float32), y.astype(np.int64)))


def _sklearn(name: str, n: int, seed: int, **how: object) -> Points:
    make = getattr(needs("sklearn.datasets", "scikit-learn"), name)
    x, y = make(n_samples=n, random_state=seed, **how)
    return x, y
