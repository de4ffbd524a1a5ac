"""Arrays for detection: scores, and the features that attacks changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..results.detection import FeatureCount, evasions, worst_scores
from .level import LevelOutcome, largest_outcomes
from .session import AttackRunner

MAX_FEATURES = 20
POPCOUNT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.int64)


def score_arrays(runner: AttackRunner, levels: Sequence[LevelOutcome]) -> dict[str, np.ndarray]:
    """Return scores, clean and at the worst judged point, and the fewest flips that break a
    sample."""
    arrays: dict[str, np.ndarray] = {}
    outcomes = largest_outcomes(levels)
    if runner.classes == 2:
        clean, scores = runner.clean_score, [outcome.score for outcome in outcomes]
        arrays["clean_score"] = worst_scores(runner.y, clean)
        arrays["adv_score"] = worst_scores(runner.y, clean, *scores)
    if any(outcome.changed is not None for outcome in outcomes):
        arrays["flips"] = fewest_flips(levels)[0]
    return arrays


def fewest_flips(levels: Sequence[LevelOutcome]) -> tuple[np.ndarray, np.ndarray]:
    """Return, of the adversarial points of each sample, the smallest number of flips `(n,)`, -1 for
    none, and those flips as packed bits `(n, ⌈d/8⌉)`."""
    runs = [(o, o.changed) for o in largest_outcomes(levels) if o.changed is not None]
    flips, bits = np.full(len(runs[0][1]), -1), np.zeros_like(runs[0][1])
    for outcome, changed in runs:
        counts = POPCOUNT[changed].sum(1)
        better = outcome.is_adversarial & ((flips < 0) | (counts < flips))
        flips[better], bits[better] = counts[better], changed[better]
    return flips, bits


def added_features(
    runner: AttackRunner, levels: Sequence[LevelOutcome], pred: np.ndarray, names: list[str] | None
) -> list[FeatureCount]:
    """Return the features that evasions add most often, in falling order, at most 20."""
    outcomes = largest_outcomes(levels)
    if runner.classes != 2 or all(outcome.changed is None for outcome in outcomes):
        return []
    rows = np.flatnonzero(evasions(runner.y, runner.clean_pred, pred))
    _, bits = fewest_flips(levels)
    d = int(np.prod(runner.shape))
    counts = np.zeros(d, dtype=np.int64)
    for part in np.split(rows, range(runner.batch_size, len(rows), runner.batch_size)):
        if len(part):
            x = runner.samples(part)[0].flatten(1).cpu().numpy()
            flipped = np.unpackbits(bits[part], axis=1, count=d)
            counts += (flipped & (x <= runner.low)).sum(0, dtype=np.int64)
    order = np.argsort(-counts, kind="stable")[:MAX_FEATURES]
    labels = [f"feature {j}" for j in range(d)] if names is None else names
    return [FeatureCount(labels[j], int(counts[j])) for j in order if counts[j]]
