"""Columns of a csv that are no features: ids, times, dropped ones; and groups."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring import data
from sparring.data.division import later
from sparring.data.readers import csv

HEADER = "sha256,when,a,b,os=x,os=y,kind"


def table(
    folder: Path, *, header: str = HEADER, n: int = 40, when: str = "{i}", **cells: Any
) -> Path:
    """Rows whose names, times and features differ; `cells` replaces some of a row: {row: line}."""
    lines = [header]
    for i in range(n):
        row = f"{i:064x},{when.format(i=i, y=2000 + i)},{i % 2},{i // 2 % 2},{i % 3 == 0:d},"
        lines.append(cells.get(f"row{i}", f"{row}{i % 3 == 1:d},{'good' if i % 4 else 'bad'}"))
    path = folder / "apps.csv"
    path.write_text("\n".join(lines))
    return path


def load(path: str | Path, **options: Any) -> data.Source:
    """Load, with options of any kind."""
    return data.load(path, **options)


def test_a_column_that_names_the_rows_is_dropped_and_said(tmp_path):
    source = data.load(table(tmp_path), bounds=(0, 50))
    assert source.feature_names == ["when", "a", "b", "os=x", "os=y"]
    assert "column 'sha256' dropped: it names the rows" in source.notes


@pytest.mark.parametrize("name", ["id", "SHA-256", "File name", "package_name"])
def test_such_a_column_has_many_spellings_and_any_position(name, tmp_path):
    path = table(tmp_path, header=f"a,when,{name},b,c,d,kind")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"0,1,row{i},1,0,1,{i % 2}" for i in range(6))]))
    assert csv(path).features == ["a", "when", "b", "c", "d"]
    assert csv(path).x.tolist() == [[0, 1, 1, 0, 1]] * 6


def test_a_column_of_that_name_with_repeated_cells_is_a_feature(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,a,kind\n1,0,x\n1,1,y\n0,1,x\n")
    assert csv(path).features == ["id", "a"]
    assert csv(path).x.tolist() == [[1, 0], [1, 1], [0, 1]]
    path.write_text("id,a,kind\nu,0,x\nu,1,y\n")
    with pytest.raises(ValueError, match=r"column 'id': a feature is not a number: 'u'"):
        csv(path)


def test_columns_are_dropped_by_name(tmp_path):
    path = table(tmp_path)
    source = data.load(path, drop=["when", "b"])
    assert source.feature_names == ["a", "os=x", "os=y"]
    assert "dropped as asked: 'when', 'b'" in source.notes
    assert data.load(path, drop=["kind", "when"], label="a").class_names == ["0", "1"]
    assert csv(path, drop=["kind"]).features == ["when", "a", "b", "os=x"]  # the last one left


def test_later_rows_are_for_testing(tmp_path):
    source = data.load(table(tmp_path), time="when", test=10, val=5)
    assert [len(s) for s in (source.train, source.val, source.test)] == [25, 5, 10]
    assert source.test.index.tolist() == list(range(30, 40))
    assert source.val.index.tolist() == list(range(25, 30))
    assert source.feature_names == ["a", "b", "os=x", "os=y"]
    assert "split by time, the latest rows last: 25 train, 5 val, 10 test" in source.notes


@pytest.mark.parametrize("when", ["{y}-03-01", "{y}-03-01T12:30:00", "{y}", "{y}.5"])
def test_times_are_numbers_or_iso_dates(when, tmp_path):
    path = table(tmp_path, when=when)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    source = data.load(path, time="when", test=10, val=5)
    assert source.test.index.tolist() == list(range(10))


def test_rows_of_one_time_stay_together():
    time = np.array([1.0, 2, 2, 2, 3])
    early, late = later(time, torch.arange(5), 2)
    assert (early.tolist(), late.tolist()) == ([0], [1, 2, 3, 4])
    early, late = later(time, torch.arange(1, 5), 2)
    assert (early.tolist(), late.tolist()) == ([1, 2, 3], [4])
    with pytest.raises(ValueError, match="time: all 3 rows to divide have one time"):
        later(time, torch.arange(1, 4), 1)


def test_repeated_rows_are_dropped_with_their_times(tmp_path):
    source = data.load(table(tmp_path, n=60), time="when", unique=True, test=2, val=1)
    assert len(source.train) + len(source.val) + len(source.test) < 60
    kept = [source.train, source.val, source.test]
    last = [int(s.index.max()) for s in kept]
    assert last == sorted(last)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("soon", "'soon'"), ("nan", "'nan'"), ("", "''"), ("2019-13-01", "'2019-13")],
)
def test_a_time_that_is_none_is_named(cell, shown, tmp_path):
    path = table(tmp_path, row3=f"{3:064x},{cell},1,0,0,0,good")
    with pytest.raises(ValueError, match=rf"row 5, column 'when': the time is {shown}"):
        data.load(path, time="when")


def test_a_class_that_comes_late_cannot_be_trained_on(tmp_path):
    rows: dict[str, Any] = {
        f"row{i}": f"{i:064x},{i},0,{i % 2},0,0,{'good' if i < 38 else 'bad'}" for i in range(40)
    }
    with pytest.raises(ValueError, match="the earliest rows by time, has none of class 'bad'"):
        load(table(tmp_path, **rows), time="when")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": ["knd"]}, r"drop = 'knd' is not a column of apps\.csv \(did you mean 'kind'\?\)"),
        ({"time": "whn"}, r"time = 'whn' is not a column .*did you mean 'when'"),
        ({"time": "kind"}, "column 'kind': the time is 'bad'"),
        ({"drop": ["kind"], "label": "kind"}, "drop = 'kind' is the column of the label"),
        ({"drop": ["when"], "time": "when"}, "drop = 'when' is the column of the time"),
        ({"time": "kind", "label": "kind"}, "time = 'kind' is the column of the label"),
        ({"groups": "os="}, "groups = 'os=' is not allowed: groups must be a list of"),
        ({"groups": ["os"], "drop": ["os=x", "when"]}, r"groups\.0: 1 features begin with 'os'"),
        ({"groups": [["os=x", "os=z"]], "drop": "when"}, r"groups\.0 = 'os=z' does not exist; did"),
        (
            {"groups": ["os=", ["os=x", "a"]], "drop": "when"},
            r"groups\.1 has column 2 and groups\.0",
        ),
        (
            {"groups": [["a", "b"]], "drop": "when"},
            r"groups\.0: 10 rows, .* of a group at most one",
        ),
        ({"groups": ["os="]}, "groups are of binary data"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message, tmp_path):
    path = table(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(path, **{"bounds": (0, 50), "seed": 0, **options})


@pytest.mark.parametrize("key", ["drop", "time"])
def test_other_data_have_no_columns(key, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 2), np.float32), y=np.arange(9) % 2)
    for name in (tmp_path / "a.npz", "digits"):
        with pytest.raises(ValueError, match=f"{key} = .*only a csv has"):
            load(name, **{key: "a"})


def test_groups_are_beginnings_names_or_numbers(tmp_path):
    path = table(tmp_path)
    for groups in (["os="], [["os=x", "os=y"]], [[2, 3]]):
        assert data.load(path, drop="when", groups=groups).groups == [[2, 3]]
    assert data.load(path, drop="when").groups is None


def test_a_file_without_a_header_has_no_names(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("0,1,0\n1,0,1\n0,0,1\n1,1,0\n")
    with pytest.raises(ValueError, match=r"drop = 'a' is not a column of t\.csv; it has no header"):
        csv(path, drop="a")


CELLS = st.sampled_from(["0", "1", "1", "0", "0.5", "x", "", "2019-05-31", "nan", "1e400", "a\x1b"])
NAMES = st.sampled_from(["id", "sha256", "when", "kind", "os=a", "os=b", "a", "", "0"])


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(NAMES, min_size=1, max_size=6),
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=8),
    label=st.none() | NAMES,
    drop=st.lists(NAMES, max_size=2),
    time=st.none() | NAMES,
    groups=st.none() | st.lists(NAMES | st.lists(NAMES, max_size=3), max_size=2),
)
def test_any_table_with_any_options_is_read_or_refused_in_words(
    names, rows, label, drop, time, groups
):
    """Whatever a stranger's csv holds: a source whose parts fit, or one `ValueError`."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        path = Path(folder, "t.csv")
        wide = [(cells * len(names))[: len(names)] for cells in rows]
        path.write_text("\n".join(",".join(cells) for cells in [names, *wide]))
        options = {"label": label, "drop": drop, "time": time, "groups": groups}
        try:
            source = load(path, **options, test=1, val=1)
        except ValueError as error:
            source = str(error)
        if isinstance(source, str):
            assert source.isprintable()
            return
        d = source.shape[0]
        assert source.feature_names is None or len(source.feature_names) == d
        assert not set(drop) & {*(source.feature_names or ())}
        assert all(0 <= j < d for columns in source.groups or () for j in columns)
