"""FAB against a literal loop, problems with a known answer, and the rule that nothing outside of
the ball counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import FAB
from sparring.attacks.base import ActiveSet
from sparring.threats import L1, L2, Box, Linf, Threat
from tests.oracles import DUAL, Linear, Net, problem
from tests.reference import fab as literal

BALLS: dict[float, type] = {math.inf: Linf, 2: L2, 1: L1}
EVERY_NORM = pytest.mark.parametrize("p", list(BALLS), ids=str)


def ball(p: float, eps: float = 0.1) -> Threat:
    return BALLS[p](eps)


class TestLiteralLoop:
    @EVERY_NORM
    @pytest.mark.parametrize("targets", [0, 1, 3])
    @pytest.mark.parametrize("final", [0, 3])
    def test_distances(self, p, targets, final):
        model, x, y = problem(b=8, k=4)
        attack = FAB(ball(p), steps=12, targets=targets, final=final)
        point, far = attack.distances(model, x, y)
        with torch.no_grad():
            wrong = model(point).argmax(1) != y
        for i in range(len(x)):
            expected = literal.fab_over_targets(
                model, x[i], y[i].item(), targets=targets, p=p, steps=12, final=final
            )
            assert far[i].item() == pytest.approx(expected, rel=0, abs=1e-8)
            if expected < math.inf:
                assert wrong[i]
                there = literal.length((point[i] - x[i]).tolist(), p)
                assert there == pytest.approx(expected, rel=0, abs=1e-8)
            else:
                assert torch.equal(point[i], x[i])

    @pytest.mark.parametrize("k", [2, 3])
    def test_few_classes(self, k):
        """There are no more targets than wrong classes."""
        model, x, y = problem(b=6, k=k)
        _, far = FAB(Linf(0.1), steps=5, targets=9, final=0).distances(model, x, y)
        for i in range(len(x)):
            expected = literal.fab_over_targets(
                model, x[i], y[i].item(), targets=k - 1, p=math.inf, steps=5, final=0
            )
            assert far[i].item() == pytest.approx(expected, rel=0, abs=1e-8)


class TestLinearModel:
    """The nearest wrong point is at |margin| / ‖w‖ in the dual norm."""

    w = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)

    def problem(self) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        """Points around the middle of the box, at known margins below 0."""
        draw = torch.Generator().manual_seed(0)
        x = 0.5 + 0.05 * torch.rand(20, 6, generator=draw, dtype=torch.float64)
        model = Linear(self.w, -(x @ self.w).max().item() - 0.01)
        with torch.no_grad():
            gap = model(x)
        return model, x, torch.zeros(20, dtype=torch.long), gap[:, 0] - gap[:, 1]

    @EVERY_NORM
    def test_distances_are_exact(self, p):
        model, x, y, gap = self.problem()
        exact = gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        _, far = FAB(ball(p), steps=20).distances(model, x, y)
        assert (far >= exact * (1 - 1e-9)).all()
        assert (far <= exact * 1.006).all()

    @EVERY_NORM
    def test_it_breaks_exactly_what_is_near_enough(self, p):
        model, x, y, gap = self.problem()
        exact = (gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])).sort().values
        eps = (exact[9] + exact[10]).item() / 2
        x_adv = FAB(ball(p, eps), steps=20)(model, x, y)
        with torch.no_grad():
            wrong = model(x_adv).argmax(1) != y
        assert int(wrong.sum()) == 10
        assert torch.equal(x_adv[~wrong], x[~wrong]) or (ball(p).distance(x_adv, x) <= eps).all()

    @pytest.mark.parametrize("p", [math.inf, 2], ids=str)
    def test_where_the_box_binds(self, p):
        """Against all wrong points of a fine grid."""
        w = torch.tensor([2.0, 1.0], dtype=torch.float64)
        model = Linear(w, -2.6)
        x = torch.tensor([[0.95, 0.2], [0.99, 0.3], [0.5, 0.5], [0.9, 0.6]], dtype=torch.float64)
        y = torch.zeros(4, dtype=torch.long)
        _, far = FAB(ball(p), steps=30).distances(model, x, y)
        side = torch.linspace(0, 1, 1001, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        with torch.no_grad():
            grid = grid[model(grid).argmax(1) != 0]
        exact = torch.stack(
            [torch.linalg.vector_norm(grid - point, ord=p, dim=1).min() for point in x]
        )
        assert torch.allclose(far, exact, rtol=0.01, atol=2e-3)
        free = (2.6 - x @ w) / torch.linalg.vector_norm(w, ord=DUAL[p])
        assert (far[:2] > 1.1 * free[:2]).all()  # the box did bind


class Broken(nn.Module):
    """A net whose gradient is not a number at inputs whose first coordinate is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(6, 4, scale=2.0).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 1e-3 * x[:, :1].sqrt()


class TestRules:
    @EVERY_NORM
    @pytest.mark.parametrize("targets", [0, 9])
    def test_nothing_outside_of_the_ball_is_recorded(self, p, targets, monkeypatch):
        recorded, eps = [], {math.inf: 0.05, 2: 0.1, 1: 0.2}[p]
        threat = ball(p, eps)
        record = ActiveSet.record

        def spy(active, z, logits, value=None):
            hit = active.is_adversarial(logits, active.y)
            outside = threat.distance(z, active.x) > eps
            recorded.append((outside.sum().item(), (outside & hit).sum().item()))
            if value is not None:
                assert (value[outside] == -torch.inf).all()
            return record(active, z, logits, value)

        monkeypatch.setattr(ActiveSet, "record", spy)
        model, x, y = problem(b=20)
        x_adv = FAB(threat, steps=10, targets=targets)(model, x, y)
        assert sum(n for n, _ in recorded) > 0, "the search never left the ball"
        assert all(is_adversarial == 0 for _, is_adversarial in recorded)
        assert (threat.distance(x_adv, x) <= eps).all()

    @EVERY_NORM
    def test_a_call_breaks_what_is_known_to_be_near(self, p):
        model, x, y = problem(b=30)
        _, far = FAB(ball(p), steps=15).distances(model, x, y)
        eps = far[far > 0].median().item()
        x_adv = FAB(ball(p, eps), steps=15)(model, x, y)
        with torch.no_grad():
            wrong = model(x_adv).argmax(1) != y
        assert wrong[far <= eps].all()
        assert not wrong.all()

    def test_a_gradient_that_is_no_number_stays_in_its_row(self):
        model = Broken()
        _, x, y = problem(b=8)
        with torch.no_grad():
            y = model(x).argmax(1)
        x[:, 0] = x[:, 0].clamp_min(0.1)
        _, alone = FAB(Linf(0.1), steps=8).distances(model, x[1:], y[1:])
        x[0, 0] = 0
        point, far = FAB(Linf(0.1), steps=8).distances(model, x, y)
        assert torch.allclose(far[1:], alone, rtol=1e-9)
        assert not point.isnan().any()
        assert not FAB(Linf(0.1), steps=8)(model, x, y).isnan().any()

    @EVERY_NORM
    def test_restarts_begin_at_half_of_eps(self, p):
        model, x, y = problem(b=5)
        x = 0.4 + 0.2 * x
        with torch.no_grad():
            y = model(x).argmax(1)
        seen = []
        model.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
        threat = ball(p, 1e-3)
        FAB(threat, steps=1, targets=1, restarts=2, final=0)(model, x, y)
        far = [threat.distance(z, x) for z in seen if len(z) == len(x)]
        starts = [v for v in far if torch.allclose(v, torch.full_like(v, 5e-4), rtol=1e-6)]
        assert len(starts) == 2  # once to see what is wrong, once for its gradient

    def test_restarts_find_nearer_points_or_the_same(self):
        model, x, y = problem(b=12)
        one = FAB(Linf(0.2), steps=5, final=0).distances(model, x, y)[1]
        many = FAB(Linf(0.2), steps=5, final=0, restarts=4).distances(model, x, y)[1]
        assert (many <= one).all()
        assert (many < one).any()

    def test_lower_precision_believes_nothing_unseen_in_float32(self):
        model, x, y = problem(b=20, dtype=torch.float32)
        attack = FAB(Linf(0.1), steps=6, precision="bfloat16")
        point, far = attack.distances(model, x, y)
        with torch.no_grad():
            wrong = model(point).argmax(1) != y
        assert torch.equal(wrong, far < torch.inf)
        assert wrong.any()

    def test_a_sample_without_a_label_is_wrong_already(self):
        model, x, y = problem()
        y[1] = -1
        point, far = FAB(Linf(0.1), steps=3).distances(model, x, y)
        assert far[1] == 0
        assert torch.equal(point[1], x[1])

    def test_an_empty_batch_has_no_distances(self):
        model, x, y = problem()
        point, far = FAB(Linf(0.1)).distances(model, x[:0], y[:0])
        assert point.shape == (0, 6)
        assert far.shape == (0,)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"steps": 0},
            {"restarts": 0},
            {"targets": -1},
            {"alpha_max": 1.5},
            {"eta": 0.9},
            {"beta": 1.0},
            {"final": -1},
            {"precision": "float8"},
        ],
        ids=str,
    )
    def test_values_that_are_refused(self, wrong):
        (key,) = wrong
        with pytest.raises(ValueError, match=f"{key} = .* is not allowed"):
            FAB(Linf(0.1), **wrong)

    def test_other_threats_are_refused(self):
        with pytest.raises(ValueError, match="a ball of Linf or L2 or L1 for FAB"):
            FAB(Box())
