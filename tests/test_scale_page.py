"""The page on scale is what the benchmark's file gives; only its text is by hand."""

from __future__ import annotations

import importlib
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.scale_page import build, example, figure

ROOT = Path(__file__).parents[1]
RUN = "run .venv/bin/python -m scripts.scale_page"


@pytest.fixture(scope="module")
def scale() -> Any:
    """The module benchmarks/scale.py, which imports its neighbour."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("scale")
    finally:
        sys.path.pop(0)


@pytest.fixture
def table(scale: Any) -> dict[str, Any]:
    """A file of numbers made up: 2 ms a sample and 1 s of checks; the square of the classes."""
    points = {}
    for _, works in scale.series().values():
        for work in works:
            seconds = (1 + 0.002 * work.n * work.radii) * (work.classes / 10) ** 2
            seconds *= (work.side / 32) ** 2 * (1 if work.kind == "evaluate" else 1e-3)
            passes = {"forwards": 100.0, "backwards": 20.0}
            row = {"seconds": seconds, "wall": seconds / work.processes, "mib": 50.0, **passes}
            points[work] = row
    rows = [{**vars(work), **values} for work, values in points.items()]
    return {"about": {}, "series": scale.summary(points), "points": rows}


def test_the_page_and_its_figure_are_those_of_the_file() -> None:
    assert build.out_of_date() == [], RUN


def test_slopes_are_of_the_logarithms(scale: Any, table: dict[str, Any]) -> None:
    assert scale.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert scale.slope([1], [3]) is None
    assert scale.slope([1, 2], [0, 1]) is None
    series = table["series"]
    assert series["evaluation, classes"]["seconds_slope"] == pytest.approx(2)
    assert series["evaluation, side"]["seconds_slope"] == pytest.approx(2)
    assert series["evaluation, processes"]["wall_slope"] == pytest.approx(-1)
    assert series["evaluation, samples"]["mib_slope"] == pytest.approx(0)


def test_the_example_follows_from_the_line_and_the_classes(table: dict[str, Any]) -> None:
    cost = example.cost(table)
    assert cost is not None
    assert cost.fixed == pytest.approx(1)
    assert cost.per_sample == pytest.approx(0.002)
    assert cost.classes == pytest.approx(10_000)
    assert cost.hours == pytest.approx((1 + 1e6 * 0.002 * 1e4) / 3600)
    text = example.text(table)
    assert "| each further sample of the short cascade, 10 classes | 2 ms |" in text
    assert "| passes a surviving sample, `autoattack` | 9,740 |" in text


def test_a_file_that_is_not_whole_makes_a_page_too(scale: Any) -> None:
    series = {"series": scale.summary({}), "points": []}
    assert len(build.slopes(series).splitlines()) == 2
    assert "not measured" in example.text(series)
    assert figure.draw(series).startswith("<svg")


def test_every_series_has_a_row_and_the_figure_its_names(table: dict[str, Any]) -> None:
    rows = build.slopes(table).splitlines()[2:]
    assert len(rows) == len(table["series"])
    assert any(row.startswith("| evaluation: processes | 1 | 2 |") for row in rows)
    drawn = figure.draw(table)
    for name in ("samples", "pixels", "radii", "classes", "slope 1"):
        assert re.search(rf">{name}(<title>.*?</title>)?</text>", drawn)
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', drawn)[0])
    assert width <= 440
    places = [float(v) for v in re.findall(r"translate\([\d.]+ ([\d.]+)\)", drawn)]
    assert places
    assert all(math.isfinite(v) for v in places)


@pytest.mark.slow
def test_a_point_is_measured_in_a_process_of_its_own(
    scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = [scale.Work("step", n=4), scale.Work("step", n=8)]
    values = {"seconds": 1.0, "wall": 1.0, "mib": 2.0}
    path = tmp_path / "scale.json"
    scale.save(path, dict.fromkeys(works, values))
    assert scale.saved(path) == dict.fromkeys(works, values)
    for key in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(key, raising=False)
    measured = scale.in_own_process(scale.Work("step", n=4))
    assert measured["seconds"] > 0
    assert measured["mib"] >= 0
