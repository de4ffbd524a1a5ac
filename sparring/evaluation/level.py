"""One radius: the attacks of a suite, and the worst case over them, per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..results.intervals import wilson
from ..results.result import AttackRow, EpsRow, correct_key
from ..threats.base import Threat
from .session import AttackOutcome, AttackRunner
from .suites import Suite


@dataclass
class Level:
    """What a suite did at one radius: `stands (n,)` are right unattacked and under every attack."""

    threat: Threat
    eps: float | None
    stands: np.ndarray
    attacks: list[AttackOutcome]
    rows: list[AttackRow]

    def row(self) -> EpsRow:
        """The radius as it stands in the result."""
        count = int(self.stands.sum())
        return EpsRow(self.eps, wilson(count, len(self.stands)), count, self.rows, self.norm)

    @property
    def norm(self) -> str:
        """The name of the set."""
        return type(self.threat).__name__


def attack(
    session: AttackRunner,
    suite: Suite,
    threat: Threat,
    *,
    key: str,
    precision: str = "float32",
    cascade: bool = False,
    seed: int = 0,
) -> Level:
    """Run a suite's attacks at one radius on what the model gets right; a cascade, on what stands.

    Arguments:
        key: names the radius in the state that is kept.
    """
    eps = threat.eps
    eps = None if eps == math.inf else eps
    level = Level(threat, eps, session.right.copy(), [], [])
    for place, (label, make, kind, _) in enumerate(suite.against(threat)):
        rows = np.flatnonzero(level.stands if cascade else session.right)
        tuned, own = tune(make(threat), precision), f"{seed}|{label}|{eps}"
        done = session.attack(f"{key}-{place}", label, tuned, threat, rows, seed=own, kind=kind)
        level.stands &= ~done.broken
        level.attacks.append(done)
        level.rows.append(_row(done, level.stands if cascade else session.right & ~done.broken))
    return level


def tune(attack: Any, precision: str) -> Any:
    """Below float32, an attack that has the choice runs the model so, channels last."""
    if precision != "float32":
        for key, value in {"precision": precision, "channels_last": True}.items():
            if hasattr(attack, key):
                setattr(attack, key, value)
    return attack


def _row(done: AttackOutcome, right: np.ndarray) -> AttackRow:
    share = wilson(int(right.sum()), len(right))
    many = max(1, done.attacked)
    return AttackRow(
        done.label,
        share.accuracy,
        share.low,
        share.high,
        seconds=done.seconds,
        forwards=float(done.counts[0] / many),
        backwards=float(done.counts[1] / many),
        attacked=done.attacked,
        infeasible=done.infeasible,
        skipped=done.skipped,
    )


def counted(session: AttackRunner, levels: Sequence[Level]) -> dict[str, float]:
    """The symptoms that the whole evaluation shows, as `checks.check` takes them."""
    runs = [done for level in levels for done in level.attacks]
    lost = np.any([session.clean < 0, *(done.prediction < 0 for done in runs)], axis=0)
    found = {
        "outputs not finite": float(lost.mean()),
        "queries outside the box": float(sum(done.counts[2] for done in runs)),
        "infeasible points": float(sum(done.infeasible for done in runs)),
    }
    if len(levels) > len(groups := by_norm(levels).values()):
        found["larger eps gets weaker"] = max(_revived(session, g) for g in groups)
    for kind, name in BEYOND.items():
        gained = [_beyond(level, kind) for level in levels]
        if kind in {done.kind for done in runs}:
            found[name] = max(float(g.sum()) for g in gained) / max(1, session.right.sum())
    return found


BEYOND = {"black": "black-box beats white-box", "transfer": "transfer beats white-box"}


def by_norm(levels: Sequence[Level]) -> dict[str, list[Level]]:
    """The radii of each norm, rising."""
    return {level.norm: [other for other in levels if other.norm == level.norm] for level in levels}


def _revived(session: AttackRunner, levels: Sequence[Level]) -> float:
    """Share of the right samples that break at a smaller radius and stand at a larger one."""
    broken, revived = ~session.right, 0.0
    for level in levels:
        revived = max(revived, float((broken & level.stands).sum() / max(1, session.right.sum())))
        broken = broken | ~level.stands
    return revived


def _beyond(level: Level, kind: str) -> np.ndarray:
    """What attacks of a kind break and no attack by gradients does; none where there is none."""
    nothing = np.zeros(len(level.stands), dtype=bool)
    white = [done.broken for done in level.attacks if done.kind == "white"]
    other = [done.broken for done in level.attacks if done.kind == kind]
    return np.any(other, axis=0) & ~np.any(white, axis=0) if white and other else nothing


def worst(levels: Sequence[Level]) -> np.ndarray:
    """What stands at the largest radius of every norm `(n,)`."""
    return np.all([group[-1].stands for group in by_norm(levels).values()], axis=0)


def arrays(session: AttackRunner, levels: Sequence[Level]) -> dict[str, np.ndarray]:
    """Labels, predictions, who stands at which radius; and the samples to show at the largest."""
    top = [group[-1] for group in by_norm(levels).values()]
    said, open_ = session.clean.copy(), session.right.copy()
    points = {
        int(r): session.rows.float(slice(int(r), int(r) + 1))[0].cpu().numpy()
        for r in session.shown
    }
    show_x, several = dict(points), len(top) > 1
    for done in (done for level in top for done in level.attacks):
        points.update({r: x for r, x in done.shown.items() if open_[r]})
        hit = done.broken & open_
        said[hit] = done.prediction[hit]
        open_ &= ~hit
    return {
        "index": session.rows.index.cpu().numpy(),
        "y": session.y,
        "clean_pred": session.clean,
        "adv_pred": said,
        **{correct_key(v.eps, v.norm if several else ""): v.stands for v in levels},
        "show_x": _stack(show_x, session),
        "show_x_adv": _stack(points, session),
        "show_y": session.y[session.shown],
        "show_clean": session.clean[session.shown],
        "show_adv": said[session.shown],
    }


def _stack(points: dict[int, np.ndarray], session: AttackRunner) -> np.ndarray:
    found = [points[int(r)] for r in session.shown]
    return np.stack(found) if found else np.zeros((0, *session.shape), dtype=np.float32)
