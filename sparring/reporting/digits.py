"""Write numbers with as many digits as those that stand with them."""

from __future__ import annotations

import math
from collections.abc import Iterable

MINUS = "−"


def number(value: float | None) -> str:
    """Return a number with three digits, thousands with separators, None as "".

    >>> number(0.0123456), number(-1234.5), number(None)
    ('0.0123', '−1,234', '')
    """
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def decimals(values: Iterable[float | None]) -> int:
    """Return the decimals that show the smallest of some numbers with three digits.

    The largest has at most six digits.

    >>> decimals([0.36, 0.4, 0.41]), decimals([12.3, 0.456]), decimals([0.0, None])
    (3, 3, 2)
    """
    sizes = [abs(v) for v in values if v and math.isfinite(v)]
    if not sizes:
        return 2
    enough, most = 2 - _magnitude(min(sizes)), 5 - _magnitude(max(sizes))
    return max(0, min(enough, most))


def _magnitude(size: float) -> int:
    return math.floor(math.log10(size))


def fixed(value: float | None, places: int) -> str:
    """Return a number with a number of decimals; one too small for them with three digits.

    >>> fixed(0.4, 3), fixed(-1.6349, 2), fixed(1e-9, 2), fixed(None, 2)
    ('0.400', '−1.63', '1e−09', '')
    """
    if value is None or (value and abs(value) < 0.5 * 10**-places):
        return number(value)
    return f"{value:,.{places}f}".replace("-", MINUS)


def with_interval(
    value: float | None, low: float | None, high: float | None, places: int | None = None
) -> str:
    """Return a value with its interval, both with the same decimals; default: those of the value.

    >>> with_interval(0.00624, -0.000714, 0.0132)
    '0.00624 [−0.00071, 0.01320]'
    """
    places = decimals([value]) if places is None else places
    text = fixed(value, places)
    if low is None or high is None:
        return text
    low_text, high_text = (f"{v:,.{places}f}".replace("-", MINUS) for v in (low, high))
    return f"{text} [{low_text}, {high_text}]"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "seed"), counted(1200, "sample")
    ('1 seed', '1,200 samples')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
