"""Evaluate models under attack: suites of attacks, an outside judge, symptoms and a verdict."""

from . import checks, diagnose, suites
from .evaluate import evaluate
from .guard import Guard
from .kept_points import Recount, judge_again
from .protocol import EvaluationProtocol
from .suites import SUITES, Suite

__all__ = ["SUITES", "EvaluationProtocol", "Guard", "Recount", "Suite"]
__all__ += ["checks", "diagnose", "evaluate", "judge_again", "suites"]


def __dir__() -> list[str]:
    return sorted(__all__)
