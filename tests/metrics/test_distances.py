"""DeepFool's distances and ρ_adv against planes, whose distance is known."""

import math

import pytest
import torch
from torch import nn

from sparring.metrics import Distance, RhoAdv
from sparring.models import Normalize
from tests.oracles import DUAL, Linear, problem

W = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)


def plane():
    """A linear model, samples in the middle of the box, and how far each is by its margin."""
    draw = torch.Generator().manual_seed(0)
    x = 0.5 + 0.05 * torch.rand(20, 6, generator=draw, dtype=torch.float64)
    model = Linear(W, -(x @ W).max().item() - 0.01)
    with torch.no_grad():
        out = model(x)
    return model, x, torch.zeros(20, dtype=torch.long), out[:, 0] - out[:, 1]


@pytest.mark.parametrize(("name", "p"), [("L2", 2.0), ("Linf", math.inf)])
def test_a_plane_is_at_its_margin_over_the_dual_norm(name, p):
    model, x, y, lead = plane()
    far = Distance(norm=name, overshoot=1e-6)(model, x, y)
    exact = lead / torch.linalg.vector_norm(W, ord=DUAL[p])
    assert torch.allclose(far, exact, rtol=1e-5)


def test_bisection_comes_back_to_the_boundary_and_stays_wrong():
    """With an overshoot of a half the walk ends 1.5 times too far; bisection takes that back."""
    model, x, y, lead = plane()
    exact = lead / W.norm()
    assert torch.allclose(Distance(overshoot=0.5, halvings=0)(model, x, y), 1.5 * exact)
    far = Distance(overshoot=0.5, halvings=12)(model, x, y)
    assert (far >= exact).all()
    assert (far <= exact * (1 + 1.5 / 2**12)).all()
    curved, x, y = problem(b=30)
    long, short = (Distance(halvings=h)(curved, x, y) for h in (0, 10))
    kept = ~long.isnan()
    assert torch.equal(kept, ~short.isnan())
    assert (short[kept] <= long[kept]).all()


def test_a_wrong_sample_is_at_0_and_one_that_nothing_reaches_has_no_distance():
    model, x, y, _ = plane()
    assert Distance()(model, x, 1 - y).eq(0).all()
    away = Linear(W)  # class 0 everywhere in the box
    assert Distance()(away, x, y).isnan().all()


def test_rho_is_the_plane_s_distance_over_the_norm_of_the_input():
    model, x, _, lead = plane()
    rho = RhoAdv(overshoot=1e-6)(model, x)
    assert torch.allclose(rho, lead / W.norm() / x.norm(dim=1), rtol=1e-5)


def test_rho_looks_at_predictions_and_not_at_labels():
    model, x, y = problem(b=20)
    assert torch.equal(RhoAdv()(model, x, y), RhoAdv()(model, x))
    assert (RhoAdv()(model, x) > 0).all()


def test_rho_behind_the_normalisation():
    """Logits (0, w·u + b) of u = (x − mean)/std: the plane is |w·u + b|/‖w‖ away from u, without a
    box."""
    w, mean, std = torch.tensor([3.0, 0.5]), [0.2, 0.6], [0.1, 0.5]
    model = nn.Sequential(Normalize(mean, std), Linear(w, -9.0))
    x = torch.tensor([[0.3, 0.1], [0.05, 0.9]])
    u = (x - torch.tensor(mean)) / torch.tensor(std)
    exact = (u @ w - 9).abs() / w.norm() / u.norm(dim=1)
    rho = RhoAdv(space="standardised", overshoot=1e-6)(model, x)
    assert torch.allclose(rho, exact, rtol=1e-4)


def test_failures_count_with_their_way_or_not_at_all():
    """One linearised step does not always reach the boundary."""
    model, x, _ = problem(b=40)
    kept = RhoAdv(steps=1)(model, x)
    dropped = RhoAdv(steps=1, failures=False)(model, x)
    lost = dropped.isnan()
    assert 0 < lost.sum() < 40
    assert torch.equal(kept[~lost], dropped[~lost])
    assert (kept[lost] > 0).all()


def test_an_input_of_zeros_has_no_ratio():
    model, x, _ = problem(b=4)
    x[1] = 0
    assert RhoAdv()(model, x).isnan().tolist() == [False, True, False, False]


def test_standardised_needs_a_normalisation_to_look_behind():
    model, x, _ = problem()
    with pytest.raises(ValueError, match="space = 'standardised' needs a model with its normal"):
        RhoAdv(space="standardised")(model, x)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Distance(norm="L1"), "norm"),
        (lambda: RhoAdv(space="pixels"), "space"),
        (lambda: Distance(steps=0), "steps"),
        (lambda: RhoAdv(steps=0), "steps"),
        (lambda: Distance(low=1.0, high=0.0), "low"),
    ],
    ids=["norm", "space", "steps", "rho", "low"],
)
def test_values_that_are_refused(make, key):
    with pytest.raises(ValueError, match=f"{key} = .* is not allowed"):
        make()
