"""The README's first picture, from results/inside-mnist: PGD-20 beside AutoAttack."""

from __future__ import annotations

from html import escape
from pathlib import Path
from statistics import fmean

import numpy as np

from sparring.results.intervals import mean95
from sparring.results.result import Result

RUNS = {"trades": "TRADES", "mart": "MART", "pgd-at": "PGD-AT", "sat": "SAT"}  # best first
SUITES = {"pgd20": "PGD-20 says", "autoattack": "AutoAttack leaves"}
TONES = {"pgd20": "weak", "autoattack": "strong"}
LEFT, WIDTH, BAR, GAP, TOP = 150, 860, 20, 20, 112
HIGH = 100.0  # per cent, the end of the axis
WORST = ("not sound", "look", "sound")
STYLE = """
text { font: 15px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 20px; font-weight: 600 } .note { font-size: 13px; fill: #57606a }
.weak { fill: #a0a7b0 } .strong { fill: #0b5cad } .value { font-weight: 600 }
.whisker { stroke: #1f2328; stroke-width: 1.5 } .grid { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9da7b1 } .weak { fill: #7d8590 } .strong { fill: #58a6ff }
.whisker { stroke: #e6edf3 } .grid { stroke: #30363d } }
"""


def draw(results: Path) -> str:
    """Return the picture as SVG: two bars per method, means of three seeds with intervals."""
    rows = {run: {suite: _mean(results / suite, run) for suite in SUITES} for run in RUNS}
    height = TOP + len(RUNS) * (2 * BAR + GAP) + 76
    parts = [*_head(rows), *_grid(height - 76)]
    for k, (run, name) in enumerate(RUNS.items()):
        y = TOP + k * (2 * BAR + GAP)
        word = measurement(results / "autoattack", run)
        end = f'x="{LEFT - 12}" text-anchor="end"'
        parts.append(f'<text {end} y="{y + 17}">{name}</text>')
        parts.append(f'<text class="note" {end} y="{y + 34}">{word}</text>')
        for i, suite in enumerate(SUITES):
            parts += _bar(y + i * BAR, TONES[suite], *rows[run][suite])
    notes = (
        "MNIST, Linf eps 0.3, LeNet, 5 epochs each; means and 95 % intervals over three seeds.",
        "PGD-20 on 10,000 test samples, AutoAttack on 1,000 of them.",
        "Below each name: the verdict on its measurement under AutoAttack, the worst of three.",
    )
    for k, note in enumerate(notes):
        parts.append(f'<text class="note" x="{LEFT}" y="{height - 44 + 18 * k}">{note}</text>')
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-labelledby="t d">\n'
        f"<style>{STYLE}</style>\n{inside}\n</svg>\n"
    )


def measurement(folder: Path, run: str) -> str:
    """Return the worst verdict of a run's seeds."""
    verdicts = {Result.load(file).verdict for file in folder.glob(f"{run}-seed*.json")}
    return next(word for word in WORST if word in verdicts)


def _mean(folder: Path, run: str) -> tuple[float, float, float]:
    files = sorted(folder.glob(f"{run}-seed*.json"))
    shares = [100 * Result.load(file).robust.accuracy for file in files]
    _, low, high = mean95(np.array(shares))
    assert low is not None
    assert high is not None
    return fmean(shares), low, high


def _head(rows: dict[str, dict[str, tuple[float, float, float]]]) -> list[str]:
    said = {run: [f"{rows[run][suite][0]:.1f}" for suite in SUITES] for run in RUNS}
    drops = [means["pgd20"][0] - means["autoattack"][0] for means in rows.values()]
    least, most = f"{min(drops):.0f}", f"{max(drops):.0f}"
    title = f"A weak attack flatters: AutoAttack leaves {least} to {most} points less"
    about = "; ".join(
        f"{name}: PGD-20 {said[run][0]} %, AutoAttack {said[run][1]} %"
        for run, name in RUNS.items()
    )
    legend = []
    for k, (suite, text) in enumerate(SUITES.items()):
        x = LEFT + 150 * k
        legend.append(f'<rect class="{TONES[suite]}" x="{x}" y="72" width="14" height="14"/>')
        legend.append(f'<text x="{x + 22}" y="84">{text}</text>')
    return [
        f'<title id="t">{title}</title><desc id="d">{escape(about)}</desc>',
        f'<text class="title" x="{LEFT}" y="28">{title}</text>',
        f'<text class="note" x="{LEFT}" y="52">Robust accuracy in per cent, by method of training'
        "</text>",
        *legend,
    ]


def _x(value: float) -> float:
    return LEFT + (WIDTH - LEFT - 40) * value / HIGH


def _grid(bottom: int) -> list[str]:
    parts = []
    for tick in range(0, int(HIGH) + 1, 20):
        x = _x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}"/>')
        parts.append(
            f'<text class="note" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{tick}</text>'
        )
    return parts


def _bar(y: float, tone: str, mean: float, low: float, high: float) -> list[str]:
    middle, right = y + BAR / 2, _x(high)
    return [
        f'<rect class="{tone}" x="{LEFT}" y="{y + 1}" width="{_x(mean) - LEFT:.1f}" '
        f'height="{BAR - 2}"><title>{mean:.1f} % [{low:.1f}, {high:.1f}]</title></rect>',
        f'<line class="whisker" x1="{_x(low):.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{right + 8:.1f}" y="{middle + 5}"><tspan class="value">{mean:.1f}</tspan>'
        f'<tspan class="note" dx="6">[{low:.1f}, {high:.1f}]</tspan></text>',
    ]
