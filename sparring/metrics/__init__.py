"""Metrics of robustness beside accuracy: distances, slopes, flatness; one number per sample."""

from ..results.metric_report import MetricReport, MetricRow, Softmax
from .base import Metric
from .boundary import EBD, EBD2
from .clever import CLEVER
from .distances import Distance, RhoAdv
from .flatness import Entropy, MaxSoftmax, as_shape, profile
from .lipschitz import Lipschitz
from .noise import ENI, LossSensitivity
from .registry import METRICS, metric_named
from .run import run
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
    "Metric",
    "MetricReport",
    "MetricRow",
    "RhoAdv",
    "Softmax",
    "Thickness",
    "as_shape",
    "metric_named",
    "profile",
    "run",
]


def __dir__() -> list[str]:
    return sorted(__all__)
