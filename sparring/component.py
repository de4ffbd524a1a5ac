"""Base of every piece of the formula: an `nn.Module` whose constructor is its configuration."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, get_args, get_origin, get_type_hints

from torch import nn

if TYPE_CHECKING:
    from .batch import Batch


class Component(nn.Module):
    """Piece of the objective, whose constructor is its configuration.

    A subclass stores each keyword verbatim under its name, sets `paper` to its key in `papers.bib`,
    and may override `update`.

    >>> class Scale(Component):
    ...     def __init__(self, *, factor: float = 2.0):
    ...         super().__init__()
    ...         self.factor = factor
    >>> Scale().config()
    {'factor': 2.0}
    """

    paper: ClassVar[str | None] = None

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

    def extra_repr(self) -> str:
        return ", ".join(
            f"{k}={v!r}" for k, v in self.config().items() if not isinstance(v, nn.Module)
        )


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
        raise ValueError(f"{key} = {value!r} is not allowed: {key} must be {allowed}")


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
                else {n for n in vars(root) if n[0] != "_"}
            )
            if isinstance(root, nn.Module):
                known = (known | set(dict(root.named_children()))) - {"training"}
            raise ValueError(
                f"path {path!r}: {type(root).__name__} has no {name!r}; "
                f"it has {', '.join(sorted(known))}"
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


def did_you_mean(key: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that does not exist: the nearest, then all.

    >>> did_you_mean("threat", "Linv", ["Linf", "L2"])
    "threat = 'Linv' does not exist; did you mean 'Linf'? There are: L2, Linf"
    """
    known = sorted(known)
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean {lower[close[0]]!r}?" if close else "."
    return f"{key} = {name!r} does not exist{hint} There are: {', '.join(known)}"
