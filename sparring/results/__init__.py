"""Records of what an evaluation found, and their statistics."""

from .intervals import Interval, wilson
from .result import AttackRow, Certificate, Check, EpsRow, Result

__all__ = ["AttackRow", "Certificate", "Check", "EpsRow", "Interval", "Result", "wilson"]
