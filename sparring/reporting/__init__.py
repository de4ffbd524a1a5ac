"""Reporting: a terminal table and an HTML page, from results alone."""

from .metrics import measures
from .overview import accuracies, studied
from .page import page
from .table import table

__all__ = ["accuracies", "measures", "page", "studied", "table"]
