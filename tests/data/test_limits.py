"""Limits: in one place, with the way to raise them in the message."""

import gzip
import os

import pytest

from sparring.data import limits


@pytest.mark.parametrize(
    ("value", "limit"), [("", 8 * 2**30), ("2e3", 2000), ("17", 17), (" 9 ", 9)]
)
def test_the_environment_sets_the_limit(monkeypatch, value, limit):
    monkeypatch.setenv("SPARRING_MAX_BYTES", value)
    assert limits.max_bytes() == limit
    limits.check_bytes("x", limit)
    with pytest.raises(ValueError, match="SPARRING_MAX_BYTES"):
        limits.check_bytes("x", limit + 1)


@pytest.mark.parametrize("value", ["0", "-5", "many", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv("SPARRING_MAX_CLASSES", value)
    with pytest.raises(ValueError, match=r"SPARRING_MAX_CLASSES = .* number ≥ 1"):
        limits.max_classes()


@pytest.mark.parametrize(
    "shape", [(-1, 2), (1.5,), (True,), ("3",), (2**62,), (2**40, 2**40), (2**40, 0), (10**9,) * 99]
)
def test_a_shape_is_checked_before_memory_is_taken(shape):
    with pytest.raises(ValueError, match=r"sizes must be integers|raises the limit"):
        limits.check_shape("x", shape, 4)


def test_an_archive_is_unpacked_up_to_the_limit(monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_BYTES", "1000")
    assert limits.gunzip("a.gz", gzip.compress(bytes(1000))) == bytes(1000)
    with pytest.raises(ValueError, match=r"more than 1,000 bytes.*SPARRING_MAX_BYTES"):
        limits.gunzip("a.gz", gzip.compress(bytes(1001)))
    with pytest.raises(ValueError, match="truncated or damaged"):
        limits.gunzip("a.gz", gzip.compress(bytes(1000))[:-9])


def test_pipes_devices_and_large_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_BYTES", "10")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(bytes(11))
    for name in ("pipe", "zero"):
        with pytest.raises(ValueError, match="no regular file"):
            limits.read(tmp_path / name)
    with pytest.raises(ValueError, match="11 bytes: at most 10 are read; SPARRING_MAX_BYTES"):
        limits.read(tmp_path / "large")


def test_labels_far_above_the_classes_are_refused():
    limits.check_classes("y", 100_000)
    for count in (100_001, 30_000_000, 2**62):
        with pytest.raises(ValueError, match="SPARRING_MAX_CLASSES"):
            limits.check_classes("y", count)


def test_a_high_limit_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_BYTES", str(2**60))
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"abc" * 10**6))
    content = limits.read(tmp_path / "a.gz")
    assert limits.gunzip("a.gz", content) == b"abc" * 10**6
    assert limits.read("/proc/self/status").startswith(b"Name:")  # whose size is 0 until read
