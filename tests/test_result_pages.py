"""The pages of docs/results/ are what results/ gives; only their text is by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from scripts.result_pages import (
    blocks,
    build,
    collect,
    extras,
    figure,
    index,
    statistics,
    tables,
    trials,
)
from sparring.results.intervals import Interval

RUN = "run .venv/bin/python -m scripts.result_pages"


def test_pages_are_made_of_the_present_results():
    wrong = list(build.out_of_date())
    assert not wrong, "\n".join([*wrong, RUN])


def test_every_folder_of_results_has_a_page():
    shown = {path.name for page in collect.PAGES for path in page.shown() if path.is_dir()}
    shown |= {"moons", "bits-black-box", "trials"}
    assert {path.name for path in collect.RESULTS.iterdir() if path.is_dir()} == shown


def test_the_table_of_classes_counts_each_class():
    page = next(page for page in collect.PAGES if page.name == "inside-fashion")
    assert extras.class_table(collect.collect(page)) == ""
    found = collect.collect(dataclasses.replace(page, rare=(6, 2)))
    best = found.headline()[0]
    result = best.results[0]
    y, right = result.arrays["y"], result.arrays["correct_0.1"]
    shares = [100 * right[y == c].mean() for c in range(10)]
    cells = extras.class_table(found).splitlines()[2].strip("| ").split(" | ")
    assert cells[0] == f"`{best.run}`"
    assert float(cells[4]) == pytest.approx(sum(shares) / 10, abs=0.05)
    assert float(cells[5]) == pytest.approx((shares[6] + shares[2]) / 2, abs=0.05)
    assert float(cells[6]) == pytest.approx(min(shares), abs=0.05)
    assert float(cells[3]) >= float(cells[6])


def test_a_seed_that_did_not_learn_is_in_no_mean(monkeypatch):
    page = next(page for page in collect.PAGES if page.name == "inside-mnist")
    whole = collect.collect(page)
    fallen = lambda result: result.name == "mart-seed1"  # noqa: E731
    monkeypatch.setattr(collect, "has_collapsed", fallen)
    found = collect.collect(page)
    rows = {m.run: m for m in found.headline()}
    alone = rows["mart, did not learn"]
    (before,) = [m for m in whole.headline() if m.run == "mart"]
    assert (len(rows["mart"].rows), len(alone.rows)) == (len(before.rows) - 1, 1)
    assert before.robust == pytest.approx((2 * rows["mart"].robust + alone.robust) / 3)
    assert "| `mart` (did not learn) | " in tables.headline(found)
    assert "did not learn" not in tables.headline(whole)


def test_a_page_made_again_is_the_same():
    page = next(page for page in collect.PAGES if page.name == "mnist-100-labels")
    found = collect.collect(page)
    made = build.made(found)
    assert page.figure.read_text(encoding="utf-8") == figure.draw(found), RUN
    text = page.file.read_text(encoding="utf-8")
    assert blocks.filled(text, made) == text, RUN
    assert "`mart-kl`" in made["results"]


def test_an_edited_block_and_a_changed_result_are_told(tmp_path: Path):
    (tmp_path / "study").mkdir()
    result = tmp_path / "study" / "run-seed0.json"
    result.write_text("{}", encoding="utf-8")
    page = "Mine.\n<!-- made: results -->\n\nold\n\n<!-- /made: results -->\nMine, too.\n"
    made = blocks.filled(page, {"results": "new"})
    assert made == page.replace("old", "new")
    stamped = blocks.stamped(made, [tmp_path / "study"], "")
    assert blocks.stamped(stamped, [tmp_path / "study"], "") == stamped

    assert blocks.state(stamped, [tmp_path / "study"], "") == ""
    assert blocks.state(stamped.replace("Mine.", "Yours."), [tmp_path / "study"], "") == ""
    edited = blocks.state(stamped.replace("new", "better"), [tmp_path / "study"], "")
    assert edited == "a block was edited by hand"
    assert "edited" in blocks.state(stamped, [tmp_path / "study"], "<svg>other</svg>")
    assert blocks.state(made, [], "") == "it has no stamp"
    result.write_text("[]", encoding="utf-8")
    assert "results changed" in blocks.state(stamped, [tmp_path / "study"], "")


def test_a_page_without_a_place_for_a_block_is_refused():
    with pytest.raises(ValueError, match="the page has blocks"):
        blocks.filled("No place.\n", {"results": "new"})


@pytest.fixture(scope="module")
def recipes() -> collect.Collected:
    """The page whose runs lie in five folders; some were not attacked by every suite."""
    return collect.collect(next(page for page in collect.PAGES if page.name == "mnist-recipes"))


def test_runs_are_ordered_by_autoattack_then_by_their_strongest_suite(recipes):
    items = recipes.headline()
    suites = [m.suite for m in items]
    assert suites == sorted(suites, key=collect.SUITES.index)
    assert items[0].run == "mnist-mart"
    assert {m.run for m in items if m.suite == "quick"} == {"mnist-otjr-sw8"}


def test_an_unsound_run_is_never_in_bold_and_plain_training_says_so(recipes):
    lines = tables.headline(recipes).splitlines()
    bold = [line for line in lines if "**" in line]
    assert bold
    assert not any("not sound" in line for line in bold)
    assert any("`mnist-standard` (undefended)" in line for line in lines)


def test_pairs_have_the_higher_first_and_every_pair_once(recipes):
    items = [m for m in recipes.at_eps() if m.evaluation == "autoattack"]
    pairs = list(collect.pairs_of(items))
    assert len(pairs) == len(items) * (len(items) - 1) // 2
    assert all(first.robust >= second.robust for first, second in pairs)
    paired = statistics.on_same_samples(*pairs[0])
    assert all(
        c.difference == pytest.approx(pairs[0][0].robust - pairs[0][1].robust)
        for c in paired.values()
    )


def test_the_index_has_every_result_once(recipes):
    lines = [line for line in index.everything([recipes]).splitlines() if line.startswith("| `")]
    assert len(lines) == len(recipes.measured)
    assert all(re.search(r"\(\.\./\.\./results/[\w/-]+/\)", line) for line in lines)


def test_seeds_show_as_mean_and_spread_and_one_seed_as_interval():
    two = [Interval(0.5, 0.4, 0.6), Interval(0.6, 0.5, 0.7)]
    assert tables.accuracy(two) == "55.00 ± 7.07 (2)"
    assert tables.accuracy(two[:1]) == "50.00 [40.0, 60.0]"
    over = statistics.interval(two)
    assert over.accuracy == pytest.approx(0.55)
    assert 0 <= over.low < over.high <= 1


def test_a_page_without_metrics_or_detectors_has_no_such_table(recipes):
    assert extras.agreement_table(recipes) == ""
    assert extras.detection_table(recipes) == ""


def test_cells_escape_bars():
    assert tables.table(["a"], [["x|y"]]).endswith("| x\\|y |")


def test_trials_are_grouped_by_training_and_the_best_of_each_(tmp_path):
    source = collect.RESULTS / "inside-sweep" / "pgd"
    names = ["otjr", "pgd-at", "trades", "uad"]
    rows = [trials.trial(file, names) for file in sorted(source.glob("*.json"))]
    assert {row["training"] for row in rows} <= set(names)
    assert all(row["split"] == "val" and row["commit"] for row in rows)
    (tmp_path / "mine.json").write_text(json.dumps(rows), encoding="utf-8")
    lines = trials.trials_table(tmp_path / "mine.json").splitlines()[2:]
    assert len(lines) == len(rows)
    several = {name for name in names if sum(row["training"] == name for row in rows) > 1}
    assert {line.split("`")[1] for line in lines if "**" in line} == several
    assert trials.trials_table(tmp_path / "other.json") == ""


def test_every_file_of_trials_belongs_to_a_page():
    names = {page.name for page in collect.PAGES}
    assert {file.stem for file in (collect.RESULTS / "trials").glob("*")} <= names


def test_a_changed_file_is_told_as_a_changed_folder_is(tmp_path: Path):
    file = tmp_path / "trials.json"
    file.write_text("[]", encoding="utf-8")
    before = blocks.of_folders([file])
    file.write_text("[1]", encoding="utf-8")
    assert blocks.of_folders([file]) != before
