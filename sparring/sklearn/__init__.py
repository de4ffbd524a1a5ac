"""A robust classifier with the interface of scikit-learn's estimators."""

from .classifier import RobustClassifier

__all__ = ["RobustClassifier"]


def __dir__() -> list[str]:
    return sorted(__all__)
