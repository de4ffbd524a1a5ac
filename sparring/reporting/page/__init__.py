"""Write results as one HTML page that works without a network: a report, or a study's page."""

from .render import page, search_page

__all__ = ["page", "search_page"]
