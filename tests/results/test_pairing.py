"""A result's two files are read as one, whoever writes at the same time; none is left behind."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sparring.results.pairing import remove_leftovers
from sparring.results.result import Result
from sparring.runtime import files
from tests.results.made import N, result

FIRST = Path(__file__).parent / "first_edition"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def changed(k):
    return dataclasses.replace(result(str(k), list(range(10, 10 + k))), seed=k)


def whole(read):
    """Whether the arrays are those of the JSON."""
    return int((read.arrays["adv_pred"] == read.arrays["y"]).sum()) == N - 5 - read.seed


def write_many(path, times):
    for k in range(times):
        changed(k % 20).save(path)


def test_a_reader_beside_a_writer_gets_one_of_the_results(tmp_path):
    path = tmp_path / "r.json"
    changed(0).save(path)
    writer = multiprocessing.get_context("spawn").Process(target=write_many, args=(path, 100))
    writer.start()
    seen = set()
    try:
        while writer.is_alive():
            read = Result.load(path)
            assert whole(read)
            seen.add(read.seed)
    finally:
        writer.join()
    assert writer.exitcode == 0
    assert len(seen) > 3
    assert len(names(tmp_path)) == 2


def test_a_replaced_result_leaves_no_arrays(tmp_path):
    path = changed(3).save(tmp_path / "r.json")
    before = names(tmp_path)
    changed(3).save(path)
    assert names(tmp_path) == before
    changed(4).save(path)
    assert len(names(tmp_path)) == 2
    assert whole(Result.load(path))
    dataclasses.replace(changed(3), arrays={}).save(path)
    assert names(tmp_path) == ["r.json"]


@pytest.mark.parametrize("mine", [False, True])
def test_arrays_of_an_earlier_version_go_unless_they_are_the_users(tmp_path, mine):
    for suffix in (".json", ".npz"):
        shutil.copy(FIRST / f"bits{suffix}", tmp_path / f"r{suffix}")
    loaded = Result.load(tmp_path / "r.json")
    if mine:
        np.savez(tmp_path / "r.npz", x=np.zeros(3))
    loaded.save(tmp_path / "r.json")
    assert len(names(tmp_path)) == 2 + mine
    assert (tmp_path / "r.npz").exists() == mine
    assert Result.load(tmp_path / "r.json").arrays.keys() == loaded.arrays.keys()


@pytest.mark.parametrize("step", ["arrays", "json", "removal"])
def test_a_stop_between_two_steps_leaves_one_of_the_results(tmp_path, monkeypatch, step):
    """A kill between two calls; tests/test_kills.py has the real ones."""
    path = changed(1).save(tmp_path / "r.json")
    write, unlink = files.write, Path.unlink

    def stop(*_, **__):
        raise KeyboardInterrupt

    def write_or_stop(target, *rest, **more):
        if target.suffix == (".npz" if step == "arrays" else ".json"):
            raise KeyboardInterrupt
        write(target, *rest, **more)

    if step == "removal":
        monkeypatch.setattr(
            Path, "unlink", lambda p, **k: stop() if p.suffix == ".npz" else unlink(p, **k)
        )
    else:
        monkeypatch.setattr(files, "write", write_or_stop)
    with pytest.raises(KeyboardInterrupt):
        changed(2).save(path)
    monkeypatch.undo()
    assert whole(Result.load(path))
    assert Result.load(path).seed == (2 if step == "removal" else 1)
    (tmp_path / "r.json.999999999-1.writing").touch()
    (tmp_path / "r.0123456789ab.npz.999999999-1.writing").touch()
    for other in ("r.x.json.999999999-1.writing", "r.0123456789ab.npy", "rr.0123456789ab.npz"):
        (tmp_path / other).touch()
    remove_leftovers(path)
    assert len(names(tmp_path)) == 2 + 3
    assert whole(Result.load(path))


def test_arrays_of_a_damaged_json_are_kept(tmp_path):
    path = changed(1).save(tmp_path / "r.json")
    path.write_text("{")
    remove_leftovers(path)
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_target_that_is_no_file_gets_no_arrays_beside_it(tmp_path, kind):
    path = tmp_path / "r.json"
    path.symlink_to(tmp_path / "other") if kind == "link" else path.mkdir()
    with pytest.raises(ValueError, match=r"symbolic link|is a folder"):
        changed(1).save(path)
    assert names(tmp_path) == ["r.json"]


def test_arrays_without_a_json_to_name_them_are_removed_when_it_can_not_be_written(
    tmp_path, monkeypatch
):
    path = changed(1).save(tmp_path / "r.json")
    before, replace = names(tmp_path), os.replace

    def full(source, target):
        if str(target).endswith(".json"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        changed(2).save(path)
    assert names(tmp_path) == before
    assert whole(Result.load(path))
