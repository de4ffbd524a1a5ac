"""Choose weights by the names of the modules that hold them: `layer1`, `layers.*`, `head*`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..component import did_you_mean, require


def matches(name: str, pattern: str) -> bool:
    """Return whether a pattern is that of a name, or of a module around it; `*` is any letters.

    >>> matches("layers.0.weight", "layers"), matches("layers.0.weight", "layers.1*")
    (True, False)
    """
    return any(fnmatchcase(path, pattern) for path in _paths(name))


def select(
    names: Iterable[str], patterns: Sequence[str], *, key: str, known: Iterable[str] = ()
) -> dict[str, int]:
    """Return the names that a pattern matches, each with the number of its first pattern.

    Arguments:
        names: dotted names of weights or modules.
        key: of the patterns, for messages.
        known: names that a pattern may match too, which are not returned.

    Raises:
        ValueError: for a pattern that matches no name, with the nearest.

    >>> select(["stem.weight", "head.weight", "head.bias"], ["*.bias", "head"], key="freeze")
    {'head.weight': 1, 'head.bias': 0}
    """
    is_list = not isinstance(patterns, str) and all(isinstance(p, str) for p in patterns)
    require(is_list, key, patterns, 'a list of names, as ["stem", "layers.*"]')
    names = list(names)
    every = [*names, *known]
    for pattern in patterns:
        if not any(matches(name, pattern) for name in every):
            raise ValueError(did_you_mean(key, pattern, _as_deep(every, pattern.count("."))))
    first = {n: [k for k, p in enumerate(patterns) if matches(n, p)] for n in names}
    return {name: numbers[0] for name, numbers in first.items() if numbers}


def _paths(name: str) -> list[str]:
    """Return a name and the modules around it, outermost first."""
    parts = name.split(".")
    return [".".join(parts[: k + 1]) for k in range(len(parts))]


def _as_deep(names: Iterable[str], depth: int) -> set[str]:
    """Return the names, and modules around them, with at most this many dots."""
    return {path for name in names for path in _paths(name) if path.count(".") <= depth}
