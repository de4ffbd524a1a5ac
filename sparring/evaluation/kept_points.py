"""Judge the kept points of a result again, on a model and its data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from .. import threats
from ..batch import Model
from ..component import require
from ..data.samples import SampleData, select_samples
from ..results.intervals import Interval, wilson
from ..results.result import Result
from ..runtime import provenance
from ..threats.base import Threat
from .worst_points import recount


class Recount(NamedTuple):
    """Hold a second judgement of kept points.

    Arguments:
        robust: share of samples that are right at their point.
        outside: points that the threat does not allow; they count as right.
        changed: samples whose prediction differs from the result's.
    """

    robust: Interval
    outside: int
    changed: int


def judge_again(
    result: Result,
    model: Model,
    data: SampleData,
    threat: Threat | None = None,
    *,
    device: str | torch.device | None = None,
    batch_size: int = 250,
) -> Recount:
    """Judge the points of a result that was evaluated with `keep`, on a model.

    Arguments:
        model: the one evaluated, or another: the points then transfer.
        data: as in `evaluate`; the result's rows are taken from it.
        threat: of the points of all norms; default: the result's balls, each of its own points.

    Raises:
        ValueError: for a result without points, other data, or a threat that is no ball.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> from .evaluate import evaluate
    >>> model = lambda x: x
    >>> result = evaluate(model, (x, y), "Linf", eps=0.2, keep="all", progress=False)
    >>> judge_again(result, model, (x, y)).robust.accuracy
    0.5
    """
    points, index = result.x_adv, result.arrays["index"]
    rows = select_samples(data, result.split, n=None, seed=0, dataset=result.dataset).rows
    position = {row: k for k, row in enumerate(rows.index.tolist())}
    known = [position.get(row, -1) for row in index.tolist()]
    require(min(known) >= 0, "data", result.dataset, "the data of the result: rows are missing")
    rows = rows.take(torch.tensor(known))
    same = np.array_equal(rows.y.cpu().numpy(), result.arrays["y"])
    require(same, "data", result.dataset, "the data of the result: its labels differ")
    balls = _balls(result) if threat is None else [threat]
    norm = np.zeros(len(points), dtype=np.int8)
    if threat is None:
        norm = result.arrays.get("x_adv_norm", norm)
    model, at = provenance.model_on_device(model, device)
    sizes = {"device": at, "batch_size": batch_size}
    pred, allowed = recount(model, balls, rows, points, norm, **sizes)
    right = (pred == result.arrays["y"]) | (
        ~allowed & (result.arrays["clean_pred"] == result.arrays["y"])
    )
    changed = int((pred != result.arrays["adv_pred"]).sum())
    return Recount(wilson(int(right.sum()), len(right)), int((~allowed).sum()), changed)


def _balls(result: Result) -> list[Threat]:
    """Return the largest ball of each norm of a result."""
    table = result.threat
    largest = {row.threat or str(table.get("name")): row.eps for row in result.by_eps}
    for name in largest:
        allowed = "given where the result's is no ball"
        require(name in threats.NORMS and "of" not in table, "threat", name, allowed)
    low, high = (float(table.get(key, default)) for key, default in (("low", 0), ("high", 1)))
    return [
        threats.norm_ball(name, eps=eps or 0.0, low=low, high=high) for name, eps in largest.items()
    ]
