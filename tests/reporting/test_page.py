"""The page: its answer, its safety, its parts, and what it leaves out."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import re
import shlex
import struct
import tomllib
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sparring import data, evaluation
from sparring.reporting import page, study_page
from sparring.reporting.page import classes, curves, render, reproduce, samples, section
from sparring.results.levels import Level, headline
from sparring.results.result import Check, Result
from sparring.threats import Linf
from tests.reporting.made import Page, attacked, html_of, make, norms, paired


def written(results: list[Result], folder: Path, **options: Any) -> str:
    return page(results, folder / "r.html", **options).read_text(encoding="utf-8")


def test_the_answer_comes_first_and_says_the_numbers(tmp_path: Path) -> None:
    html = written([make()], tmp_path)
    assert "Of 200 samples of toy test, 150 withstand every attack at Linf eps 0.1" in html
    assert "75.0 % [68.6, 80.5]" in html
    assert html.index("Of 200 samples") < html.index("Measurement:") < html.index("clean accuracy")
    few = make(standing=0)
    few.by_eps = few.by_eps[-1:]
    assert "none withstands every attack" in written([few], tmp_path)


def test_the_page_allows_its_own_style_and_script_and_no_other(tmp_path: Path) -> None:
    html = written([make()], tmp_path)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src &#39;none&#39;; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest.replace('+', '&#43;')}&#39;" in policy.replace(
            "+", "&#43;"
        )
    assert not re.findall(r'<[^>]* (?:style|on\w+)="', html.replace("<title>", ""))
    assert {"link", "iframe", "object"}.isdisjoint(Page(html).tags)


def test_every_picture_chart_and_table_says_its_content(tmp_path: Path) -> None:
    html = written([make("a"), make("b")], tmp_path)
    charts = re.findall(r"<svg[^>]*><title>[^<]+</title><desc>[^<]+", html)
    assert len(charts) == html.count("<svg")
    assert all(alt for alt in re.findall(r'<img[^>]*alt="([^"]*)"', html))
    assert html.count("<table") == html.count("<caption>")
    assert not re.findall(r"<th(?! scope)[ >]", html)
    labels = re.findall(r'role="region" tabindex="0" aria-label="([^"]*)"', html)
    assert len(set(labels)) == len(labels) > 4
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(set(ids)) == len(ids)
    assert {a[1:] for a in Page(html).addresses if a.startswith("#")} <= set(ids)


@pytest.mark.parametrize("count", [1, 2])
def test_headings_leave_no_level_out(count: int, tmp_path: Path) -> None:
    html = written([make(f"r{k}") for k in range(count)], tmp_path)
    levels = [int(k) for k in re.findall(r"<h(\d)", html)]
    assert levels[0] == 1
    assert max(b - a for a, b in itertools.pairwise(levels)) == 1


def test_broken_samples_come_first_with_signs(tmp_path: Path) -> None:
    shown = samples.samples(make())
    assert shown is not None
    assert (shown.broken, shown.kept) == (2, 4)
    assert [one.broken for one in shown.rows] == [True, True, False]
    html = written([make()], tmp_path)
    assert "Attacks broke 2 of the 4 samples" in html
    assert '<span class="bad">✗ dog</span>' in html
    assert '<span class="bad">✗ no class</span>' in html
    whole = make()
    whole.arrays["show_adv"] = whole.arrays["show_y"]
    assert "No attack broke any of the 4 samples" in written([whole], tmp_path)


@pytest.mark.parametrize(
    ("shape", "layout"), [((1, 6, 6), "pixel"), ((3, 80, 6), "fine"), ((12,), "strip")]
)
def test_samples_of_any_shape(shape: tuple[int, ...], layout: str) -> None:
    shown = samples.samples(make(shape=shape))
    assert shown is not None
    assert shown.layout == layout


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *(("0.5", "0.5"), ("−1.5", "-1.5"), ("≤ 75.00 [1, 2]", "75.00"), ("+.25", ".25")),
        *(("1.2e-05", "1.2e-05"), ("3e−09", "3e-09"), ("1e+20", "1e+20"), ("2edge", "2")),
        *(("1,234.5", "1,234.5"), ("–", None), ("..", None), ("net 3", None)),
    ],
)
def test_a_column_is_sorted_by_whole_numbers(cell: str, number: str | None) -> None:
    """A p-value of 1.2e-05 is less than one of 0.5."""
    script = (render.FOLDER / "page.js").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"const NUMBER = /(.+)/i;", script)
    match = re.match(pattern, cell.replace("−", "-"), re.IGNORECASE)
    assert (match and match[1]) == number
    assert 'replaceAll("−", "-")' in script
    assert 'Number(match[1].replaceAll(",", ""))' in script


def test_a_png_holds_its_pixels() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    content = samples.png(pixels)
    assert struct.unpack(">2I", content[16:24]) == (4, 2)
    rows = zlib.decompress(content[41:-16])
    assert rows == b"\0" + pixels[0].tobytes() + b"\0" + pixels[1].tobytes()


def test_classes_are_ordered_and_the_worst_is_named() -> None:
    result = make()
    result.arrays["correct_0.1"] = result.arrays["adv_pred"] == result.arrays["y"]
    result.arrays["correct_0.1"][result.arrays["y"] == 2] &= np.arange(66) > 30
    levels = headline([result])
    rows = classes.class_rows(result, levels)
    assert rows[0].name == "eel"
    text = classes.class_sentence(result, rows, levels)
    count = round(rows[0].robust.accuracy * 66)
    assert text.startswith(f"Worst is eel: {count} of its 66 samples withstand at Linf eps 0.1")
    assert "cat (" in text
    chart = classes.class_chart(rows, "at eps 0.1")
    assert chart is not None
    assert chart.index(">eel") < chart.index(">cat")


def test_one_class_or_none_right_has_no_worst_class(tmp_path: Path) -> None:
    one = make(standing=0)
    one.arrays["y"] = np.zeros_like(one.arrays["y"])
    one.arrays["correct_0.1"] = np.zeros(200, dtype=bool)
    levels = {"Linf": Level("Linf", 0.1)}
    assert classes.class_chart(classes.class_rows(one, levels), "") is None
    assert "by class, worst first" not in written([one], tmp_path)
    none = make(standing=0)
    none.arrays["correct_0.1"] = np.zeros(200, dtype=bool)
    rows = classes.class_rows(none, levels)
    assert classes.class_sentence(none, rows, levels) == "All classes are at 0.0 % at Linf eps 0.1."


def test_attacks_say_what_they_broke() -> None:
    result = make()
    row = result.by_eps[-1]
    cascade = [dataclasses.replace(attacked("A", 160), attacked=195)]
    cascade.append(dataclasses.replace(attacked("B", 150), attacked=160))
    table = section.attack_table(result, dataclasses.replace(row, attacks=cascade))
    assert table.cascade
    assert [line.broken for line in table.lines] == [35, 10]
    assert table.wrong == 5
    alone = [dataclasses.replace(a, attacked=195) for a in cascade]
    table = section.attack_table(result, dataclasses.replace(row, attacks=alone))
    assert not table.cascade
    assert [line.broken for line in table.lines] == [35, 45]


def test_broken_counts_do_not_depend_on_how_many_an_attack_was_given() -> None:
    """Near misses are few of the survivors, and a spent budget leaves samples out."""
    result = make()
    row = result.by_eps[-1]
    cascade = [
        dataclasses.replace(attacked("A", 160), attacked=195),
        dataclasses.replace(attacked("A again", 157), attacked=16),
        dataclasses.replace(attacked("B", 150), attacked=100, skipped=57),
        dataclasses.replace(attacked("C", 150), skipped=150),
    ]
    table = section.attack_table(result, dataclasses.replace(row, attacks=cascade))
    assert table.cascade
    assert [line.broken for line in table.lines] == [35, 3, 7, 0]
    alone = [
        dataclasses.replace(attacked("A", 160), attacked=195),
        dataclasses.replace(attacked("B", 170), attacked=100, skipped=95),
        dataclasses.replace(attacked("B again", 155), attacked=16),
        dataclasses.replace(attacked("A again", 150), attacked=16),
    ]
    table = section.attack_table(result, dataclasses.replace(row, attacks=alone))
    assert not table.cascade
    # what A and B break together is not in the rows: of the third line the count is unknown
    assert [line.broken for line in table.lines] == [35, 25, None, 5]


def test_the_recipe_is_toml_that_reads_back() -> None:
    result = make()
    result.recipe = {"recipe": {"name": "a\x1b[2J", "seed": 0}, "threat": {"eps": None, "low": 0.0}}
    text = reproduce.recipe_toml(result)
    assert text is not None
    assert "\x1b" not in text
    assert tomllib.loads(text)["threat"] == {"low": 0.0}
    result.recipe = {}
    assert reproduce.recipe_toml(result) is None


def test_commands_name_n_only_for_a_part_of_the_set() -> None:
    whole = dataclasses.replace(make(), dataset="digits", n=270)
    assert "--n" not in reproduce.commands(whole, "run")[1]
    assert reproduce.commands(make(), "run")[1].endswith(
        "--suite quick --eps 0.05 --eps 0.1 --n 200"
    )


def test_commands_are_words_whatever_a_stranger_named_them() -> None:
    result = make("net; touch pwned")
    result.recipe["recipe"]["name"] = "$(touch pwned)"
    result.suite, result.split, result.dataset = "`id`", "a b", "x|y"
    train, evaluate, report = map(shlex.split, reproduce.commands(result, result.name))
    assert train == ["sparring", "train", "$(touch pwned)", "--out", "runs/net; touch pwned"]
    assert evaluate[2:5] == ["runs/net; touch pwned", "--suite", "`id`"]
    assert evaluate[-2:] == ["--split", "a b"]
    assert report == ["sparring", "report", "runs/net; touch pwned"]


def test_commands_name_a_threat_and_a_surrogate_that_the_recipe_does_not() -> None:
    result = dataclasses.replace(make(), threat={"name": "L2", "eps": 0.1}, suite="quick+transfer")
    line = reproduce.commands(result, "run")[1]
    assert "--suite quick --surrogate RUN --threat L2 --eps 0.05" in line
    result.recipe["evaluation"] = {"threat": {"name": "L2", "eps": 0.1}}
    assert "--threat" not in reproduce.commands(result, "run")[1]
    assert "--threat" not in reproduce.commands(norms(), "two")[1]  # --at has the names


def test_commands_name_what_else_was_measured_and_how() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    also = {"certify": ["ibp", "crown-ibp"], "probes": ["gradient"], "precision": "bfloat16"}
    options = {"suite": "quick", "n": 20, "first": True, "progress": False} | also
    result = evaluation.evaluate(net, data.load("digits"), Linf(0.05), **options)
    result.precision = "bfloat16"  # a CPU without units for it takes float32
    line = reproduce.commands(result, "run")[1]
    assert line.endswith(
        "--n 20 --precision bfloat16 --certify ibp --certify crown-ibp --probes gradient --first"
    )
    assert "--compile" in reproduce.commands(dataclasses.replace(result, compiled=True), "run")[1]


def test_a_result_file_is_linked_relative_to_the_page(tmp_path: Path) -> None:
    html = written([make()], tmp_path, files=[tmp_path / "results" / "a.json"])
    assert '<a href="results/a.json">' in html


def test_a_comparison_ranks_names_the_best_and_those_like_it(tmp_path: Path) -> None:
    results = [paired("low", 100), paired("high", 160), paired("near", 158)]
    for r in results:
        r.recipe = {}
        keep = r.by_eps[-1]
        r.by_eps = [keep]
        r.arrays["correct_0.1"] = np.arange(200) < keep.count
    html = html_of(results, tmp_path)
    assert "high withstands most at Linf eps 0.1: 80.0 %" in html
    assert "near is not told apart from it." in html
    rows = re.findall(r'<th scope="row" title="(\w+)"><a', html)
    assert rows == ["high", "near", "low"]
    assert re.findall(r'class="best">([\d.]+)', html)[:4] == ["97.50", "80.00", "97.50", "79.00"]
    with pytest.raises(ValueError, match="must be measured"):
        written(results, tmp_path, at=0.7)


def test_results_of_a_comparison_are_closed_and_many_are_lean(tmp_path: Path) -> None:
    few = written([make("a"), make("b")], tmp_path)
    assert few.count('<details class="result"') == 2
    assert "open" not in re.findall(r'<details class="result"[^>]*>', few)[0]
    many = written([make(f"net {k}") for k in range(25)], tmp_path)
    assert "<img" not in many
    assert "pictures, classes and recipes are left out" in many
    assert len(many) / 25 < 8000


def test_no_line_and_no_chart_where_one_radius_was_measured() -> None:
    one = make("one")
    one.by_eps = one.by_eps[-1:]
    assert curves.radii([one]) == []
    (chart,) = curves.radii([one, make("several")])
    joins = [p for p in re.findall(r"<path [^>]*>", chart) if "transform" not in p]
    assert len(joins) == 1  # of `several`
    assert len(curves.radii([norms()])) == 1  # L2 has two radii, Linf one


def test_a_training_is_drawn_once_for_all_results_of_its_model() -> None:
    other = make("wide · pgd")
    other.train["log"][0]["loss"] = 2.0
    accuracy, loss = curves.training([make("plain · pgd"), other, make("plain · quick")])
    for chart in (accuracy, loss):
        (about,) = re.findall("<desc>(.*?)</desc>", chart)
        assert re.findall(r"(?:^|; )([^:]+):", about) == ["plain", "wide · pgd"]
    assert ">1.5<" not in loss[loss.index("epoch") - 900 :]
    assert curves.training([dataclasses.replace(make(), train={})]) == []


def test_a_study_has_its_question_panels_and_no_wall(tmp_path: Path) -> None:
    plan = SimpleNamespace(
        title="What <helps>", question="Does it help?", labels={"a": "the <b>first</b>"}
    )
    strong, weak = [paired("a-seed0", 150), paired("b-seed0", 100)], [make("a-seed0")]
    results = {"strong": strong, "weak": weak}
    several = [r for group in results.values() for r in group]
    several[0].verdict = "not sound"
    several[0].checks = [Check("noise", True, "more", "1 %", "not sound")]
    html = written(several, tmp_path, study=study_page(plan, results))
    assert "<h1>What &lt;helps&gt;</h1>" in html
    assert '<p class="lead">Does it help?</p>' in html
    assert "the <b>" not in html
    assert html.count('<svg class="chart"') >= 2
    assert "Measurements that are not sound" in html
    assert 'class="result"' not in html


def test_a_link_leads_to_folders_of_any_name(tmp_path: Path) -> None:
    page_path = tmp_path / "page.html"
    assert render._link(tmp_path / "run#1" / "50%.json", page_path) == "run%231/50%25.json"
