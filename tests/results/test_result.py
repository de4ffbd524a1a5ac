import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sparring.results.comparison import compare
from sparring.results.intervals import Interval, wilson
from sparring.results.metric_report import MetricReport
from sparring.results.packing import roc_curves
from sparring.results.result import AttackRow, Check, EpsRow, Result, strip_results
from sparring.runtime import files


@pytest.fixture
def result():
    row = AttackRow("FGSM", 0.5, 0.4, 0.6, 1.5, 2.0, 1.0, attacked=9)
    eps = [EpsRow(0.1, Interval(0.5, 0.4, 0.6), 5, [row])]
    return Result(
        name="toy",
        recipe={"train": {"lr": 0.1}},
        dataset="digits",
        split="test",
        n=10,
        threat={"name": "Linf", "eps": 0.1},
        seed=0,
        clean=Interval(0.9, 0.8, 0.95),
        robust=Interval(0.5, 0.4, 0.6),
        by_eps=eps,
        attacks=[row],
        checks=[Check("zero gradients", False, "do this", "0")],
        train={"seconds": 3.0, "log": [{"epoch": 1, "loss": 0.5}]},
        versions={"torch": "2", "sparring": "9.9"},
        commit="abc",
        data_sha256="def",
        suite="quick",
        suite_version=1,
        precision="float32",
        device="cpu",
        seconds=2.0,
        class_names=["0", "1"],
        arrays={
            "index": np.arange(10),
            "y": np.arange(10) % 2,
            "clean_pred": np.arange(10) % 2,
            "adv_pred": np.ones(10, np.int64),
            "correct_0.1": np.ones(10, dtype=bool),
            "show_x": np.zeros((2, 1, 3, 3), np.float32),
            "show_x_adv": np.zeros((2, 1, 3, 3), np.float32),
            **{f"show_{key}": np.zeros(2, np.int64) for key in ("y", "clean", "adv")},
        },
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(result, tmp_path):
    path = result.save(tmp_path / "deep" / "er" / "r.json")
    again = Result.load(path)
    assert again == result
    assert all(np.array_equal(again.arrays[k], result.arrays[k]) for k in result.arrays)
    data = json.loads(path.read_text())
    assert names(path.parent) == [f"r.{data['arrays_sha256'][:12]}.npz", "r.json"]
    assert data["schema"] == 2
    assert next(iter(json.loads(path.read_text()))) == "schema"


def test_without_arrays(result, tmp_path):
    result.arrays = {}
    assert Result.load(result.save(tmp_path / "r.json")).arrays == {}


def test_the_json_alone_can_be_read(result, tmp_path):
    path = result.save(tmp_path / "r.json")
    next(tmp_path.glob("r.*.npz")).unlink()
    assert Result.load(path).robust == result.robust


def test_a_box_has_no_eps(result, tmp_path):
    result.by_eps = [dataclasses.replace(result.by_eps[0], eps=None)]
    assert Result.load(result.save(tmp_path / "r.json")).by_eps[0].eps is None


def test_what_json_has_no_word_for(result, tmp_path):
    result.train = {
        "loss": math.nan,
        "best": np.float32(0.5),
        "rows": (1, 2),
        "where": tmp_path,
        3: True,
    }
    train = json.loads(result.save(tmp_path / "r.json").read_text())["train"]
    assert train == {"loss": None, "best": 0.5, "rows": [1, 2], "where": str(tmp_path), "3": True}


def edited(result, tmp_path, **change):
    path = result.save(tmp_path / "r.json")
    data = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in data.items() if v != "gone"}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "schema 3, this version reads schema 1 and 2; sparring 9.9 wrote it"),
        ({"schema": "gone"}, "no schema number"),
        ({"clean": "gone"}, "lacks clean"),
        ({"colour": 1}, "'colour' is unknown"),
        ({"n": "ten"}, "n = 'ten' is not allowed: it should be a valid integer"),
        ({"n": None}, r"n = None .*; sparring 9.9 wrote it\. Evaluate again to replace it"),
        ({"n": True}, "n = True"),
        ({"n": 1.5}, "n = 1.5"),
        ({"clean": 0.9}, "clean = 0.9"),
        ({"clean": {"accuracy": 0.9, "low": None, "high": 1}}, "clean: low = None"),
        ({"attacks": [{"name": "x"}]}, r"attacks\[0\] is not a result: it lacks accuracy"),
    ],
)
def test_a_file_that_is_no_result_says_why(result, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        Result.load(edited(result, tmp_path, **change))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00\xff"])
def test_truncated_or_foreign_json(result, tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"r\.json"):
        Result.load(path)


def test_every_cut_of_the_file_is_refused(result, tmp_path):
    path = result.save(tmp_path / "r.json")
    text = path.read_text().rstrip()
    for length in range(0, len(text), 37):
        path.write_text(text[:length])
        with pytest.raises(ValueError, match="no complete JSON"):
            Result.load(path)


def test_arrays_of_another_result_are_refused(result, tmp_path):
    path = result.save(tmp_path / "r.json")
    arrays = next(tmp_path.glob("r.*.npz"))
    packed = arrays.read_bytes()
    arrays.write_bytes(packed[:-5])
    with pytest.raises(ValueError, match="does not belong to the result"):
        Result.load(path)


def test_pickles_are_never_run(result, tmp_path):
    result.arrays = {"evil": np.array([print], dtype=object)}
    path = result.save(tmp_path / "r.json")
    with pytest.raises(ValueError, match="can't be read"):
        Result.load(path)


def test_a_full_disk_leaves_the_old_result_whole(result, tmp_path, monkeypatch):
    path = result.save(tmp_path / "r.json")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        dataclasses.replace(result, name="other").save(path)
    assert Result.load(path).name == "toy"
    assert len(names(tmp_path)) == 2


def test_a_result_is_a_json_file(result, tmp_path):
    with pytest.raises(ValueError, match=r"a result is a \.json file"):
        result.save(tmp_path / "r.txt")


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 3), (950, 1000), (9642, 10000)])
def test_wilson_solves_its_equation(k, n):
    """The ends of the interval are the p with (k/n − p)² = z² p (1 − p) / n."""
    interval = wilson(k, n)
    assert interval.accuracy == k / n
    for p in (interval.low, interval.high):
        if 0 < p < 1:
            assert (k / n - p) ** 2 == pytest.approx(1.959963984540054**2 * p * (1 - p) / n)
    assert 0 <= interval.low <= k / n <= interval.high <= 1


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(ValueError, match="is not allowed"):
        wilson(k, n)


FIRST = Path(__file__).parent / "first_edition"


@pytest.mark.parametrize("name", ["bits", "probes"])
def test_a_result_of_the_first_edition_is_read(name, tmp_path):
    """Rows of its attacks have a field, `survivors`, which is gone."""
    assert '"survivors"' in (FIRST / f"{name}.json").read_text()
    result = Result.load(FIRST / f"{name}.json")
    assert result.versions["sparring"] == "0.1.0"
    assert result.robust.accuracy == (result.arrays["adv_pred"] == result.arrays["y"]).mean()
    assert bool(result.detection and result.detection.added) == (name == "bits")
    assert bool(result.probes) == (name == "probes")
    again = Result.load(result.save(tmp_path / "r.json"))
    assert again == result
    assert "survivors" not in (tmp_path / "r.json").read_text()


def test_metrics_of_the_first_edition_are_read(tmp_path):
    report = MetricReport.load(FIRST / "metrics.json")
    assert len(report.rows) == 11
    assert MetricReport.load(report.save(tmp_path / "m.json")) == report


@pytest.mark.parametrize("name", ["bits", "probes"])
def test_a_stripped_result_keeps_all_but_pictures(name, tmp_path):
    whole = Result.load(FIRST / f"{name}.json")
    stripped = Result.load(whole.strip().save(tmp_path / "r.json"))
    assert stripped == Result.load(stripped.strip().save(tmp_path / "again.json"))
    assert stripped.stripped
    # the attacks at the only radius are written once
    assert (tmp_path / "r.json").read_text().count('"attacks"') == len(whole.by_eps)
    assert not whole.stripped
    gone = {k for k in whole.arrays if k.startswith("show_")} | {"clean_score", "adv_score"}
    for key in whole.arrays.keys() - gone:
        assert np.array_equal(stripped.arrays[key], whole.arrays[key])
        assert stripped.arrays[key].dtype == whole.arrays[key].dtype
    assert not gone & stripped.arrays.keys()
    same = {f.name for f in dataclasses.fields(Result)} - {"train", "checks", "stripped", "arrays"}
    for key in same - {"arrays_sha256"}:
        assert getattr(stripped, key) == getattr(whole, key)
    for check, before in zip(stripped.checks, whole.checks, strict=True):
        assert check == (before if before.fired else before.brief())
        assert before.detail.endswith(check.detail)
    assert compare(whole, dataclasses.replace(stripped, name="b")).difference == 0
    for one, two in zip(roc_curves(whole.arrays), roc_curves(stripped.arrays), strict=True):
        assert np.allclose(one.fpr, two.fpr)
        assert np.allclose(one.tpr, two.tpr)


def test_files_are_stripped_in_place_and_metrics_are_left(tmp_path):
    for name in ("bits", "probes", "metrics"):
        for path in FIRST.glob(f"{name}.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    before = sum(path.stat().st_size for path in tmp_path.iterdir())
    metrics = (tmp_path / "metrics.json").read_bytes()
    assert strip_results(tmp_path) == 2
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < before / 2
    assert Result.load(tmp_path / "bits.json").stripped
    assert (tmp_path / "metrics.json").read_bytes() == metrics
    assert strip_results(tmp_path / "bits.json") == 1
