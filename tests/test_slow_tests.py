"""The list of slow tests names tests that are there, each once, in order."""

from __future__ import annotations

import re

import pytest

from tests.conftest import SLOW, slow_tests

LINES = [line for line in SLOW.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]


def test_each_is_named_once_and_in_order():
    assert sorted(LINES) == LINES
    assert len(LINES) == len(set(LINES)) == len(slow_tests())


@pytest.mark.parametrize("file", sorted({line.partition("::")[0] for line in LINES}))
def test_the_file_has_every_test_of_the_list(file):
    text = (SLOW.parents[1] / file).read_text(encoding="utf-8")
    for line in LINES:
        if line.startswith(f"{file}::"):
            for name in re.split(r"::", line.partition("::")[2].partition("[")[0]):
                assert re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE), line


def test_they_are_left_out_of_the_suite(request):
    assert not {item.nodeid for item in request.session.items} & slow_tests() or (
        request.config.getoption("-m") != "not slow"
    )
