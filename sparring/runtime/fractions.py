"""Read and write radii as the field does: 8/255 is a number like any other."""

from __future__ import annotations

import math
import re

FRACTION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*/\s*(\d*[1-9]\d*)\s*")
LEVELS = 255  # of a pixel


def parse_number(text: str) -> float:
    """Return the value of a number or of a fraction of two.

    Raises:
        ValueError: for another text.

    >>> parse_number("0.1"), parse_number("8/255") == 8 / 255
    (0.1, True)
    """
    match = FRACTION.fullmatch(text)
    try:
        return float(match[1]) / int(match[2]) if match else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number, as 0.3 or 8/255") from None


def format_number(value: float) -> str:
    """Return a number in few digits, as a fraction of 255 if that is exact and shorter.

    >>> format_number(0.1), format_number(8 / 255), format_number(1.0), format_number(51 / 255)
    ('0.1', '8/255', '1', '0.2')
    """
    plain, levels = f"{value:g}", round(value * LEVELS)
    exact = abs(value * LEVELS - levels) < 1e-9
    return f"{levels}/{LEVELS}" if exact and len(plain) > len("8/255") else plain


def exact_number(value: float) -> str:
    """Return a number as Python writes it, or as a fraction of 255 that equals it and is shorter.

    >>> exact_number(8 / 255), exact_number(0.1), exact_number(51 / 255), exact_number(2.0)
    ('8/255', '0.1', '0.2', '2.0')
    """
    plain = repr(value)
    if len(plain) <= len("128/255"):
        return plain
    fraction = f"{value * LEVELS:.0f}/{LEVELS}" if abs(value) <= LEVELS else plain
    return fraction if FRACTION.fullmatch(fraction) and parse_number(fraction) == value else plain


def with_radius(name: str, eps: float | None) -> str:
    """Return a threat's name with its radius, if it has one.

    >>> with_radius("Linf", 8 / 255), with_radius("Bits", None)
    ('Linf 8/255', 'Bits')
    """
    return name if eps is None or math.isinf(eps) else f"{name} {format_number(eps)}"
