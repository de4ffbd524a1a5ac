"""Names of a stranger's results in pages, tables and figures: shown, not obeyed, and cut."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from sparring import reporting
from sparring.evaluation import evaluate
from sparring.reporting import format
from sparring.results import Result
from tests.reporting.made import Page, html_of, make, text

NAMES = {
    "markup": '<img src=x onerror="alert(1)">',
    "link": "javascript:alert(1)",
    "escape": "a\x1b[2J\x9bm\u202eb",
    "formula": "$\\frac{1$ and $\\nothing$",
    "table": "a|b\nc",
    "template": "{{ 7 * 7 }}{% raw %}",
    "huge": "x" * 1_000_000,
    "empty": "",
}


@pytest.fixture(scope="module")
def result() -> Result:
    x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    return evaluate(lambda x: x, (x, y), "Linf", eps=[0.05, 0.2], progress=False)


def named(result: Result, name: str) -> Result:
    result = copy.deepcopy(result)
    result.name = name
    result.class_names = [name, "other"]
    return result


@pytest.mark.parametrize("kind", NAMES)
def test_a_page_shows_the_name_and_obeys_nothing_of_it(kind, result, tmp_path):
    bad = named(result, NAMES[kind])
    study = {"weak": [named(result, f"{NAMES[kind]}-seed0"), named(result, "plain-seed0")]}
    plan = SimpleNamespace(title=NAMES[kind], question=NAMES[kind], labels={"plain": NAMES[kind]})
    for name, several, extra in (
        ("one", [bad], {}),
        ("two", [bad, named(result, "plain")], {}),
        ("study", study["weak"], {"study": reporting.study_page(plan, study)}),
    ):
        page = reporting.page(several, tmp_path / f"{name}.html", **extra)
        html = page.read_text(encoding="utf-8")
        assert "<img src=x" not in html
        assert all(a.startswith(("data:", "#")) for a in Page(html).addresses)
        assert "{{ 7 * 7 }}" in html or kind != "template"
        obeyed = [html.index(c) for c in ("\x1b", "\x9b", "\u202e") if c in html]
        assert not [html[at - 90 : at + 9] for at in obeyed]
        assert html.count("x" * 700) == 0
        assert len(html) < 1_000_000


@pytest.mark.parametrize("kind", NAMES)
def test_a_table_in_markdown_keeps_its_columns(kind, result):
    study = {"weak": [named(result, f"{NAMES[kind]}-seed0"), named(result, "plain-seed0")]}
    text = reporting.study_markdown(study, {})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert "\x1b" not in text
    assert max(map(len, rows)) < 1000


def test_names_stay_distinct_when_they_are_cut(result):
    several = [named(result, "x" * 500 + str(k) + "y" * 500) for k in range(3)]
    names = [r.name for r in format.unique_names(several)]
    assert len(set(names)) == 3
    assert format.unique_names([named(result, "plain · é")])[0].name == "plain · é"


@pytest.mark.parametrize(
    ("recipe", "log"),
    [
        ({}, [1]),
        ({}, [{"loss": 1.0}]),
        ({}, "abc"),
        ({"recipe": {"name": "a", "seed": "("}}, []),
        ({"recipe": {"name": "a", "seed": [1]}}, []),
        ({"model": {"name": {}}, "method": {"name": "Standard"}}, []),
    ],
)
def test_what_a_strangers_recipe_or_log_may_hold(tmp_path, recipe, log):
    several = [make("one"), make("two")]
    for r in several:
        r.recipe, r.train = recipe, r.train | {"log": log}
    assert html_of(several, tmp_path)
    assert text(several)
