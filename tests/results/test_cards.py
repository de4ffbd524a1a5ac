"""What a notebook shows of a result: a card, lines, a chart; with every text escaped."""

from __future__ import annotations

import dataclasses
import xml.dom.minidom

import pytest

from sparring.results import Interval, Result
from sparring.results.cards import headline_row
from sparring.results.intervals import wilson
from sparring.results.result import EpsRow
from tests.reporting.made import make, norms


def test_a_result_is_printed_in_one_line():
    r = make("digits-mart")
    r.verdict = "look"
    text = "Result(digits-mart: clean 97.5 % · robust at Linf 0.1: 75.0 % [68.6, 80.5] · "
    assert repr(r) == f"{text}measurement: look)"
    assert "robust to all norms: 65.0 %" in repr(norms())


def test_an_interval_is_printed_in_per_cent():
    assert repr(wilson(239, 270)) == "88.5 % [84.2, 91.8]"
    assert f"{Interval(1.0, 0.986, 1.0)}" == "100.0 % [98.6, 100.0]"


def test_the_summary_has_a_line_per_radius_and_the_reason():
    r = make()
    r.verdict, r.reason = "look", "no gradient-free attack ran"
    assert r.summary().splitlines() == [
        "run: 200 of toy test · suite quick v1",
        "clean                97.5 % [94.3, 98.9]",
        "robust at Linf 0.05  90.0 % [85.1, 93.4]  strongest: PGD-20 90.0 %",
        "robust at Linf 0.1   75.0 % [68.6, 80.5]  strongest: PGD-20 75.0 %",
        "measurement: look, no gradient-free attack ran",
    ]


def test_no_attack_of_a_cascade_is_the_strongest():
    r = make()
    first, last = r.by_eps[-1].attacks
    row = dataclasses.replace(r.by_eps[-1], attacks=[dataclasses.replace(first, attacked=9), last])
    r.by_eps = [row]
    assert "strongest" not in r.summary()


def test_a_card_is_well_formed_and_escapes_a_strangers_text():
    r = make("<script>alert(1)</script>" + "n" * 100)
    r.dataset, r.verdict, r.reason = "<b>&", "look", "<i>why"
    card = r._repr_html_()
    xml.dom.minidom.parseString(card)
    assert "<script" not in card
    assert "<b>" not in card
    assert "<i>" not in card
    for text in ("&lt;script&gt;", "97.5 %", "robust at Linf 0.1", "measurement: look, &lt;i&gt;"):
        assert text in card
    assert len(card) < 5000


def test_an_undefended_net_is_called_so():
    r = make(standing=0)
    r.recipe, r.verdict = {"method": {"name": "Standard"}}, "sound"
    for text in (repr(r), r.summary(), r._repr_html_()):
        assert "undefended" in text


def test_a_chart_draws_no_line_between_two_points():
    r = make()
    assert "polyline" not in r._repr_html_()  # clean and two radii
    r.by_eps.insert(0, EpsRow(0.02, wilson(190, 200), 190, []))
    assert "polyline" in r.plot()._repr_html_()
    xml.dom.minidom.parseString(r.plot()._repr_html_())
    assert "<svg" not in norms()._repr_html_()
    with pytest.raises(ValueError, match="no chart"):
        norms().plot()


def test_the_headline_is_the_radius_of_the_recipe():
    r = make()
    assert headline_row(r).eps == 0.1  # nearest to 50 %
    r.recipe["threat"] = {"name": "Linf", "eps": 0.05}
    assert headline_row(r).eps == 0.05


@pytest.mark.parametrize("standing", [0, 200])
def test_extremes_are_shown(standing):
    r = make(standing=standing)
    r.by_eps = [EpsRow(None, wilson(standing, 200), standing, [])]
    assert f"robust at Linf  {standing / 2:.1f} %" in r.summary()
    xml.dom.minidom.parseString(r._repr_html_())


def test_a_dictionary_is_the_file_without_its_arrays(tmp_path):
    r = make()
    table = r.to_dict()
    assert table["by_eps"][1]["attacks"][0]["name"] == "FGSM"
    assert "arrays" not in table
    assert Result.load(r.save(tmp_path / "r.json")).to_dict() == r.to_dict()


def test_the_infinite_radius_has_no_place_in_the_chart():
    r = make()
    r.by_eps = [r.by_eps[0], dataclasses.replace(r.by_eps[1], eps=None)]
    xml.dom.minidom.parseString(r._repr_html_())
    assert "robust at Linf 0.05" in r._repr_html_()
