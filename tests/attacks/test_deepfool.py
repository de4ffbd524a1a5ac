"""DeepFool against a literal loop and against problems with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import DeepFool
from sparring.threats import L1, L2, Linf, Threat
from tests.oracles import DUAL, Linear, problem
from tests.reference import deepfool as literal

EVERY_NORM = pytest.mark.parametrize("p", [math.inf, 2], ids=str)


def ball(p: float, eps: float = 0.1) -> Threat:
    return Linf(eps) if p == math.inf else L2(eps)


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


class TestLiteralLoop:
    @EVERY_NORM
    @pytest.mark.parametrize("k", [2, 3, 5])
    @pytest.mark.parametrize(("steps", "classes"), [(1, 10), (12, 10), (12, 2), (12, 3)])
    def test_points(self, p, k, steps, classes):
        model, x, y = problem(b=10, k=k)
        attack = DeepFool(ball(p), steps=steps, classes=classes)
        point, far = attack.distances(model, x, y)
        for i in range(len(x)):
            expected, success = literal.deepfool(
                model,
                x[i].tolist(),
                y[i].item(),
                p=p,
                steps=steps,
                overshoot=0.02,
                classes=classes,
            )
            assert point[i].tolist() == pytest.approx(expected, rel=0, abs=1e-8)
            assert bool(far[i] < torch.inf) == success

    @EVERY_NORM
    def test_a_call_returns_the_point_within_eps_else_x(self, p):
        model, x, y = problem(b=30)
        point, far = DeepFool(ball(p)).distances(model, x, y)
        eps = far[far > 0].median().item()
        x_adv = DeepFool(ball(p, eps))(model, x, y)
        near = far <= eps
        assert near.any()
        assert (~near).any()
        assert torch.equal(x_adv[near], point[near])
        assert torch.equal(x_adv[~near], x[~near])
        assert wrong(model, x_adv, y)[near].all()
        assert (ball(p).distance(x_adv, x) <= eps).all()


class TestLinearModel:
    """One step is enough, and ends at (1 + overshoot)·|margin| / ‖w‖ in the dual norm."""

    w = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)

    def problem(self) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(0)
        x = 0.5 + 0.05 * torch.rand(20, 6, generator=draw, dtype=torch.float64)
        model = Linear(self.w, -(x @ self.w).max().item() - 0.01)
        with torch.no_grad():
            out = model(x)
        return model, x, torch.zeros(20, dtype=torch.long), out[:, 0] - out[:, 1]

    @EVERY_NORM
    @pytest.mark.parametrize("overshoot", [1e-6, 0.02, 0.5])
    def test_distances_are_exact(self, p, overshoot):
        model, x, y, gap = self.problem()
        exact = (1 + overshoot) * gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        _, far = DeepFool(ball(p), steps=1, overshoot=overshoot).distances(model, x, y)
        assert torch.allclose(far, exact, rtol=1e-9)

    @EVERY_NORM
    def test_it_breaks_exactly_what_is_near_enough(self, p):
        model, x, y, gap = self.problem()
        exact = gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        order = exact.sort().values
        eps = (order[9] + order[10]).item() / 2
        x_adv = DeepFool(ball(p, eps), overshoot=1e-6)(model, x, y)
        assert torch.equal(wrong(model, x_adv, y), exact < eps)

    @EVERY_NORM
    def test_the_box_is_kept_and_passed_around(self, p):
        """The steepest coordinate meets the edge of the box: the others carry on."""
        model = Linear(torch.tensor([2.0, 1.0], dtype=torch.float64), -2.6)
        x = torch.tensor([[0.95, 0.2], [0.99, 0.3]], dtype=torch.float64)
        y = torch.zeros(2, dtype=torch.long)
        point, far = DeepFool(ball(p)).distances(model, x, y)
        assert (far < torch.inf).all()
        assert (point <= 1).all()
        assert wrong(model, point, y).all()


class Broken(nn.Module):
    """Logits whose gradient is not a number at a first coordinate of 0."""

    def forward(self, x: Tensor) -> Tensor:
        s = x[:, 0].sqrt() + x[:, 1]
        return torch.stack([s, 1.2 - s], 1)


def test_a_gradient_that_is_no_number_stays_in_its_row():
    x = torch.tensor([[0.0, 0.7], [0.25, 0.5], [0.3, 0.4]], dtype=torch.float64)
    y = torch.zeros(3, dtype=torch.long)
    point, far = DeepFool(L2(0.1)).distances(Broken(), x, y)
    alone, apart = DeepFool(L2(0.1)).distances(Broken(), x[1:], y[1:])
    assert torch.equal(point[1:], alone)
    assert torch.equal(far[1:], apart)
    assert not point.isnan().any()
    assert wrong(Broken(), point, y)[1:].all()


def test_wrong_inputs_are_at_distance_0():
    model, x, y = problem(b=12)
    y[1] = -1  # no label: wrong whatever the model says
    point, far = DeepFool(Linf(0.1)).distances(model, x, y)
    missed = wrong(model, x, y)
    missed[1] = True
    assert missed.any()
    assert torch.equal(far == 0, missed)
    assert torch.equal(point[missed], x[missed])


def test_images():
    x = torch.rand(4, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model, _, _ = problem()
    whole = nn.Sequential(nn.Flatten(), model)
    with torch.no_grad():
        y = whole(x).argmax(1)
    point, far = DeepFool(L2(1.0)).distances(whole, x, y)
    flat, same = DeepFool(L2(1.0)).distances(model, x.flatten(1), y)
    assert torch.equal(point.flatten(1), flat)
    assert torch.equal(far, same)


def test_lower_precision_believes_nothing_unseen_in_float32():
    model, x, y = problem(b=20, dtype=torch.float32)
    attack = DeepFool(Linf(0.1), precision="bfloat16", overshoot=0.0)
    point, far = attack.distances(model, x, y)
    assert torch.equal(wrong(model, point, y), far < torch.inf)


def test_an_empty_batch_has_no_distances():
    model, x, y = problem()
    point, far = DeepFool(Linf(0.1)).distances(model, x[:0], y[:0])
    assert point.shape == (0, 6)
    assert far.shape == (0,)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"overshoot": -0.1}, {"classes": 1}], ids=str)
def test_values_that_are_refused(bad):
    (key,) = bad
    with pytest.raises(ValueError, match=f"{key} = .* is not allowed"):
        DeepFool(L2(0.1), **bad)


def test_other_norms_are_refused():
    with pytest.raises(ValueError, match="a ball of L2 or Linf for DeepFool"):
        DeepFool(L1(0.1))
