"""The warning category of this library; importing it does not import torch."""

from __future__ import annotations


class SparringWarning(UserWarning):
    """The request was carried out, but may not do what you intended."""
