"""A record of a finished batch counts only if this user's sparring wrote it for this run."""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings

import numpy as np
import pytest

from sparring.evaluation import evaluate
from sparring.evaluation.cache import BatchCache
from sparring.results.result import Result
from sparring.runtime.lock import LOCK, Locked, locked
from sparring.runtime.user_key import key_path
from sparring.runtime.warning import SparringWarning

RECORD = {"prediction": np.arange(3), "seconds": np.array(1.5)}


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "r.json"


def kept(out, settings=None):
    cache = BatchCache(out, settings or {"a": 1})
    cache.put("0", RECORD)
    return cache


def equal(record):
    return record is not None and all(np.array_equal(record[key], RECORD[key]) for key in RECORD)


def test_a_record_is_kept_and_counted(out):
    cache = kept(out)
    assert equal(BatchCache(out, {"a": 1}).get("0"))
    assert cache.get("1") is None
    assert cache.notes() == []
    cache.get("0")
    assert cache.notes() == ["continued from 1 batch of an interrupted evaluation"]
    cache.clear()
    assert list(out.parent.iterdir()) == []


def unsigned(record):
    file = io.BytesIO()
    np.savez(file, **record)
    return file.getvalue()


def from_elsewhere(out, path, monkeypatch):
    """The same record, of another user or machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(out.parent.parent / "other"))
    kept(out)
    monkeypatch.setenv("XDG_CACHE_HOME", str(out.parent.parent / "cache"))


def another_name(out, path, monkeypatch):
    kept(out).put("1", {"prediction": np.zeros(3)})
    shutil.copy(path.with_name("1.npz"), path)


def another_run(out, path, monkeypatch):
    other = kept(out, {"a": 2})
    assert other.folder is not None
    shutil.copy(other.folder / "0.npz", path)


FORGED = {
    "as versions before wrote it": lambda o, p, m: p.write_bytes(unsigned(RECORD)),
    "32 bytes at its end": lambda o, p, m: p.write_bytes(unsigned(RECORD) + bytes(32)),
    "changed": lambda o, p, m: p.write_bytes(p.read_bytes().replace(b"seconds", b"Seconds")),
    "cut short": lambda o, p, m: p.write_bytes(p.read_bytes()[:-1]),
    "empty": lambda o, p, m: p.write_bytes(b""),
    "another machine": from_elsewhere,
    "another batch": another_name,
    "another run": another_run,
    "another key": lambda o, p, m: key_path().unlink(),
}  # fmt: skip


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_record_of_somebody_else_is_not_read(out, forge, monkeypatch):
    cache = kept(out)
    forge(out, cache.folder / "0.npz", monkeypatch)
    again = BatchCache(out, {"a": 1})
    with pytest.warns(SparringWarning, match="another user or on another machine: these batches"):
        assert again.get("0") is None
    assert again.get("0") is None  # it is said once
    assert again.notes() == []
    again.put("0", RECORD)
    assert equal(BatchCache(out, {"a": 1}).get("0"))


def test_a_forged_record_changes_no_verdict(problem, out, same):
    """Every batch claims that no attack broke a sample, as robustness for sale would."""
    data = (problem.x, problem.y)
    options = {"eps": 0.1, "batch_size": 20, "progress": False}

    def run(**more):
        return evaluate(problem.model, data, "Linf", "quick", **options, **more)

    whole = run()
    keep = BatchCache.clear
    BatchCache.clear = lambda self: None
    try:
        run(out=out)
    finally:
        BatchCache.clear = keep
    for path in out.with_name("r.json.partial").glob("*/0-*.npz"):
        with np.load(io.BytesIO(path.read_bytes()[:-32])) as file:
            record = {key: file[key] for key in file.files}
        record["allowed"][:] = False
        path.write_bytes(unsigned(record))
    with pytest.warns(SparringWarning, match="these batches are run again"):
        forged = run(out=out)
    same(forged, whole)
    assert whole.robust.accuracy < whole.clean.accuracy
    assert not out.with_name("r.json.partial").exists()


def test_a_result_says_that_it_was_continued(problem, out):
    data = (problem.x, problem.y)
    early = evaluate(
        problem.model, data, "Linf", "quick", eps=0.1, queries=500, out=out, progress=False
    )
    assert early.notes == []
    assert early.early
    late = evaluate(problem.model, data, "Linf", "quick", eps=0.1, out=out, progress=False)
    assert Result.load(out).notes == late.notes
    assert late.notes[0].startswith("continued from ")


def test_without_a_key_nothing_is_kept_and_this_is_said(out, monkeypatch):
    (out.parent.parent / "cache").write_text("no folder")
    with pytest.warns(SparringWarning, match="no batches are kept, .*Not a directory"):
        cache = kept(out)
    assert cache.get("0") is None
    assert list(out.parent.iterdir()) == []
    cache.clear()


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_a_link_in_place_of_the_state_is_refused_before_anything_is_removed(
    out, tmp_path, inside, resume
):
    cache = kept(out)
    linked = cache.folder if inside else cache.folder.parent
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="symbolic link"):
        BatchCache(out, {"a": 1}, resume=resume)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_record_that_is_no_regular_file_is_refused_at_once(out, kind):
    cache = kept(out)
    path = cache.folder / "0.npz"
    path.unlink()
    {"link": lambda: path.symlink_to("1"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[
        kind
    ]()
    with pytest.raises(ValueError, match=r"symbolic link|no regular file|is a folder"):
        cache.get("0")


def test_settings_of_two_evaluations_are_kept_apart(out):
    one, two = kept(out, {"a": 1}), kept(out, {"a": 2})
    one.clear()
    assert equal(two.get("0"))
    assert json.loads((two.folder / "settings.json").read_text()) == {"a": 2}
    BatchCache(out, {"a": 2}, resume=False)
    assert two.get("0") is None


def test_a_second_evaluation_of_a_result_is_refused_in_words(problem, out):
    options = {"eps": 0.1, "out": out, "progress": False}
    with (
        locked(out.with_name(out.name + LOCK), "evaluating"),
        pytest.raises(Locked, match=r"evaluating by process .* Delete this file if"),
    ):
        evaluate(problem.model, (problem.x, problem.y), "Linf", "quick", **options)
    assert list(out.parent.iterdir()) == []
    out.with_name("r.json.999999999-0.writing").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(problem.model, (problem.x, problem.y), "Linf", "quick", **options)
    assert len(list(out.parent.iterdir())) == 2
