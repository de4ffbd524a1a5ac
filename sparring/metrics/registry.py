"""The metrics by name: to add one, write its class in a file beside and name it here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..component import did_you_mean
from .base import Metric
from .boundary import EBD, EBD2
from .clever import CLEVER
from .distances import Distance, RhoAdv
from .flatness import Entropy, MaxSoftmax
from .lipschitz import Lipschitz
from .noise import ENI, LossSensitivity
from .thickness import Thickness

METRICS: dict[str, Callable[..., Metric]] = {
    "rho-adv": RhoAdv,
    "deepfool-l2": partial(Distance, norm="L2"),
    "deepfool-linf": partial(Distance, norm="Linf"),
    "ebd": EBD,
    "ebd2": EBD2,
    "eni": ENI,
    "thickness": Thickness,
    "clever": CLEVER,
    "loss-sensitivity": LossSensitivity,
    "lipschitz": Lipschitz,
    "entropy": Entropy,
    "max-softmax": MaxSoftmax,
}


def metric_named(name: str) -> Callable[..., Metric]:
    """Return the constructor of the metric called `name`.

    Raises:
        ValueError: for a name that does not exist; the message names the nearest and lists all.

    >>> metric_named("ebd")(directions=5).config()["directions"]
    5
    """
    if name not in METRICS:
        raise ValueError(did_you_mean("metric", name, METRICS, listed="metrics"))
    return METRICS[name]
