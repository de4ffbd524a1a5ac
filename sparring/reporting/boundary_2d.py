"""Draw models of two inputs side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from ..results.field import BoundaryField
from ..results.intervals import mean95
from ..runtime.files import write
from .charts import colour
from .digits import counted
from .literal import LiteralTable

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a name with a $ is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "sparring",
}
SMALL: dict[Any, Any] = {**STYLE, "font.size": 8}
HEADS = ("decision boundary", "generated points", "softmax slope, 1/sd", "distance, sd")


def plane(fields: Sequence[BoundaryField], unit: float) -> Figure:
    """Draw a row per model: classes, generated points, softmax slope, distance to the boundary.

    Slope and distance are in units of `unit`, a standard deviation in input units.
    """
    with matplotlib.rc_context(SMALL):
        figure = Figure(figsize=(9.6, 2.35 * len(fields) + 0.75), layout="constrained")
        grid = figure.subplots(len(fields), 4, squeeze=False)
        # A quantile, because single cells on the boundary would take up the whole colour scale.
        steep = max(float(np.quantile(f.slope, 0.995)) for f in fields) * unit or 1.0
        finite = [f.distance[np.isfinite(f.distance)] for f in fields]
        far = max((float(d.max()) for d in finite if d.size), default=unit) / unit
        shown: list[Any] = [None, None]
        for f, axes in zip(fields, grid, strict=True):
            for a in axes:
                span = (f.low, f.high)
                a.set(xlim=span, ylim=span, xticks=[], yticks=[], aspect="equal")
            _classes(axes[0], f)
            _classes(axes[1], f, faint=True)
            axes[1].plot(*f.generated.T, ".", ms=2.5, color="#444444")
            axes[1].set_xlabel(f.generator or "none")
            shown[0] = _shade(axes[2], f, f.slope * unit, "magma", steep)
            shown[1] = _shade(axes[3], f, f.distance / unit, "viridis", far)
            axes[0].set_ylabel(f.name, wrap=True)
            axes[0].set_xlabel(f.caption)
        for axes, head in zip(grid[0], HEADS, strict=True):
            axes.set_title(head, fontsize=9)
        for k, image in enumerate(shown):
            figure.colorbar(image, ax=grid[:, 2 + k], location="bottom", shrink=0.9, aspect=30)
    return figure


def picture(fields: Sequence[BoundaryField], unit: float, path: str | Path) -> Path:
    """Write the figure, in the format of the file's suffix; return its path."""
    path, buffer = Path(path), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        plane(fields, unit).savefig(buffer, dpi=110, format=path.suffix[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, buffer.getvalue())
    return path


def _classes(axes: Any, f: BoundaryField, *, faint: bool = False) -> None:
    k = int(max(f.prediction.max(), f.labels.max())) + 1
    tones = ListedColormap([colour(i) for i in range(k)])
    span = (f.low, f.high, f.low, f.high)
    options = {"origin": "lower", "extent": span, "interpolation": "nearest"}
    axes.imshow(f.prediction, cmap=tones, vmin=-0.5, vmax=k - 0.5, alpha=0.25, **options)
    axes.add_collection(LineCollection(list(f.segments), colors="black", linewidths=0.8))
    for i in range(k):
        points = f.points[f.labels == i]
        axes.plot(*points.T, ".", ms=3, color=colour(i), alpha=0.3 if faint else 1.0)


def _shade(axes: Any, f: BoundaryField, values: np.ndarray, cmap: str, most: float) -> Any:
    span = (f.low, f.high, f.low, f.high)
    axes.add_collection(LineCollection(list(f.segments), colors="white", linewidths=0.6))
    return axes.imshow(values, cmap=cmap, vmin=0, vmax=most, origin="lower", extent=span)


def rows(table: Any) -> Table:
    """Return distances and accuracies as mean ± half the 95 % t interval over seeds."""
    eps = list(table.rows[0].robust)
    seeds = counted(len(table.seeds), "seed")
    title = f"{table.data}: {table.points} points, {table.steps} steps, {seeds}"
    out = LiteralTable(title=Text(title), title_justify="left")
    out.add_column("recipe", min_width=26, overflow="fold")
    for head in ("distance, sd", "clean, %", *(f"PGD {e} sd, %" for e in eps), "s"):
        out.add_column(head, justify="right")
    for row in table.rows:
        shares = [row.clean, *(row.robust[e] for e in eps)]
        cells = [_mean(row.distance, 1, 3), *(_mean(v, 100, 1) for v in shares)]
        out.add_row(Text(row.label), *cells, f"{row.seconds:.0f}")
    return out


def _mean(values: Sequence[float], scale: float, digits: int) -> str:
    if not np.isfinite(values).all():  # a model of one class has no boundary
        return "∞"
    mean, low, _ = mean95(scale * np.array(values))
    assert mean is not None
    half = "" if low is None else f" ± {mean - low:.{digits}f}"
    return f"{mean:.{digits}f}{half}"
