"""A threat as options ask for it: built once the data are known, which have the mask, the groups
and the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..component import did_you_mean, require
from ..data import Source
from ..data.tables import mutable_mask
from ..runtime.fractions import parse_number
from ..threats import Bits, Only, norm_ball, norm_name
from ..threats.base import Threat

BITS = "Bits"


@dataclass(frozen=True)
class RequestedThreat:
    """Hold the options of a threat.

    Arguments:
        name: `"Bits"`, or a norm; None: the threat of the model's recipe, or Linf.
        add_only: as in `Bits`; default: added only.
        mutable: a file of the features that an attacker can change; default: the data's mask.
        classes: names or numbers of the classes whose samples move; default: all.

    Raises:
        ValueError: for options of bits with a norm.
    """

    name: str | None = BITS
    add_only: bool | None = None
    mutable: str | Path | None = None
    classes: Sequence[str | int] = ()

    def __post_init__(self) -> None:
        if is_bits(self.name):
            return
        for key, value in (("add_only", self.add_only), ("mutable", self.mutable)):
            shown = str(value) if isinstance(value, Path) else value
            require(value is None, key, shown, "left out: it belongs to --threat Bits")

    def build(self, data: Any, eps: Any = None, recipe_threat: Any = None) -> Threat:
        """Return the threat on these data; a norm needs an eps, which the radii replace.

        Arguments:
            recipe_threat: the threat of the model's recipe.

        Raises:
            ValueError: for a mask that does not fit, a class that the data lack, or a norm without
                eps.
        """
        if is_bits(self.name):
            threat = self._bits(data)
        elif self.name is None and isinstance(recipe_threat, Threat):
            threat = recipe_threat
        else:
            threat = self._ball(data, eps)
        if not self.classes:
            return threat
        names = data.class_names if isinstance(data, Source) else None
        return Only(threat, classes=sorted({class_number(c, names) for c in self.classes}))

    def _bits(self, data: Any) -> Bits:
        options: dict[str, Any] = {} if self.add_only is None else {"add_only": self.add_only}
        if isinstance(data, Source):
            low, high = data.bounds
            options |= {"low": low, "high": high, "groups": data.groups, "mutable": data.mutable}
        if self.mutable is not None:
            require(isinstance(data, Source), "mutable", str(self.mutable), "of data with features")
            d = data.shape[0] if len(data.shape) == 1 else 0
            require(d, "mutable", str(self.mutable), "left out: the data are no table of features")
            options["mutable"] = mutable_mask(self.mutable, d, data.feature_names)
        return Bits(**options)

    def _ball(self, data: Any, eps: Any) -> Threat:
        name = norm_name("Linf" if self.name is None else self.name)
        first = next(iter(eps), None) if isinstance(eps, list | tuple) else eps
        if first is None:
            raise ValueError(f"eps is missing: give --eps, the radius of the {name} ball")
        low, high = data.bounds if isinstance(data, Source) else (0.0, 1.0)
        return norm_ball(name, eps=parse_number(str(first)), low=low, high=high)


def is_bits(name: object) -> bool:
    """Return whether a threat's name is that of Bits, in any case."""
    return isinstance(name, str) and name.lower() == BITS.lower()


def class_number(given: str | int, names: Sequence[str] | None) -> int:
    """Return the number of a class, given its name or number.

    Raises:
        ValueError: for neither.

    >>> class_number("malware", ["benign", "malware"]), class_number("0", ["benign", "malware"])
    (1, 0)
    """
    text = str(given)
    if names is not None and text in names:
        return list(names).index(text)
    count = None if names is None else len(names)
    if text.isdecimal() and (count is None or int(text) < count):
        return int(text)
    if names is None:
        raise ValueError(f"classes = {text[:60]!r} is not allowed: the data name no classes")
    raise ValueError(did_you_mean("class", text[:60], names))
