"""The report's section on metrics: table, curves with bands, softmax on and off the support."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
from rich.console import Console

from sparring.reporting import boundary_2d, metric_tables, metrics_table, page
from sparring.reporting.page import curves, metrics
from sparring.results.curves import AccuracyCurve
from sparring.results.field import BoundaryField
from sparring.results.metric_report import MetricReport, MetricRow, Softmax
from tests.reporting.made import make


def measured(name: str, value: float = 0.25, *, off: bool = False) -> MetricReport:
    """Two metrics, one of them undefined on some samples; perhaps also off the support."""
    span = {"low": value - 0.05, "high": value + 0.05, "median": value, "n": 90}
    rows = [
        MetricRow("ebd", "toy", value, **span, undefined=0, unit="u", better="higher", seconds=1.0),
        MetricRow("eni", "toy", None, None, None, None, 90, 90, "n", "lower", 1.0),
    ]
    profiles = [Softmax("toy", 90, [0.5, 0.3, 0.2], [0.4, 0.3, 0.2])]
    if off:
        rows.append(MetricRow("entropy", "else", 0.4, 0.3, 0.5, 0.4, 90, 0, "s", "higher", 1.0))
        profiles.append(Softmax("else", 90, [0.4, 0.3, 0.3], [0.2, 0.2, 0.2]))
    about = {"split": "test", "n": 90, "seed": 4, "batch": 30, "clean": 0.9, "recipe": {}}
    about |= {"versions": {}, "commit": "c0ffee", "data_sha256": "00", "device": "cpu"}
    classes = ["cat", "dog", "eel"]
    return MetricReport(
        name=name, dataset="toy", rows=rows, profiles=profiles, class_names=classes, **about
    )


def curve(name: str, **more) -> AccuracyCurve:
    line = {"mean": [0.9, 0.6, 0.1], "low": [0.8, 0.5, -0.1], "high": [1.0, 0.7, 0.3]}
    return AccuracyCurve(name, "Linf", [0, 1], [0.0, 0.1, 0.2], **line, **more)


def test_the_terminal_table_has_a_column_a_model():
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(metrics_table([measured("a"), measured("b", 0.5, off=True)]))
    output = console.export_text()
    assert "0.25 [0.2, 0.3]" in output
    assert "0.5 [0.45, 0.55]" in output
    assert "none, 90 undefined" in output
    assert "metrics on else, off the support" in output


def test_other_arguments_stand_in_rows_of_their_own():
    first, second = measured("a"), measured("b")
    second.rows[0] = dataclasses.replace(second.rows[0], config={"directions": 9})
    heads = [
        (head, [c is not None for c in cells])
        for head, cells, _ in metric_tables.grid([first, second], "toy")
    ]
    assert heads == [("ebd ↑", [True, False]), ("eni ↓", [True, True]), ("ebd ↑", [False, True])]


def test_the_page_shows_the_section(tmp_path: Path):
    out = page([make("a"), make("b")], tmp_path / "r.html", metrics=[measured("a", off=True)])
    html = out.read_text(encoding="utf-8")
    assert "Metrics on toy" in html
    assert "Metrics on else, off the support" in html
    assert "Softmax on and off the support" in html
    assert 'Seed 4 · commit <code title="c0ffee">' in html


def test_a_page_without_metrics_says_nothing_of_them(tmp_path: Path):
    html = page([make("a")], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Metrics on" not in html
    assert 'id="metrics"' not in html


def test_a_stranger_s_names_are_no_markup(tmp_path: Path):
    bad = measured("<script>alert(1)</script>", off=True)
    out = page([make("a")], tmp_path / "r.html", metrics=[bad])
    assert "<script>alert" not in out.read_text(encoding="utf-8")


def test_curves_over_seeds_stay_within_0_and_100():
    lines = [curve("one"), curve("one", common=True, share=0.8, sem=0.02)]
    all_samples, common = curves.seed_curves(lines)
    heights = [float(y) for y in re.findall(r'<line [^>]*y2="([0-9.]+)"', all_samples)]
    assert max(heights) <= 256 + 4  # the axis and its marks
    assert "80.0 % ± 2.0 (s.e.m.)" in common
    assert "one (2 seeds)" in all_samples
    assert curves.seed_curves([]) == []
    lone = dataclasses.replace(curve("one"), seeds=[0])
    assert curves.seed_curves([lone]) == []  # the chart of results shows it already


def test_the_softmax_picture_needs_other_data():
    assert metrics.softmax_charts([measured("a")]) == []
    drawn = metrics.softmax_charts([measured("a", off=True), measured("b", off=True)])
    assert ["on toy<" in one or "on else, off the support<" in one for one in drawn] == [True, True]
    assert all(one.count("M-4.5 0A4.5") == 3 for one in drawn)  # a marker a class


def test_the_plane_has_a_row_a_model():
    m = 12
    side = np.linspace(0, 1, m)
    dist = np.abs(side[None] - 0.5).repeat(m, 0)
    fields = [
        BoundaryField(
            name,
            0.0,
            1.0,
            prediction=(side[None] > 0.5).repeat(m, 0).astype(int),
            slope=np.exp(-dist),
            distance=dist if name == "a" else np.full((m, m), np.inf),
            segments=np.array([[[0.5, 0.0], [0.5, 1.0]]]),
            points=np.random.default_rng(0).random((5, 2)),
            labels=np.array([0, 1, 0, 1, 1]),
        )
        for name in ("a", "b")
    ]
    figure = boundary_2d.plane(fields, 0.125)
    assert len(figure.axes) == 2 * 4 + 2
    assert [axes.get_title() for axes in figure.axes[:4]] == list(boundary_2d.HEADS)
