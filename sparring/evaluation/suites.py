"""Suites: named, versioned lists of attacks as declared data; a new one is an entry more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..attacks import FGSM, PGD
from ..attacks.base import Attack
from ..part import nearest, require
from ..threats.base import Threat

Make = Callable[[Threat], Attack]


@dataclass(frozen=True)
class Suite:
    """Attacks in the order they run, each a label and what makes it for a threat.

    Arguments:
        version: raised when the numbers it gives move.

    >>> Suite("one", 1, (("FGSM", FGSM),)).line
    'FGSM'
    """

    name: str
    version: int
    attacks: tuple[tuple[str, Make], ...]

    def __post_init__(self) -> None:
        labels = [label for label, _ in self.attacks]
        require(
            labels and len(set(labels)) == len(labels),
            "attacks",
            labels,
            "at least one, each with its own label",
        )

    @property
    def line(self) -> str:
        """The attacks' labels, as a catalogue shows them."""
        return " · ".join(label for label, _ in self.attacks)


def _tenth(threat: Threat) -> float | None:
    """A step of eps/10, as MART evaluates; the attack's own default where there is no radius."""
    return getattr(threat, "eps", 0.0) / 10 or None


def _fgsm(threat: Threat) -> Attack:
    return FGSM(threat)


def _pgd20(threat: Threat) -> Attack:
    return PGD(threat, steps=20, size=_tenth(threat))


def _pgd100(threat: Threat) -> Attack:
    return PGD(threat, steps=100)


def _margin(threat: Threat) -> Attack:
    return PGD(threat, steps=50, restarts=10, loss="margin")


QUICK = (("FGSM", _fgsm), ("PGD-20", _pgd20))

SUITES = {
    s.name: s
    for s in (
        Suite("quick", 1, QUICK),
        Suite("pgd", 1, (*QUICK, ("PGD-100", _pgd100), ("PGD-50×10 margin", _margin))),
    )
}


def named(name: str | Suite) -> Suite:
    """The suite of that name, or the suite itself.

    Raises:
        ValueError: for a name that does not exist; it says the nearest and lists them.

    >>> named("quick").line
    'FGSM · PGD-20'
    """
    if isinstance(name, Suite):
        return name
    if name not in SUITES:
        raise ValueError(nearest("suite", name, SUITES))
    return SUITES[name]
