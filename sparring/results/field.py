"""Record of the decision boundary of a model of two inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class BoundaryField:
    """Hold classes, slope and distance to the boundary on a grid over [low, high]².

    Row i is the second input, column j the first.

    Arguments:
        prediction, slope: `(m, m)` classes, and ‖∂softmax/∂x‖_F per input unit.
        distance: `(m, m)` to the boundary in L2, in input units; inf without a boundary.
        segments: `(s, 2, 2)` the boundary: from, to; points, labels: training points `(n, 2)`.
        generated, generator: unlabelled or adversarial points of training, and their source's name.
        caption: the accuracy, in words.
    """

    name: str
    low: float
    high: float
    prediction: np.ndarray
    slope: np.ndarray
    distance: np.ndarray
    segments: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    generated: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    generator: str = ""
    caption: str = ""
