"""Reporting: a terminal table and an HTML page, from results alone."""

from .metrics import measures
from .page import page
from .table import table

__all__ = ["measures", "page", "table"]
