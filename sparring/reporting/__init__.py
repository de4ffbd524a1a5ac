"""Reporting: a terminal table and an HTML page, from results alone."""

from .metrics import measures
from .overview import studied
from .page import page
from .table import table

__all__ = ["measures", "page", "studied", "table"]
