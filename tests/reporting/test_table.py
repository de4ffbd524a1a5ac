"""The tables of the terminal: they fit every width, and no name is broken."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from sparring.reporting import summary_lines, table
from sparring.reporting.fitting import Cell, FittingTable, Head
from sparring.reporting.table import merged
from sparring.results.intervals import wilson
from sparring.results.result import Check, Result
from tests.reporting.made import N, make, norms, paired, text

WIDTHS = (40, 80, 100, 160)
LONG = "a-name-that-begins-like-others-" + "x" * 50 + "-and-ends-like-none"

CUT = r"a-name-\S*…\S*ike-none"


def judged(result: Result, verdict: str, reason: str = "no gradient-free attack ran") -> Result:
    return dataclasses.replace(result, verdict=verdict, reason=reason)


def several() -> list[Result]:
    shown = [paired("digits-mart", 150), paired("digits-standard", 120), paired(LONG, 90)]
    shown = [judged(r, "look") for r in shown]
    shown[1].recipe = {"recipe": {"name": "plain", "seed": 0}, "method": {"name": "Standard"}}
    return shown


@pytest.mark.parametrize("width", WIDTHS)
def test_every_line_fits_and_short_names_are_whole(width):
    for results in ([make()], [make(LONG)], [norms()], several(), [norms(), make(LONG), make()]):
        console = Console(
            file=io.StringIO(), width=width, force_terminal=width != 80, color_system=None
        )
        console.print(table(results, details=True))
        console.print(summary_lines(results))
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        for r in results:
            if len(r.name) <= 28:
                assert any(re.search(rf"(^|\s){re.escape(r.name)}\b", line) for line in lines)
            else:
                assert any(re.search(CUT, line) or LONG in line for line in lines)
        assert not [line for line in lines if line.count("[") != line.count("]")]


def test_a_ranking_leaves_out_what_all_share_and_says_it_once():
    said = text(several(), width=80)
    assert said.index("digits-mart") < said.index("digits-standard")
    assert said.count("no gradient-free attack ran") == 1
    assert "undefended" in said
    assert re.search(r"digits-mart \* +97.50 \[94.3, 98.9\] +75.00 \[68.6, 80.5\]", said)
    assert "digits-standard *" not in said
    mixed = several()
    mixed[0] = judged(mixed[0], "sound", "all 18 checks passed")
    assert "measurement: sound · digits-mart · all 18 checks passed" in text(mixed, width=80)


def test_reasons_that_differ_in_a_number_are_one():
    reasons = [f"all {n} checks passed" for n in (16, 18, 17)]
    alike = [judged(r, "sound", reason) for r, reason in zip(several(), reasons, strict=True)]
    assert "measurement: sound · all 16–18 checks passed" in text(alike)


def test_another_radius_is_compared_when_asked():
    assert "Linf eps 0.05" in text(several(), at=0.05)
    assert "Linf eps 0.1" in text(several(), at=0.1)
    with pytest.raises(ValueError, match=r"0\.7.*0\.05"):
        table(several(), at=0.7)


def test_intervals_go_before_names_and_columns():
    def rows(width):
        heads = [Head("result", left=True, name=True), Head("robust"), Head("cost", rank=1)]
        cells = [Cell("digits-mart"), Cell("88.52 [84.2, 91.8]", "88.52"), Cell("1.5")]
        return [line.plain for line in FittingTable(heads, [cells]).lines(width)]

    assert rows(40)[1] == "digits-mart  88.52 [84.2, 91.8]   1.5"
    assert rows(36)[1] == "digits-mart  88.52 [84.2, 91.8]"
    assert rows(28)[1] == "digits-mart   88.52   1.5"
    assert rows(20)[1] == "digits-mart   88.52"
    assert rows(15) == ["digits-mart", "  robust 88.52", "  cost 1.5"]


def test_a_column_without_a_cell_is_left_out():
    table = FittingTable([Head("a"), Head("b")], [[Cell("1"), Cell("")]])
    assert [line.plain for line in table.lines(40)] == ["a", "1"]


def test_colours_are_of_the_measurement_alone_and_praise_no_undefended_model():
    results = [judged(r, "sound") for r in several()]
    results[2] = judged(results[2], "not sound")
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(table(results))
    lines = console.file.getvalue().splitlines()
    (undefended,) = (line for line in lines if "undefended" in line)
    assert "\x1b[1;32m" not in undefended
    assert any("\x1b[1;32msound" in line for line in lines)
    assert any("\x1b[1;31mnot sound" in line for line in lines)


def test_zero_robust_samples_and_fired_checks():
    result = judged(make(standing=0), "not sound", "1 of 1 checks fired: zero gradients")
    result.checks = [Check("zero gradients", True, "use the margin", "40 %", "not sound")]
    result.by_eps[-1] = dataclasses.replace(result.by_eps[-1], robust=wilson(0, N), count=0)
    said = text([result], width=80)
    assert "0.00 [0.0, 1.9]" in said
    assert "not sound · zero gradients: 40 %" in said
    assert "use the margin" in said


def test_of_many_pairs_the_closest_are_shown():
    results = [paired(f"r{k}", 100 + k) for k in range(12)]
    for k, r in enumerate(results):
        r.recipe = {"recipe": {"name": f"r{k}"}}
    said = text(results, width=80)
    assert "and 1 further apart" in said
    assert re.search(r"r11 +r10|r10 +r11", said)
    assert not re.search(r"r11 +r0\b|r0 +r11", said)


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["its budget of 2.05 seconds was spent"], "its budget of 2.05 seconds was spent"),
        (["2.1 % of all", "13.5 % of all", "9.9 % of all"], "2.1–13.5 % of all"),
        (["all 16 checks passed", "all 16 checks passed"], "all 16 checks passed"),
    ],
)
def test_the_numbers_of_reasons_are_merged_whole(texts, text):
    assert merged(texts) == text
