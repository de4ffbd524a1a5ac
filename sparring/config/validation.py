"""Check the tables of a recipe against the signatures of what they build."""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any

from torch import nn

from .. import component
from ..component import did_you_mean
from ..runtime.annotations import is_plain, scalar, shortened

Maker = Callable[..., Any]
Table = dict[str, Any]
MODULE_FUNCTION = re.compile(r"[\w.]+:[\w.]+")
DEPTH = 50  # of tables and lists in each other

SUPPLIED = ("self", "threat", "shape", "classes")  # arguments that no table holds


def named(
    make: Maker,
    table: object,
    path: str,
    *,
    also: Iterable[Maker] = (),
    without: Iterable[str] = SUPPLIED,
) -> Table:
    """Check a table of a name and arguments, as `check`; return it with the name first."""

    def name(*, name: str) -> None: ...

    checked = check(make, table, path, also=(name, *also), without=without)
    return {"name": checked.pop("name"), **checked}


class located:
    """Prefix a `ValueError` raised in this context with a path of the recipe.

    >>> with located("attack"):
    ...     raise ValueError("steps = 0 is not allowed: steps must be an integer ≥ 1")
    Traceback (most recent call last):
    ValueError: attack.steps = 0 is not allowed: steps must be an integer ≥ 1
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
            link = "." if re.match(r"\w+ = ", str(error)) else ": "
            raise ValueError(f"{self.path}{link}{error}") from error


def arguments(make: Maker, *, without: Iterable[str] = SUPPLIED) -> dict[str, inspect.Parameter]:
    """Return the named arguments of a constructor or function but those in `without`."""
    return {n: p for n, p in component.arguments(make).items() if n not in without}


def check(
    make: Maker,
    values: object,
    path: str,
    *,
    also: Iterable[Maker] = (),
    without: Iterable[str] = SUPPLIED,
) -> Table:
    """Check `values` against the signature of `make`; fill in defaults and leave out None.

    Where the signature wants a number, a fraction as "8/255" is one.

    Arguments:
        also: more functions whose arguments are allowed; the last one wins.
        without: arguments that no recipe sets.

    Raises:
        ValueError: one line per mistake, with the dotted path, the value and what is allowed.

    >>> def make(*, steps: int, size: float = 1.0): ...
    >>> check(make, {"steps": 3, "size": "2/4"}, "attack")
    {'steps': 3, 'size': 0.5}
    >>> check(make, {"step": 3, "steps": 1}, "attack")
    Traceback (most recent call last):
    ValueError: key = 'attack.step' does not exist; did you mean 'attack.steps'? ...
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} = {shortened(values)} is not allowed: {path} must be a table")
    known = {n: p for m in (make, *also) for n, p in arguments(m, without=without).items()}
    # nn.Module.__init__ takes any keyword, and refuses it later.
    has_constructor = getattr(make, "__init__", None) is not nn.Module.__init__
    mistakes = [f"{path}.{n} is missing, and has no default" for n in _missing(known, values)]
    if not (has_constructor and component.takes_any_keyword(make)):
        names = [f"{path}.{n}" for n in known]
        unknown = [n for n in values if n not in known]
        mistakes += [did_you_mean("key", f"{path}.{n}", names) for n in unknown]
    parameters = {n: p.replace(annotation=_annotation(p)) for n, p in known.items()}
    fit: Table = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            one = {name: plain(value, f"{path}.{name}")}
            fit |= component.fit_parameters(parameters, one, path, floats=True)
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ValueError("\n".join(mistakes))
    filled = {n: fit.get(n, None if p.default is p.empty else p.default) for n, p in known.items()}
    return {
        name: plain(v, name) for name, v in (filled | fit).items() if v is not None and _is_plain(v)
    }


def _missing(known: Mapping[str, inspect.Parameter], values: Mapping[str, Any]) -> list[str]:
    return [n for n, p in known.items() if p.default is p.empty and n not in values]


def _annotation(parameter: inspect.Parameter) -> Any:
    """Return the type to check against: of a union, the members that a table can hold; Any where
    there are none, or the argument is a piece."""
    annotation = parameter.annotation
    if names_function(annotation):
        return typing.Annotated[str, MODULE_FUNCTION]
    if any(issubclass(c, nn.Module) for c in annotated_classes(annotation)):
        return Any
    return _of_tables(annotation)


def _of_tables(annotation: Any) -> Any:
    """Return what a table can hold of an annotation: `float` of `float | Tensor`."""
    origin: Any = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if is_plain(annotation):
        return annotation
    if origin in (typing.Union, UnionType):
        members = tuple(m for m in map(_of_tables, parts) if m is not Any)
        return typing.Union[members] if members else Any  # noqa: UP007
    sequence = inspect.isclass(origin) and issubclass(origin, collections.abc.Sequence)
    kinds = tuple(p if p is ... else _of_tables(p) for p in parts)
    anything: Any = origin  # to subscript what the type checker takes for specialized
    return anything[kinds] if sequence else Any


def names_function(annotation: Any) -> bool:
    """Return whether an annotation is a function, which a recipe names "module:function"."""
    return typing.get_origin(annotation) is collections.abc.Callable


def annotated_classes(annotation: Any) -> list[type]:
    """Return the classes inside an annotation, as in `Attack | None`."""
    args = typing.get_args(annotation)
    inner = [c for arg in args for c in annotated_classes(arg)]
    return [*inner, annotation] if isinstance(annotation, type) and not args else inner


def plain(value: Any, path: str, depth: int = 0) -> Any:
    """Convert a value to what TOML can hold: tuples and arrays become lists, NumPy's numbers
    Python's; a key that is None is left out.

    Raises:
        ValueError: for a value that it can't hold, such as a date, or tables nested too deep.
    """
    if depth > DEPTH:
        top = path.partition(".")[0]
        raise ValueError(f"{top}: tables and lists are nested deeper than {DEPTH}")
    if getattr(value, "ndim", 0) and hasattr(value, "tolist"):
        value = value.tolist()
    value = scalar(value)
    if isinstance(value, tuple | list):
        return [plain(v, f"{path}.{k}", depth + 1) for k, v in enumerate(value)]
    if isinstance(value, Mapping):
        above = f"{path}." if path else ""
        items = {str(k): v for k, v in value.items() if v is not None}
        return {k: plain(v, f"{above}{k}", depth + 1) for k, v in items.items()}
    if not isinstance(value, str | bool | int | float):
        kinds = "a text, number, boolean, list or table"
        raise ValueError(f"{path} = {shortened(value)} is not allowed: {path} must be {kinds}")
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(v) for v in value)
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return isinstance(value, str | bool | int | float)
