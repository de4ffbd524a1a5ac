"""Suites: named, versioned lists of attacks as declared data; a new one is an entry more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .. import attacks as a
from ..attacks.base import Attack
from ..batch import Model
from ..component import did_you_mean, require
from ..threats.base import Threat

Make = Callable[[Threat], Attack]
LP = (math.inf, 2, 1)
BINARY = ("bits",)
ANY: tuple[float | str, ...] = ()


class Entry(NamedTuple):
    """One attack of a suite.

    Arguments:
        make: builds it for a threat.
        kind: what it needs: `"white"` gradients, `"black"` outputs only, `"transfer"` another
            model.
        norms: the balls it knows, by their p, and `"bits"` if its points can be bits; where empty,
            all threats but those of bits.
    """

    label: str
    make: Make
    kind: str = "white"
    norms: tuple[float | str, ...] = ANY

    def knows(self, threat: Threat) -> bool:
        """Whether it can be made for this threat."""
        if threat.binary:
            return "bits" in self.norms
        return not self.norms or getattr(threat, "p", None) in self.norms


@dataclass(frozen=True)
class Suite:
    """Attacks in the order they run, each a label and what makes it for a threat.

    Arguments:
        version: raised when the numbers it gives move.
        cascade: by default an attack sees only what those before it left standing.
        line: what it is for, as a catalogue shows it.

    >>> Suite("one", 1, (("FGSM", a.FGSM),)).labels
    ['FGSM']
    """

    name: str
    version: int
    attacks: Sequence[Entry | tuple[str, Make]]
    cascade: bool = False
    about: str = ""

    def __post_init__(self) -> None:
        require(
            self.labels and len(set(self.labels)) == len(self.labels),
            "attacks",
            self.labels,
            "at least one, each with its own label",
        )

    @property
    def entries(self) -> list[Entry]:
        """The attacks in order."""
        return [entry if isinstance(entry, Entry) else Entry(*entry) for entry in self.attacks]

    @property
    def labels(self) -> list[str]:
        """The attacks' names in order."""
        return [entry.label for entry in self.entries]

    @property
    def line(self) -> str:
        """The attacks' labels, as a catalogue shows them."""
        return self.about or " · ".join(self.labels)

    @property
    def gradient_free(self) -> bool:
        """Whether some attack needs no gradients of the model, so that masked ones would show."""
        return any(entry.kind != "white" for entry in self.entries)

    def against(self, threat: Threat) -> list[Entry]:
        """The attacks that know this threat.

        Raises:
            ValueError: if there are none.
        """
        known = [entry for entry in self.entries if entry.knows(threat)]
        if not known:
            fit = [s.name for s in SUITES.values() if any(e.knows(threat) for e in s.entries)]
            raise ValueError(
                f"suite = {self.name!r} has no attack for {type(threat).__name__}: "
                f"take one of {', '.join(fit)}; see: sparring list suites"
            )
        return known


def _tenth(threat: Threat) -> float | None:
    """A step of eps/10, as MART evaluates; the attack's own default where there is no radius."""
    return (threat.eps or 0.0) / 10 or None


QUICK = (
    Entry("FGSM", lambda t: a.FGSM(t)),
    Entry("PGD-20", lambda t: a.PGD(t, steps=20, size=_tenth(t))),
)
LONG = (
    Entry("PGD-100", lambda t: a.PGD(t, steps=100)),
    Entry("PGD-50×10 margin", lambda t: a.PGD(t, steps=50, restarts=10, loss="margin")),
)
FROM_X = (
    Entry("FGSM", lambda t: a.FGSM(t)),
    Entry("PGD-40 from x", lambda t: a.PGD(t, steps=40, size=_tenth(t), random_start=False)),
)
SQUARE = Entry("Square", lambda t: a.Square(t, queries=5000, plan=10_000), "black", LP)
APGD_T = Entry("APGD-T", lambda t: a.APGD(t, loss="dlr-targeted", targets=9), norms=LP)
FAB_T = Entry("FAB-T", lambda t: a.FAB(t, targets=9), norms=LP)
STANDARD = (Entry("APGD-CE", lambda t: a.APGD(t), norms=LP), APGD_T, FAB_T, SQUARE)
PLUS = (
    Entry("APGD-CE×5", lambda t: a.APGD(t, restarts=5), norms=LP),
    Entry("APGD-DLR×5", lambda t: a.APGD(t, loss="dlr", restarts=5), norms=LP),
    Entry("FAB×5", lambda t: a.FAB(t, restarts=5), norms=LP),
    SQUARE,
    APGD_T,
    FAB_T,
)
RAND = (
    Entry("APGD-CE EOT-20", lambda t: a.APGD(t, eot=20), norms=LP),
    Entry("APGD-DLR EOT-20", lambda t: a.APGD(t, loss="dlr", eot=20), norms=LP),
)
BLACK = (
    SQUARE,
    Entry("Sparse-RS", lambda t: a.SparseRS(t, queries=5000), "black", (0,)),
    Entry("SPSA", lambda t: a.SPSA(t), "black"),
    Entry("HopSkipJump", lambda t: a.HopSkipJump(t), "black", (math.inf, 2)),
)
MINIMAL = (
    Entry("MI-FGSM", lambda t: a.MIFGSM(t), norms=LP),
    Entry("DeepFool", lambda t: a.DeepFool(t), norms=(math.inf, 2)),
    Entry("CW", lambda t: a.CW(t), norms=(math.inf, 2)),
    Entry("EAD", lambda t: a.EAD(t), norms=(1,)),
    Entry("JSMA", lambda t: a.JSMA(t), norms=(0,)),
)
BITS = (
    Entry("dFGSM-50", lambda t: a.DFGSM(t), norms=BINARY),
    Entry("rFGSM-50", lambda t: a.RFGSM(t), norms=BINARY),
    Entry("BGA-50", lambda t: a.BGA(t), norms=BINARY),
    Entry("BCA-50", lambda t: a.BCA(t), norms=BINARY),
    Entry("Grosse-50", lambda t: a.Grosse(t), norms=BINARY),
    Entry("BitSearch", lambda t: a.BitSearch(t), norms=BINARY),
)

SUITES = {
    s.name: s
    for s in (
        Suite("quick", 1, QUICK),
        Suite("pgd", 1, (*QUICK, *LONG)),
        Suite("from-x", 1, FROM_X),
        Suite("autoattack", 1, STANDARD, cascade=True),
        Suite("autoattack-plus", 1, PLUS, cascade=True),
        Suite("autoattack-rand", 1, RAND, cascade=True),
        Suite("black-box", 1, BLACK, cascade=True),
        Suite("bits", 1, BITS),
        Suite("bits-published", 1, BITS[:-1]),
        Suite("all", 1, (*QUICK, *LONG, *STANDARD[:-1], *MINIMAL, *BITS, *BLACK), cascade=True),
    )
}
TRANSFER = "transfer"


def transfer(surrogate: Model) -> Suite:
    """Points made on another model, the surrogate, tried on this one: it needs no gradients of it.

    Arguments:
        surrogate: inputs `(b, *d)` to logits `(b, k)`; best one trained on the same data.
    """
    made = (
        Entry("PGD-40", lambda t: a.PGD(t, steps=40, size=_tenth(t))),
        Entry("MI-FGSM", lambda t: a.MIFGSM(t, steps=20)),
        Entry("PGD-40 margin", lambda t: a.PGD(t, steps=40, size=_tenth(t), loss="margin")),
        Entry("BitSearch", lambda t: a.BitSearch(t), norms=BINARY),
    )
    entries = tuple(
        Entry(
            f"{one.label} of the surrogate",
            lambda t, make=one.make: a.Transfer(t, surrogate=surrogate, attack=make(t)),
            "transfer",
            one.norms,
        )
        for one in made
    )
    return Suite(TRANSFER, 1, entries)


def named(name: str | Suite, surrogate: Model | None = None) -> Suite:
    """The suite of that name, or the suite itself; with a surrogate, its points are tried too.

    Raises:
        ValueError: for a name that does not exist; it says the nearest and lists them.

    >>> named("quick").line
    'FGSM · PGD-20'
    """
    if isinstance(name, Suite):
        found = name
    elif name == TRANSFER:
        require(surrogate is not None, "surrogate", surrogate, "a model for suite = 'transfer'")
        found = None
    elif name not in SUITES:
        raise ValueError(did_you_mean("suite", name, [*SUITES, TRANSFER]))
    else:
        found = SUITES[name]
    if surrogate is None:
        assert found is not None
        return found
    points = transfer(surrogate)
    if found is None:
        return points
    both = (*found.entries, *points.entries)
    return Suite(f"{found.name}+transfer", found.version, both, cascade=found.cascade)
