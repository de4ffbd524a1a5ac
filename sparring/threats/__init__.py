"""Threat models: where the adversary may go, and what it pays."""

from ..component import did_you_mean
from .base import Threat
from .bits import Bits
from .box import Box
from .combine import Joint, Only
from .l0 import L0
from .l1 import L1
from .l2 import L2
from .linf import Linf
from .soft import SoftLinf
from .transport import Transport

__all__ = [
    "L0",
    "L1",
    "L2",
    "Bits",
    "Box",
    "Joint",
    "Linf",
    "Only",
    "SoftLinf",
    "Threat",
    "Transport",
    "norm_ball",
]

NORMS = {"Linf": Linf, "L2": L2, "L1": L1, "L0": L0}


def norm_ball(name: str, *, eps: float, low: float = 0.0, high: float = 1.0) -> Threat:
    """Return the ball of a norm by the field's name: `"Linf"`, `"L2"`, `"L1"` or `"L0"`.

    Raises:
        ValueError: for another name; the message has the nearest and lists them.
    """
    if name not in NORMS:
        raise ValueError(did_you_mean("threat", name, NORMS))
    return NORMS[name](eps, low=low, high=high)
