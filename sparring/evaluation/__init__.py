"""Evaluation: what training bought, measured by attacks that are judged from outside."""

from . import certified, checks, compare, diagnose, metrics, seeds, suites
from .evaluate import evaluate
from .guard import Guard
from .result import AttackRow, Certificate, Check, EpsRow, Interval, Result, wilson
from .suites import SUITES, Suite

__all__ = [
    "SUITES",
    "AttackRow",
    "Certificate",
    "Check",
    "EpsRow",
    "Guard",
    "Interval",
    "Result",
    "Suite",
    "certified",
    "checks",
    "compare",
    "diagnose",
    "evaluate",
    "metrics",
    "seeds",
    "suites",
    "wilson",
]
