"""What a recipe may say: the names of our pieces, and the arguments of whatever makes them, checked before anything runs."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pydantic
from torch import nn

from . import attacks, methods, risks, threats, weights
from .attacks import Attack
from .data import augment
from .methods import Method
from .part import nearest
from .risks import Risk
from .threats import Threat

Maker = Callable[..., Any]
ROOMS = {"threat": threats, "attack": attacks, "method": methods, "risk": risks, "weights": weights, "augment": augment}
BASES = {"threat": Threat, "attack": Attack, "method": Method, "risk": Risk}
GIVEN = ("self", "threat", "shape", "classes")


def pieces(room: str) -> dict[str, Maker]:
    """The public pieces of a room by name: its leaves and the functions that make them, not its base classes.

    >>> sorted(pieces("threat"))
    ['Box', 'L1', 'L2', 'Linf']
    """
    public = {name: getattr(ROOMS[room], name) for name in ROOMS[room].__all__ if name[0].isupper()}
    return {n: p for n, p in public.items() if not getattr(p, "__module__", "").endswith(".base")}


def maker(room: str, name: str, path: str, *, trust: bool) -> Maker:
    """What makes the piece called `name`: one of ours, or "module:Class" from outside where `trust` says so.

    Raises:
        ValueError: for a name that does not exist, or a foreign one without trust.
    """
    if not isinstance(name, str):
        raise ValueError(f"{path}.name = {name!r} is not allowed: it must be a string")
    if ":" in name:
        return foreign(name, path, trust=trust)
    known = pieces(room)
    if name not in known:
        raise ValueError(nearest(f"{path}.name", name, known))
    return known[name]


def foreign(name: str, path: str, *, trust: bool) -> Maker:
    """The object called "package.module:Class"; importing it runs that module, so it takes `trust`."""
    if not trust:
        raise ValueError(
            f"{path}.name = {name!r} is code from outside, which runs when it is loaded; "
            "if you know what it does, pass --trust (in Python: trust=True)"
        )
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}.name = {name!r} can't be loaded: {error}") from error
    finally:
        sys.path.remove(os.getcwd())


def arguments(make: Maker, *, without: tuple[str, ...] = GIVEN) -> dict[str, inspect.Parameter]:
    """The named arguments of a constructor or function, annotations evaluated where they can be."""
    call = make.__init__ if inspect.isclass(make) else make
    try:
        found = inspect.signature(call, eval_str=True).parameters
    except (NameError, TypeError):
        found = inspect.signature(call).parameters
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {n: p for n, p in found.items() if n not in without and p.kind not in kinds}


def check(make: Maker, values: Mapping[str, Any], path: str, *, without: tuple[str, ...] = GIVEN) -> dict[str, Any]:
    """`values` checked against the signature of `make`, with every default filled in; what is None is left out.

    Raises:
        ValueError: naming the dotted path, the value and what is allowed, for each mistake.

    >>> def make(*, steps: int, size: float = 1.0): ...
    >>> check(make, {"steps": 3}, "attack")
    {'steps': 3, 'size': 1.0}
    >>> check(make, {"stps": 3}, "attack")
    Traceback (most recent call last):
    ValueError: attack.stps = 3 is not a key; did you mean 'attack.steps'? There are: attack.size, attack.steps
    """
    known = arguments(make, without=without)
    every = inspect.signature(make).parameters.values()
    is_open = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in every)
    fields: dict[str, Any] = {n: (_annotation(p), ... if p.default is p.empty else p.default) for n, p in known.items()}
    model = _model(fields, "allow" if is_open else "forbid")
    try:
        found = model.model_validate_json(_json(values, path), strict=True)
    except pydantic.ValidationError as error:
        told = [_told(e, path, known) for e in error.errors(include_url=False)]
        raise ValueError("\n".join(told)) from None
    filled = {name: getattr(found, _field(name)) for name in known} | (found.__pydantic_extra__ or {})
    return {name: plain(v) for name, v in filled.items() if v is not None}


def _field(name: str) -> str:
    """A name pydantic can't confuse with its own."""
    return f"arg_{name}"


def _model(fields: Mapping[str, Any], extra: str) -> type[pydantic.BaseModel]:
    config = pydantic.ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=())  # type: ignore[typeddict-item]
    own = {_field(n): (kind, pydantic.Field(default, alias=n)) for n, (kind, default) in fields.items()}
    return pydantic.create_model("Arguments", __config__=config, **own)  # type: ignore[call-overload]


def _annotation(parameter: inspect.Parameter) -> Any:
    """The type to check against; Any where there is none, or where it is no type a TOML value can have."""
    kind = parameter.annotation
    if kind is parameter.empty or isinstance(kind, str):
        return Any
    return Any if any(issubclass(k, nn.Module) for k in _classes(kind)) else kind


def _classes(kind: Any) -> list[type]:
    """The classes inside an annotation, as in `Attack | None`."""
    inner = [c for k in typing.get_args(kind) for c in _classes(k)]
    return [kind, *inner] if inspect.isclass(kind) and not isinstance(kind, types.GenericAlias) else inner


def _json(values: Mapping[str, Any], path: str) -> bytes:
    import json

    try:
        return json.dumps(values).encode()
    except TypeError as error:
        raise ValueError(f"{path} holds a value that a recipe can't have: {error}") from None


def _told(error: Mapping[str, Any], path: str, known: Mapping[str, Any]) -> str:
    """One of pydantic's errors in our words."""
    key = ".".join([path, *(str(p) for p in error["loc"] if not str(p).startswith(("function-", "list[", "tuple[")))])
    if error["type"] == "extra_forbidden":
        said = nearest(key, error["input"], [])
        names = [f"{path}.{n}" for n in known]
        return nearest(f"key {key}", key, names) if False else _unknown(key, error["input"], names) + said[:0]
    if error["type"] == "missing":
        return f"{key} is missing, and has no default"
    allowed = error["msg"].removeprefix("Input should be ").split(", unable")[0]
    return f"{key} = {error['input']!r} is not allowed: it must be {allowed}"


def plain(value: Any) -> Any:
    """A value as TOML can hold it: tuples become lists."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value
