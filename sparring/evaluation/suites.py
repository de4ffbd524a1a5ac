"""Suites: named, versioned lists of attacks; to add one, add an entry to `SUITES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .. import attacks
from ..attacks.base import Attack
from ..batch import Model
from ..component import did_you_mean, require
from ..introspect.predict import is_without_gradient
from ..threats.base import Threat

MakeAttack = Callable[[Threat], Attack]
LP = (math.inf, 2, 1)
BINARY = ("bits",)
GROUPED = ("bits", "groups")


class Entry(NamedTuple):
    """Describe one attack of a suite.

    Arguments:
        make: builds the attack for a threat.
        kind: its need: `"white"` gradients, `"black"` outputs only, `"labels"` predicted classes
            only, `"transfer"` another model.
        norms: the balls it supports, by their p, and `"bits"` if it supports bits, `"groups"` if
            columns of bits may move together; default: all threats but those of bits.
        near_share: attack only near misses: this share of the samples still robust, those whose
            margin came nearest to 0 under the attacks before; default: all samples.
        may_sample: with `sample`, attack only the near misses and a sample of the others that the
            first attacks left robust, and all of them once one of that sample breaks.
    """

    label: str
    make: MakeAttack
    kind: str = "white"
    norms: tuple[float | str, ...] = ()
    near_share: float = 1.0
    may_sample: bool = False

    def supports(self, threat: Threat) -> bool:
        """Return whether the attack can be built for this threat."""
        if threat.binary:
            return ("groups" if threat.groups else "bits") in self.norms
        return not self.norms or getattr(threat, "p", None) in self.norms


def _makes_attack(one: object) -> bool:
    """Return whether this is an entry, or a label with a function that makes an attack."""
    if not isinstance(one, tuple | list) or len(one) < 2:
        return False
    return isinstance(one[0], str) and callable(one[1]) and not isinstance(one[1], Attack)


@dataclass(frozen=True)
class Suite:
    """List attacks in the order they run, each a label and a function that builds it for a threat.

    Arguments:
        version: raised when results of the suite change.
        cascade: by default, an attack sees only samples that all attacks before it left robust.
        about: the purpose, for `sparring list`; default: the attacks' labels.
        confirmed_by: the suite that a claim takes; the best verdict of this one is then "look".

    >>> Suite("one", 1, (("FGSM", attacks.FGSM),)).labels
    ['FGSM']
    """

    name: str
    version: int
    attacks: Sequence[Entry | tuple[str, MakeAttack]]
    cascade: bool = False
    about: str = ""
    confirmed_by: str = ""

    def __post_init__(self) -> None:
        pairs = "pairs of a label and a function, as ('PGD', lambda threat: PGD(threat))"
        for one in self.attacks:
            require(_makes_attack(one), "attacks", one, pairs)
        unique = len(set(self.labels)) == len(self.labels) > 0
        require(unique, "attacks", self.labels, "at least one, each with its own label")

    @property
    def entries(self) -> list[Entry]:
        """Return the attacks in order."""
        return [entry if isinstance(entry, Entry) else Entry(*entry) for entry in self.attacks]

    @property
    def labels(self) -> list[str]:
        """Return the attacks' labels in order."""
        return [entry.label for entry in self.entries]

    @property
    def description(self) -> str:
        """Return the line of the suite in `sparring list`."""
        return self.about or " · ".join(self.labels)

    def entries_for(self, threat: Threat) -> list[Entry]:
        """Return the attacks that support this threat.

        Raises:
            ValueError: if there are none, naming the suites that have some.
        """
        supported = [entry for entry in self.entries if entry.supports(threat)]
        if not supported:
            others = [s.name for s in SUITES.values() if any(e.supports(threat) for e in s.entries)]
            raise ValueError(
                f"suite = {self.name!r} has no attack for {type(threat).__name__}: "
                f"take one of {', '.join(others)}; see: sparring list suites"
            )
        return supported


def _tenth(threat: Threat) -> float | None:
    """Return a step length of eps/10, as MART evaluates; None (the default) without eps."""
    return (threat.eps or 0.0) / 10 or None


QUICK = (
    Entry("FGSM", attacks.FGSM),
    Entry("PGD-20", lambda t: attacks.PGD(t, steps=20, size=_tenth(t))),
)
LONG = (
    Entry("PGD-100", lambda t: attacks.PGD(t, steps=100)),
    Entry("PGD-50×10 margin", lambda t: attacks.PGD(t, steps=50, restarts=10, loss="margin")),
)
FROM_X = (
    Entry("FGSM", attacks.FGSM),
    Entry("PGD-40 from x", lambda t: attacks.PGD(t, steps=40, size=_tenth(t), random_start=False)),
)
SQUARE = Entry("Square", lambda t: attacks.Square(t, queries=5000, plan=10_000), "black", LP)
APGD_T = Entry("APGD-T", lambda t: attacks.APGD(t, loss="dlr-targeted", targets=9), norms=LP)
FAB_T = Entry("FAB-T", lambda t: attacks.FAB(t, targets=9), norms=LP)
STANDARD = (Entry("APGD-CE", attacks.APGD, norms=LP), APGD_T, FAB_T, SQUARE)
# What gradients have left robust, FAB-T and Square seldom break, at three quarters of the cost.
SAMPLED = (*STANDARD[:2], *(one._replace(may_sample=True) for one in STANDARD[2:]))
# A sample near the boundary may fall to one draw and not to another: over ten seeds, each of two
# implementations breaks some that the other misses. A second draw on the nearest is cheap.
AGAIN = tuple(
    one._replace(label=f"{one.label} again", near_share=0.1, may_sample=True)
    for one in (APGD_T, SQUARE)
)
# Losses that differ, few steps each, and the classes that a sample falls to most often. Square
# shows whether gradients mislead, on the samples where it shows first.
FAST = (
    Entry("APGD-PM-30", lambda t: attacks.APGD(t, steps=30, loss="probability-margin"), norms=LP),
    Entry("APGD-DLR-50", lambda t: attacks.APGD(t, steps=50, loss="dlr"), norms=LP),
    Entry(
        "APGD-T-50×3",
        lambda t: attacks.APGD(t, steps=50, loss="dlr-targeted", targets=3, order="auto"),
        norms=LP,
    ),
    Entry(
        "Square-500 nearest",
        lambda t: attacks.Square(t, queries=500),
        "black",
        LP,
        near_share=0.2,
    ),
)
PLUS = (
    Entry("APGD-CE×5", lambda t: attacks.APGD(t, restarts=5), norms=LP),
    Entry("APGD-DLR×5", lambda t: attacks.APGD(t, loss="dlr", restarts=5), norms=LP),
    Entry("FAB×5", lambda t: attacks.FAB(t, restarts=5), norms=LP),
    SQUARE,
    APGD_T,
    FAB_T,
)
RAND = (
    Entry("APGD-CE EOT-20", lambda t: attacks.APGD(t, eot=20), norms=LP),
    Entry("APGD-DLR EOT-20", lambda t: attacks.APGD(t, loss="dlr", eot=20), norms=LP),
)
BLACK = (
    SQUARE,
    Entry("Sparse-RS", lambda t: attacks.SparseRS(t, queries=5000), "black", (0,)),
    Entry("SPSA", attacks.SPSA, "black"),
    Entry("HopSkipJump", attacks.HopSkipJump, "black", (math.inf, 2)),
)
MINIMAL = (
    Entry("MI-FGSM", attacks.MIFGSM, norms=LP),
    Entry("DeepFool", attacks.DeepFool, norms=(math.inf, 2)),
    Entry("CW", attacks.CW, norms=(math.inf, 2)),
    Entry("EAD", attacks.EAD, norms=(1,)),
    Entry("JSMA", attacks.JSMA, norms=(0,)),
)
BITS = (
    Entry("dFGSM-50", attacks.DFGSM, norms=BINARY),
    Entry("rFGSM-50", attacks.RFGSM, norms=BINARY),
    Entry("BGA-50", attacks.BGA, norms=BINARY),
    Entry("BCA-50", attacks.BCA, norms=BINARY),
    Entry("Grosse-50", attacks.Grosse, norms=BINARY),
    Entry("BitSearch", attacks.BitSearch, norms=BINARY),
)
ALL = (*QUICK, *LONG, *STANDARD[:-1], *MINIMAL)
BITS_BLACK = (
    Entry("LinearBits", attacks.LinearBits, "black", GROUPED),
    Entry("MonotoneBits", attacks.MonotoneBits, "black", GROUPED),
    Entry("BitBeam", attacks.BitBeam, "black", GROUPED),
    Entry("BitBoundary", lambda t: attacks.BitBoundary(t, queries=1000), "labels", GROUPED),
)

SUITES = {
    s.name: s
    for s in (
        Suite("quick", 1, QUICK),
        Suite("pgd", 1, (*QUICK, *LONG)),
        Suite("from-x", 1, FROM_X),
        Suite("fast", 1, FAST, cascade=True, confirmed_by="autoattack"),
        Suite("autoattack", 2, (*SAMPLED, *AGAIN), cascade=True),
        Suite("autoattack-plus", 1, PLUS, cascade=True),
        Suite("autoattack-rand", 1, RAND, cascade=True),
        Suite("black-box", 1, BLACK, cascade=True),
        Suite("bits", 1, BITS),
        Suite("bits-published", 1, BITS[:-1]),
        Suite("bits-black-box", 1, BITS_BLACK),
        Suite("all", 2, (*ALL, *BITS, *BLACK, *BITS_BLACK), cascade=True),
    )
}
TRANSFER = "transfer"


def transfer(surrogate: Model) -> Suite:
    """Return the suite that attacks the surrogate, preferably trained on the same data, and tries
    those points on the evaluated model."""
    on_surrogate: tuple[Entry, ...] = (
        Entry("PGD-40", lambda t: attacks.PGD(t, steps=40, size=_tenth(t))),
        Entry("MI-FGSM", lambda t: attacks.MIFGSM(t, steps=20)),
        Entry("PGD-40 margin", lambda t: attacks.PGD(t, steps=40, size=_tenth(t), loss="margin")),
        Entry("BitSearch", attacks.BitSearch, norms=BINARY),
    )
    if is_without_gradient(surrogate):
        on_surrogate = (Entry("BitBeam", attacks.BitBeam, norms=GROUPED), SQUARE)
    entries = tuple(
        Entry(
            f"{one.label} of the surrogate",
            lambda t, make=one.make: attacks.Transfer(t, surrogate=surrogate, attack=make(t)),
            "transfer",
            one.norms,
        )
        for one in on_surrogate
    )
    return Suite(TRANSFER, 1, entries)


def gradient_free_suite(threats: Sequence[Threat]) -> str:
    """Return the first suite that has an attack without gradients for each threat; "" if none has.

    >>> from sparring.threats import L0, Bits, Linf
    >>> [gradient_free_suite([one]) for one in (Linf(0.1), L0(3), Bits(3))]
    ['autoattack', 'black-box', 'bits-black-box']
    """

    def reveals(suite: Suite, threat: Threat) -> bool:
        return not suite.confirmed_by and any(
            entry.kind != "white" and entry.supports(threat) for entry in suite.entries
        )

    names = [s.name for s in SUITES.values() if all(reveals(s, threat) for threat in threats)]
    return names[0] if names else ""


def check_suite_name(name: str) -> None:
    """Raise a `ValueError` for a suite that does not exist, with the nearest name and all names."""
    if name not in (*SUITES, TRANSFER):
        raise ValueError(did_you_mean("suite", name, [*SUITES, TRANSFER], listed="suites"))


def find_suite(suite: str | Suite, surrogate: Model | None = None) -> Suite:
    """Return the suite of this name, or the suite itself; with a surrogate, plus its transfer
    attacks.

    Raises:
        ValueError: for a name that does not exist, or `"transfer"` without a surrogate.

    >>> find_suite("quick").description
    'FGSM · PGD-20'
    """
    if suite == TRANSFER:
        require(surrogate is not None, "surrogate", surrogate, "a model for suite = 'transfer'")
        return transfer(surrogate)  # type: ignore[arg-type]
    if isinstance(suite, str):
        check_suite_name(suite)
        suite = SUITES[suite]
    if surrogate is None:
        return suite
    both = (*suite.entries, *transfer(surrogate).entries)
    return replace(suite, name=f"{suite.name}+transfer", attacks=both)
