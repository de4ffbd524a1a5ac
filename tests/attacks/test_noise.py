"""Random points: the first that is wrong is kept, and nobody is asked twice."""

from __future__ import annotations

import pytest
import torch

from sparring.attacks import Noise
from sparring.batch import Batch
from sparring.threats import Linf
from tests.oracles import problem


def test_the_first_wrong_draw_is_returned():
    model, x, y = problem(b=30)
    threat = Linf(0.3)
    x_adv = Noise(threat, draws=3)(model, x, y)
    draw, rows = torch.Generator().manual_seed(0), torch.arange(30)
    expected = x.clone()
    for _ in range(3):
        z = threat.random_start(Batch(x[rows], y[rows]), draw)
        expected[rows] = z
        rows = rows[model(z).argmax(1) == y[rows]]
    assert torch.equal(x_adv, expected)


def test_samples_that_are_wrong_leave():
    model, x, y = problem()
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    Noise(Linf(0.0), draws=4)(model, x, y)
    right = int((model(x).argmax(1) == y).sum())
    assert seen[:4] == [8, right, right, right]


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="draws = 0 is not allowed: draws must be an integer ≥ 1"):
        Noise(Linf(0.1), draws=0)
