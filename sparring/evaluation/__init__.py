"""Evaluation: what training bought, measured by attacks that are judged from outside."""

from . import checks, diagnose, suites
from .evaluate import evaluate
from .guard import Guard
from .suites import SUITES, Suite

__all__ = ["SUITES", "Guard", "Suite", "checks", "diagnose", "evaluate", "suites"]
