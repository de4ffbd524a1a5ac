"""Risks: how samples are aggregated."""

from .base import Risk
from .mean import Mean

__all__ = ["Mean", "Risk"]
