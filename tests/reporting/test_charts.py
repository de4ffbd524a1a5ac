"""Charts as SVG text: what they draw, what they never draw, and what they say in words."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from sparring.reporting import charts
from sparring.reporting.charts import base

STRANGE = '<img src=x onerror="alert(1)">\x1b[2J' + "long" * 40
EPS = charts.Axis("eps", 0, 0.3, [0, 0.1, 0.3])
ACCURACY = charts.Axis("accuracy, %", 0, 100)


def parsed(svg: str) -> ElementTree.Element:
    """The chart as a tree: it must be well-formed."""
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in parsed(svg).iter("text")]


def line(name: str, *values: float, **more) -> charts.Line:
    points = [charts.Point(x, y, y - 2, y + 2) for x, y in zip((0, 0.1, 0.3), values, strict=False)]
    return charts.Line(name, points, **more)


def drawn(*series: charts.Line) -> str:
    return charts.lines(series, title="t", x=EPS, y=ACCURACY)


def joins(svg: str) -> list[str]:
    """The lines between points: paths that are no markers."""
    return [p.get("d", "") for p in parsed(svg).iter("path") if "transform" not in p.attrib]


def test_colours_stand_out_on_light_and_dark_ground() -> None:
    grounds = ("#ffffff", "#202428", "#16191c")
    assert min(base.contrast(c, g) for c in base.COLOURS for g in grounds) >= 3
    assert len(set(base.COLOURS)) == len(base.COLOURS) == len(base.MARKERS)
    pairs = {(k % 8, (k + k // 8) % 8) for k in range(64)}
    assert len(pairs) == 64


def test_no_line_joins_what_was_not_measured() -> None:
    one_radius = line("a", 99, 80)
    assert joins(drawn(one_radius)) == []
    (path,) = [
        p for p in parsed(drawn(line("a", 99, 80, 20))).iter("path") if "transform" not in p.attrib
    ]
    assert path.get("d", "").count("L") == 1  # between the two radii, not from 0


def test_equal_lines_stay_visible_and_names_do_not_overlap() -> None:
    svg = drawn(*(line(f"net {k}", 99, 80, 20) for k in range(6)))
    places = {p.get("transform") for p in parsed(svg).iter("path") if p.get("transform")}
    assert len(places) == 18
    shapes = {p.get("d") for p in parsed(svg).iter("path") if p.get("transform")}
    assert len(shapes) == 6
    heights = [
        float(t.get("y", 0)) for t in parsed(svg).iter("text") if (t.text or "")[:3] == "net"
    ]
    assert min(b - a for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False)) >= 16.9


def test_many_names_make_a_chart_taller() -> None:
    svg = parsed(drawn(*(line(f"n{k}", 9, 8, 2) for k in range(40))))
    assert float(svg.get("height", 0)) > 40 * base.ROW


def test_a_forest_says_its_numbers() -> None:
    rows = [
        charts.ForestRow("TRADES", 76.2, 74, 78, (75, 77), reference=98.2, bold=True),
        charts.ForestRow("SAT", 69.3, 66, 71, mark="†"),
        charts.ForestRow(STRANGE, 40, prefix="≤ "),
    ]
    svg = charts.forest(rows, title="Robust accuracy")
    assert {"76.2", "69.3†", "≤ 40.0"} <= set(texts(svg))
    (about,) = [e.text for e in parsed(svg) if e.tag == "desc"]
    assert about is not None
    assert "TRADES: 76.2 [74.0, 78.0], 2 seeds, clean 98.2; SAT: 69.3†" in about
    assert charts.forest([], title="none")


def test_long_names_of_a_forest_stay_distinct() -> None:
    names = [f"data sparsity (with {k} unlabelled points a row)" for k in range(3)]
    svg = charts.forest([charts.ForestRow(name, 40) for name in names], title="t")
    assert [t for t in texts(svg) if t.startswith("data")] == names


def test_bars_keep_their_order_and_say_their_numbers() -> None:
    rows = [charts.Bar("8", 58, 40, 70, reference=96), charts.Bar("1", 0)]
    svg = charts.bars(rows, title="by class", axis="robust, %")
    assert [t for t in texts(svg) if t in ("8", "1")] == ["8", "1"]
    assert "8: 58.0 [40.0, 70.0], clean 96.0; 1: 0.0" in svg


@pytest.mark.parametrize("kind", ["lines", "forest", "bars"])
def test_names_of_a_stranger_are_no_markup_and_fit(kind: str) -> None:
    svg = {
        "lines": lambda: drawn(line(STRANGE, 9, 8, 2)),
        "forest": lambda: charts.forest([charts.ForestRow(STRANGE, 4)], title=STRANGE),
        "bars": lambda: charts.bars([charts.Bar(STRANGE, 4)], title=STRANGE, axis=STRANGE),
    }[kind]()
    assert "<img" not in svg
    assert "\x1b" not in svg
    assert max(map(len, texts(svg))) < 60
    assert re.search(r"<title>.+</title><desc>.+</desc>", svg)
    assert 'role="img"' in svg


def test_a_file_of_a_chart_is_whole() -> None:
    svg = charts.standalone(drawn(line("a", 9, 8, 2)))
    assert parsed(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in svg


def test_a_logarithmic_height_has_equal_steps_for_equal_factors() -> None:
    line = charts.Line("cost", [charts.Point(v, v) for v in (1.0, 10.0, 100.0)])
    axis = charts.Axis("size", 1, 100, (1, 10, 100), log=True)
    drawn = charts.lines([line], title="cost", x=axis, y=axis, dodge=False)
    heights = [float(v) for v in re.findall(r"translate\([\d.]+ ([\d.]+)\)", drawn)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert heights[0] > heights[2]
