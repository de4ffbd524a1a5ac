"""Divergence balls: dual = brute-force primal, the worst weights, and numbers at the edge of
float."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring.batch import Batch
from sparring.risks import KL, Alpha, PerClass, Renyi, worst_case
from tests.reference import risks as literal

F64 = torch.float64
FAMILIES = {
    "kl": (worst_case.kl, literal.kl, KL),
    "alpha2": (
        partial(worst_case.alpha, a=2.0),
        partial(literal.alpha, a=2.0),
        partial(Alpha, alpha=2.0),
    ),
    "alpha5": (
        partial(worst_case.alpha, a=5.0),
        partial(literal.alpha, a=5.0),
        partial(Alpha, alpha=5.0),
    ),
    "renyi": (
        partial(worst_case.renyi, a=1.5),
        partial(literal.renyi, a=1.5),
        partial(Renyi, alpha=1.5, reversed=False),
    ),
    "reversed renyi": (
        partial(worst_case.reversed_renyi, a=2.5),
        partial(literal.reversed_renyi, a=2.5),
        partial(Renyi, alpha=2.5),
    ),
}
EVERY = pytest.mark.parametrize("name", list(FAMILIES))
U = torch.tensor([0.3, 2.0, 1.1, 0.05, 0.7], dtype=F64)
P = torch.tensor([0.2, 0.1, 0.3, 0.25, 0.15], dtype=F64)


def value(risk, u: Tensor, *, cost: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    batch = Batch(torch.zeros(len(u), 1, dtype=u.dtype), torch.zeros(len(u)).long(), weight=weight)
    return risk(u, torch.zeros_like(u) if cost is None else cost, batch)


def brute(*args, **more) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of its own steps
        return literal.primal(*args, **more)


class TestFamilies:
    @EVERY
    @pytest.mark.parametrize("t", [-3.0, -0.5, 1.0, 4.0])
    def test_divergence_is_that_of_the_weights(self, name, t):
        family, divergence, _ = FAMILIES[name]
        result = family(U, P, torch.tensor(t, dtype=F64))
        assert result.w.sum().item() == pytest.approx(1, abs=1e-12)
        exact = divergence(result.w.numpy().clip(1e-300), P.numpy())
        assert result.divergence.item() == pytest.approx(exact, rel=1e-9, abs=1e-13)

    @EVERY
    @pytest.mark.parametrize("t", [-1.0, 0.5, 3.0])
    def test_weights_maximize_at_their_temperature(self, name, t):
        """E_w[v] − s·D(w) falls in every direction inside the simplex."""
        family, divergence, _ = FAMILIES[name]
        result = family(U, P, torch.tensor(t, dtype=F64))
        w, s, p = result.w.numpy(), result.multiplier.item(), P.numpy()
        here = w @ U.numpy() - s * divergence(w.clip(1e-300), p)
        draw = np.random.default_rng(0)
        for size in (1e-1, 1e-3):
            for _ in range(50):
                other = np.abs(w + size * draw.standard_normal(5) * w.max())
                other /= other.sum()
                mixed = 0.9 * w + 0.1 * other
                there = mixed @ U.numpy() - s * divergence(mixed, p)
                assert there <= here + 1e-12

    @EVERY
    def test_hotter_is_nearer(self, name):
        family, _, _ = FAMILIES[name]
        result = family(U, P, torch.linspace(-100, 25, 501, dtype=F64))
        assert (result.divergence.diff() <= 1e-12).all()
        assert (result.multiplier.diff() >= 0).all()
        assert torch.allclose(result.w[-1], P)
        assert result.w.isfinite().all()
        assert result.divergence[-1] < 1e-15


class TestDual:
    @EVERY
    @pytest.mark.parametrize("radius", [0.01, 0.1, 0.4])
    def test_re_weighting_alone(self, name, radius):
        _, divergence, make = FAMILIES[name]
        got = value(make(radius=radius), U, weight=P).item()
        exact = brute(U.numpy()[:, None], np.zeros((5, 1)), P.numpy(), divergence, radius)
        assert got == pytest.approx(exact, abs=1e-6)

    @EVERY
    @pytest.mark.parametrize("radius", [0.05, 0.3])
    def test_with_transport(self, name, radius):
        """inf_s s·radius + sup_w {E_w[v] − s·D}, v_i = max_j ℓ_ij − s·c_ij."""
        family, divergence, _ = FAMILIES[name]
        draw = torch.Generator().manual_seed(0)
        p = torch.tensor([0.3, 0.2, 0.4, 0.1], dtype=F64)
        loss = torch.rand(4, 3, generator=draw, dtype=F64)
        cost = torch.rand(4, 3, generator=draw, dtype=F64)
        cost[:, 0] = 0
        exact = brute(loss.numpy(), cost.numpy(), p.numpy(), divergence, radius)

        def dual(s: float) -> float:
            v = (loss - s * cost).amax(1)
            result = worst_case.solve_multiplier(family, v, p, lambda worst: worst.multiplier >= s)
            return s * radius + (result.w @ v - s * result.divergence).item()

        low, high = 1e-3, 50.0  # ternary search on a convex function
        for _ in range(60):
            a, b = low + (high - low) / 3, high - (high - low) / 3
            low, high = (low, b) if dual(a) < dual(b) else (a, high)
        assert dual((low + high) / 2) == pytest.approx(exact, abs=1e-5)

    @EVERY
    def test_a_floor_is_a_floor_on_the_temperature(self, name):
        _, divergence, make = FAMILIES[name]
        free = make(radius=0.2)
        value(free, U, weight=P)
        floor = 2 * free.multiplier.item()
        risk, u = make(radius=0.2, min_multiplier=floor), U.clone().requires_grad_()
        got = value(risk, u, weight=P)
        assert risk.multiplier.item() == pytest.approx(floor, rel=1e-5)
        (w,) = torch.autograd.grad(got, u)
        reached = divergence(w.numpy().clip(1e-300), P.numpy())
        assert reached < 0.2
        assert got.item() == pytest.approx((w @ U).item() - floor * reached, abs=1e-6)
        exact = brute(U.numpy()[:, None], np.zeros((5, 1)), P.numpy(), divergence, 0.2, floor=floor)
        assert exact - 1e-6 <= got.item() <= exact + 1e-4  # the brute one stops a little early
        low = make(radius=0.2, min_multiplier=0.5 * free.multiplier.item())
        value(low, U, weight=P)
        assert torch.allclose(low.multiplier, free.multiplier)

    @EVERY
    def test_where_transport_answers_the_multiplier_settles_at_the_duals_minimum(self, name):
        """ℓ_i(δ) = a_i + g_i·δ, c = δ²: the inner problem has δ = g/2λ; radius = E_w[c] + D(w)."""
        _, _, make = FAMILIES[name]
        a, g = U, torch.tensor([1.0, 0.5, 2.0, 1.5, 0.2], dtype=F64)
        risk = make(radius=0.2)
        for _ in range(60):
            delta = g / (2 * risk.multiplier.item())
            value(risk, a + g * delta, cost=delta.square(), weight=P)
        terms = risk.terms
        assert (terms["transport"] + terms["divergence"]).item() == pytest.approx(0.2, rel=1e-3)
        assert terms["transport"] > 0.01
        assert terms["divergence"] > 0.01
        assert terms["active"] == 1


class TestEdges:
    @EVERY
    def test_radius_0_is_the_mean_and_a_large_one_the_max(self, name):
        _, _, make = FAMILIES[name]
        mean = (P * U).sum()
        assert torch.allclose(value(make(radius=0.0), U, weight=P), mean, atol=1e-7)
        top = value(make(radius=1e3), U, weight=P)
        assert torch.allclose(top, U.max(), atol=1e-6)

    @EVERY
    @pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_scales(self, name, scale, dtype):
        _, _, make = FAMILIES[name]
        u = (scale * U).to(dtype).requires_grad_()
        got = value(make(radius=0.1), u)
        (grad,) = torch.autograd.grad(got, u)
        expected = value(make(radius=0.1), U)
        assert (got / scale).item() == pytest.approx(expected.item(), rel=1e-5)
        assert grad.isfinite().all()
        assert grad.sum().item() == pytest.approx(1, abs=1e-5)

    @EVERY
    def test_equal_losses(self, name):
        _, _, make = FAMILIES[name]
        got = value(make(radius=0.3), torch.full((4,), 2.0, dtype=F64))
        assert got.item() == pytest.approx(2.0, abs=1e-9)

    @EVERY
    def test_the_gradient_is_the_worst_weights(self, name):
        _, _, make = FAMILIES[name]
        risk = make(radius=0.05)  # so small that no weight is at the edge of 0
        u = U.clone().requires_grad_()
        (grad,) = torch.autograd.grad(value(risk, u, weight=P), u)
        for i in range(5):
            step = torch.zeros_like(U)
            step[i] = 1e-5
            up, down = (value(make(radius=0.05), U + d, weight=P) for d in (step, -step))
            assert grad[i].item() == pytest.approx(((up - down) / 2e-5).item(), abs=1e-5)

    @EVERY
    def test_a_cost_lowers_it_by_the_multiplier_and_the_weight(self, name):
        _, _, make = FAMILIES[name]
        risk = make(radius=0.15)
        cost = torch.full_like(U, 0.02).requires_grad_()
        (grad,) = torch.autograd.grad(value(risk, U, cost=cost, weight=P), cost)
        u = U.clone().requires_grad_()
        again = make(radius=0.15)
        (w,) = torch.autograd.grad(value(again, u, cost=cost.detach(), weight=P), u)
        assert torch.allclose(grad, -risk.multiplier.to(F64) * w)

    def test_alpha_near_1_is_kl(self):
        assert value(Alpha(alpha=1.0001, radius=0.1), U).item() == pytest.approx(
            value(KL(radius=0.1), U).item(), abs=1e-3
        )

    def test_gaussian_losses(self):
        """KL: μ + σ√(2·radius)."""
        quantiles = torch.special.ndtri((torch.arange(20_000, dtype=F64) + 0.5) / 20_000)
        assert value(KL(radius=0.02), 3 + 2 * quantiles).item() == pytest.approx(3.4, abs=1e-3)

    @EVERY
    def test_rows_without_weight_do_not_count(self, name):
        _, _, make = FAMILIES[name]
        u = torch.cat([U, torch.tensor([1e6, -1e6], dtype=F64)])
        weight = torch.cat([P, torch.zeros(2, dtype=F64)])
        assert value(make(radius=0.1), u, weight=weight).item() == pytest.approx(
            value(make(radius=0.1), U, weight=P).item(), abs=1e-9
        )


class TestLearned:
    def test_it_comes_to_what_exact_mode_solves(self):
        exact, learned = (
            KL(radius=0.1),
            KL(radius=0.1, mode="learned", lr=0.01, initial_multiplier=2.0),
        )
        batch = Batch(torch.zeros(5, 1), torch.zeros(5).long())
        goal = value(exact, U)
        for _ in range(600):
            now = value(learned, U)
            learned.update(nn.Identity(), batch)
        assert learned.multiplier.item() == pytest.approx(exact.multiplier.item(), rel=1e-2)
        assert now.item() == pytest.approx(goal.item(), abs=1e-4)

    def test_its_state_makes_a_round_trip(self):
        one = Alpha(mode="learned", initial_multiplier=2.0)
        batch = Batch(torch.zeros(5, 1), torch.zeros(5).long())
        for _ in range(3):
            value(one, U)
            one.update(nn.Identity(), batch)
        two = Alpha(mode="learned", initial_multiplier=2.0)
        two.load_state_dict(one.state_dict())
        for risk in (one, two):
            value(risk, U)
            risk.update(nn.Identity(), batch)
        assert one.multiplier == two.multiplier != 2.0

    def test_it_never_falls_below_the_floor(self):
        risk = KL(radius=1e3, mode="learned", initial_multiplier=0.3, min_multiplier=0.25, lr=0.1)
        for _ in range(20):
            value(risk, U)
            risk.update(nn.Identity(), Batch(torch.zeros(5, 1), torch.zeros(5).long()))
        assert risk.multiplier.item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: KL(radius=-0.1), "radius"),
        (lambda: KL(radius=math.inf), "radius"),
        (lambda: KL(min_multiplier=-1.0), "min_multiplier"),
        (lambda: KL(mode="solved"), "mode"),
        (lambda: KL(initial_multiplier=0.0), "initial_multiplier"),
        (lambda: KL(lr=0.0), "lr"),
        (lambda: Alpha(alpha=1.0), "alpha"),
        (lambda: Renyi(alpha=0.5), "alpha"),
        (lambda: PerClass(KL(), classes=[]), "classes"),
    ],
)
def test_what_cannot_be(make, key):
    with pytest.raises(ValueError, match=key):
        make()


def test_terms_are_what_the_log_shows():
    risk = KL(radius=0.1)
    value(risk, U)
    assert set(risk.terms) == {
        "lambda",
        "divergence",
        "transport",
        "max_weight",
        "ess",
        "active",
    }
    assert risk.terms["divergence"].item() == pytest.approx(0.1, rel=1e-3)


@EVERY
@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_raises_the_multiplier_as_two_do(name, rows):
    """A batch of one, and a class of one sample, have no range of values to measure λ by."""
    _, _, make = FAMILIES[name]
    risk, seen = make(radius=0.1), []
    u = torch.linspace(1.0, 1.5, rows, dtype=F64)
    weight = torch.tensor([1.0, *[0.0] * 2, *[1.0] * (rows - 1)], dtype=F64)
    u = torch.cat([u[:1], torch.tensor([5.0, -3.0], dtype=F64), u[1:]])
    for _ in range(3):
        value(risk, u, cost=torch.full_like(u, 10.0), weight=weight)
        seen.append(risk.multiplier.item())
    assert seen == pytest.approx([2.0, 4.0, 8.0])
