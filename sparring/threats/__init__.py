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
from .rounded import Rounded
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
    "Rounded",
    "SoftLinf",
    "Threat",
    "Transport",
    "norm_ball",
    "norm_name",
]


def __dir__() -> list[str]:
    return sorted(__all__)


NORMS = {"Linf": Linf, "L2": L2, "L1": L1, "L0": L0}


def norm_name(norm: object) -> str:
    """Return the name of a norm in `NORMS`, given by it or by its p.

    Raises:
        ValueError: for another name; the message has the nearest and lists them.

    >>> norm_name("L2"), norm_name(2), norm_name(float("inf")), norm_name("inf")
    ('L2', 'L2', 'Linf', 'Linf')
    """
    by_p = {str(float(name[1:])): name for name in NORMS}
    try:
        number = "" if isinstance(norm, bool) else str(float(norm))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = ""
    name = by_p.get(number, norm)
    if not isinstance(name, str) or name not in NORMS:
        raise ValueError(did_you_mean("threat", str(norm), NORMS))
    return name


def norm_ball(norm: str | float, *, eps: float, low: float = 0.0, high: float = 1.0) -> Threat:
    """Return the ball of a norm by the field's name or p: `"Linf"`, `"L2"`, `"L1"` or `"L0"`.

    Raises:
        ValueError: for another name; the message has the nearest and lists them.
    """
    return NORMS[norm_name(norm)](eps, low=low, high=high)
