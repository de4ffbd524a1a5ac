"""Records of an evaluation, and their statistics."""

from .intervals import Interval, wilson
from .result import AttackRow, Certificate, Check, EpsRow, Result, strip_results

__all__ = [
    "AttackRow",
    "Certificate",
    "Check",
    "EpsRow",
    "Interval",
    "Result",
    "strip_results",
    "wilson",
]


def __dir__() -> list[str]:
    return sorted(__all__)
