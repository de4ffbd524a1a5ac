"""Read the file of benchmarks/scale.py, and write the blocks and the figure of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.result_pages import blocks

from . import example, figure

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "scale.md"
FIGURE = ROOT / "docs" / "figures" / "scale.svg"
RESULTS = ROOT / "benchmarks" / "results"
GROWS = {  # the size that a series grows: what it is called in the table
    "n": "samples",
    "classes": "classes",
    "side": "side of the image",
    "radii": "radii",
    "processes": "processes",
}


def measured() -> dict[str, Any]:
    """Return the content of the benchmark's file, of the last by name where machines differ.

    Raises:
        FileNotFoundError: if there is none.
    """
    files = sorted(RESULTS.glob("scale-*.json"))
    if not files:
        raise FileNotFoundError("no benchmarks/results/scale-*.json: run benchmarks/scale.py")
    return json.loads(files[-1].read_text(encoding="utf-8"))


def made(table: dict[str, Any]) -> dict[str, str]:
    """Return the blocks of the page."""
    picture = f"![{figure.title(table)}](../figures/{FIGURE.name})"
    return {
        "figure": picture,
        "slopes": slopes(table),
        "example": example.text(table),
    }


def slopes(table: dict[str, Any]) -> str:
    """Return the table of all series: the sizes, the cost at both ends, and the slopes."""
    lines = ["| what grows | from | to | seconds | slope | MiB | slope |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in table["series"].items():
        if len(one["values"]) < 2:
            continue
        kind = name.partition(",")[0]
        kind = f"a {kind}" if kind == "step" else kind
        grows = "batch" if name == "step, batch" else GROWS[one["size"]]
        column = "wall" if one["size"] == "processes" else "seconds"
        cells = [f"{kind}: {grows}", str(one["values"][0]), str(one["values"][-1])]
        cells += [*_ends(one[column], "{:.3g}"), _slope(one[f"{column}_slope"])]
        cells += [*_ends(one["mib"], "{:.0f}"), _slope(one["mib_slope"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ends(values: list[float], form: str) -> list[str]:
    return [f"{form.format(values[0])} → {form.format(values[-1])}"]


def _slope(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def build() -> None:
    """Write the page and its figure."""
    table = measured()
    FIGURE.write_text(figure.draw(table), encoding="utf-8")
    PAGE.write_text(blocks.filled(PAGE.read_text(encoding="utf-8"), made(table)), encoding="utf-8")


def out_of_date() -> list[str]:
    """Return which of page and figure are not those of the file."""
    table, text = measured(), PAGE.read_text(encoding="utf-8")
    wrong = [] if blocks.filled(text, made(table)) == text else [PAGE.name]
    return wrong + ([] if FIGURE.read_text(encoding="utf-8") == figure.draw(table) else ["figure"])
