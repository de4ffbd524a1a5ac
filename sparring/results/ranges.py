"""Ranges of the numbers in a record, and of the arrays beside it: checked when a file is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from ..component import require
from ..runtime.text import printable
from . import points

ROUNDING = 1e-9


def _share(value: float) -> float:
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise ValueError("it should be a share in [0, 1]")
    return value


Share = Annotated[float, AfterValidator(_share)]  # a mean of ones may be 1 + 2e-16
Amount = Annotated[float, Field(ge=0)]  # seconds, or passes per sample
Count = Annotated[int, Field(ge=0, le=2**53)]  # as far as JSON's numbers are exact everywhere
Samples = Annotated[int, Field(ge=1, le=2**53)]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]  # a SHA-256, or none

CENTERS = ("accuracy", "value")  # of an interval `low` to `high`
COUNTS = ("count", "attacked", "infeasible", "skipped", "undefined")  # at most all samples
TOGETHER = (  # arrays that make sense only with each other
    {"clean_pred", "adv_pred", "y"},
    {"show_x", "show_x_adv", "show_y", "show_clean", "show_adv"},
    {"surface", "surface_at"},
)
PER_SHOWN = ("show_y", "show_clean", "show_adv")
WHOLE = ("index", "y", "clean_pred", "adv_pred", "flips", "x_adv_norm")
INTEGERS = (*WHOLE, *PER_SHOWN)
PER_SAMPLE = (*WHOLE, "clean_score", "adv_score")


def check_numbers(record: Any) -> None:
    """Raise `ValueError` for an interval that does not contain its center, or a count of more than
    all samples, in a record or in those inside it.

    >>> from sparring.results import Interval
    >>> check_numbers(Interval(accuracy=0.5, low=0.6, high=0.7))
    Traceback (most recent call last):
    ValueError: low = 0.6 is not allowed: low must be at most accuracy = 0.5
    """
    for path, values, samples in _records(record, "", None):
        center = next((name for name in CENTERS if name in values), "")
        low, middle, high = (values.get(name) for name in ("low", center, "high"))
        if low is not None and middle is not None and high is not None:
            at = f"{center} = {middle}"
            require(low <= middle + ROUNDING, f"{path}low", low, f"at most {at}")
            require(high >= middle - ROUNDING, f"{path}high", high, f"at least {at}")
        for name in COUNTS:
            count = values.get(name)
            ok = samples is None or count is None or count <= samples
            require(ok, f"{path}{name}", count, f"at most n = {samples}")


def _records(
    value: Any, path: str, samples: int | None
) -> Iterator[tuple[str, dict[str, Any], int | None]]:
    """Yield path, fields and number of samples of each dataclass inside a record."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        samples = fields.get("n", samples)
        yield path, fields, samples
        for name, inside in fields.items():
            yield from _records(inside, f"{path}{name}.", samples)
    elif isinstance(value, list):
        for k, inside in enumerate(value):
            yield from _records(inside, f"{path.removesuffix('.')}[{k}].", samples)


def check_arrays(arrays: Mapping[str, np.ndarray], *, n: int, classes: int) -> None:
    """Raise `ValueError` for arrays that are not those of a result of n samples."""
    for name, values in arrays.items():
        ok = re.fullmatch(r"\w[\w.+-]*", name, re.ASCII)
        require(ok, "arrays", printable(name), "named by letters and digits")
        require(values.dtype.kind in "biuf", f"array {name}", str(values.dtype), "numbers")
        if name in PER_SAMPLE or name.startswith("correct"):
            require(values.shape == (n,), f"shape of {name}", values.shape, f"(n,) = ({n},)")
        if name == "x_adv":
            ok = values.ndim >= 2 and len(values) == n and values.dtype.name in points.TYPES
            known = f"n = {n} points of {', '.join(points.TYPES)}"
            require(ok, f"array {name}", f"{values.dtype} {values.shape}", known)
        if name in PER_SHOWN:
            require(values.ndim == 1, f"shape of {name}", values.shape, "(k,)")
        if name in INTEGERS:
            require(values.dtype.kind in "iu", f"array {name}", str(values.dtype), "integers")
        if name.startswith("correct"):
            ok = bool(((values == 0) | (values == 1)).all())
            require(ok, f"array {name}", printable(values[:4]), "0 or 1 for each sample")
    for names in TOGETHER:
        missing = sorted(names - arrays.keys())
        one = sorted(names & arrays.keys() - {"y"})
        require(not (one and missing), "arrays", one, f"with {', '.join(missing)}")
    shown = {name: len(v) if v.ndim else -1 for name, v in arrays.items() if name[:5] == "show_"}
    require(len({*shown.values()}) <= 1, "show_ arrays", shown, "of equally many samples")
    least_and_most = (
        ("index", 0, None),
        ("flips", -1, None),
        ("y", 0, classes),
        ("clean_pred", -1, None),
        ("adv_pred", -1, None),
    )
    for name, least, most in least_and_most:
        values = arrays.get(name, np.zeros(0, np.int64))
        low, high = (int(values.min()), int(values.max())) if values.size else (least, least)
        ok = low >= least and (most is None or high < most)
        known = f"≥ {least}" + ("" if most is None else f" and < {most}, the number of classes")
        require(ok, f"array {name}", (low, high), known)
    if "surface" in arrays:
        side = len(arrays["surface_at"])
        shape = arrays["surface"].shape
        require(shape == (side, side), "shape of surface", shape, f"({side}, {side})")
