"""A study refuses results of another evaluation than it has now, and takes its committed ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sparring.commands import study
from sparring.results import Result
from sparring.results.metric_report import MetricReport, MetricRow
from tests.commands.test_study import OWN, TEXT
from tests.results.made import result

ROOT = Path(__file__).parents[2]
STUDIES = [f for f in (ROOT / "studies").glob("*.toml") if (ROOT / "results" / f.stem).is_dir()]
EVALUATION = '[evaluations.weak]\nsuite = "quick"\nn = 100\neps = ["1/10", 0.2]\n'


def planned(folder: Path, change: tuple[str, str] = ("", "")) -> study.Study:
    """A study of one run at two seeds, with one evaluation."""
    (folder / "own.toml").write_text(OWN)
    head = TEXT.partition("[runs.wide]")[0] + EVALUATION.replace(*change)
    (folder / "both.toml").write_text(head)
    return study.load(folder / "both.toml")


def saved(
    folder: Path, plan: study.Study, seed: int, more: Sequence[str] = (), **changes: Any
) -> None:
    """A result of a job, evaluated with more changes of its recipe."""
    job = plan.jobs[seed]
    tables = study.load_recipe(job.recipe, set=[*job.set, *more]).tables
    made = result(f"plain-seed{seed}", [9], recipe=tables, **changes)
    (folder / "out" / "weak").mkdir(parents=True, exist_ok=True)
    made.save(folder / "out" / "weak" / f"{job.name}.json")


def test_a_result_of_the_study_s_evaluation_is_taken(tmp_path):
    plan = planned(tmp_path)
    saved(tmp_path, plan, 0)
    (found,) = study.collect(plan, results=tmp_path / "out").results["weak"]
    assert isinstance(found, Result)
    saved(tmp_path, plan, 1, suite="quick+transfer")
    with pytest.raises(ValueError, match=r"quick v1 on 100 of test; quick\+transfer .* no mean"):
        study.collect(plan, results=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"quick"', '"fast"'), "suite = quick, and the study has fast"),
        (("n = 100", 'n = 100\nsplit = "val"'), "split = test, and the study has val"),
        (("n = 100", "n = 50"), "n = 100, and the study has 50"),
        ((", 0.2", ""), "eps = 0.1, 0.2, and the study has 0.1"),
    ],
)
def test_a_result_of_another_evaluation_is_refused(tmp_path, change, message):
    saved(tmp_path, planned(tmp_path), 0)
    with pytest.raises(ValueError, match=rf"plain-seed0\.json .*{message}.*: remove it"):
        study.collect(planned(tmp_path, change), results=tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        ('"1/10", 0.2', "0.2, 0.1, 0.2"),
        ("n = 100", 'n = 100\nset = ["attack.threat.eps=0.3"]'),
        ("n = 100", 'n = 100\nset = [" threat.eps = 0.3"]'),
    ],
    ids=["a radius twice", "the threat by its attack", "spaces"],
)
def test_a_result_is_of_the_evaluation_that_made_it(tmp_path, change):
    """However the study writes its radii and changes: else its work is done, and never shown."""
    plan = planned(tmp_path, change)
    saved(tmp_path, plan, 0, plan.evaluations["weak"].get("set", ()))
    assert len(study.collect(plan, results=tmp_path / "out").results["weak"]) == 1


METRICS = """
[metrics.far]
names = ["ebd", "entropy"]
set = ["ebd.directions=20"]
n = 100
"""


def measured(folder: Path, change: tuple[str, str] = ("", "")) -> study.Study:
    """A study with metrics, of one run at one seed."""
    (folder / "own.toml").write_text(OWN)
    head = TEXT.partition("[runs.wide]")[0].replace("[0, 1]", "[0]", 1)
    (folder / "both.toml").write_text(head + EVALUATION + METRICS.replace(*change))
    return study.load(folder / "both.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("=20", "=30"), r"ebd\.directions = 20, and the study has 30"),
        (('set = ["ebd.directions=20"]', ""), r"ebd\.directions = 20, and the study has \d+"),
        (("n = 100", "n = 50"), "n = 100, and the study has 50"),
        (("n = 100", 'split = "val"\nn = 100'), "split = test, and the study has val"),
    ],
)
def test_metrics_of_other_samples_or_arguments_are_refused(tmp_path, change, message):
    plan = measured(tmp_path)
    rows = [
        MetricRow(name, "toy", 1.0, 0.9, 1.1, 1.0, 100, 0, "", "higher", 0.1, config)
        for name, config in (("ebd", {"directions": 20, "halvings": 10}), ("entropy", {}))
    ]
    tables = study.load_recipe(plan.jobs[0].recipe, set=plan.jobs[0].set).tables
    report = MetricReport(
        "plain-seed0", "toy", "test", 100, 0, 100, 0.9, rows, [], ["0"], tables, {}, "", "", "cpu"
    )
    report.save(tmp_path / "out" / "far" / "plain-seed0.json")
    places = {"results": tmp_path / "out"}
    assert len(study.collect(plan, **places).metric_reports["far"]) == 1
    more = measured(tmp_path, ("n = 100", "n = 200"))  # the set may have no more
    assert len(study.collect(more, **places).metric_reports["far"]) == 1
    with pytest.raises(ValueError, match=rf"plain-seed0\.json .*{message}.*: remove it"):
        study.collect(measured(tmp_path, change), **places)


def test_an_argument_that_a_method_got_later_has_its_default(tmp_path):
    """A result of an earlier version has no such key."""
    job = planned(tmp_path).jobs[0]
    tables = study.load_recipe(job.recipe, set=(*job.set, "method=TRADES")).tables
    del tables["method"]["beta"]
    made = result("plain-seed0", [9], recipe=tables)
    (tmp_path / "out" / "weak").mkdir(parents=True)
    made.save(tmp_path / "out" / "weak" / f"{job.name}.json")
    text = (tmp_path / "both.toml").read_text().replace("epochs=1", 'epochs=1", "method=TRADES')
    (tmp_path / "both.toml").write_text(text)
    again = study.load(tmp_path / "both.toml")
    assert len(study.collect(again, results=tmp_path / "out").results["weak"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_takes_its_committed_results(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert any(study.collect(study.load(file), results=f"results/{file.stem}").results.values())
