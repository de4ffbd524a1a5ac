"""The battery of every piece of every room: its constructor is its configuration."""

from __future__ import annotations

import inspect

import pytest

from sparring.component import arguments
from sparring.config import registry
from tests.contract.pieces import make

ROOMS = ("threat", "attack", "method", "risk", "climb", "ema")
EVERY = [
    (room, name)
    for room in ROOMS
    for name, maker in registry.pieces(room).items()
    if inspect.isclass(maker)
]


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_every_argument_is_stored_verbatim(room, name):
    piece = make(room, name)
    wanted = {n: p.default for n, p in arguments(type(piece)).items()}
    assert piece.config().keys() == wanted.keys()
    for argument, default in wanted.items():
        if default is not inspect.Parameter.empty:
            assert piece.config()[argument] == default


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_it_is_printed_as_it_is_built(room, name):
    piece = make(room, name)
    assert repr(piece).startswith(f"{name}(")


@pytest.mark.parametrize("room", ROOMS)
def test_every_piece_has_a_line_of_documentation(room):
    for name, maker in registry.pieces(room).items():
        assert inspect.getdoc(maker), name
