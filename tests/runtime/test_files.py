"""Files are written whole, never through links, and read bounded; nothing of a killed process
stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from sparring.runtime import files


@pytest.mark.parametrize("name", ["a.writing", "a.999999999.writing", "a.999999999-3.writing"])
@pytest.mark.parametrize("target", [".*", "a", "[a-c]"])
def test_what_a_killed_process_left_is_removed(tmp_path, name, target):
    (tmp_path / name).touch()
    files.remove_temporary(tmp_path, "b")
    assert (tmp_path / name).exists()
    files.remove_temporary(tmp_path, target)
    assert list(tmp_path.iterdir()) == []
    files.remove_temporary(tmp_path / "missing")


def test_writing_removes_what_killed_processes_left_of_the_same_file(tmp_path):
    for name in (f"a.{os.getpid()}-9.writing", "a.999999999.writing", "b.999999999.writing"):
        (tmp_path / name).touch()
    files.write(tmp_path / "a", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.999999999.writing"]


def test_what_a_living_process_writes_stays_and_a_zombies_does_not(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / f"a.{process.pid}-0.writing").touch()
    files.remove_temporary(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert files.is_alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet waited for
    assert not files.is_alive(process.pid)
    files.remove_temporary(tmp_path)
    assert list(tmp_path.iterdir()) == []
    process.communicate()


@pytest.mark.parametrize("number", [0, -1])
def test_a_group_of_processes_is_no_process(number):
    assert not files.is_alive(number)


def test_threads_write_one_file_at_once(tmp_path):
    path, errors = tmp_path / "file", []

    def many(letter):
        try:
            for _ in range(50):
                files.write(path, letter * 10_000, sync=False)
                assert len(set(path.read_bytes())) == 1
        except (OSError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=many, args=(c,)) for c in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_target_that_is_no_regular_file_is_refused(tmp_path, kind):
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"kept")
    {"link": lambda: path.symlink_to(other), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[
        kind
    ]()
    with pytest.raises(ValueError, match=r"link|folder|no regular file"):
        files.write(path, b"new")
    assert other.read_bytes() == b"kept"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    other, path = tmp_path / "other", tmp_path / "file"
    other.write_bytes(b"kept")
    trap = tmp_path / f"file.{os.getpid()}-0.writing"
    trap.symlink_to(other)
    monkeypatch.setattr(files, "_numbers", iter(range(9)))
    files.write(path, b"new", sync=False)
    assert other.read_bytes() == b"kept"
    monkeypatch.setattr(files, "temporary_name", lambda _: trap)
    with pytest.raises(OSError, match="could not save"):
        files.write(path, b"newer", sync=False)
    assert (other.read_bytes(), path.read_bytes()) == (b"kept", b"new")


@pytest.mark.parametrize("kind", ["pipe", "folder", "large"])
def test_what_is_no_bounded_regular_file_is_not_read(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "large":
        path.write_bytes(b"12345")
        assert files.read(path, limit=5) == b"12345"
    else:
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises((ValueError, IsADirectoryError), match=r"a file is expected|LIMIT raises"):
        files.read(path, limit=4, key="LIMIT")
