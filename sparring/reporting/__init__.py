"""Show results as a terminal table and an HTML page."""

from .metric_tables import metrics_table
from .page import page, pictures_page, search_page
from .pictures_table import pictures_table
from .search_summary import search_summary
from .study_page import StudyPage, study_page, summary_table
from .study_summary import study_summary
from .study_table import study_markdown
from .table import summary_lines, table

__all__ = [
    "StudyPage",
    "metrics_table",
    "page",
    "pictures_page",
    "pictures_table",
    "search_page",
    "search_summary",
    "study_markdown",
    "study_page",
    "study_summary",
    "summary_lines",
    "summary_table",
    "table",
]
