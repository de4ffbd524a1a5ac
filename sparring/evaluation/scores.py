"""What detection needs to know of an evaluation: scores, and which bits the attacks changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..results.detection import FeatureCount, evasions, worst_scores
from .level import Level, by_norm
from .session import AttackOutcome, AttackRunner

MOST = 20  # features that are listed
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.int64)


def top(levels: Sequence[Level]) -> list[AttackOutcome]:
    """Every attack at the largest radius of every norm."""
    return [done for group in by_norm(levels).values() for done in group[-1].attacks]


def arrays(session: AttackRunner, levels: Sequence[Level]) -> dict[str, np.ndarray]:
    """Scores clean and at the worst judged point, and the fewest flips that broke a sample."""
    found: dict[str, np.ndarray] = {}
    if session.classes == 2:
        own = [done.score for done in top(levels)]
        found["clean_score"] = worst_scores(session.y, session.score)
        found["adv_score"] = worst_scores(session.y, session.score, *own)
    if any(done.changed is not None for done in top(levels)):
        found["flips"] = fewest(levels)[0]
    return found


def fewest(levels: Sequence[Level]) -> tuple[np.ndarray, np.ndarray]:
    """Of the points that broke each sample the one with the fewest flips: how many `(n,)`, -1 for
    none, and which, as packed bits `(n, ⌈d/8⌉)`."""
    runs = [(done, done.changed) for done in top(levels) if done.changed is not None]
    flips, bits = np.full(len(runs[0][1]), -1), np.zeros_like(runs[0][1])
    for done, changed in runs:
        own = ONES[changed].sum(1)
        better = done.broken & ((flips < 0) | (own < flips))
        flips[better], bits[better] = own[better], changed[better]
    return flips, bits


def added(
    session: AttackRunner,
    levels: Sequence[Level],
    adv_pred: np.ndarray,
    names: Sequence[str] | None,
) -> list[FeatureCount]:
    """The features that evasions add most often, the most first."""
    if session.classes != 2 or all(done.changed is None for done in top(levels)):
        return []
    rows = np.flatnonzero(evasions(session.y, session.clean, adv_pred))
    _, bits = fewest(levels)
    d = int(np.prod(session.shape))
    counts = np.zeros(d, dtype=np.int64)
    for part in np.split(rows, range(session.batch, len(rows), session.batch)):
        if len(part):
            x = session.pick(part)[0].flatten(1).cpu().numpy()
            counts += (np.unpackbits(bits[part], axis=1, count=d) & (x <= session.low)).sum(
                0, dtype=np.int64
            )
    order = np.argsort(-counts, kind="stable")[:MOST]
    said = [f"feature {j}" for j in range(d)] if names is None else list(names)
    return [FeatureCount(said[j], int(counts[j])) for j in order if counts[j]]
