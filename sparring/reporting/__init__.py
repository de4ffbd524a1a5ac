"""Reporting: a terminal table and an HTML page, from results alone."""

from .metric_tables import measures
from .page import page
from .study_table import studied
from .table import table

__all__ = ["measures", "page", "studied", "table"]
