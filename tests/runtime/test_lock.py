"""A lock keeps two processes apart, and outlives no dead one."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from sparring.runtime.lock import LOCK, Locked, locked

HOLD = """
import sys, time
from sparring.runtime.lock import locked
with locked(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def _hold(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_living_process_keeps_its_lock_and_a_killed_one_loses_it(tmp_path):
    path = tmp_path / LOCK
    process = _hold(path)
    try:
        message = f"training by process {process.pid} on .* since 20"
        with pytest.raises(Locked, match=message), locked(path, "training"):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert path.exists()
    with locked(path, "training"):
        assert json.loads(path.read_bytes())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"machine": "elsewhere"}, {"started": "1"}])
def test_another_machine_is_believed_and_a_reused_process_number_is_not(tmp_path, change):
    path = tmp_path / LOCK
    owner = {"process": os.getpid(), "started": None, "machine": platform.node()}
    path.write_text(json.dumps(owner | {"since": "now", "doing": "training"} | change))
    if "machine" in change:
        with pytest.raises(Locked, match="Delete this file"), locked(path, "training"):
            pass
    else:
        with locked(path, "training"):
            pass
        assert not path.exists()


ENDLESS = b'{"process": 1e999, "machine": "", "doing": "", "since": ""}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"process": "x"}', ENDLESS])
def test_a_damaged_lock_is_refused_in_words(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    with pytest.raises(Locked, match="delete this file"), locked(tmp_path / LOCK, "training"):
        pass


def test_of_many_processes_one_takes_over_a_dead_lock(tmp_path):
    path = tmp_path / LOCK
    process = _hold(path)
    process.kill()
    process.wait()
    process.stdout.close()
    code = HOLD.replace("time.sleep(60)", "time.sleep(3)")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    held = [racer.communicate()[0] for racer in racers]
    assert held.count("held\n") >= 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_second_names_has_locks_too(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / LOCK
    owner = {"process": 2**30, "machine": platform.node(), "since": "now", "doing": "training"}
    path.write_text(json.dumps(owner))
    with locked(path, "training"):
        with pytest.raises(Locked, match="training by process"), locked(path, "evaluating"):
            pass
        assert json.loads(path.read_bytes())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_a_lock_go_with_it_unless_they_are_used(tmp_path):
    with locked(tmp_path / "a" / "b" / LOCK, "training"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b" / LOCK, "training"):
        (tmp_path / "a" / "b" / "file").touch()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_the_lock_that_another_took_after_a_deletion_by_hand_stays(tmp_path):
    path = tmp_path / LOCK
    with locked(path, "training"):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_strangers_lock_prints_no_control_characters(tmp_path):
    path = tmp_path / LOCK
    owner = {"process": 1, "machine": "\x1b[2J", "since": "\n", "doing": "x" * 10_000}
    path.write_text(json.dumps(owner)[:10_000])
    with pytest.raises(Locked, match="does not say by whom"), locked(path, "training"):
        pass
    path.write_text(json.dumps(owner | {"doing": "x" * 900}))
    with pytest.raises(Locked) as error, locked(path, "training"):
        pass
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def test_a_link_is_no_lock(tmp_path):
    (tmp_path / LOCK).symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match="symbolic link"), locked(tmp_path / LOCK, "training"):
        pass
    assert not (tmp_path / "other").exists()
