"""A study as data for its page, as a table of five columns, and in the terminal."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rich.console import Console

from sparring.reporting import over_seeds, page, study_page, study_summary, summary_table
from sparring.reporting.study_page import ranked_evaluations
from sparring.reporting.study_table import metric_means, study_markdown
from sparring.results.collapsed import AT_CHANCE
from sparring.results.intervals import wilson
from sparring.results.metric_report import MetricReport, MetricRow
from sparring.results.result import Result
from sparring.results.sampled import SampledClaim
from tests.reporting.made import N, paired

LABELS = {"at": "PGD-AT", "plain": "plain training"}


class Plan(NamedTuple):
    title: str = "Two methods"
    question: str = "Which withstands more?"
    labels: Mapping[str, str] = MappingProxyType(LABELS)


class Done(NamedTuple):
    results: dict[str, list[Result]]
    metric_reports: dict[str, list[MetricReport]]


def runs(name: str, *standing: int, suite: str = "quick", **recipe: Any) -> list[Result]:
    found = [paired(f"{name}-seed{k}", many, k) for k, many in enumerate(standing)]
    for r in found:
        r.suite, r.verdict = suite, "sound"
        r.recipe |= recipe | {"threat": {"name": "Linf", "eps": 0.1}, "method": {"name": name}}
        r.arrays = {k: r.arrays[k] for k in ("index", "y", "clean_pred", "adv_pred")}
    return found


ATTACK = {"attack": {"name": "PGD"}}
CLAIM = SampledClaim(sample=60, survivors=150, attacked=60, withstood=60, lost=10, bound=0.05)


def by_sample(r: Result) -> Result:
    """The same result, its later attacks run on a sample of the survivors alone."""
    return dataclasses.replace(r, by_eps=[dataclasses.replace(v, sampled=CLAIM) for v in r.by_eps])


def made() -> dict[str, list[Result]]:
    return {
        "weak": [*runs("plain", 100, 110), *runs("at", 152, 154, **ATTACK)],
        "strong": [
            *runs("plain", 2, 4, suite="autoattack"),
            *runs("at", 150, 152, suite="autoattack", **ATTACK),
        ],
    }


def test_the_best_run_is_bold_also_where_it_has_no_defence(tmp_path: Path) -> None:
    results = {"quick": [*runs("plain", 150, 152), *runs("at", 100, 102, **ATTACK)]}
    data = study_page(Plan(), results)
    assert data.table.lines[0][0] == "plain training (undefended)"
    html = page(results["quick"], tmp_path / "s.html", study=data).read_text(encoding="utf-8")
    bold = re.findall(r'<tr class="best"><th scope="row" title="([^"]+)"', html)
    assert bold == ["plain training (undefended)"]


def test_what_a_sample_left_open_makes_an_upper_bound_everywhere() -> None:
    results = {"fast": [*map(by_sample, runs("at", 150, 152, **ATTACK)), *runs("plain", 100, 110)]}
    data = study_page(Plan(), results)
    at, plain = data.panels[0].rows
    assert (at.prefix, plain.prefix) == ("≤ ", "")
    assert "PGD-AT withstands most: ≤ 75.5 % (mean of 2 seeds)" in data.sentences[0]
    assert [line[2][:2] for line in data.table.lines] == ["≤ ", "52"]
    assert [line[2][:2] for line in data.accuracies.lines] == ["≤ ", "90"]
    first, second = over_seeds.recipe_rows([*results["fast"]])
    assert (first.robust[:2], second.robust[:2]) == ("≤ ", "52")


def test_a_page_has_a_panel_per_evaluation_in_the_order_of_the_strongest() -> None:
    data = study_page(Plan(), made())
    assert (data.title, data.question) == ("Two methods", "Which withstands more?")
    assert [(p.evaluation, p.where, p.n) for p in data.panels] == [
        ("strong", "Linf eps 0.1", 200),
        ("weak", "Linf eps 0.1", 200),
    ]
    assert [[row.label for row in p.rows] for p in data.panels] == [[*LABELS.values()]] * 2
    at, plain = data.panels[0].rows
    assert (at.points, at.mean, at.best, at.mark) == ([0.75, 0.76], 0.755, True, "")
    assert 0 <= plain.low <= plain.mean <= plain.high <= 1
    assert (at.defence, plain.defence, plain.best) == ("", "undefended", False)
    assert dict(data.facts)["seeds"] == "2 seeds"
    assert dict(data.facts)["threat"] == "Linf eps 0.05, 0.1"
    assert data.sentences == [
        "Under strong at Linf eps 0.1, PGD-AT withstands most: 75.5 % (mean of 2 seeds).",
        "weak reports up to 51.0 points more, for plain training.",
    ]
    assert [(p.evaluation, p.first, p.second) for p in data.pairs] == [
        ("strong", "plain training", "PGD-AT"),
        ("weak", "plain training", "PGD-AT"),
    ]


def test_another_split_is_no_weaker_attack_and_gives_no_clean_accuracy() -> None:
    results = {kind: group[2:] for kind, group in made().items()}
    results["train"] = runs("at", 190, 190, 190, suite="fast", **ATTACK)
    for r in results["train"]:
        r.split, r.n, r.clean = "train", 10 * N, wilson(N, N)
    data = study_page(Plan(), results)
    assert data.sentences[1:] == ["weak reports up to 1.0 points more, for PGD-AT."]
    assert data.table.lines[0][1] == "97.5"
    assert data.accuracies.lines[0][1] == "97.50 ± 0.00 (2)"
    assert {p.evaluation: p.split for p in data.panels} == {
        "strong": "test",
        "weak": "test",
        "train": "train",
    }
    alone = study_page(Plan(), {"train": results["train"]})
    assert alone.table.lines[0][1] == "100.0"  # it is better than none


def test_what_is_not_sound_or_ended_early_is_marked_and_never_the_best() -> None:
    results = made()
    for r in results["strong"][2:]:
        r.verdict = "not sound"
    results["strong"][0].early = "the time was spent"
    data = study_page(Plan(), results)
    at, plain = data.panels[0].rows
    assert (at.mark, at.best, plain.prefix) == ("†", False, "≤ ")
    assert data.sentences[0] == "Under strong at Linf eps 0.1, no run can be called the best."
    assert data.sentences[-1] == "† The measurement of PGD-AT is not sound."
    assert [line[3] for line in data.table.lines] == ["not sound", "sound"]
    assert data.table.lines[0][2].startswith("75.5† [")
    assert data.table.lines[1][0] == "plain training (undefended)"


def test_no_number_on_training_rows_leads_a_page() -> None:
    results = made()
    for r in results["strong"]:
        r.split = "train"
    assert ranked_evaluations(results) == ["weak", "strong"]


def test_evaluations_of_few_runs_come_last() -> None:
    results = made()
    results["strong"] = results["strong"][:1]
    results["more"] = runs("other", 10, suite="pgd")
    results["weak"] += results["more"]
    assert ranked_evaluations(results) == ["weak", "strong", "more"]
    assert ranked_evaluations({"none": []}) == []
    assert summary_table({}).lines == []
    assert study_page(Plan(), {"none": []}).sentences == []


def test_names_from_files_are_escaped() -> None:
    results = {"\x1b": runs("a\x1b[2J", 150)}
    data = study_page(Plan("a\n", "\x07", {}), results)
    shown = [data.title, data.question, *data.sentences, *itertools.chain(*data.table.lines)]
    assert all(text.isprintable() for text in shown)


def metric(name: str, value: float) -> MetricReport:
    rows = [
        MetricRow(m, "toy", value, -value, 3 * value, value, 9, 0, "u", "higher", 1.0)
        for m in ("ebd", "clever", "rho", "entropy", "slope")
    ]
    fields: dict[str, Any] = {"rows": rows, "profiles": [], "class_names": [], "recipe": {}}
    fields |= {"versions": {}, "commit": "", "data_sha256": "", "device": "cpu"}
    return MetricReport(name, "toy", "test", n=9, seed=0, batch=9, clean=0.5, **fields)


def test_a_terminal_of_80_columns_shows_every_name_whole() -> None:
    done = Done(made(), {"m": [metric("at-seed0", 0.4), metric("plain-seed0", 0.361)]})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(study_summary(done, Plan()))
    text = console.export_text()
    assert text.splitlines()[:2] == ["Two methods", "Which withstands more?"]
    for shown in (
        "PGD-AT",
        "plain training",
        "(undefended)",
        "0.400",
        "0.361",
        "75.5 [69.1, 81.9]",
    ):
        assert shown in text
    assert "…" not in text
    assert study_summary(Done({}, {}), Plan())


def test_one_seed_is_compared_by_its_samples() -> None:
    results = {"pgd": [*runs("a", 150, suite="pgd"), *runs("b", 100, suite="pgd")]}
    (pair,) = study_page(Plan(), results).pairs
    assert pair.clear
    assert pair.difference.startswith("+25.00 [+")
    results["pgd"][1] = dataclasses.replace(results["pgd"][1], arrays={})
    assert study_page(Plan(), results).pairs == []
    alone = study_page(Plan(), {"pgd": results["pgd"][:1]}).sentences
    assert alone == ["Under pgd at Linf eps 0.1, a withstands 75.0 % (one seed)."]


def test_a_seed_that_did_not_learn_stands_apart_and_in_no_mean() -> None:
    results = made()
    for group in results.values():
        group += runs("at", 20, 152, 150, suite=group[0].suite, **ATTACK)[:1]
        group[-1].name, group[-1].notes = "at-seed2", [AT_CHANCE]
    data = study_page(Plan(), results)
    rows = {row.label: row for row in data.panels[0].rows}
    assert rows["PGD-AT"].points == [0.75, 0.76]
    assert rows["PGD-AT, did not learn"].points == [0.1]
    assert not rows["PGD-AT, did not learn"].best
    for table in (data.table, data.accuracies, summary_table(results, LABELS)):
        assert [line[0].split(" (")[0] for line in table.lines].count("PGD-AT, did not learn") == 1
    assert "`at, did not learn`" in study_markdown(results, {})
    assert "75.5 % (mean of 2 seeds)" in data.sentences[0]


def test_metrics_of_a_seed_that_did_not_learn_are_in_no_mean() -> None:
    results = {"weak": runs("at", 150, 152, 20, **ATTACK)}
    results["weak"][2].notes = [AT_CHANCE]
    reports = [metric(f"at-seed{k}", v) for k, v in enumerate((0.4, 0.4, 9.5))]
    lines = study_markdown(results, {"m": reports}).split("\n\n")[1].splitlines()
    means = metric_means(reports, LABELS, results).lines
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| `at`", "0.400 ± 0.000 (2)"],
        ["| `at, did not learn`", "9.500 [−9.500, 28.500]"],
    ]
    assert [line[:2] for line in means] == [
        ["PGD-AT", "0.400"],
        ["PGD-AT, did not learn", "9.500"],
    ]
