"""The terminal table and the page: one result, whole or with parts missing."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path

import pytest

from sparring.reporting import page, table
from sparring.reporting.page import curves
from sparring.results.result import Check
from tests.reporting.made import Page, certified, html_of, make, norms, text


def test_table_says_the_numbers() -> None:
    said = text([make()])
    for needed in ("97.50 [94.3, 98.9]", "195 right", "75.00", "150 robust", "PGD-20 75.0"):
        assert needed in said
    assert "20.5" not in said
    detailed = text([make()], details=True)
    for needed in ("20.5", "worst case"):
        assert needed in detailed


def test_table_orders_radii_and_shows_fired_checks() -> None:
    result = make()
    result.checks = [Check("zero gradients", True, "use the margin", "40 %")]
    said = text([result])
    assert said.index("eps 0.05") < said.index("eps 0.1 ")
    assert "use the margin" in said


def test_page_is_self_contained_and_complete(tmp_path: Path) -> None:
    html = page([make()], tmp_path / "r.html").read_text(encoding="utf-8")
    found = Page(html)
    assert all(a.startswith(("data:", "#")) for a in found.addresses)
    assert found.tags.count("script") == 1
    assert not {"link", "iframe"} & set(found.tags)
    assert found.tags.count("img") == 9  # three samples
    for needed in ("97.50", "75.00 [68.6, 80.5]", "toy-at", "sparring evaluate runs/run", "abc"):
        assert needed in html


def test_stranger_cannot_inject(tmp_path: Path) -> None:
    result = make("<script>alert(1)</script>")
    result.class_names = ["<img src=x onerror=alert(1)>", "b", "c"]
    result.checks = [Check("<b>x</b>", True, "<script>", "d")]
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "<img src=x" not in html
    assert "<b>x" not in html


def test_missing_parts_are_said(tmp_path: Path) -> None:
    result = make()
    result.arrays, result.train, result.recipe = {}, {}, {}
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("arrays of this result are not beside it") == 2
    assert "No training log" in html


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results"):
        page([], tmp_path / "r.html")
    with pytest.raises(ValueError, match="no results"):
        table([])


def test_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = page([make()], tmp_path / "r.html")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        page([copy.deepcopy(make("other"))], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("verdict", ["sound", "look", "not sound"])
def test_the_verdict_comes_first_with_its_reasons(verdict: str, tmp_path: Path) -> None:
    result = make()
    result.verdict = verdict
    if verdict != "sound":
        check = Check("zero gradients", True, "use the margin", "40 %", "not sound")
        result.checks = [Check("noise", True, "more", "1 %"), check]
        result.reasons = ["noise: 1 %", "zero gradients: 40 %", "no attack without gradients"]
    said, html = text([result]), html_of([result], tmp_path)
    assert f"measurement: {verdict}" in said
    assert f"<strong>Measurement: {verdict}</strong>" in html
    assert html.index("<strong>") < html.index("clean accuracy<b>")
    if verdict != "sound":
        assert said.index("not sound · zero gradients: 40 %") < said.index("look · noise: 1 %")
        assert said.count("no attack without gradients") == 1
        assert said.count("zero gradients: 40 %") == 1
        assert html.index(">not sound</span>") < html.index(">look</span>")
        assert "<li>no attack without gradients</li>" in html


def test_an_early_end_is_marked(tmp_path: Path) -> None:
    result = make()
    result.early = "the budget of 5 s was spent"
    row = result.by_eps[-1]
    row.attacks[1] = dataclasses.replace(row.attacks[1], skipped=30)
    for shown in (text([result], details=True), html_of([result], tmp_path)):
        assert "≤ 75.00" in shown
        assert "≤ 90.00" not in shown
        assert "≤ 80.00" not in shown
        assert "the budget of 5 s was spent" in shown
        assert "30" in shown
    (chart,) = curves.radii([result])
    assert len(re.findall(r'<path [^>]*transform[^>]*fill="none"', chart)) == 1  # an upper bound


def test_norms_have_rows_of_their_own(tmp_path: Path) -> None:
    said, html = text([norms()]), html_of([norms()], tmp_path)
    for needed in ("Linf eps 0.1", "L2 eps 0.5", "L2 eps 1.5", "worst of all", "65.00"):
        assert needed in said
    assert html.count("<caption>Attacks at") == 2
    assert "Every attack at every L2 radius" in html
    assert "Every attack at every Linf radius" not in html
    assert "--at Linf=0.1 --at L2=0.5 --at L2=1.5" in html
    both = html_of([norms(), make("one")], tmp_path)
    assert "different threats (Linf, Linf and L2)" in both
    assert '<th scope="col">worst case</th>' in both


def test_certificates_stand_beside_attacks(tmp_path: Path) -> None:
    said, html = text([norms()]), html_of([norms()], tmp_path)
    assert "certified   ≥ 55.00" in said
    assert "certified   ≥ 20.00 [13.3, 28.9]  first 100" in said  # not the smoothed model's 90
    detailed = text([norms()], details=True)
    assert "smoothing σ = 1 (smoothed model, first 100)" in detailed
    assert "of the smoothed model, first 100 samples" in html
    assert "CROWN-IBP: what was proven." in html
    bounded = make()
    bounded.by_eps[1].certified.append(certified("CROWN-IBP", 110))
    (chart,) = curves.radii([bounded])
    assert "run, certified: 55 at 0.1" in chart
