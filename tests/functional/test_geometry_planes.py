"""The nearest linearised boundary, against one class at a time, and the way to it."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.functional.geometry import nearest_hyperplane, step_to_hyperplane
from tests.oracles import Net
from tests.reference import fab as literal

DUAL = {math.inf: 1, 2: 2, 1: math.inf}
EVERY_NORM = pytest.mark.parametrize("p", [math.inf, 2, 1], ids=str)


def leads_at(z: torch.Tensor, k: int = 4) -> torch.Tensor:
    """Logits 1 … k − 1 less logit 0 of a small net."""
    out = Net(z[0].numel(), k).to(z.dtype)(z.flatten(1))
    return out[:, 1:] - out[:, :1]


@EVERY_NORM
@pytest.mark.parametrize("shape", [(5, 6), (5, 1, 2, 3)], ids=str)
def test_it_is_the_nearest_of_all(p, shape):
    z = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z.requires_grad_()
    lead, slope, far = nearest_hyperplane(leads_at(z), z, p)
    assert slope.shape == z.shape
    assert not any(v.requires_grad for v in (lead, slope, far))
    for i in range(len(z)):
        point = z[i : i + 1].detach().requires_grad_()
        result = []
        for value in leads_at(point)[0]:
            (grad,) = torch.autograd.grad(value, point, retain_graph=True)
            size = torch.linalg.vector_norm(grad.flatten(), ord=DUAL[p])
            result.append((value.abs().item() / size.item(), value.item(), grad[0]))
        expected = min(result, key=lambda f: f[0])
        assert far[i].item() == pytest.approx(expected[0], rel=1e-12)
        assert lead[i].item() == pytest.approx(expected[1], rel=1e-12)
        assert torch.allclose(slope[i], expected[2], rtol=1e-12)


def test_it_works_where_gradients_are_off():
    z = torch.rand(3, 6).requires_grad_()
    leads = leads_at(z)
    with torch.no_grad():
        inside = nearest_hyperplane(leads, z, 2)
    outside = nearest_hyperplane(leads_at(z), z, 2)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_what_has_no_gradient_is_out_of_reach():
    z = torch.rand(2, 3).requires_grad_()
    lead, slope, far = nearest_hyperplane(torch.stack([0 * z.sum(1) + 1, 0 * z.sum(1)], 1), z, 2)
    assert torch.equal(far, torch.full((2,), torch.inf))
    assert torch.equal(lead, torch.zeros(2))
    assert torch.equal(slope, torch.zeros(2, 3))


def test_not_a_number_stays_in_its_row_and_class():
    z = torch.tensor([[0.0, 0.5], [0.5, 0.5]], requires_grad=True)
    leads = torch.stack([z[:, 0].sqrt() - 0.8, z[:, 1] - 1], 1)  # d√0 = inf
    lead, slope, far = nearest_hyperplane(leads, z, math.inf)
    assert slope[0].tolist() == [0, 1]
    assert far[0].item() == 0.5
    assert far.isfinite().all()
    assert lead[1].item() == pytest.approx(0.5**0.5 - 0.8)


def test_leads_that_do_not_depend_on_the_point_are_refused():
    z = torch.rand(2, 3)
    with pytest.raises(ValueError, match="has no gradient with respect to its input"):
        nearest_hyperplane(torch.ones(2, 1), z, 2)


def planes(p: float, *, b: int = 40, d: int = 7, seed: int = 0):
    """Points, some on the box's edge, normals with zeros, and gaps from 0 to out of reach."""
    draw = torch.Generator().manual_seed(seed)
    x = (1.6 * torch.rand(2, b, d, generator=draw, dtype=torch.float64) - 0.3).clamp(0, 1)
    w = torch.randn(b, d, generator=draw, dtype=torch.float64)
    w[torch.rand(b, d, generator=draw) < 0.2] = 0
    gap = torch.randn(2, b, generator=draw, dtype=torch.float64) * torch.logspace(-2, 1, b)
    gap[:, 0] = 0
    return x, w, gap


class TestWayToThePlane:
    @EVERY_NORM
    def test_against_bisection(self, p):
        x, w, gap = planes(p)
        result = step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        for m in range(2):
            for i in range(len(w)):
                one = literal.way(x[m, i].tolist(), w[i].tolist(), gap[m, i].item(), p)
                assert result[m, i].tolist() == pytest.approx(one, rel=1e-10, abs=1e-12)

    @EVERY_NORM
    def test_it_ends_on_the_plane_in_the_box_or_in_a_corner(self, p):
        x, w, gap = planes(p, seed=1)
        way = step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        end = x + way
        assert (end >= -1e-12).all()
        assert (end <= 1 + 1e-12).all()
        room = torch.where(w * gap[..., None] > 0, x, 1 - x)
        reach = (w.abs() * room).sum(-1) >= gap.abs()
        assert reach.any()
        assert (~reach).any()
        missed = (gap + (w * way).sum(-1)).abs()
        assert (missed[reach] < 1e-12).all()
        corner = torch.where(w == 0, 0.0, room)
        assert torch.allclose(way.abs()[~reach], corner[~reach], rtol=0, atol=1e-12)

    @EVERY_NORM
    def test_no_point_of_the_plane_is_nearer(self, p):
        """In two dimensions, all of {plane} ∩ box can be tried."""
        x, w, gap = planes(p, d=2, seed=2)
        x, gap = x[0], gap[0]
        way = step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        along = torch.linspace(0, 1, 4001, dtype=x.dtype)
        for i in range(len(w)):
            first, second = w[i].tolist()
            if second == 0 or abs(gap[i] + (w[i] * way[i]).sum()) > 1e-12:
                continue
            other = (-(gap[i] - (w[i] * x[i]).sum()) - first * along) / second
            line = torch.stack([along, other], 1)[(other >= 0) & (other <= 1)]
            if len(line) == 0:
                continue
            least = torch.linalg.vector_norm(line - x[i], ord=p, dim=1).min().item()
            mine = torch.linalg.vector_norm(way[i], ord=p).item()
            assert mine <= least + 1e-12

    @EVERY_NORM
    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_the_scale_of_the_normal_does_not_matter(self, p, scale):
        x, w, gap = (t.float() for t in planes(p))
        usual = step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        assert torch.allclose(
            step_to_hyperplane(x, scale * w, scale * gap, p, 0.0, 1.0), usual, atol=1e-4
        )

    @EVERY_NORM
    def test_without_a_normal_it_stays(self, p):
        x, w, gap = planes(p)
        assert torch.equal(step_to_hyperplane(x, 0 * w, gap, p, 0.0, 1.0), 0 * x)
        one = step_to_hyperplane(x[0], w, gap[0], p, 0.0, 1.0)
        assert torch.equal(one, step_to_hyperplane(x, w, gap, p, 0.0, 1.0)[0])

    @EVERY_NORM
    def test_other_bounds(self, p):
        x, w, gap = planes(p)
        usual = step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        wide = step_to_hyperplane(4 * x - 1, w, 4 * gap, p, -1.0, 3.0)
        assert torch.allclose(wide, 4 * usual, rtol=1e-9, atol=1e-11)
