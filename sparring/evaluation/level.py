"""One level of an evaluation: a suite at one norm and radius, and its worst case per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..results import points
from ..results.intervals import wilson
from ..results.result import AttackRow, Certificate, EpsRow, SampledClaim, correct_key
from ..threats.base import Threat
from .radii import Norm
from .sampling import Numbered, Standings, nearest, run_sampled
from .session import AttackOutcome, AttackRunner
from .suites import Suite
from .worst_points import recount


@dataclass
class LevelOutcome:
    """Hold the outcome of a suite at one radius.

    Arguments:
        robust: `(n,)` correct, under every attack too.
        margin: `(n,)` the highest margin that any attack reached; −inf before the first.
        norm: the name of the threat's norm, as in `radii.Norm`.
        sampled: which survivors the later attacks were run on, if the protocol has a sample.
    """

    threat: Threat
    eps: float | None
    robust: np.ndarray
    attacks: list[AttackOutcome]
    rows: list[AttackRow]
    margin: np.ndarray
    norm: str
    sampled: SampledClaim | None = None

    def row(self, certified: list[Certificate]) -> EpsRow:
        """Return the radius as a row of the result."""
        count = int(self.robust.sum())
        share = wilson(count, len(self.robust))
        about = (self.rows, self.norm, certified, self.sampled)
        return EpsRow(self.eps, share, count, *about)

    @property
    def gradient_free(self) -> bool:
        """Return whether an attack ran that needs no gradients: it can reveal masked ones."""
        return any(outcome.access != "white" for outcome in self.attacks)


def attack_level(
    runner: AttackRunner,
    suite: Suite,
    threat: Threat,
    *,
    key: int,
    seed: int,
    norm: Norm,
) -> LevelOutcome:
    """Run a suite's attacks at one radius, with its `key` in the cache, on the samples that are
    correct without attack; in a cascade, on those still robust. `norm` as in `attack`."""
    protocol, eps = runner.protocol, None if threat.eps == math.inf else threat.eps
    correct = runner.correct_clean
    state = Standings(correct.copy(), np.full(len(runner.y), -np.inf))

    def run(state: Standings, numbered: Numbered, chosen: np.ndarray | None = None) -> None:
        position, entry = numbered
        cascade = protocol.cascade or entry.near_share < 1
        rows = np.flatnonzero(state.robust if cascade else correct)
        name = f"{key}-{position}"
        rows = nearest(rows, state.margin, entry.near_share)
        if chosen is not None and entry.may_sample:
            rows, name = np.intersect1d(rows, chosen), f"{name}-sample"
        attack = set_precision(entry.make(threat), protocol.precision)
        # The seed holds names, not positions: an attack draws alike in every suite.
        draws = f"{seed}|{entry.label}|{eps}"
        about = {
            "norm": norm,
            "access": entry.kind,
            "spared": int(state.robust.sum()) - len(rows) if cascade else 0,
        }
        state.add(runner.attack(name, entry.label, attack, threat, rows, seed=draws, **about))

    entries, claim = list(enumerate(suite.entries_for(threat))), None
    later = len(entries)
    if protocol.sample is not None:
        later = next(i for i, entry in entries if entry.may_sample)
    for entry in entries[:later]:
        run(state, entry)
    if protocol.sample is not None:
        text = f"{seed}|{norm.name}|{eps}"
        claim = run_sampled(state, entries[later:], run, protocol.sample, seed=text)
    outcome_so_far = (state.robust, state.attacks, [], state.margin)
    level = LevelOutcome(threat, eps, *outcome_so_far, norm=norm.name, sampled=claim)
    robust = correct
    for (_, entry), outcome in zip(entries, state.attacks, strict=True):
        robust = robust & ~outcome.is_adversarial
        cascade = protocol.cascade or entry.near_share < 1
        alone = correct & ~outcome.is_adversarial
        level.rows.append(_attack_row(outcome, robust if cascade else alone))
    return level


def set_precision(attack: Any, precision: str) -> Any:
    """Set precision and channels_last on attacks that support them, unless precision is float32."""
    if precision != "float32":
        for key, value in {"precision": precision, "channels_last": True}.items():
            if hasattr(attack, key):
                setattr(attack, key, value)
    return attack


def _attack_row(outcome: AttackOutcome, robust: np.ndarray) -> AttackRow:
    share = wilson(int(robust.sum()), len(robust))
    forwards, backwards, _ = (outcome.counts / max(1, outcome.attacked)).tolist()
    counts = {key: getattr(outcome, key) for key in ("attacked", "infeasible", "skipped")}
    passes = (outcome.seconds, forwards, backwards)
    return AttackRow(outcome.label, share.accuracy, share.low, share.high, *passes, **counts)


def by_norm(levels: Sequence[LevelOutcome]) -> dict[str, list[LevelOutcome]]:
    """Return the levels of each norm, radii rising."""
    return {level.norm: [other for other in levels if other.norm == level.norm] for level in levels}


def largest(levels: Sequence[LevelOutcome]) -> list[LevelOutcome]:
    """Return the level with the largest radius of each norm."""
    return [group[-1] for group in by_norm(levels).values()]


def largest_outcomes(levels: Sequence[LevelOutcome]) -> list[AttackOutcome]:
    """Return every attack's outcome at the largest radius of every norm."""
    return [outcome for level in largest(levels) for outcome in level.attacks]


def worst_case(levels: Sequence[LevelOutcome]) -> np.ndarray:
    """Return which samples are robust at the largest radius of every norm `(n,)`."""
    return np.all([level.robust for level in largest(levels)], axis=0)


def result_arrays(runner: AttackRunner, levels: Sequence[LevelOutcome]) -> dict[str, np.ndarray]:
    """Return labels, predictions and robust samples of each radius; and the samples to show, under
    the strongest attack at the largest radius."""
    pred, robust = runner.clean_pred.copy(), runner.correct_clean.copy()
    for outcome in largest_outcomes(levels):
        newly = outcome.is_adversarial & robust
        pred[newly] = outcome.pred[newly]
        robust &= ~newly
    # of the points that are kept: a sampled attack may have broken one before those listed first
    kept = [*runner.worst.points]
    pred[kept] = runner.worst.pred[kept]
    shown = runner.worst.shown_rows()
    clean = {r: runner.rows.float(slice(r, r + 1))[0].cpu().numpy() for r in shown.tolist()}
    judged = clean | runner.worst.points
    several, shape = len(largest(levels)) > 1, (len(shown), *runner.shape)
    return {
        "index": runner.rows.index.cpu().numpy(),
        "y": runner.y,
        "clean_pred": runner.clean_pred,
        "adv_pred": pred,
        **{correct_key(v.eps, v.norm if several else ""): v.robust for v in levels},
        "show_x": np.array([*clean.values()], np.float32).reshape(shape),
        "show_x_adv": np.array([judged[r] for r in clean], np.float32).reshape(shape),
        "show_y": runner.y[shown],
        "show_clean": runner.clean_pred[shown],
        "show_adv": pred[shown],
    }


def point_arrays(
    runner: AttackRunner, levels: Sequence[LevelOutcome]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the worst points of all samples as the protocol keeps them, and remarks on that."""
    worst, keep = runner.worst, runner.protocol.keep
    if keep == points.SHOWN_ONLY:
        return {}, []
    threats, x_adv = [level.threat for level in largest(levels)], worst.all(runner.rows)
    if keep == "all":
        unit = (runner.low, runner.high) == (0, 1)
        keep = "uint8" if unit and points.is_on_grid(x_adv) else "float32"
    verdicts = partial(
        recount,
        runner.model,
        threats,
        runner.rows,
        norm=worst.norm,
        device=runner.device,
        batch_size=runner.batch_size,
    )
    x = runner.rows.float(slice(None)).cpu().numpy()
    stored = points.encode(x_adv, x, keep)
    pred, allowed = verdicts(points.decode(stored))
    broken = worst.broken
    lost = int((broken & ~(allowed & (pred != runner.y))).sum())
    if lost and runner.protocol.keep == "all":
        keep, lost = "float32", 0
        stored = x_adv
    notes = [f"worst points of all {len(x_adv)} samples are kept as {keep}"]
    if lost:
        notes[0] += (
            f": rounding cost {lost} of {int(broken.sum())} errors, which x_adv does not show"
        )
    arrays = {"x_adv": stored}
    return arrays | ({"x_adv_norm": worst.norm} if len(threats) > 1 else {}), notes
