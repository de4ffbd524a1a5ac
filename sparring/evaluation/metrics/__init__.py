"""Metrics of robustness beside accuracy: distances, slopes, flatness; a number a sample."""

from .base import Metric
from .boundary import EBD, EBD2
from .clever import CLEVER
from .distances import Distance, RhoAdv
from .flatness import Entropy, MaxSoftmax, as_shape, profile
from .lipschitz import Lipschitz
from .measure import measure
from .names import METRICS, named
from .noise import ENI, LossSensitivity
from .record import Measured, Measures, Softmax
from .thickness import Thickness

__all__ = [
    "CLEVER",
    "EBD",
    "EBD2",
    "ENI",
    "METRICS",
    "Distance",
    "Entropy",
    "Lipschitz",
    "LossSensitivity",
    "MaxSoftmax",
    "Measured",
    "Measures",
    "Metric",
    "RhoAdv",
    "Softmax",
    "Thickness",
    "as_shape",
    "measure",
    "named",
    "profile",
]
