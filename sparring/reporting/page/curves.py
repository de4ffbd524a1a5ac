"""Draw what results measured against a number: eps, epochs, false-positive rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...results import packing
from ...results.curves import AccuracyCurve
from ...results.levels import Level, level_of
from ...results.result import EpsRow, Result
from .. import charts, format

MOST_LINES = 8  # more have no room for their names
ACCURACY = charts.Axis("accuracy, %", 0, 100)


def radii(results: Sequence[Result]) -> list[str]:
    """Return a chart per norm of robust accuracy against eps; results of one radius are points.

    Nothing is drawn unless some result has two radii of a norm. Of many results the first are
    drawn. Dashed lines are certified lower bounds; a hollow marker is an upper bound.
    """
    drawn = []
    for name in format.threat_names(results):
        shown = [(r, rows) for r in results if (rows := _with_eps(r, name))][:MOST_LINES]
        if max((len(rows) for _, rows in shown), default=0) > 1:
            drawn.append(_radii_chart(name, shown))
    return drawn


def _with_eps(r: Result, name: str) -> list[EpsRow]:
    return [row for row in format.rows_of(r, name) if row.eps]


def _radii_chart(name: str, shown: Sequence[tuple[Result, list[EpsRow]]]) -> str:
    eps = sorted({row.eps or 0.0 for _, rows in shown for row in rows})
    lines = []
    for k, (r, rows) in enumerate(shown):
        points = [_point(r, rows_at) for rows_at in (None, *rows)]
        lines.append(charts.Line(r.name, points, tone=k))
    for k, (r, rows) in enumerate(shown):
        bounds = [(row.eps or 0.0, c) for row in rows if (c := format.best_certificate(row))]
        points = [charts.Point(e, 100 * c.accuracy, 100 * c.low, 100 * c.high) for e, c in bounds]
        if points:
            lines.append(charts.Line(f"{r.name}, certified", points, tone=k, dashed=True))
    flips = any("flips" in r.arrays for r, _ in shown)
    unit = "flips" if flips else "input units"
    axis = charts.Axis(f"eps ({name}, {unit})" if name else f"eps ({unit})", 0, eps[-1], [0, *eps])
    title = f"Accuracy against eps in {name or 'the threat'}, clean at 0"
    return charts.lines(lines, title=title, x=axis, y=ACCURACY)


def _point(r: Result, row: EpsRow | None) -> charts.Point:
    share, level = (r.clean, Level("", 0.0)) if row is None else (row.robust, level_of(r, row))
    skipped = bool(row is not None and format.num_skipped(row))
    hollow = row is not None and (skipped or not format.is_trusted(r))
    at = "clean" if row is None else str(level)
    hover = f"{r.name}, {at}: {'≤ ' * skipped}{format.percent(share)} %"
    values = (100 * v for v in (share.accuracy, share.low, share.high))
    return charts.Point(level.eps or 0.0, *values, hollow=hollow, hover=hover)


def seed_curves(curves: Sequence[AccuracyCurve]) -> list[str]:
    """Return charts of accuracy against eps, a line per recipe over its seeds.

    Recipes of a single seed have none, since that repeats the chart of results. Curves on samples
    that all models get right have charts of their own.
    """
    if all(len(c.seeds) == 1 for c in curves):
        return []
    names = list(dict.fromkeys(c.name for c in curves))
    drawn = []
    for common, threat in dict.fromkeys((c.common, c.threat) for c in curves):
        panel = [c for c in curves if (c.common, c.threat) == (common, threat)]
        if len(panel[0].eps) > 2:
            drawn.append(_curve_chart(panel[:MOST_LINES], names))
    return drawn


def _curve_chart(panel: Sequence[AccuracyCurve], names: Sequence[str]) -> str:
    lines, c = [], panel[0]
    for one in panel:
        low, high = (100 * np.clip(v, 0, 1) for v in (one.low, one.high))
        rows = zip(one.eps, one.mean, low.tolist(), high.tolist(), strict=True)
        seeds = f" ({len(one.seeds)} seeds)" if len(one.seeds) > 1 else ""
        points = [charts.Point(e, 100 * mean, least, most) for e, mean, least, most in rows]
        lines.append(charts.Line(one.name + seeds, points, tone=names.index(one.name)))
    spread = "" if c.sem is None else f" ± {100 * c.sem:.1f} (s.e.m.)"
    of = (
        f"samples that all get right ({100 * c.share:.1f} %{spread})" if c.common else "all samples"
    )
    axis = charts.Axis(f"eps ({c.threat}, input units)", 0, c.eps[-1], c.eps)
    title = f"Accuracy against eps over training seeds, {of}"
    return charts.lines(lines, title=title, x=axis, y=ACCURACY._replace(name=f"%, {of}"))


def training(results: Sequence[Result]) -> list[str]:
    """Return charts of validation accuracy and loss by epoch, once per training.

    Of one training: clean and robust, of averaged weights too. Of several: robust alone, of the
    weights that were validated last in each row. None without logs.
    """
    logged = _logs(results)[:MOST_LINES]
    if not logged:
        return []
    last = max(row["epoch"] for _, log in logged for row in log)
    epochs = charts.Axis("epoch", 1, max(last, 2), whole=True)
    kinds = {"robust": "robust"}
    if len(logged) == 1:
        kinds = {"clean": "clean", "robust": "robust", "ema_robust": "robust, averaged"}
    accuracy = [
        charts.Line(text if len(logged) == 1 else name, points, joined=len(points), marked=False)
        for name, log in logged
        for key, text in kinds.items()
        if (points := _by_epoch(log, key, 100))
    ]
    loss = [
        charts.Line("" if len(logged) == 1 else name, points, joined=len(points), marked=False)
        for name, log in logged
        if (points := _by_epoch(log, "loss", 1))
    ]
    most = max((p.y for one in loss for p in one.points), default=1.0)
    heads = ("validation accuracy", "robust validation accuracy")
    head = heads[len(logged) > 1]
    drawn = []
    if accuracy:
        axis = ACCURACY._replace(name=f"{head}, %")
        title = f"{head.capitalize()} by epoch"
        drawn.append(charts.lines(accuracy, title=title, x=epochs, y=axis, dodge=False))
    if loss:
        axis = charts.Axis("training loss, nats", 0, most or 1.0)
        title = "Training loss by epoch"
        drawn.append(charts.lines(loss, title=title, x=epochs, y=axis, dodge=False))
    return drawn


def _by_epoch(log: Sequence[Any], key: str, scale: float) -> list[charts.Point]:
    rows = [row for row in log if isinstance(row.get(key), int | float)]
    return [charts.Point(row["epoch"], scale * row[key]) for row in rows]


def _logs(results: Sequence[Result]) -> list[tuple[str, list[Any]]]:
    """Return name and log of each training, once if several results are of its model."""
    logs: list[tuple[str, list[Any]]] = []
    for r in results:
        log = _read_log(r.train.get("log"))
        same = [i for i, (_, other) in enumerate(logs) if other == log]
        if log and not same:
            logs.append((r.name, log))
        elif log:
            logs[same[0]] = (logs[same[0]][0].partition(" · ")[0], log)
    return logs


def _read_log(log: Any) -> list[Any]:
    """Return the epochs of a log; what a stranger's file has in their place is left out."""
    rows = log if isinstance(log, list) else []
    return [row for row in rows if isinstance(row, dict) and type(row.get("epoch")) is int]


def detection(r: Result) -> list[str]:
    """Return ROC curves clean and under attack, on linear and on logarithmic rates; or none."""
    d, curves = r.detection, packing.roc_curves(r.arrays)
    if d is None or not d.positive or not curves:
        return []
    lines = []
    for row, curve in zip(d.rates, curves, strict=False):
        area = "" if row.auc is None else f", AUC {100 * row.auc.accuracy:.1f}"
        points = [charts.Point(100 * f, 100 * t) for f, t in zip(*curve[:2], strict=True)]
        name = format.detection_row_name(d, row) + area
        lines.append(charts.Line(name, points, joined=len(points), marked=False))
    negatives = max(1, int((r.arrays["y"] == 0).sum()))
    least = min(50 / negatives, *(50 * o.at for o in d.rates[0].tpr), 50.0)
    flagged = charts.Axis("true-positive rate, %", 0, 100)
    marks = [100 * o.at for o in d.rates[0].tpr]
    # In logarithm too, because detectors work at rates that the linear axis hides.
    axes = {
        "linear": charts.Axis("false-positive rate, %", 0, 100),
        "logarithmic": charts.Axis(
            "false-positive rate, %", least, 100, [*marks, 10, 100], log=True
        ),
    }
    return [
        charts.lines(
            lines, title=f"ROC curves, {kind} axis", x=axis, y=flagged, dodge=False, height=280
        )
        for kind, axis in axes.items()
    ]


def added_features(r: Result) -> str | None:
    """Return the features that evasions add most often, as bars; None if none are known."""
    d = r.detection
    if d is None or not d.added:
        return None
    rows = [charts.Bar(u.name, 100 * u.count / max(1, d.evasions)) for u in d.added[:15]]
    axis = "share of the evasions that add it, %"
    return charts.bars(rows, title="Features that evasions add most often", axis=axis)


def surface(r: Result) -> str | None:
    """Return mean cross-entropy along the gradient's step and a random one; None if not probed."""
    if not {"surface", "surface_at"} <= set(r.arrays):
        return None
    at, height = r.arrays["surface_at"], r.arrays["surface"]
    middle = len(at) // 2
    along = {"along the gradient's step": height[:, middle], "along a random step": height[middle]}
    lines = []
    for name, values in along.items():
        rows = [(float(a), float(v)) for a, v in zip(at, values, strict=True) if np.isfinite(v)]
        points = [charts.Point(*row) for row in rows]
        lines.append(charts.Line(name, points, joined=len(points), marked=False))
    most = max((p.y for one in lines for p in one.points), default=1.0)
    return charts.lines(
        lines,
        title="Cross-entropy around the samples, along two steps",
        x=charts.Axis("radii from the clean sample", float(at.min()), float(at.max())),
        y=charts.Axis("cross-entropy, nats", 0, most or 1.0),
        dodge=False,
    )
