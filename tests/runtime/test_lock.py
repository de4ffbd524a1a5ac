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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"process": "x"}'])
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
