"""Warnings that are ours: of what is allowed and may not be what was meant."""

from __future__ import annotations


class Notice(UserWarning):
    """What was asked for is done, and may not do what was meant."""
