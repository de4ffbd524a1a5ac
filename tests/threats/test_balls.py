"""Balls and the box: starts, steps and names."""

from __future__ import annotations

import math

import pytest
import torch

from sparring import threats
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.threats import L1, L2, Box, Linf


def middle(b: int = 3, d: int = 40) -> Batch:
    return Batch(torch.full((b, d), 0.5), torch.zeros(b, dtype=torch.long))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ball", [Linf, L2, L1])
class TestStart:
    def test_uniform_lies_in_the_ball_and_not_at_its_centre(self, ball):
        batch = middle()
        threat = ball(0.2)
        distance = threat.distance(threat.random_start(batch, generator()), batch.x)
        assert (distance > 0.1).all()
        assert (distance <= 0.2 * (1 + 1e-6)).all()

    def test_noise_is_a_small_gaussian(self, ball):
        batch = middle(b=400)
        delta = (
            ball(100.0, init="noise", noise=0.01, high=100.0).random_start(batch, generator())
            - batch.x
        )
        assert delta.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(delta.mean().item()) < 4 * 0.01 / delta.numel() ** 0.5

    def test_noise_is_projected(self, ball):
        batch = middle()
        threat = ball(0.001, init="noise", noise=1.0)
        assert (
            threat.distance(threat.random_start(batch, generator()), batch.x) <= 0.001 * (1 + 1e-4)
        ).all()

    def test_zero_stays_at_x(self, ball):
        batch = middle()
        assert torch.equal(ball(0.2, init="zero").random_start(batch, generator()), batch.x)

    def test_a_radius_of_zero_is_x_alone(self, ball):
        batch = middle()
        threat = ball(0.0)
        assert torch.equal(threat.random_start(batch, generator()), batch.x)
        assert torch.equal(threat.project(batch.x + 1, batch), batch.x)

    def test_values_out_of_range(self, ball):
        with pytest.raises(
            ValueError, match=r"eps = -0\.1 is not allowed: eps must be a radius ≥ 0"
        ):
            ball(-0.1)
        with pytest.raises(
            ValueError,
            match="init = 'normal' is not allowed: init must be one of uniform, noise, zero",
        ):
            ball(0.1, init="normal")
        with pytest.raises(ValueError, match=r"noise = -1\.0 is not allowed"):
            ball(0.1, noise=-1.0)


def test_linf_steps_along_the_sign():
    batch, g = middle(1, 4), torch.tensor([[2.0, -0.1, 0.0, 1e-30]])
    moved = Linf(1.0).step(batch.x, g, 0.25, batch) - batch.x
    assert torch.equal(moved, torch.tensor([[0.25, -0.25, 0.0, 0.25]]))


def test_l2_steps_by_its_length_along_the_gradient():
    batch, g = middle(1, 2), torch.tensor([[3.0, -4.0]])
    assert torch.allclose(
        L2(1.0).step(batch.x, g, 0.1, batch) - batch.x, torch.tensor([[0.06, -0.08]])
    )


def test_l1_steps_along_the_largest_coordinates_that_have_room():
    x = torch.tensor([[1.0, 0.5, 0.5, 0.0]])
    batch, g = Batch(x, torch.tensor([0])), torch.tensor([[9.0, 3.0, 1.0, -8.0]])
    one = L1(1.0, fraction=0.25).step(x, g, 0.1, batch) - x
    assert torch.allclose(one, torch.tensor([[0.0, 0.1, 0.0, 0.0]]), atol=1e-7)
    two = L1(1.0, fraction=0.5).step(x, g, 0.1, batch) - x
    assert torch.allclose(two, torch.tensor([[0.0, 0.05, 0.05, 0.0]]), atol=1e-7)
    with pytest.raises(
        ValueError, match=r"fraction = 0 is not allowed: fraction must be in \(0, 1\]"
    ):
        L1(1.0, fraction=0)


def test_distance_is_the_norm_of_the_threat():
    x, delta = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    for threat, value in ((Linf(1.0), 4.0), (L2(1.0), 5.0), (L1(1.0), 7.0), (Box(), 0.0)):
        assert threat.distance(x + delta, x).tolist() == [value]


def test_the_box_is_filled_evenly():
    start = Box(low=-1.0, high=3.0).random_start(middle(500), generator())
    assert start.mean().item() == pytest.approx(1.0, abs=0.05)
    assert start.std().item() == pytest.approx(4 / math.sqrt(12), rel=0.02)


def test_a_ball_by_the_name_of_its_norm():
    assert isinstance(threats.norm_ball("L2", eps=0.5), L2)
    ball = threats.norm_ball("Linf", eps=0.1, low=-1.0, high=2.0)
    assert (ball.eps, ball.low, ball.high) == (0.1, -1.0, 2.0)
    with pytest.raises(ValueError, match="threat = 'Linv' does not exist; did you mean 'Linf'"):
        threats.norm_ball("Linv", eps=0.1)


def test_pgd_in_l2_follows_gradients_whose_squares_underflow():
    """A model that is sure by 70 nats has gradients of 1e-29: they still have a direction."""
    model = lambda x: torch.stack([0 * x[:, 0], 40 * (x.sum(1) - 8) - 70], 1)  # noqa: E731
    x, y = torch.full((1, 16), 0.5), torch.zeros(1, dtype=torch.long)
    end = PGD(L2(1.0), steps=20, random_start=False)(model, x, y)
    assert model(end).argmax(1).item() == 1  # the sum may grow by 4, and 1.75 suffices
