"""Several results: what is marked, paired, named and said of them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from sparring.reporting import format, over_seeds, page
from sparring.results.result import Result
from sparring.results.sampled import SampledClaim
from tests.reporting.made import html_of, make, paired, text


def test_page_compares_and_says_overlap(tmp_path: Path) -> None:
    results = [make("a"), make("b", standing=155), make("c", standing=40)]
    html = page(results, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "b withstands most at Linf eps 0.1: 77.5 %" in html
    assert "a is not told apart from it." in html
    assert re.search(r'class="best">77\.50', html)
    assert html.count("Which class is taken for which") == 3


def test_page_of_different_data_says_so(tmp_path: Path) -> None:
    other = make("b")
    other.dataset = "elsewhere"
    html = page([make("a"), other], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "different data" in html


def test_pairs_and_seeds_are_compared(tmp_path: Path) -> None:
    results = [paired("a", 150), paired("b", 170, seed=1), paired("c", 171, seed=2)]
    said, html = text(results), html_of(results, tmp_path)
    assert "−10.00 [−" in said
    assert "0 : 20" in said
    for r in results:
        r.recipe = {}
    assert "20 : 0" in html_of(results, tmp_path)
    assert html.count('<td class="left">Linf eps 0.1</td>') == 3
    mean, std = np.mean([75, 85, 85.5]), np.std([75, 85, 85.5], ddof=1)
    for shown in (said, html):
        assert f"{mean:.2f} ± {std:.2f} [" in shown
    assert "Over training seeds" not in html_of(results[:1], tmp_path)
    other = paired("d", 60)
    other.data_sha256 = "11"
    assert format.compared_pairs([results[0], other]) == []


def seeded(run: str, *standing: int, steps: int = 10) -> list[Result]:
    """Seeds of a run whose recipe is `toy-at` with some number of steps."""
    found = [paired(f"{run}-seed{seed}", k, seed) for seed, k in enumerate(standing)]
    for r in found:
        r.recipe["attack"] = {"steps": steps}
    return found


def test_recipes_are_compared_over_their_seeds(tmp_path: Path) -> None:
    results = [*seeded("near", 150, 152, 154), *seeded("far", 110, 112, 114, steps=1)]
    said, html = text(results), html_of(results, tmp_path)
    half = 100 * 2.776445 * np.sqrt(2 * 0.01**2 / 3)
    want = f"+20.00 [+{20 - half:.1f}, +{20 + half:.1f}]"
    assert want in said
    assert f'class="best">{want}' in html
    assert '<th scope="row" title="near">near</th><td class="left">far</td>' in html
    results[0].verdict = "not sound"
    assert f"<td>{want}" in html_of(results, tmp_path)
    results[0].verdict, results[4].early = "", "the budget was spent"
    assert f"<td>{want} (early end)" in html_of(results, tmp_path)
    for r in results[3:]:
        r.by_eps[-1] = dataclasses.replace(r.by_eps[-1], eps=0.2)
    (pair,) = over_seeds.recipe_pairs(over_seeds.recipe_rows(results))
    assert (pair.where, pair.difference) == ("Linf eps 0.05", "0.00 [0.0, 0.0] (early end)")
    results = [*seeded("near", 150, 152), *seeded("far", 110, 112, steps=1)]
    for r in results[2:]:
        r.suite = "pgd"
    assert "difference of the means" not in html_of(results, tmp_path)


def test_what_a_sample_left_open_is_said_of_the_best(tmp_path: Path) -> None:
    claim = SampledClaim(sample=60, survivors=150, attacked=60, withstood=60, lost=10, bound=0.05)
    results = [paired("a", 150), paired("b", 100)]
    results[0].by_eps[-1] = dataclasses.replace(results[0].by_eps[-1], sampled=claim)
    html = html_of(results, tmp_path)
    assert "a withstands most at Linf eps 0.1: 75.0 % [68.6, 80.5] −5.0 by sample (" in html
    assert ">≤ 75.0</text>" in html
    assert ">50.0</text>" in html


def test_many_recipes_are_compared_with_the_best_of_those_measured_alike() -> None:
    def compared(runs: int) -> set[tuple[str, str]]:
        results = [r for k in range(runs) for r in seeded(f"r{k}", 100 + k, 102 + k, steps=k)]
        return {
            (v.first, v.second) for v in over_seeds.recipe_pairs(over_seeds.recipe_rows(results))
        }

    assert len(compared(5)) == 10
    assert compared(6) == {("r5", f"r{k}") for k in range(5)}


def test_what_is_not_sound_is_nobodys_best(tmp_path: Path) -> None:
    results = [paired("a", 150), paired("b", 170), paired("c", 140)]
    results[1].verdict = "not sound"
    html = html_of(results, tmp_path)
    assert 'class="best">75.00' in html
    assert 'class="best">85.00' not in html
    assert "a withstands most" in html
    assert '<small class="bad">not sound</small>' in html


def test_the_best_is_marked_among_those_measured_alike(tmp_path: Path) -> None:
    results = [paired("a", 150), paired("b", 170), paired("c", 140), paired("d", 130)]
    results += [paired("lone", 190)]
    for r, suite in zip(results, ("quick", "quick", "pgd", "pgd", "rest"), strict=True):
        r.suite = suite
    html = html_of(results, tmp_path)
    assert [f'class="best">{share}' in html for share in ("75.00", "85.00", "70.00", "65.00")] == [
        *(False, True, True, False)
    ]
    assert 'class="best">95.00' not in html
    assert "b withstands most at Linf eps 0.1: 85.0 %" in html
    assert "(200 samples of toy test, suite quick)" in html
    assert html.count("withstands most") == 2


def test_many_results_are_compared_with_the_best_measured_alike() -> None:
    results = [paired(str(k), 100 + k, seed=k) for k in range(6)]
    assert len(format.compared_pairs(results[:5])) == 10
    assert {"5"} <= set.intersection(*({c.first, c.second} for c in format.compared_pairs(results)))
    for r in results[:3]:
        r.suite = "pgd"
    results += [paired(f"{k}'", 10 + k, seed=k) for k in range(3)]
    pairs = {(c.first, c.second) for c in format.compared_pairs(results)}
    assert {("0", "2"), ("1", "2"), ("3", "5"), ("5", "0'")} <= pairs
    assert not {("0", "1"), ("3", "4"), ("2", "5")} & pairs


def test_repeated_names_are_told_apart() -> None:
    results = [make("a"), make("a"), make("a"), make("b"), make("a")]
    results[1].suite, results[2].split = "pgd", "val"
    names = [r.name for r in format.unique_names(results)]
    assert names == [
        "a · quick · test · 1",
        "a · pgd",
        "a · quick · val",
        "b",
        "a · quick · test · 2",
    ]
    assert [r.name for r in results] == ["a", "a", "a", "b", "a"]
    assert "a · pgd" in text(results)


@pytest.mark.parametrize(
    ("count", "said"), [(1, ">r0<"), (4, ">Comparison of r0, r1, r2, r3<"), (5, "of 5 results<")]
)
def test_a_heading_names_few_results_and_counts_many(count, said, tmp_path) -> None:
    results = [make(f"r{k}") for k in range(count)]
    assert f"{said}/h1>" in page(results, tmp_path / "r.html").read_text(encoding="utf-8")
