"""Read numbers that a caller gives: Python's, NumPy's, and tensors of one element."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from torch import Tensor

from ..component import require
from .fractions import FRACTION, parse_number

INT64 = 2**63


def whole_number(key: str, value: Any, *, least: int = -INT64, allowed: str = "") -> int:
    """Return a count or a seed as an `int`.

    Arguments:
        key: its name, for the message.
        least: the smallest number allowed; the largest is that of 64 bits.
        allowed: the numbers that are, in words; default: "an integer ≥ least".

    Raises:
        ValueError: for a truth value, a text, a fraction, or a number out of range.

    >>> whole_number("n", np.int64(3)), whole_number("n", 1e3)
    (3, 1000)
    >>> whole_number("n", 2.5, least=1)
    Traceback (most recent call last):
    ValueError: n = 2.5 is not allowed: n must be an integer ≥ 1
    """
    number = _number(value)
    allowed = allowed or ("an integer of 64 bits" if least == -INT64 else f"an integer ≥ {least}")
    ok = number is not None and math.isfinite(number) and number == int(number)
    require(ok and least <= int(number) < INT64, key, value, allowed)  # type: ignore[arg-type]
    return int(number)  # type: ignore[arg-type]


def real_number(key: str, value: Any, *, allowed: str = "a number") -> float:
    """Return a finite or infinite number as a `float`; a text may be a fraction, as "8/255".

    Raises:
        ValueError: for a truth value, another text, or NaN.

    >>> real_number("eps", "8/255") == 8 / 255, real_number("eps", np.float32(0.5))
    (True, 0.5)
    >>> real_number("eps", "0.1")
    Traceback (most recent call last):
    ValueError: eps = '0.1' is not allowed: eps must be a number
    """
    if isinstance(value, str) and FRACTION.fullmatch(value):
        return parse_number(value)
    number = _number(value)
    require(number is not None and number == number, key, value, allowed)
    return float(number)  # type: ignore[arg-type]


def _number(value: Any) -> int | float | None:
    """Return a number in a scalar of any library; None for anything else."""
    if isinstance(value, np.ndarray | Tensor):
        value = value.item() if value.ndim == 0 else None
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except TypeError:
        real = isinstance(value, float | np.floating) or hasattr(value, "as_integer_ratio")
        return float(value) if real else None
