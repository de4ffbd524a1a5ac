"""Keep the worst point of samples over all attacks: of all of them, or of those that are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..batch import Model
from ..component import require
from ..data import Split
from ..results import points
from ..threats.base import Threat, on_rows
from .judge import judge

SHOWN = 16
SHOWN_BROKEN = 12  # of them at most, so that robust samples are shown too
SIZE_LIMIT = 2 << 30  # bytes of all points in memory, as float32


class WorstPoints:
    """Keep the judged point of the first attack that breaks a sample; before, the nearest miss.

    Arguments:
        y, clean_pred: `(n,)` labels, and predictions without attack.
        shape: of one sample.
        keep: `"shown"`, or a way to keep the points of all samples, as in `results.points.KEEP`.

    Attributes:
        pred: `(n,)` at the point that is kept; the clean one before the first.
        norm: `(n,)` number of the norm whose point is kept; -1 before the first.
    """

    def __init__(
        self, y: np.ndarray, clean_pred: np.ndarray, shape: Sequence[int], keep: str
    ) -> None:
        self.correct, self.shape, self.keep = clean_pred == y, tuple(shape), keep
        self.first = np.flatnonzero(self.correct)[:SHOWN]
        self.points: dict[int, np.ndarray] = {}
        self.broken, self.margin = ~self.correct, np.full(len(y), -np.inf)
        self.pred, self.norm = clean_pred.copy(), np.full(len(y), -1, dtype=np.int8)

    def wanted(self, rows: np.ndarray, broken: np.ndarray) -> np.ndarray:
        """Return the numbers, within a batch of `rows (b,)`, whose points its record holds."""
        if self.keep != points.SHOWN_ONLY:
            return np.arange(len(rows))
        return np.union1d(np.flatnonzero(np.isin(rows, self.first)), np.flatnonzero(broken)[:SHOWN])

    def update(
        self,
        rows: np.ndarray,
        judged: np.ndarray,
        pred: np.ndarray,
        broken: np.ndarray,
        margin: np.ndarray,
        norm: int,
    ) -> None:
        """Compare judged points `(r, *d)` of `rows (r,)` with those kept."""
        margin = np.nan_to_num(margin, nan=-np.inf)
        rated = zip(rows.tolist(), judged, pred, broken, margin, strict=True)
        for row, point, label, breaks, value in rated:
            new = row not in self.points
            if self.broken[row] or not (new or breaks or value > self.margin[row]):
                continue
            self.points[row] = point.copy()  # not a view, which would keep its whole batch
            self.broken[row], self.margin[row] = breaks, value
            self.pred[row], self.norm[row] = label, norm

    def shown_rows(self) -> np.ndarray:
        """Return at most 16 samples that are right unattacked: up to 12 broken, then robust."""
        kept = np.union1d(np.array([*self.points], dtype=np.int64), self.first)
        kept = kept[self.correct[kept]]
        broken, robust = kept[self.broken[kept]], kept[~self.broken[kept]]
        broken = broken[: max(SHOWN_BROKEN, SHOWN - len(robust))]
        return np.sort(np.concatenate([broken, robust[: SHOWN - len(broken)]]))

    def all(self, rows: Split) -> np.ndarray:
        """Return the points of all samples `(n, *d)`, x where none was judged."""
        x_adv = rows.float(slice(None)).cpu().numpy().astype(np.float32)
        for row, point in self.points.items():
            x_adv[row] = point
        return x_adv


def check_points(keep: str, rows: Split, threat: Threat) -> None:
    """Raise `ValueError`, before an attack runs, for points that can't be kept."""
    if keep == points.SHOWN_ONLY:
        return
    size, count = 4 * int(np.prod(rows.x.shape[1:])), len(rows)
    allowed = f"'shown' for more than {SIZE_LIMIT // size:,} samples of this size (n = {count:,})"
    require(size * count <= SIZE_LIMIT, "keep", keep, allowed)
    unit = (threat.low, threat.high) == (0, 1)
    require(keep != "uint8" or unit, "keep", keep, "'float16' or 'float32' outside of [0, 1]")


def recount(
    model: Model,
    threats: Sequence[Threat],
    rows: Split,
    x_adv: np.ndarray,
    norm: np.ndarray,
    *,
    device: torch.device,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Judge points again: return the predictions `(n,)` there and which are allowed `(n,)`.

    Arguments:
        threats, norm: threats by number, and which of them each point `(n,)` belongs to.
    """
    pred, allowed = np.full(len(x_adv), -1), np.ones(len(x_adv), dtype=bool)
    for number, threat in enumerate(threats):
        chosen = np.flatnonzero((norm == number) | ((norm < 0) & (number == 0)))
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            index = torch.from_numpy(part)
            x, y = rows.float(index).to(device), rows.y[index].to(device)
            point = torch.from_numpy(np.ascontiguousarray(x_adv[part])).to(device)
            with on_rows([threat], rows.index[index].to(device), x):
                judged = judge(model, threat, point, x, y, name="kept points")
            pred[part] = judged.pred.cpu().numpy()
            allowed[part] = judged.allowed.cpu().numpy()
    return pred, allowed
