"""Check the tables of a recipe against the signatures of what they build, by pydantic."""

from __future__ import annotations

import collections.abc
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pydantic
from torch import nn

from .. import component
from ..component import did_you_mean
from ..runtime.fractions import FRACTION, parse_number

Maker = Callable[..., Any]
Table = dict[str, Any]


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
        raise ValueError(f"{path} = {values!r} is not allowed: {path} must be a table")
    known = {n: p for m in (make, *also) for n, p in arguments(m, without=without).items()}
    # nn.Module.__init__ takes any keyword, and refuses it later.
    has_constructor = getattr(make, "__init__", None) is not nn.Module.__init__
    extra = "allow" if has_constructor and component.takes_any_keyword(make) else "forbid"
    values = {
        k: _with_fractions(_annotation(known[k]), v) if k in known else v for k, v in values.items()
    }
    try:
        model = _model(known, extra).model_validate_json(_json(values, path), strict=True)
    except pydantic.ValidationError as error:
        names = [f"{path}.{n}" for n in known]
        raise ValueError(
            "\n".join(_message(e, path, names) for e in error.errors(include_url=False))
        ) from None
    filled = {name: getattr(model, f"arg_{name}") for name in known} | (
        model.__pydantic_extra__ or {}
    )
    return {name: plain(v) for name, v in filled.items() if v is not None and _is_plain(v)}


def _model(known: Mapping[str, inspect.Parameter], extra: str) -> type[pydantic.BaseModel]:
    """Create a model of the arguments; a prefix keeps them from names that pydantic uses itself."""
    config = pydantic.ConfigDict(extra=extra, arbitrary_types_allowed=True)  # type: ignore[typeddict-item]
    fields: dict[str, Any] = {
        f"arg_{n}": (
            _annotation(p),
            pydantic.Field(... if p.default is p.empty else p.default, alias=n),
        )
        for n, p in known.items()
    }
    return pydantic.create_model("Arguments", __config__=config, **fields)


def _annotation(parameter: inspect.Parameter) -> Any:
    """Return the type to check against; Any where there is none, or TOML has no such value."""
    annotation = parameter.annotation
    if names_function(annotation):
        return typing.Annotated[str, pydantic.Field(pattern=r"^[\w.]+:[\w.]+$")]
    unchecked = annotation is parameter.empty or isinstance(annotation, str)
    is_module = any(issubclass(c, nn.Module) for c in annotated_classes(annotation))
    return Any if unchecked or is_module else annotation


def _with_fractions(annotation: Any, value: Any) -> Any:
    """Convert fractions to numbers, where the annotation wants a number and no text."""
    leaves = annotated_classes(annotation)
    if float not in leaves or str in leaves:
        return value
    if isinstance(value, list | tuple):
        return [_with_fractions(annotation, v) for v in value]
    return parse_number(value) if isinstance(value, str) and FRACTION.fullmatch(value) else value


def names_function(annotation: Any) -> bool:
    """Return whether an annotation is a function, which a recipe names "module:function"."""
    return typing.get_origin(annotation) is collections.abc.Callable


def annotated_classes(annotation: Any) -> list[type]:
    """Return the classes inside an annotation, as in `Attack | None`."""
    args = typing.get_args(annotation)
    inner = [c for arg in args for c in annotated_classes(arg)]
    return [*inner, annotation] if isinstance(annotation, type) and not args else inner


def _json(values: Mapping[str, Any], path: str) -> bytes:
    try:
        return json.dumps(values).encode()
    except TypeError as error:
        raise ValueError(f"{path} holds a value that a recipe can't have: {error}") from None


def _message(error: Mapping[str, Any], path: str, names: list[str]) -> str:
    """Word one of pydantic's errors with its path, its value and what is allowed."""
    key = ".".join(
        [path, *(str(p) for p in error["loc"] if isinstance(p, int) or str(p).isidentifier())]
    )
    if error["type"] == "extra_forbidden":
        return did_you_mean("key", key, names)
    if error["type"] == "missing":
        return f"{key} is missing, and has no default"
    allowed = error["msg"].removeprefix("Input should be ").split(", unable")[0]
    return f"{key} = {error['input']!r} is not allowed: {key} must be {allowed}"


def plain(value: Any) -> Any:
    """Convert a value to what TOML can hold: tuples become lists."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(v) for v in value)
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return isinstance(value, str | bool | int | float)
