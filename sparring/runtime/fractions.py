"""Radii as the field writes them: 8/255 is a number like any other."""

from __future__ import annotations

import re

FRACTION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*/\s*(\d*[1-9]\d*)\s*")
LEVELS = 255  # of a pixel


def number(text: str) -> float:
    """A number, or a fraction of two.

    Raises:
        ValueError: for what is neither.

    >>> number("0.1"), number("8/255") == 8 / 255
    (0.1, True)
    """
    found = FRACTION.fullmatch(text)
    try:
        return float(found[1]) / int(found[2]) if found else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number, as 0.3 or 8/255") from None


def shown(value: float) -> str:
    """In few digits; a whole number of pixel levels as such, where that is shorter.

    >>> shown(0.1), shown(8 / 255), shown(1.0), shown(51 / 255)
    ('0.1', '8/255', '1', '0.2')
    """
    plain, levels = f"{value:g}", round(value * LEVELS)
    whole = abs(value * LEVELS - levels) < 1e-9
    return f"{levels}/{LEVELS}" if whole and len(plain) > len("8/255") else plain
