"""The fixtures of evaluations."""

from tests.evaluation.fixtures import problem, same, suite_of  # noqa: F401
