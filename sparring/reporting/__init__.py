"""Show results as a terminal table and an HTML page."""

from .metric_tables import metrics_table
from .page import page
from .study_table import study_markdown
from .table import summary_lines, table

__all__ = ["metrics_table", "page", "study_markdown", "summary_lines", "table"]
