"""Evaluate models under attack: suites of attacks, an outside judge, symptoms and a verdict."""

from . import checks, diagnose, suites
from .evaluate import evaluate
from .guard import Guard
from .protocol import EvaluationProtocol
from .suites import SUITES, Suite

__all__ = ["SUITES", "EvaluationProtocol", "Guard", "Suite"]
__all__ += ["checks", "diagnose", "evaluate", "suites"]


def __dir__() -> list[str]:
    return sorted(__all__)
