"""SPSA and NES: the estimate against its formula, a model without gradients, chunks."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sparring.attacks import NES, SPSA
from sparring.attacks.spsa import estimate, gaussian, rademacher
from sparring.threats import L2, Linf
from tests.oracles import Linear, gain_in_linf_and_box, problem

F64 = torch.float64


class Steps(torch.nn.Module):
    """Logits rounded to 0.01: no gradient anywhere."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.inner = Linear(w, b)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).detach().round(decimals=2)


class TestEstimate:
    how: ClassVar = {"delta": 0.01, "low": -9.0, "high": 9.0, "chunk": 7}

    def test_all_signs_give_a_linear_function_its_gradient(self):
        """The mean of u·uᵀ over {−1, 1}^d is the identity."""
        w = torch.tensor([0.5, -2.0, 1.0], dtype=F64)
        signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=F64)
        every = iter(signs)
        z = torch.zeros(2, 3, dtype=F64)

        def draw(shape):
            return torch.stack([next(every).expand(shape[1:]) for _ in range(shape[0])])

        scale = torch.tensor([1.0, -3.0], dtype=F64)
        got = estimate(lambda p, rows: scale[rows] * (p @ w), z, draw, samples=8, **self.how)
        assert torch.allclose(got, scale[:, None] * w)

    def test_the_formula(self):
        """Against a loop over samples and rows."""
        model, x, y = problem(b=3)
        u = torch.randn(5, 3, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
        left = iter(u)

        def draw(shape):
            return torch.stack([next(left) for _ in range(shape[0])])

        def f(points, rows):
            return model(points)[torch.arange(len(points)), y[rows]]

        with torch.no_grad():
            got = estimate(f, x, draw, samples=5, **self.how)
            expected = torch.zeros_like(x)
            for row in range(3):
                for i in range(5):
                    up = model((x[row] + 0.01 * u[i, row])[None])[0, y[row]]
                    down = model((x[row] - 0.01 * u[i, row])[None])[0, y[row]]
                    expected[row] += (up - down) / 0.02 * u[i, row] / 5
        assert torch.allclose(got, expected)

    def test_what_is_not_finite_counts_nothing(self):
        z = torch.zeros(2, 3, dtype=F64)
        ones = lambda shape: torch.ones(shape, dtype=F64)  # noqa: E731

        def f(points, rows):
            return torch.where(rows == 0, torch.nan, points.sum(1))

        got = estimate(f, z, ones, samples=2, **self.how)
        assert (got[0] == 0).all()
        assert torch.allclose(got[1], torch.full((3,), 3.0, dtype=F64))

    @pytest.mark.parametrize("draw", [rademacher, gaussian])
    def test_directions_have_mean_0_and_variance_1(self, draw):
        u = draw((200, 100), torch.zeros(1, dtype=F64), torch.Generator().manual_seed(0))
        assert abs(u.mean().item()) < 0.03
        assert abs(u.var().item() - 1) < 0.03
        assert u.dtype == F64


class TestAttack:
    w = torch.tensor([1.0, -2.0, 0.5, 1.5], dtype=F64)

    @pytest.mark.parametrize("make", [SPSA, NES])
    def test_it_breaks_what_can_be_broken_without_a_gradient(self, make):
        """Linear, rounded: exactly the rows whose best gain passes the boundary."""
        draw = torch.Generator().manual_seed(0)
        x = 0.3 + 0.4 * torch.rand(30, 4, generator=draw, dtype=F64)
        score = x @ self.w
        b = -score.max().item() - 0.1
        gain = gain_in_linf_and_box(self.w, x, 0.1)
        gap = -(score + b)
        x_adv = make(Linf(0.1), delta=0.05, size=0.02)(Steps(self.w, b), x, torch.zeros(30).long())
        wrong = Steps(self.w, b)(x_adv).argmax(1) != 0
        sure, never = gain - gap > 0.02, gain - gap < -0.006
        assert sure.any()
        assert never.any()
        assert wrong[sure].all()
        assert not wrong[never].any()
        assert ((x_adv - x).abs() <= 0.1 + 1e-12).all()

    def test_chunks_bound_a_call_and_do_not_change_the_number_of_queries(self):
        model, x, y = problem(b=4)
        sizes = []
        model.register_forward_hook(lambda _, args, out: sizes.append(len(args[0])))
        SPSA(L2(1e-6), steps=2, samples=10, chunk=16)(model, x, y)
        assert max(sizes) <= 16
        num_queries = sum(sizes)
        active = sizes[-1]  # nothing can break in such a ball
        assert num_queries == len(x) + 2 * (2 * 10 * active + active)

    def test_restarts_begin_elsewhere(self):
        model, x, y = problem(b=3)
        with torch.no_grad():
            y = model(x).argmax(1)
        seen = []
        model.register_forward_hook(lambda _, args, out: seen.append(args[0].clone()))
        SPSA(Linf(1e-4), steps=1, samples=1, restarts=2)(model, x, y)
        middles = [(z[:3] + z[3:]) / 2 for z in seen if len(z) == 6]
        assert len(middles) == 2
        assert not torch.allclose(middles[0], middles[1], atol=1e-7, rtol=0)

    @pytest.mark.parametrize(
        ("more", "key"),
        [
            ({"steps": 0}, "steps"),
            ({"samples": 0}, "samples"),
            ({"size": 0.0}, "size"),
            ({"delta": 0.0}, "delta"),
            ({"estimator": "fd"}, "spsa, nes"),
            ({"loss": "margins"}, "did you mean.*margin"),
            ({"restarts": 0}, "restarts"),
            ({"chunk": 0}, "chunk"),
        ],
    )
    def test_what_cannot_be(self, more, key):
        with pytest.raises(ValueError, match=key):
            SPSA(Linf(0.1), **more)
