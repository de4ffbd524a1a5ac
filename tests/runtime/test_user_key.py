"""A key is one user's own, made once, and refused if others may know it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sparring.runtime.user_key import SIZE, key_path, signature, user_key


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_key_is_made_once_and_is_the_users_alone(cache):
    key = user_key()
    assert len(key) == SIZE
    assert user_key() == key
    assert key_path() == cache / "sparring" / "key"
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600
    assert [path.name for path in key_path().parent.iterdir()] == ["key"]
    key_path().unlink()
    assert user_key() != key


def test_processes_that_begin_at_once_have_one_key(cache):
    code = "from sparring.runtime.user_key import user_key; print(user_key().hex())"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0].strip() for process in running} == {user_key().hex()}


@pytest.mark.parametrize("links", [True, False])
def test_a_file_system_without_second_names_keeps_a_key(cache, monkeypatch, links):
    if not links:
        monkeypatch.delattr(os, "link")
    assert user_key() == user_key()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.chmod(0o640), "readable by others"),
        (lambda path: path.write_bytes(b"short"), "is damaged: delete it"),
        (lambda path: path.write_bytes(b"l" * 99), "is damaged: delete it"),
        (lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")), "symbolic link"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "no regular file"),
    ],
)
def test_a_key_that_others_may_know_is_refused(damage, message):
    user_key()
    damage(key_path())
    with pytest.raises(ValueError, match=message):
        user_key()


def test_a_relative_cache_folder_is_not_taken(monkeypatch, tmp_path):
    """XDG says so; else a key would be looked for in a stranger's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_path() == tmp_path / ".cache" / "sparring" / "key"


def test_a_user_without_a_home_has_no_key(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OSError, match="has no home folder"):
        user_key()


def test_a_signature_is_of_all_its_parts():
    parts = [(b"k", b"a", b"b"), (b"k", b"ab", b""), (b"k", b"b", b"a"), (b"q", b"a", b"b")]
    assert len({signature(*each) for each in parts}) == 4
