"""Bring docs/results/ up to date: tables and figures from results/, text stays.

.venv/bin/python -m scripts.result_pages
"""

from __future__ import annotations

from .build import build

if __name__ == "__main__":
    build()
