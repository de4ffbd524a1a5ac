"""The fuzzers draw as many bad inputs as they claim, and their harness sees every kind of fault."""

from __future__ import annotations

import time

import pytest

from sparring.component import require
from tests.fuzz import harness


def test_the_fuzzers_draw_200_bad_inputs_and_2000_in_the_slow_mode():
    quick, slow = (sum(counts) for counts in zip(*harness.COUNTS.values(), strict=True))
    assert quick >= 200
    assert slow >= 2000


def allocate() -> None:
    bytearray(harness.BYTES + (64 << 20))


def wait() -> None:
    time.sleep(60)


def work() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: None, "accepted without a word"),
        (lambda: [][0], "raised IndexError"),
        (lambda: int("x"), "not our own words"),
        (lambda: require(False, "a\x1b", 1, "2"), "control character"),
        (allocate, "raised MemoryError"),
        (wait, "took more than"),
        (work, "took more than"),
    ],
)
def test_the_harness_sees_a_fault(call, words, monkeypatch):
    monkeypatch.setattr(harness, "SECONDS", 0.2)
    assert words in str(harness.fault(call))


def test_a_refusal_in_words_is_no_fault():
    assert harness.fault(lambda: require(False, "eps", -1, "a radius ≥ 0")) is None
