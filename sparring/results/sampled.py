"""What an evaluation claims of survivors that it attacked only a sample of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .ranges import Count, Share

MOST_LOST = 0.02  # share of all samples: above it, a measurement needs a look
RISK = 0.05


@dataclass(frozen=True)
class SampledClaim:
    """Report which survivors of the first attacks the later ones were run on, at one radius.

    Arguments:
        sample: random survivors that were wanted, m.
        survivors: samples that the first attacks left robust.
        attacked: of them, those that every later attack was run on: the nearest to the boundary,
            and m at random of the others; all of them where one of the m broke, or where they were
            few.
        withstood: of the attacked ones, those that no later attack broke.
        lost: at 95 % confidence, the most samples that the later attacks would break among those
            they were not run on. 0 if they were run on all survivors.
        bound: `lost` as a share of all n samples, by which the robust accuracy may be too high.
    """

    sample: Count
    survivors: Count
    attacked: Count
    withstood: Count
    lost: Count
    bound: Share

    @property
    def complete(self) -> bool:
        """Return whether the later attacks were run on all survivors."""
        return self.attacked == self.survivors

    def __str__(self) -> str:
        if self.complete:
            return f"later attacks ran on all {self.survivors} survivors"
        return (
            f"later attacks ran on {self.attacked} of {self.survivors} survivors and broke "
            f"{self.attacked - self.withstood}; at 95 % they would break at most {self.lost} of "
            f"the others, {100 * self.bound:.1f} % of all samples"
        )


def total_bound(claims: Iterable[SampledClaim | None]) -> float:
    """Return the sum of the bounds: each norm could lose other samples."""
    return sum(claim.bound for claim in claims if claim is not None)


def bound_text(claims: Iterable[SampledClaim | None]) -> str:
    """Return by how many points the attacks that were not run could lower an accuracy, or "".

    >>> bound_text([SampledClaim(150, 900, 240, 240, 13, 0.013), None])
    ' −1.3 by sample'
    """
    bound = total_bound(claims)
    return f" −{100 * bound:.1f} by sample" if bound else ""


def most_lost(others: int, random: int) -> int:
    """Return the most of `others` that would break, given that none of `random` ones did.

    It is the exact upper bound at 95 %. Let K of the others break: it is the largest K that
    `random` draws without replacement miss altogether with a probability of at least 5 %. The rule
    of three, 3/random, is its limit for very many others.

    Source: Clopper and Pearson 1934 for no success, with the hypergeometric distribution in place
    of the binomial.

    >>> most_lost(10**6, 150) / 10**6, most_lost(810, 150), most_lost(150, 150), most_lost(9, 0)
    (0.0197..., 14, 0, 9)
    """
    missed, lost = 1.0, 0  # P(none of the K are drawn), by recurrence in K
    while lost < others - random:
        missed *= (others - lost - random) / (others - lost)
        if missed < RISK:
            break
        lost += 1
    return lost
