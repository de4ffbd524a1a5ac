"""Detection in the terminal and on the page, whole or with parts missing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from sparring.reporting import format, page
from sparring.reporting.page import curves
from sparring.results.detection import Detection, FeatureCount, detection, roc
from sparring.results.result import Result
from tests.reporting.made import Page, make, norms, text

STRANGE = "a$x$y <b>" + "long" * 30


def detector(name: str = "run", *, all_attacked: bool = False) -> Result:
    """A result of two classes with scores; a quarter of malware evades."""
    rng = np.random.default_rng(0)
    y = (np.arange(200) % 4 == 0).astype(np.int64)
    clean = rng.normal(size=200) + 4 * y - 2
    moved = np.where(y == 1, -2.0, 1.0 if all_attacked else 0.0) * (np.arange(200) % 3 == 0)
    adv = clean + moved
    said = [(s > 0).astype(np.int64) for s in (clean, adv)]
    found = detection(
        y,
        *said,
        class_names=["benign", "malware"],
        clean_score=clean,
        adv_score=adv,
        flips=np.where((y == 1) & (said[0] == 1) & (said[1] == 0), 3, -1),
        added=[FeatureCount("SEND_SMS", 7), FeatureCount(STRANGE, 2)],
    )
    arrays = {"y": y, "clean_pred": said[0], "adv_pred": said[1]}
    arrays |= {"clean_score": clean, "adv_score": adv}
    return dataclasses.replace(
        make(name),
        class_names=["benign", "malware"],
        detection=found,
        notes=["7380 rows dropped: the same as another row"],
        arrays=arrays,
        train={},
    )


def of(result: Result) -> Detection:
    assert result.detection is not None
    return result.detection


def test_the_terminal_says_every_rate() -> None:
    result, said = detector(), text([detector()])
    for row in of(result).rates:
        for cell in format.detection_cells(row):
            assert cell.split(" [")[0] in said
    for needed in (
        "malware attacked",
        "FNR",
        "TPR at FPR 0.1 %",
        "3.00 on average",
        "SEND_SMS (7)",
    ):
        assert needed in said
    assert "all attacked" not in said
    assert "all attacked" in text([detector(all_attacked=True)])
    assert "FNR" not in text([make()])


def test_the_page_shows_table_curves_and_features(tmp_path: Path) -> None:
    html = page([detector()], tmp_path / "r.html").read_text(encoding="utf-8")
    assert ">Detection of malware</h2>" in html
    fnr = format.percent(of(detector()).rates[1].fnr).split(" ", 1)
    assert f"{fnr[0]}<small>{fnr[1]}</small>" in html
    for about in ("ROC curves, linear", "ROC curves, logarithmic", "Features that evasions add"):
        assert f"<title>{about}" in html
    assert "7380 rows dropped" in html
    assert all(a.startswith(("data:", "#")) for a in Page(html).addresses)
    plain = page([make()], tmp_path / "p.html").read_text(encoding="utf-8")
    assert "Detection" not in plain


def test_two_detectors_share_a_table(tmp_path: Path) -> None:
    results = [detector("a"), detector("b", all_attacked=True)]
    html = page(results, tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("<h2>Detection</h2>") == 1
    assert html.count(">Detection of malware</h4>") == 2
    mixed = page([detector("a"), norms()], tmp_path / "m.html").read_text(encoding="utf-8")
    assert "<h2>Detection</h2>" not in mixed


def test_without_arrays_the_table_stays(tmp_path: Path) -> None:
    result = detector()
    result.arrays = {}
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert ">Detection of malware</h2>" in html
    assert "No ROC curves: The arrays" in html
    assert html.count("arrays of this result are not beside it") == 3


def test_more_classes_have_no_detection(tmp_path: Path) -> None:
    result = make()
    arrays = result.arrays
    result.detection = detection(
        arrays["y"], arrays["clean_pred"], arrays["adv_pred"], class_names=result.class_names
    )
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Detection" not in html  # rates of ten classes one by one say nothing
    assert curves.detection(result) == []


def test_the_curves_drawn_are_those_of_the_scores() -> None:
    result = detector(all_attacked=True)
    linear, logarithmic = curves.detection(result)
    (about,) = re.findall("<desc>(.*?)</desc>", linear)
    names = re.findall(r"(?:^|; )([^:;]+), AUC [0-9.]+:", about)
    assert names == ["clean", "malware attacked", "all attacked"]
    assert linear.count("<path") == logarithmic.count("<path") == 3


def test_corners_leave_the_area_as_it_was() -> None:
    rng = np.random.default_rng(0)
    score, y = np.round(rng.random(80), 2), np.arange(80) % 2
    curve, few = roc(score, y), roc(score, y, corners=True)
    assert len(few.fpr) < len(curve.fpr)
    assert np.trapezoid(few.tpr, few.fpr) == pytest.approx(np.trapezoid(curve.tpr, curve.fpr))


def test_features_are_bars_whatever_their_names_hold() -> None:
    result = detector()
    chart = curves.added_features(result)
    assert chart is not None
    n = of(result).evasions
    assert f"SEND_SMS: {100 * 7 / n:.1f}" in chart
    assert chart.index("SEND_SMS") < chart.index("a$x$y")
    assert "<b>long" not in chart
    result.detection = dataclasses.replace(of(result), added=[])
    assert curves.added_features(result) is None


def test_a_strange_class_cannot_inject(tmp_path: Path) -> None:
    result = detector()
    result.class_names = ["<b>x</b>", "<script>"]
    result.detection = dataclasses.replace(of(result), positive="<script>")
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "<b>x" not in html


def test_a_stripped_result_has_its_curves_and_no_samples(tmp_path: Path) -> None:
    stripped = detector(all_attacked=True).strip()
    assert text([stripped]) == text([detector(all_attacked=True)])
    html = page([stripped], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "ROC curves" in html
    assert "Pictures are not part of this file" in html
    assert "not beside it" not in html
