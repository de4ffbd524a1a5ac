"""The decision boundary of a model of two inputs: where it runs, how far it is, how steep."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Field:
    """What a model does on a grid over [low, high]²; row i is the second input, column j the first.

    Arguments:
        prediction: `(m, m)` classes.
        slope: `(m, m)` ‖∂softmax/∂x‖_F, per input unit.
        distance: `(m, m)` to the boundary in L2, in input units; inf where there is none.
        segments: `(s, 2, 2)` the boundary: from, to.
        points, labels: training points `(n, 2)`, `(n,)`.
        generated: points the training made: unlabelled ones, or adversarial ones.
        generator: what made them.
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
    said: str = ""
