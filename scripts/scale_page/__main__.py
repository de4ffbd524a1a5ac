"""Bring docs/explanation/scale.md and its figure up to date; the text around stays.

.venv/bin/python -m scripts.scale_page
"""

from __future__ import annotations

from .build import build

if __name__ == "__main__":
    build()
