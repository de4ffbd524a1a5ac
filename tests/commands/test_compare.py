"""A comparison of results: records, files, run folders; as text, as rows."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sparring.commands.compare import compare
from sparring.evaluation import evaluate
from sparring.results import Result
from tests.command import call
from tests.commands.folders import fake_run
from tests.results import made


@pytest.fixture(scope="module")
def results() -> list[Result]:
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    weak = evaluate(lambda x: x, (x, x.argmax(1)), "Linf", eps=[0.1, 0.4], progress=False)
    strong = evaluate(lambda x: x, (x, x.argmax(1)), "Linf", eps=[0.1, 0.4], progress=False)
    return [
        dataclasses.replace(weak, name="<weak>"),
        dataclasses.replace(strong, name="strong"),
    ]


def test_results_are_compared_at_one_radius(results):
    compared = compare(results)
    assert [(level.threat, level.eps) for level in compared.levels.values()] == [("Linf", 0.1)]
    assert compare(results, at=0.4).levels["Linf"].eps == 0.4
    rows = compared.rows()
    assert {row.name for row in rows} == {"<weak>", "strong"}
    assert [row.robust for row in rows] == [
        round(100 * results[0].by_eps[0].robust.accuracy, 2)
    ] * 2
    assert all(row.best for row in rows)
    assert "strong" in repr(compared)
    assert "&lt;weak&gt;" in compared._repr_html_()
    with pytest.raises(ValueError, match=r"at = 0.2 is not allowed: it must be measured"):
        compare(results, at=0.2)


def test_runs_that_were_not_evaluated_are_left_out_and_named(results, tmp_path, capsys):
    for result, name in zip(results, "ab", strict=True):
        fake_run(tmp_path / name)
        (tmp_path / name / "results").mkdir()
        result.save(tmp_path / name / "results" / "quick-test.json")
    fake_run(tmp_path / "new")
    runs = [tmp_path / name for name in ("a", "b", "new")]
    assert compare(runs).skipped == [f"{runs[2]} was never evaluated"]
    text = call("compare", *runs, "--at", "0.4", capsys=capsys)
    assert "strong" in text
    assert "new was never evaluated" in " ".join(text.split())
    with pytest.raises(ValueError, match=r"nothing to compare: .*new was never evaluated"):
        compare(runs[2:])


def test_the_best_of_each_group_are_those_of_the_table():
    pgd = [made.result("a", [9], suite="pgd"), made.result("b", [*range(20, 80)], suite="pgd")]
    auto = [
        made.result("a", [*range(20, 80)], suite="autoattack"),
        made.result("b", [9], suite="autoattack"),
    ]
    other = made.result("c", [9], dataset="other", threat={"name": "L2", "eps": 0.2})
    other.by_eps = [dataclasses.replace(row, threat="L2") for row in other.by_eps]
    rows = compare([*pgd, *auto, other]).rows()
    assert {(r.suite, r.name) for r in rows if r.best} == {("pgd", "a"), ("autoattack", "b")}
    assert all(r.robust is not None for r in rows)
