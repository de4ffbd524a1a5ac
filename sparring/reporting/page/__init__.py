"""Write results as one HTML page that works without a network: a report, or a study's page."""

from .pictures import pictures_page
from .render import page
from .search import search_page

__all__ = ["page", "pictures_page", "search_page"]
