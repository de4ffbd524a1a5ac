"""Base of every piece of the formula: an `nn.Module` whose constructor is its configuration."""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ParamSpec,
    TypeVar,
    Unpack,
    get_args,
    get_origin,
    get_type_hints,
)

from torch import nn

from .runtime.annotations import Rules, fitted, is_plain, shortened
from .runtime.fractions import exact_number

P = ParamSpec("P")
R = TypeVar("R")
LARGEST = 1e15  # of an input: squares of larger ones, summed over features, overflow float32
NAME_LIMIT = 100  # letters of a name that are compared with the known ones
FEW, SHORT, NEAREST = 8, 260, 3  # a message has all names of a list of 8, or of 260 letters

if TYPE_CHECKING:
    from .batch import Batch


class Component(nn.Module):
    """Piece of the objective, whose constructor is its configuration.

    A subclass stores each keyword verbatim under its name, sets `paper` to its key in `papers.bib`,
    and may override `update`. What its constructor is given is checked against the annotations, by
    `check_arguments`, before the constructor runs.

    >>> class Scale(Component):
    ...     def __init__(self, *, factor: float = 2.0):
    ...         super().__init__()
    ...         self.factor = factor
    >>> Scale().config()
    {'factor': 2.0}
    """

    paper: ClassVar[str | None] = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)
            if not cls.__init__.__doc__:
                # else help shows nn.Module's; examples stay with the class, where they are run
                cls.__init__.__doc__ = (cls.__doc__ or "").partition(">>>")[0].rstrip()

    @classmethod
    def usage(
        cls,
        name: str,
        known: Mapping[str, inspect.Parameter],
        given: Mapping[str, Any] | None = None,
    ) -> str:
        """Return a call that shows how `name`, which makes this piece of arguments, is used; the
        caller wrote the keywords `given`."""
        shown = [k if p.default is p.empty else f"{k}={p.default!r}" for k, p in known.items()]
        return f"{name}({', '.join(shown)})"

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Move duals and running statistics after a step; nothing by default."""

    def check_classes(self, classes: int) -> None:
        """Raise `ValueError` if this piece does not fit data of `classes` classes."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments at their present values; nested pieces stay pieces."""
        # attributes, not the arguments given: a schedule may have changed them since
        return {n: getattr(self, n) for n in arguments(type(self)) if hasattr(self, n)}

    def table(self) -> dict[str, Any]:
        """Return name and configuration, nested pieces as tables, as in a recipe or a result.

        >>> Component().table()
        {'name': 'Component'}
        """
        config = {n: v.table() if isinstance(v, Component) else v for n, v in self.config().items()}
        return {"name": type(self).__name__, **config}

    def __repr__(self) -> str:
        """Return the call that makes this piece, in one line."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Return the arguments in that call: those that are not at their defaults."""
        return arguments_text(type(self), self.config())


def arguments(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the named arguments of a constructor or function, with evaluated annotations.

    A `**keywords: Unpack[Table]` stands for the fields of that `TypedDict`: each is annotated
    `Annotated[type, default]`.

    >>> list(arguments(Component))
    []
    """
    call = make.__init__ if inspect.isclass(make) else make
    try:
        known = inspect.signature(call, eval_str=True).parameters
    except (NameError, TypeError):
        known = inspect.signature(call).parameters
    out: dict[str, inspect.Parameter] = {}
    for name, parameter in known.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            if get_origin(parameter.annotation) is Unpack:
                (table,) = get_args(parameter.annotation)
                for key, hint in get_type_hints(table, include_extras=True).items():
                    kind, default = get_args(hint)
                    out[key] = inspect.Parameter(
                        key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
                    )
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL and name != "self":
            out[name] = parameter
    return out


def arguments_text(make: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """Return the arguments of a call of `make` as they are written, defaults omitted.

    >>> def ball(eps, *, low: float = 0.0, high: float = 1.0): ...
    >>> arguments_text(ball, {"eps": 8 / 255, "low": -1.0, "high": 1.0})
    '8/255, low=-1.0'
    """
    known, shown = arguments(make), []
    for name, value in values.items():
        text, default = _value_text(value), known[name].default
        if default is inspect.Parameter.empty:
            named = known[name].kind is inspect.Parameter.KEYWORD_ONLY
            shown.append(f"{name}={text}" if named else text)
        elif text != _value_text(default):
            shown.append(f"{name}={text}")
    return ", ".join(shown)


def _value_text(value: object) -> str:
    if isinstance(value, nn.Module) and not isinstance(value, Component):
        return f"{type(value).__name__}(…)"  # a network has lines for all of its layers
    return exact_number(value) if type(value) is float else repr(value)


def check_arguments(
    make: Callable[..., Any], values: Mapping[str, Any], path: str = ""
) -> dict[str, Any]:
    """Return the arguments of a constructor or function as their annotations want them.

    Only annotations of numbers, texts and lists of them are checked, and those of pieces:
    numbers of NumPy become Python's, and "8/255" is a number. Infinity and NaN are numbers only
    where the default is infinite, or the annotation `AnyReal`. Other values pass.

    Arguments:
        path: of the table that holds the values, for messages.

    Raises:
        ValueError: one line per mistake, naming the argument, its value and what is allowed.

    >>> def make(*, steps: int, size: float = 1.0): ...
    >>> check_arguments(make, {"steps": 3, "size": "1/2"})
    {'steps': 3, 'size': 0.5}
    >>> check_arguments(make, {"steps": True})
    Traceback (most recent call last):
    ValueError: steps = True is not allowed: steps must be a valid integer
    """
    return fit_parameters(_checkable(make), values, path)


def fit_parameters(
    parameters: Mapping[str, inspect.Parameter],
    values: Mapping[str, Any],
    path: str = "",
    *,
    floats: bool = False,
) -> dict[str, Any]:
    """Return `values` with those in `parameters` as the annotations want them, as
    `check_arguments`.

    Arguments:
        floats: integers become floats where the annotation is one, as in TOML.
    """
    out, mistakes = dict(values), []
    for name, value in values.items():
        if name not in parameters:
            continue
        annotation, default = parameters[name].annotation, parameters[name].default
        if value is None and default is None:
            continue
        finite = not (isinstance(default, float) and math.isinf(default))
        key = f"{path}.{name}" if path else name
        try:
            out[name] = fitted(annotation, value, key, Rules(finite=finite, floats=floats))
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return out


def checked(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a constructor or function: `check_arguments` sees its arguments before it.

    What does not fit is refused in one sentence, with a call that does where one is known.
    """
    signature = inspect.signature(call)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p.name for p in signature.parameters.values() if p.kind in kinds]

    @functools.wraps(call)
    def check_and_call(*args: P.args, **keywords: P.kwargs) -> R:
        first = dict(zip(positional, args, strict=False))
        made = type(args[0]) if positional[:1] == ["self"] and args else call
        try:
            values = check_arguments(call, {**first, **keywords})
        except ValueError as error:
            pieces = [k for k, p in _checkable(call).items() if _is_piece(p.annotation)]
            is_piece = any(str(error).startswith(f"{k} = ") for k in pieces)
            raise ValueError(f"{error}{_as_in(made, keywords) if is_piece else ''}") from None
        try:
            signature.bind(*args, **keywords)
            require_known(made, keywords)
        except TypeError as error:
            raise TypeError(f"{made.__name__}: {error}{_as_in(made, keywords)}") from None
        fit = [values[name] for name in first]
        return call(*fit, *args[len(fit) :], **{name: values[name] for name in keywords})  # type: ignore[arg-type]

    check_and_call.checked = True  # type: ignore[attr-defined]
    return check_and_call


def require_known(make: Callable[..., Any], keywords: Iterable[str]) -> None:
    """Raise `TypeError` for a keyword that a constructor or function does not take."""
    known = arguments(make)
    for key in keywords:
        if key not in known and not takes_any_keyword(make):
            raise TypeError(f"there is no argument {key!r}; it takes {', '.join(known)}")


def _as_in(make: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """Return the end of a message: how a piece, or a function that makes one, is called."""
    piece = make if inspect.isclass(make) else _return_annotation(make)
    if not (inspect.isclass(piece) and issubclass(piece, Component)):
        return ""
    return f". Call it as {piece.usage(make.__name__, arguments(make), given)}"


def _return_annotation(call: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(call, eval_str=True).return_annotation
    except (NameError, TypeError):  # names that only a type checker imports
        return None


@functools.cache
def _checkable(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments that have plain annotations, or are pieces."""
    return {
        name: parameter
        for name, parameter in arguments(make).items()
        if is_plain(parameter.annotation) or _is_piece(parameter.annotation)
    }


def _is_piece(annotation: Any) -> bool:
    """Return whether an annotation is of components alone: `Attack | Sequence[Attack] | None`."""
    parts = [a for a in get_args(annotation) if a is not type(None)]
    if parts and get_origin(annotation) is not collections.abc.Callable:
        return all(map(_is_piece, parts))
    return inspect.isclass(annotation) and issubclass(annotation, Component)


def takes_any_keyword(make: Callable[..., Any]) -> bool:
    """Return whether a callable ends with `**keywords` that stand for no known table."""
    call = make.__init__ if inspect.isclass(make) else make
    last = list(inspect.signature(call).parameters.values())[-1:]
    return any(
        p.kind is inspect.Parameter.VAR_KEYWORD
        and get_origin(p.annotation) is not Unpack
        and not str(p.annotation).startswith("Unpack")  # not evaluated yet
        for p in last
    )


def require(ok: object, key: str, value: object, allowed: str) -> None:
    """Raise `ValueError` naming the offending key, its value and what is allowed, unless `ok`."""
    if not ok:
        raise ValueError(f"{key} = {shortened(value)} is not allowed: {key} must be {allowed}")


def require_at_least(least: int, **values: float) -> None:
    """Raise `ValueError` for a count below `least`, as `require_at_least(1, steps=steps)`."""
    for key, value in values.items():
        require(value >= least, key, value, f"an integer ≥ {least}")


def check_classes(root: nn.Module, classes: int) -> None:
    """Raise `ValueError` if `root`, or a piece in it, does not fit data of `classes` classes."""
    for module in root.modules():
        if isinstance(module, Component):
            module.check_classes(classes)


def value_at(root: object, path: str) -> Any:
    """Return the value at a dotted path, as in `value_at(objective, "attack.threat.eps")`.

    Raises:
        ValueError: for a name on the path that does not exist; the message lists those that do.
    """
    for name in path.split("."):
        if not hasattr(root, name):
            known = (
                set(root.config())
                if isinstance(root, Component)
                else {n for n in getattr(root, "__dict__", ()) if n[0] != "_"}
            )
            if isinstance(root, nn.Module):
                known = (known | set(dict(root.named_children()))) - {"training"}
            raise ValueError(
                f"path {shortened(path)}: {type(root).__name__} has no {shortened(name)}; "
                f"it has {', '.join(sorted(known)) or 'nothing to set'}"
            )
        root = getattr(root, name)
    return root


def assign_at(root: object, path: str, value: object) -> None:
    """Set the number at a dotted path, as in `assign_at(objective, "attack.threat.eps", 0.1)`.

    Raises:
        ValueError: for a name on the path that does not exist; the message lists those that do.
    """
    value_at(root, path)  # a wrong path raises here, before anything is set
    above, _, last = path.rpartition(".")
    setattr(value_at(root, above) if above else root, last, value)


def did_you_mean(key: str, name: str, known: Iterable[str], *, listed: str | None = None) -> str:
    """Return the message for a name that does not exist: the nearest names, and where all are.

    Arguments:
        listed: kind of names that `sparring list KIND` prints, "" for all kinds; default: none.

    >>> did_you_mean("threat", "Linv", ["Linf", "L2"])
    "threat = 'Linv' does not exist; did you mean 'Linf'? There are: L2, Linf"
    >>> did_you_mean("recipe", "b", [f"a{k}" for k in range(102)], listed="recipes")
    "recipe = 'b' does not exist. `sparring list recipes` has all 102"
    """
    known = sorted(known)
    lower = {k.lower(): k for k in known}
    few = len(known) <= FEW or (listed is None and sum(map(len, known)) <= SHORT)
    wrong = str(name)[:NAME_LIMIT].lower()
    close = difflib.get_close_matches(wrong, lower, n=1 if few else NEAREST, cutoff=0.5)
    nearest = " or ".join(", ".join(repr(lower[c]) for c in close).rsplit(", ", 1))
    hint = f"; did you mean {nearest}?" if close else "."
    if few:
        where = f"There are: {', '.join(known)}"
    elif listed is not None:
        where = f"`{f'sparring list {listed}'.strip()}` has all {len(known)}"
    else:
        where = f"There are {len(known)}: {', '.join(known[:NEAREST])} …"
    return f"{key} = {shortened(name)} does not exist{hint} {where}"
