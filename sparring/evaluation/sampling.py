"""Choose which samples an attack runs on: those near the boundary, or a sample of the survivors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..component import require
from ..results.result import SampledClaim
from ..results.sampled import MOST_LOST, most_lost, total_bound
from ..runtime.seeding import seed_of_text
from ..threats.base import Threat
from .protocol import EvaluationProtocol
from .session import AttackOutcome
from .suites import SUITES, Entry, Suite

NEAR_ROWS = 16  # fewer near misses are not worth the choice
NEAR_SHARE = 0.1  # of the survivors, beside the random ones: as many as attacks repeat
Numbered = tuple[int, Entry]  # an entry with its position in the suite
RunEntry = Callable[["Standings", Numbered, np.ndarray | None], None]


@dataclass
class Standings:
    """Hold what is known of the samples after some attacks of a level.

    Arguments:
        robust: `(n,)` correct, under these attacks too.
        margin: `(n,)` the highest margin that any of them reached; −inf before the first.
        attacks: their outcomes, in order.
    """

    robust: np.ndarray
    margin: np.ndarray
    attacks: list[AttackOutcome] = field(default_factory=list)

    def add(self, outcome: AttackOutcome) -> None:
        """Take up the outcome of one more attack."""
        self.robust = self.robust & ~outcome.is_adversarial
        self.margin = np.fmax(self.margin, outcome.margin)
        self.attacks.append(outcome)

    def copy(self) -> Standings:
        """Return standings that grow without these."""
        return Standings(self.robust, self.margin, [*self.attacks])


def nearest(rows: np.ndarray, margin: np.ndarray, share: float) -> np.ndarray:
    """Return the share of `rows (r,)`, at least `NEAR_ROWS`, with the highest margins; in order.

    >>> nearest(np.arange(100), np.arange(100.0), 0.5).tolist() == list(range(50, 100))
    True
    """
    count = max(math.ceil(share * len(rows)), NEAR_ROWS)
    if count >= len(rows):
        return rows
    # stable: of equal margins the first rows, so that a resumed evaluation has the same batches
    return np.sort(rows[np.argsort(-margin[rows], kind="stable")[:count]])


def check_sample(protocol: EvaluationProtocol, suite: Suite, threats: Sequence[Threat]) -> None:
    """Raise `ValueError` for a sample of survivors where no attack of the suite may be sampled."""
    if protocol.sample is None:
        return
    known = [s.name for s in SUITES.values() if any(entry.may_sample for entry in s.entries)]
    allowed = f"None for the suite {suite.name!r}: suites with attacks that may run on a sample are"
    allowed = f"{allowed} {', '.join(known)}"
    for threat in threats:
        may = [entry.may_sample for entry in suite.entries_for(threat)]
        # Of the first attack there are no survivors yet.
        require(any(may) and not may[0], "sample", protocol.sample, allowed)
    require(protocol.cascade, "sample", protocol.sample, "None without a cascade")


def run_sampled(
    state: Standings, later: Sequence[Numbered], run: RunEntry, sample: int, *, seed: str
) -> SampledClaim:
    """Run the later attacks on a sample of the survivors, on all once a random one breaks.

    The sample is drawn by `seed`: the nearest tenth of the survivors, and `sample` of the others.
    Where an attack breaks one of these others, all later attacks start again on all survivors: in
    the batches, and so with the draws, that they have without a sample. What the first pass broke
    stays broken. The nearest are all run: one of them that breaks says nothing of the others.

    Arguments:
        state: after the attacks before; it takes up the outcomes.
        run: adds the outcome of one entry to standings; of the chosen rows only, if any are given.

    Returns:
        What the result may claim.
    """
    survivors = np.flatnonzero(state.robust)
    others = np.setdiff1d(survivors, nearest(survivors, state.margin, NEAR_SHARE))
    trial, asks_all = state.copy(), len(others) <= sample
    if not asks_all:
        draw = np.random.default_rng(seed_of_text(f"{seed}|sample"))
        left_out = draw.permutation(others)[sample:]
        chosen, random = (np.setdiff1d(rows, left_out) for rows in (survivors, others))
        for entry in later:
            run(trial, entry, chosen)
            asks_all = not trial.robust[random].all()
            if asks_all:
                break
    outcomes = trial.attacks[len(state.attacks) :]
    if asks_all:
        start = state.copy()
        for entry in later:
            run(start, entry, None)
        whole = start.attacks[len(state.attacks) :]
        outcomes = [joined(*both) for both in zip(whole, outcomes, strict=False)]
        outcomes += whole[len(outcomes) :]
    for outcome in outcomes:
        state.add(outcome)
    return _claim(state, later, outcomes, survivors, len(others), sample, asks_all)


def _claim(
    state: Standings,
    later: Sequence[Numbered],
    outcomes: Sequence[AttackOutcome],
    survivors: np.ndarray,
    others: int,
    sample: int,
    asks_all: bool,
) -> SampledClaim:
    """Return the claim on the survivors: the attacks that run on near misses alone do not count."""
    runs = [
        o for (_, e), o in zip(later, outcomes, strict=True) if e.may_sample and e.near_share == 1
    ]
    is_run = np.all([outcome.margin != -np.inf for outcome in runs], axis=0)
    attacked = (is_run | ~state.robust)[survivors]
    untried = int((~attacked).sum())
    # After an early end the tried ones are the first of the sample, no random ones of the rest.
    whole = not asks_all and not any(outcome.skipped for outcome in outcomes)
    lost = most_lost(others, sample) if whole else untried
    return SampledClaim(
        sample=sample,
        survivors=len(survivors),
        attacked=int(attacked.sum()),
        withstood=int((attacked & state.robust[survivors]).sum()),
        lost=lost,
        bound=lost / len(state.robust),
    )


def open_end(
    claims: Sequence[SampledClaim | None], largest: Sequence[SampledClaim | None] = ()
) -> list[str]:
    """Return the reason for a look where a sample leaves more than 2 % of all samples open, or
    those at the `largest` radius of every norm do together.

    >>> open_end([SampledClaim(60, 900, 150, 150, 37, 0.037), None])
    ['a sample of 60 leaves 3.7 % of the samples open, more than 2 %: raise sample, or omit it']
    """
    worst = max((c for c in claims if c is not None), key=lambda c: c.bound, default=None)
    together = total_bound(largest)
    if worst is None or max(worst.bound, together) <= MOST_LOST:
        return []
    if together > worst.bound:
        what = f"samples of {worst.sample} leave {100 * together:.1f} % of the samples open over "
        what += "the norms"
    else:
        what = f"a sample of {worst.sample} leaves {100 * worst.bound:.1f} % of the samples open"
    return [f"{what}, more than {100 * MOST_LOST:g} %: raise sample, or omit it"]


def joined(whole: AttackOutcome, part: AttackOutcome) -> AttackOutcome:
    """Return the outcome of an attack on all survivors after one on part of them: what either
    broke, at the cost of both."""
    only = part.is_adversarial & ~whole.is_adversarial

    def merge(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        out = values.copy()
        out[only] = others[only]
        return out

    changed = whole.changed
    if changed is not None and part.changed is not None:
        changed = merge(changed, part.changed)
    return dataclasses.replace(
        whole,
        pred=merge(whole.pred, part.pred),
        is_adversarial=whole.is_adversarial | part.is_adversarial,
        seconds=whole.seconds + part.seconds,
        infeasible=whole.infeasible + part.infeasible,
        counts=whole.counts + part.counts,
        score=merge(whole.score, part.score),
        changed=changed,
        margin=np.fmax(whole.margin, part.margin),
    )
