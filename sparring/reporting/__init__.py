"""Reporting: a terminal table and an HTML page, from results alone."""

from .page import page
from .table import table

__all__ = ["page", "table"]
