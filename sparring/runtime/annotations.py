"""Convert a value to what an annotation wants, or say in one line what it must be."""

from __future__ import annotations

import functools
import math
import numbers
import operator
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from .fractions import FRACTION, parse_number

UNBOUNDED = "inf and NaN too"
AnyReal = Annotated[float, UNBOUNDED]  # what takes it checks its range, and may allow inf
WORDS = {
    bool: "true or false",
    int: "a valid integer",
    float: "a valid number",
    str: "a text",
    Path: "a path",
    types.NoneType: "None",
}
LIMIT = 100  # letters of a value in a message
INTEGERS = range(-(2**63), 2**64)  # what PyTorch takes for a seed


class Rules(NamedTuple):
    """How numbers are taken.

    Arguments:
        finite: neither inf nor NaN is a number.
        floats: an integer and a float are two things, as in TOML: an integer becomes a float where
            the annotation is one, and 3.0 is no integer. Python's 1e3 is one.
    """

    finite: bool = True
    floats: bool = False


class Misfit(Exception):
    """Value that an annotation does not allow."""

    def __init__(self, allowed: str, value: object, index: tuple[object, ...] = ()) -> None:
        self.allowed, self.value, self.index = allowed, value, index


def shortened(value: object, limit: int = LIMIT) -> str:
    """Return a value's `repr` for a message: in one line, and cut after `limit` letters.

    >>> shortened("a" * 200, 10)
    "'aaaaaaaaa…"
    """
    try:
        # A list of a million numbers is not spelled out only to be cut.
        head = value[: limit + 1] if isinstance(value, str | bytes | list | tuple) else value
        text = " ".join(repr(head).split()) if not isinstance(head, str) else repr(head)
    except (ValueError, RecursionError, MemoryError, AttributeError):  # as an integer of 10^400
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}…"


def fitted(annotation: Any, value: Any, key: str, rules: Rules) -> Any:
    """Return `value` as `annotation` wants it, if the annotation can be checked.

    Numbers of NumPy and PyTorch become Python's, arrays become lists, and "8/255" is a number.
    No boolean and no text is a number.

    Raises:
        ValueError: naming `key`, the value and what is allowed.

    >>> fitted(float | None, "8/255", "eps", Rules()) == 8 / 255
    True
    >>> fitted(int, 2.5, "steps", Rules())
    Traceback (most recent call last):
    ValueError: steps = 2.5 is not allowed: steps must be a valid integer
    """
    try:
        return _fit(annotation, value, rules)
    except Misfit as misfit:
        at = ".".join(map(str, (key, *misfit.index)))
        raise ValueError(
            f"{at} = {shortened(misfit.value)} is not allowed: {at} must be {misfit.allowed}"
        ) from None


def is_plain(annotation: Any) -> bool:
    """Return whether an annotation is of numbers, texts, paths, and lists or tables of them alone.

    >>> is_plain(float | Sequence[float] | None), is_plain(str | re.Pattern)
    (True, False)
    """
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return is_plain(parts[0])
    if _is_container(origin or annotation) or _is_union(annotation):
        return all(is_plain(p) for p in parts if p not in (..., Any))
    return annotation in WORDS or annotation is None or origin is typing.Literal


def _fit(annotation: Any, value: Any, rules: Rules) -> Any:
    """Return `value` as the annotation wants it, or raise `Misfit`."""
    # the most frequent, at once
    if annotation is Any or (type(value) is annotation and annotation in (bool, str)):
        return value
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        patterns = [p for p in parts[1:] if isinstance(p, re.Pattern)]
        value = _fit(
            parts[0], value, rules._replace(finite=rules.finite and UNBOUNDED not in parts)
        )
        if patterns and not patterns[0].fullmatch(value):
            raise Misfit(f"a text that matches {patterns[0].pattern}", value)
        return value
    if _is_union(annotation):
        return _fit_union(annotation, value, rules)
    if origin is typing.Literal:
        if not any(type(value) is type(p) and value == p for p in parts):
            raise Misfit(_words(annotation), value)
        return value
    if annotation in WORDS or annotation is None:
        return _fit_leaf(annotation or types.NoneType, value, rules)
    kind = origin or annotation
    if _is_container(kind):
        return _fit_container(kind, parts, value, rules, _words(annotation))
    if isinstance(kind, type) and not isinstance(value, kind):
        raise Misfit(_words(annotation), value)
    return value  # an unknown type


def _fit_union(annotation: Any, value: Any, rules: Rules) -> Any:
    """Return `value` as the first member wants it that allows it; its own type goes first."""
    members = sorted(typing.get_args(annotation), key=lambda a: a is not type(value))
    misfits = []
    for member in members:
        try:
            return _fit(member, value, rules)
        except Misfit as misfit:
            misfits.append(misfit)
    # A list with one wrong number: the number is what is wrong.
    raise (
        max(misfits, key=lambda m: len(m.index))
        if any(m.index for m in misfits)
        else Misfit(_words(annotation), value)
    )


def _fit_leaf(kind: type, value: Any, rules: Rules) -> Any:
    given, value = value, scalar(value)
    if kind is float:
        if isinstance(value, str) and FRACTION.fullmatch(value):
            value = parse_number(value)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            overflow = isinstance(value, int) and abs(int(value)) > sys.float_info.max
            number = math.nan if overflow else float(value)
            if math.isfinite(number) or not (rules.finite or overflow):
                return number if rules.floats or not isinstance(value, int) else value
    elif kind is int:
        if isinstance(value, float) and value.is_integer() and not rules.floats:
            value = int(value)
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            number = operator.index(value)
            if number in INTEGERS:
                return number
    elif kind is Path:
        if isinstance(value, str | Path):
            return value
    elif isinstance(value, kind):
        return value
    raise Misfit(WORDS[kind], given)


def _fit_container(kind: type, parts: tuple[Any, ...], value: Any, rules: Rules, words: str) -> Any:
    """Return a list, tuple or table with every element as the annotation wants it."""
    if issubclass(kind, Mapping):
        if not isinstance(value, Mapping):
            raise Misfit(words, value)
        inner = parts[1] if len(parts) == 2 else Any
        return {k: _fit_at(k, inner, v, rules) for k, v in value.items()}
    if getattr(value, "ndim", 0) and hasattr(value, "tolist"):  # an array or tensor
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise Misfit(words, value)
    if kind is not tuple:
        inner = parts[0] if parts else Any
        if inner is Any:
            return value
        out = [_fit_at(k, inner, v, rules) for k, v in enumerate(value)]
        return tuple(out) if isinstance(value, tuple) and kind is not list else out
    if parts[-1:] == (...,):
        return tuple(_fit_at(k, parts[0], v, rules) for k, v in enumerate(value))
    if parts and len(value) != len(parts):
        raise Misfit(words, value)
    kinds = parts or (Any,) * len(value)
    return tuple(_fit_at(k, p, v, rules) for k, (p, v) in enumerate(zip(kinds, value, strict=True)))


def _fit_at(index: object, annotation: Any, value: Any, rules: Rules) -> Any:
    try:
        return _fit(annotation, value, rules)
    except Misfit as misfit:
        raise Misfit(misfit.allowed, misfit.value, (index, *misfit.index)) from None


def scalar(value: Any) -> Any:
    """Return a number of NumPy or PyTorch as Python's; other values as they are."""
    single = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if single else value


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_container(kind: Any) -> bool:
    containers = (Mapping, Sequence)
    return isinstance(kind, type) and issubclass(kind, containers) and kind not in (str, bytes)


@functools.lru_cache
def _words(annotation: Any) -> str:
    """Return what an annotation allows, in words."""
    if annotation is None or annotation in WORDS:
        return WORDS[annotation or types.NoneType]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is Annotated:
        return _words(parts[0])
    if _is_union(annotation):
        words = list(dict.fromkeys(map(_words, parts)))
        return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a table"
    if kind is tuple and parts and ... not in parts:
        return f"a list of {len(parts)} values"
    if _is_container(kind):
        plural = {bool: "booleans", int: "integers", float: "numbers", str: "texts"}
        return f"a list of {plural.get(parts[0] if parts else None, 'values')}"
    name = getattr(kind, "__name__", str(kind))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
