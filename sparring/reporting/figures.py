"""Draw results as Matplotlib figures, and embed figures in HTML."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..results import packing
from ..results.result import EpsRow, Result
from . import format

# Okabe and Ito's, then Tol's muted ones.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    *("#332288", "#882255", "#999933", "#44aa99", "#aa4499", "#661100", "#888888"),
)
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "text.parse_math": False,  # a name with a $ is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "sparring",
}
MAX_SAMPLES = 8
MAX_NAMES = 8  # more do not fit into a panel


def colour(k: int) -> str:
    """Return the k-th colour of a palette for colour-blind readers."""
    return COLOURS[k % len(COLOURS)]


def legend_name(name: str) -> str:
    """Return a name for a legend, which leaves out names that begin with an underscore.

    >>> legend_name("_run"), legend_name("")
    (' _run', ' ')
    """
    short = format.shorten(name, 60)
    return f" {short}" if not short or short.startswith("_") else short


def legend(figure: Figure, panels: Sequence[Any]) -> None:
    """Add a legend: in the panels if names are few, else below, in a figure that grows."""
    names = dict(p for a in panels for p in zip(*a.get_legend_handles_labels()[::-1], strict=True))
    if len(names) <= MAX_NAMES:
        for axes in panels:
            axes.legend(frameon=False, fontsize=8)
        return
    columns = int(figure.get_figwidth() / 2.1)
    figure.set_figheight(figure.get_figheight() + 0.15 * math.ceil(len(names) / columns))
    position: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
    figure.legend(names.values(), names.keys(), frameon=False, fontsize=7, **position)


def svg(figure: Figure, about: str) -> str:
    """Return the figure as an `<img>` with its SVG inside; `about` is its text for the blind."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return _embedded("image/svg+xml", buffer.getvalue(), about)


def png(figure: Figure, about: str) -> str:
    """Return the figure as an `<img>` with a PNG inside, for pictures of samples."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return _embedded("image/png", buffer.getvalue(), about)


def _embedded(kind: str, content: bytes, about: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(about)}" src="data:{kind};base64,{data}">'


def radii(results: Sequence[Result]) -> Figure:
    """Draw robust accuracy against eps, clean at 0, with 95 % bands; a panel per norm.

    A dashed line is the best lower bound, with the gap shaded. Samples that a suite skipped count
    as robust, so that accuracy is an upper bound, drawn as a triangle. A result of one radius
    beside others of several is a point, not a line.
    """
    names = format.threat_names(results) or [""]
    with matplotlib.rc_context(STYLE):
        width = 6.2 if len(names) == 1 else 4.2 * len(names)
        figure = Figure(figsize=(width, 3.4), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for name, axes in zip(names, panels, strict=True):
            shown = [[row for row in format.rows_of(r, name) if row.eps] for r in results]
            for k, (r, rows) in enumerate(zip(results, shown, strict=True)):
                if rows or len(names) == 1:
                    joined = len(rows) != 1 or max(map(len, shown)) == 1
                    _accuracies(axes, r, rows, colour(k), joined=joined)
            flips = any(format.threat_names([r]) == [name] and "flips" in r.arrays for r in results)
            unit = "flips" if flips else "input units"
            axes.set(xlabel=f"eps ({name}, {unit})", ylabel="accuracy, %", ylim=(0, 102))
            axes.set_xlim(left=0)
            if any(format.best_certificate(row) for r in results for row in r.by_eps):
                axes.plot([], [], "--", color="#666666", label="certified, at least")
            if any(format.num_skipped(row) for r in results for row in r.by_eps):
                axes.plot([], [], "v", ms=6, color="#666666", label="ended early, at most")
        legend(figure, panels)
    return figure


def _accuracies(axes: Any, r: Result, rows: Sequence[EpsRow], tone: str, *, joined: bool) -> None:
    eps = [0.0, *(row.eps or 0.0 for row in rows)]
    shares = [r.clean, *(row.robust for row in rows)]
    values, low, high = 100 * np.array([astuple(i) for i in shares]).T
    axes.plot(eps, values, "-" if joined else "o", ms=4, color=tone, label=legend_name(r.name))
    for e, v, early in zip(eps, values, [0, *map(format.num_skipped, rows)], strict=True):
        axes.plot([e], [v], "v" if early else "o", ms=6 if early else 4, color=tone)
    if joined:
        axes.fill_between(eps, low, high, color=tone, alpha=0.25, lw=0)
    else:
        axes.vlines(eps, low, high, color=tone, lw=1)
    bounds = [(row, c) for row in rows if (c := format.best_certificate(row)) is not None]
    if bounds:
        at = [0.0, *(row.eps or 0.0 for row, _ in bounds)]
        least = [100 * r.clean.accuracy, *(100 * c.accuracy for _, c in bounds)]
        top = [100 * r.clean.accuracy, *(100 * row.robust.accuracy for row, _ in bounds)]
        axes.fill_between(at, least, top, color=tone, alpha=0.1, lw=0)
        axes.plot(at, least, "--", marker="o", ms=3, lw=1.2, color=tone)


def training(results: Sequence[Result]) -> Figure | None:
    """Draw loss and validation accuracy, clean (dashed) and robust, by epoch; None without logs."""
    logged = _logs(results)
    if not logged:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for k, name, log in logged:
            epochs = [row["epoch"] for row in log]
            left.plot(epochs, [row["loss"] for row in log], color=colour(k), label=name)
            for key, dash in (("clean", "--"), ("robust", "-"), ("ema_robust", ":")):
                points = [(row["epoch"], 100 * row[key]) for row in log if row.get(key) is not None]
                if points:
                    right.plot(*zip(*points, strict=True), dash, color=colour(k), lw=1.3)
        left.set(xlabel="epoch", ylabel="training loss, nats")
        right.set(xlabel="epoch", ylabel="validation accuracy, %", ylim=(0, 102))
        for dash, label in (("--", "clean"), ("-", "robust"), (":", "robust, averaged weights")):
            right.plot([], [], dash, color="#666666", label=label)
        right.legend(frameon=False, fontsize=8)
        legend(figure, [left])
    return figure


def _logs(results: Sequence[Result]) -> list[tuple[int, str, list[Any]]]:
    """Return position, name and log of each training, once if several results are of its model."""
    logs: list[tuple[int, str, list[Any]]] = []
    for k, r in enumerate(results):
        log = r.train.get("log")
        same = [i for i, (_, _, other) in enumerate(logs) if other == log]
        if log and not same:
            logs.append((k, legend_name(r.name), log))
        elif log:
            first, name, _ = logs[same[0]]
            logs[same[0]] = (first, name.partition(" · ")[0], log)
    return logs


def confusion(r: Result) -> Figure | None:
    """Draw row-normalised confusion matrices, clean and on worst points; None without arrays."""
    if not {"y", "clean_pred", "adv_pred"} <= set(r.arrays):
        return None
    k = len(r.class_names)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        titles = {"clean_pred": "clean", "adv_pred": "under attack"}
        for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
            counts = np.zeros((k, k))
            # A model may have more outputs than the data set has classes.
            known = (r.arrays[key] >= 0) & (r.arrays[key] < k) & (r.arrays["y"] >= 0)
            np.add.at(counts, (r.arrays["y"][known], r.arrays[key][known]), 1)
            share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
            axes.set(title=title, xlabel="predicted", ylabel="label")
            if k <= 20:
                names = [format.shorten(name, 30) for name in r.class_names]
                upright = max(map(len, names)) > 2
                axes.set_xticks(range(k), names, rotation=90 if upright else 0)
                axes.set_yticks(range(k), names)
            if k <= 12:
                for i, j in np.argwhere(share >= 0.5):
                    # White on the dark half of the colour map.
                    tone = "white" if share[i, j] > 55 else "#333333"
                    centred = {"ha": "center", "va": "center", "fontsize": 7}
                    axes.text(j, i, f"{share[i, j]:.0f}", color=tone, **centred)
    return figure


def detection(r: Result) -> Figure | None:
    """Draw ROC curves clean and under attack, on linear and logarithmic FPR; None without scores.

    Vertical lines are the FPRs at which detectors are compared.
    """
    d, curves = r.detection, packing.roc_curves(r.arrays)
    if d is None or not d.positive or not curves:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for k, (row, curve) in enumerate(zip(d.rates, curves, strict=False)):
            area = "" if row.auc is None else f", AUC {100 * row.auc.accuracy:.1f}"
            label = format.detection_row_name(d, row) + area
            for axes in panels:
                line = 100 * curve.fpr, 100 * curve.tpr
                axes.plot(*line, ("-", "--", ":")[k], color=colour(k), lw=1.4, label=label)
        negatives = max(1, int((r.arrays["y"] == 0).sum()))
        least = min(50 / negatives, *(50 * o.at for o in d.rates[0].tpr))
        # In logarithm too, because detectors work at rates that the linear axis hides.
        panels[1].set_xscale("log")
        for axes, edge in zip(panels, (-1, least), strict=True):
            axes.set(xlim=(edge, 101), ylim=(-1, 101))
            axes.set(xlabel="false-positive rate, %", ylabel="true-positive rate, %")
            for o in d.rates[0].tpr:
                axes.axvline(100 * o.at, color="#999999", lw=0.8)
        position: dict[str, Any] = {"loc": "outside upper center", "ncols": 3, "frameon": False}
        figure.legend(*panels[0].get_legend_handles_labels(), **position)
    return figure


def added_features(r: Result) -> Figure | None:
    """Draw the features that evasions add most often, as bars; None if none are known."""
    if r.detection is None or not r.detection.added:
        return None
    features = r.detection.added[:15][::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.26 * len(features) + 0.8), layout="constrained")
        axes = figure.subplots()
        share = [100 * u.count / max(1, r.detection.evasions) for u in features]
        axes.barh(range(len(features)), share, color=colour(1), height=0.7)
        names = [format.shorten(u.name, 60) for u in features]
        axes.set_yticks(range(len(features)), names, fontsize=7)
        for text in axes.get_yticklabels():
            text.set_parse_math(False)  # a name may hold dollars
        axes.set(xlabel="share of the evasions that add it, %", xlim=(0, 101))
        axes.grid(axis="y", visible=False)
    return figure


def surface(r: Result) -> Figure | None:
    """Draw mean cross-entropy over the plane of a gradient step and a random one, or None."""
    if not {"surface", "surface_at"} <= set(r.arrays):
        return None
    at, height = r.arrays["surface_at"], r.arrays["surface"]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        flat, line = figure.subplots(1, 2, gridspec_kw={"wspace": 0.1})
        known = np.where(np.isfinite(height), height, np.nan)
        shown = flat.contourf(at, at, known.T, levels=20, cmap="viridis")
        figure.colorbar(shown, ax=flat, label="cross-entropy, nats")
        flat.plot([0], [0], "o", ms=5, color="white", mec="black")
        flat.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], "--", lw=0.8, color="white")
        flat.set(xlabel="along the gradient's step, radii", ylabel="along a random step, radii")
        middle = len(at) // 2
        line.plot(at, height[:, middle], color=colour(0), label="along the gradient's step")
        line.plot(at, height[middle], "--", color=colour(1), label="along the random step")
        line.set(xlabel="radii from the clean sample", ylabel="cross-entropy, nats")
        line.legend(frameon=False)
    return figure


def samples(r: Result) -> Figure | None:
    """Draw the first samples clean, adversarial, and their difference; None without pictures."""
    need = ("show_x", "show_x_adv", "show_y", "show_clean", "show_adv")
    if not set(need) <= set(r.arrays) or not len(r.arrays["show_x"]):
        return None
    x, z, y, clean, adv = (r.arrays[n][:MAX_SAMPLES] for n in need)
    gain = 0.5 / max(float(np.abs(z - x).max()), 1e-6)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(1.15 * len(x) + 0.6, 4.1), layout="constrained")
        grid = figure.subplots(3, len(x), squeeze=False)
        known = dict(enumerate(r.class_names))
        for i in range(len(x)):
            shown = (x[i], z[i], 0.5 + gain * (z[i] - x[i]))
            for axes, picture in zip(grid[:, i], shown, strict=True):
                _picture(axes, picture)
            names = [known.get(int(v), "none") for v in (y[i], clean[i], adv[i])]
            grid[0, i].set_title(f"{names[0]} → {names[1]}", fontsize=8)
            tone = "#b3261e" if adv[i] != y[i] else "#1b6e3c"
            grid[1, i].set_title(names[2], fontsize=8, color=tone)
        labels = ("clean", "adversarial", f"difference × {gain:.1f}")
        for axes, label in zip(grid[:, 0], labels, strict=True):
            axes.set_ylabel(label)
    return figure


def _picture(axes, picture: np.ndarray) -> None:
    """Show an image `(1 or 3, h, w)`; anything else as a strip."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if picture.ndim == 3 and picture.shape[0] in (1, 3):
        image = np.clip(picture.transpose(1, 2, 0), 0, 1)
        axes.imshow(image if image.shape[2] == 3 else image[:, :, 0], cmap="gray", vmin=0, vmax=1)
        return
    axes.imshow(np.clip(picture.reshape(1, -1), 0, 1), cmap="gray", vmin=0, vmax=1, aspect="auto")
