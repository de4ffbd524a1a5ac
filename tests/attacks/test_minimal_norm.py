"""CW and EAD against literal loops and linear models, whose nearest wrong point is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import CW, EAD
from sparring.attacks.ead import shrink
from sparring.threats import L1, L2, Linf, Threat
from tests.oracles import DUAL, Linear, problem
from tests.reference import closest as literal

BALLS: dict[float, type] = {math.inf: Linf, 2: L2, 1: L1}
EVERY_NORM = pytest.mark.parametrize("p", list(BALLS), ids=str)


def attack(p: float, eps: float = 0.1, **more) -> CW | EAD:
    """The attack of this norm."""
    ball: Threat = BALLS[p](eps)
    return EAD(ball, **more) if p == 1 else CW(ball, **more)


class TestLiteralLoop:
    @pytest.mark.parametrize("p", [math.inf, 2], ids=str)
    def test_cw(self, p):
        model, x, y = problem(b=10, k=3)
        how = {"steps": 25, "search_steps": 4, "size": 0.05, "c": 0.1}
        point, far = CW(BALLS[p](0.1), abort=False, **how).distances(model, x, y)
        successes = 0
        for i in range(len(x)):
            if far[i] == 0:
                continue
            best, there = literal.cw(model, x[i].tolist(), y[i].item(), p=p, **how)
            assert far[i].item() == pytest.approx(best, rel=1e-7)
            assert point[i].tolist() == pytest.approx(there, abs=1e-8)
            successes += best < math.inf
        assert successes >= 3

    def test_cw_with_a_confidence(self):
        model, x, y = problem(b=4, k=3)
        how = {"steps": 25, "search_steps": 3, "size": 0.1, "c": 1.0, "confidence": 0.5}
        point, far = CW(L2(0.1), abort=False, **how).distances(model, x, y)
        assert far[1].item() == pytest.approx(
            literal.cw(model, x[1].tolist(), y[1].item(), p=2, **how)[0], rel=1e-7
        )
        with torch.no_grad():
            out = model(point)
        right = out.gather(1, y[:, None])[:, 0]
        margins = out.scatter(1, y[:, None], -torch.inf).amax(1) - right
        adversarial = (far > 0) & far.isfinite()
        assert adversarial.any()
        assert (margins[adversarial] >= 0.5).all()

    def test_ead(self):
        model, x, y = problem(b=10, k=3)
        how = {"steps": 30, "search_steps": 4, "size": 0.05, "beta": 0.01, "c": 0.1}
        point, far = EAD(L1(0.1), abort=False, **how).distances(model, x, y)
        successes = 0
        for i in range(len(x)):
            if far[i] == 0:
                continue
            best, there = literal.ead(model, x[i].tolist(), y[i].item(), **how)
            assert far[i].item() == pytest.approx(best, rel=1e-7)
            assert point[i].tolist() == pytest.approx(there, abs=1e-8)
            successes += best < math.inf
        assert successes >= 3


class TestLinearModel:
    """The nearest wrong point is at |margin| / ‖w‖ in the dual norm."""

    w = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)

    def problem(self) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(0)
        x = 0.5 + 0.05 * torch.rand(16, 6, generator=draw, dtype=torch.float64)
        model = Linear(self.w, -(x @ self.w).max().item() - 0.1)
        with torch.no_grad():
            gap = model(x)
        return model, x, torch.zeros(16, dtype=torch.long), gap[:, 0] - gap[:, 1]

    @EVERY_NORM
    def test_distances(self, p):
        model, x, y, gap = self.problem()
        exact = gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        # a penalty on L1 shrinks small coordinates only: the more of it, the nearer to one spike
        more = {math.inf: {}, 2: {}, 1: {"beta": 0.03, "size": 0.02}}[p]
        _, far = attack(p, steps=200, search_steps=9, **more).distances(model, x, y)
        assert (far >= exact * (1 - 1e-9)).all()
        assert (far <= exact * {math.inf: 1.12, 2: 1.02, 1: 1.05}[p]).all()

    @EVERY_NORM
    def test_a_call_stays_inside_and_breaks_what_is_well_within(self, p):
        model, x, y, gap = self.problem()
        exact = gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        eps = exact.median().item()
        more = {"beta": 0.03} if p == 1 else {}
        x_adv = attack(p, eps, steps=200, search_steps=9, **more)(model, x, y)
        with torch.no_grad():
            wrong = model(x_adv).argmax(1) != y
        far = BALLS[p](eps).distance(x_adv, x)
        assert (far <= eps * (1 + 1e-9)).all()
        assert wrong[exact < 0.85 * eps].all()
        assert not wrong[exact > eps].any()
        assert wrong.any()


class TestRules:
    @EVERY_NORM
    def test_a_sample_wrong_at_x_is_at_distance_0(self, p):
        model, x, y = problem()
        with torch.no_grad():
            wrong = model(x).argmax(1) != y
        point, far = attack(p, steps=3).distances(model, x, y)
        assert wrong.any()
        assert (far[wrong] == 0).all()
        assert torch.equal(point[wrong], x[wrong])
        assert (far[~wrong] > 0).all()

    @EVERY_NORM
    def test_abort_saves_passes_once_nothing_falls(self, p):
        model, x, y = problem(b=6)
        calls = []
        model.register_forward_hook(lambda *_: calls.append(1))
        how = {"steps": 60, "search_steps": 1, "size": 1e-9}  # it hardly moves
        attack(p, abort=True, **how).distances(model, x, y)
        short = len(calls)
        calls.clear()
        attack(p, abort=False, **how).distances(model, x, y)
        assert short < len(calls) / 2

    @EVERY_NORM
    def test_a_closer_look_breaks_no_fewer(self, p):
        model, x, y = problem(b=20)
        with torch.no_grad():
            y = model(x).argmax(1)
        broken = []
        for rounds in (1, 6):
            x_adv = attack(p, 0.3, steps=40, search_steps=rounds, c=0.001)(model, x, y)
            with torch.no_grad():
                broken.append(int((model(x_adv).argmax(1) != y).sum()))
        assert broken[1] > broken[0]

    def test_shrink_is_the_proximal_step(self):
        """Against the minimum of ½(u − z)² + β|u − x| over a fine grid of the box."""
        draw = torch.Generator().manual_seed(0)
        z = 2 * torch.rand(40, generator=draw, dtype=torch.float64) - 0.5
        x = torch.rand(40, generator=draw, dtype=torch.float64)
        grid = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
        cost = (grid - z).square() / 2 + 0.1 * (grid - x).abs()
        assert torch.allclose(shrink(z, x, 0.1, 0.0, 1.0), grid[cost.argmin(0), 0], atol=1e-4)

    @pytest.mark.parametrize(
        ("more", "key"),
        [
            ({"steps": 0}, "steps"),
            ({"search_steps": 0}, "search_steps"),
            ({"size": 0.0}, "size"),
            ({"c": 0.0}, "c"),
            ({"confidence": -1.0}, "confidence"),
            ({"precision": "int8"}, "precision"),
        ],
    )
    @EVERY_NORM
    def test_what_cannot_be(self, p, more, key):
        with pytest.raises(ValueError, match=key):
            attack(p, **more)

    def test_norms_they_do_not_know(self):
        with pytest.raises(ValueError, match="L1 for EAD"):
            EAD(L2(1.0))
        with pytest.raises(ValueError, match="Linf or L2 for CW"):
            CW(L1(1.0))
        with pytest.raises(ValueError, match="beta"):
            EAD(L1(1.0), beta=-0.1)
