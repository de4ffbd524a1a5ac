"""One radius: the attacks of a suite, and the worst case over them, per sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..threats.base import Threat
from .result import AttackRow, EpsRow, correct_key, wilson
from .session import Attacked, Session
from .suites import Suite


@dataclass
class Level:
    """What a suite did at one radius: `stands (n,)` are right unattacked and under every attack."""

    eps: float | None
    stands: np.ndarray
    attacks: list[Attacked]
    rows: list[AttackRow]

    def row(self) -> EpsRow:
        """The radius as it stands in the result."""
        count = int(self.stands.sum())
        return EpsRow(self.eps, wilson(count, len(self.stands)), count, self.rows)


def attack(
    session: Session,
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
    eps = getattr(threat, "eps", None)
    level = Level(eps, session.right.copy(), [], [])
    for place, (label, make) in enumerate(suite.attacks):
        rows = np.flatnonzero(level.stands if cascade else session.right)
        tuned = tune(make(threat), precision)
        done = session.attack(
            f"{key}-{place}", label, tuned, threat, rows, seed=f"{seed}|{label}|{eps}"
        )
        level.stands &= ~done.broken
        level.attacks.append(done)
        level.rows.append(
            _row(done, level.stands if cascade else session.right & ~done.broken, cascade)
        )
    return level


def tune(attack: Any, precision: str) -> Any:
    """Below float32, an attack that has the choice runs the model so, channels last."""
    if precision != "float32":
        for key, value in {"precision": precision, "channels_last": True}.items():
            if hasattr(attack, key):
                setattr(attack, key, value)
    return attack


def _row(done: Attacked, right: np.ndarray, cascade: bool) -> AttackRow:
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
        survivors=cascade,
    )


def counted(session: Session, levels: Sequence[Level]) -> dict[str, float]:
    """The symptoms that the whole evaluation shows, as `checks.check` takes them."""
    runs = [done for level in levels for done in level.attacks]
    lost = np.any([session.clean < 0, *(done.prediction < 0 for done in runs)], axis=0)
    found = {
        "outputs not finite": float(lost.mean()),
        "queries outside the box": float(sum(done.counts[2] for done in runs)),
        "infeasible points": float(sum(done.infeasible for done in runs)),
    }
    broken, revived = ~session.right, 0.0
    for level in levels:
        revived = max(revived, float((broken & level.stands).sum() / max(1, session.right.sum())))
        broken = broken | ~level.stands
    return found | ({"larger eps gets weaker": revived} if len(levels) > 1 else {})


def arrays(session: Session, levels: Sequence[Level]) -> dict[str, np.ndarray]:
    """Labels, predictions, who stands at which radius; and the samples to show at the largest."""
    top = levels[-1]
    worst, open_ = session.clean.copy(), session.right.copy()
    points = {
        int(r): session.rows.float(slice(int(r), int(r) + 1))[0].cpu().numpy()
        for r in session.shown
    }
    show_x = dict(points)
    for done in top.attacks:
        points.update({r: x for r, x in done.shown.items() if open_[r]})
        hit = done.broken & open_
        worst[hit] = done.prediction[hit]
        open_ &= ~hit
    return {
        "index": session.rows.index.cpu().numpy(),
        "y": session.y,
        "clean_pred": session.clean,
        "adv_pred": worst,
        **{correct_key(level.eps): level.stands for level in levels},
        "show_x": _stack(show_x, session),
        "show_x_adv": _stack(points, session),
        "show_y": session.y[session.shown],
        "show_clean": session.clean[session.shown],
        "show_adv": worst[session.shown],
    }


def _stack(points: dict[int, np.ndarray], session: Session) -> np.ndarray:
    found = [points[int(r)] for r in session.shown]
    return np.stack(found) if found else np.zeros((0, *session.shape), dtype=np.float32)
