"""Noise, loss sensitivity, CLEVER, Lipschitz and flatness against what can be worked out."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import weibull_max
from torch import nn

from sparring.attacks import PGD
from sparring.metrics import (
    CLEVER,
    ENI,
    Entropy,
    Lipschitz,
    LossSensitivity,
    MaxSoftmax,
    as_shape,
    profile,
)
from sparring.metrics.clever import location
from sparring.threats import Linf
from tests.oracles import DUAL, Linear, problem
from tests.reference import metrics as literal

W = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)


def test_eni_is_the_literal_mean():
    model, x, y = problem(b=9)
    found = ENI(eps=0.05, draws=4, seed=2)(model, x, y)
    noise = torch.rand((4, *x.shape), generator=torch.Generator().manual_seed(2))
    copies = (x + ((2 * noise - 1).to(x) * 0.05)).clamp(0, 1)
    with torch.no_grad():
        expected = [literal.eni(model, x[i], int(y[i]), list(copies[:, i])) for i in range(9)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_eni_of_a_loss_that_is_linear_is_its_slope():
    """Logits (0, s) with s far above 0 and y = 0: the loss is s, whose slope in one input is w."""
    model = Linear(torch.tensor([3.0], dtype=torch.float64), 40.0)
    x = torch.full((5, 1), 0.5, dtype=torch.float64)
    y = torch.zeros(5, dtype=torch.long)
    assert torch.allclose(ENI()(model, x, y), torch.full((5,), 3.0, dtype=torch.float64))


def test_eni_of_copies_made_by_an_attack():
    """FGSM moves all coordinates by eps down the score s: the loss log(1 + e^−s) is known there."""
    model, eps = Linear(W, 1.0), 0.05
    x = torch.full((3, 6), 0.5, dtype=torch.float64)
    attack = PGD(Linf(eps), steps=1, size=eps, random_start=False)
    s = 1 + (x[0] @ W).item()
    rise = math.log1p(math.exp(eps * W.abs().sum().item() - s)) - math.log1p(math.exp(-s))
    found = ENI(attack=attack, draws=2)(model, x, torch.ones(3, dtype=torch.long))
    assert found.tolist() == pytest.approx([rise / eps] * 3, rel=1e-9)
    wrong = ENI(attack=attack, draws=2)(model, x, torch.zeros(3, dtype=torch.long))
    assert wrong.isnan().all()  # wrong already: the attack stays, and no copy differs


def test_loss_sensitivity_of_a_linear_model():
    """∇ cross-entropy = ±p(other)·w for logits (0, s)."""
    model = Linear(W, -0.7)
    x = torch.rand(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1] * 4)
    with torch.no_grad():
        p = model(x).softmax(1)
    exact = (1 - p.gather(1, y[:, None])[:, 0]) * W.norm()
    assert torch.allclose(LossSensitivity()(model, x, y), exact, rtol=1e-9)


@pytest.mark.parametrize(("name", "p"), [("L2", 2.0), ("Linf", math.inf), ("L1", 1.0)])
def test_clever_of_a_linear_model_is_the_exact_distance(name, p):
    x = 0.5 + 0.05 * torch.rand(6, 6, dtype=torch.float64, generator=torch.manual_seed(0))
    model = Linear(W, -(x @ W).max().item() - 0.05)
    with torch.no_grad():
        lead = (model(x)[:, 0] - model(x)[:, 1]).abs()
    exact = lead / torch.linalg.vector_norm(W, ord=DUAL[p])
    score = CLEVER(norm=name, radius=1.0, batches=5, samples=5)(model, x)
    assert torch.allclose(score, exact, rtol=1e-6)
    assert CLEVER(norm=name, radius=1e-3, batches=5, samples=5)(model, x).eq(1e-3).all()


class Bowl(nn.Module):
    """Logits (0, ‖x − centre‖² − 1) in the plane: the gradient's norm is 2‖x − centre‖."""

    def forward(self, x):
        s = (x - 0.5).square().sum(1) - 1
        return torch.stack([0 * s, s], 1)


def test_clever_of_a_bowl_finds_its_steepest_place():
    """In a ball of radius r around the centre the slope is at most 2r, so the score is 1/(2r)."""
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    score = CLEVER(radius=0.4, batches=100, samples=200)(Bowl(), x)
    assert score.item() == pytest.approx(min(1 / 0.8, 0.4))
    score = CLEVER(radius=2.0, batches=100, samples=200, low=-9.0, high=9.0)(Bowl(), x)
    assert score.item() == pytest.approx(1 / 4, rel=0.02)


def test_the_location_of_a_weibull_law_is_found_again():
    """Maxima below 3: the fit must come nearer to it than the greatest of them is."""
    drawn = weibull_max.rvs(
        3.0, loc=3.0, scale=0.5, size=400, random_state=np.random.default_rng(0)
    )
    found = location(torch.tensor(drawn))
    assert drawn.max() <= found
    assert abs(found - 3.0) < 3.0 - drawn.max()


def test_lipschitz_of_a_linear_map_is_its_induced_norm():
    """max ‖Wδ‖₁ / ‖δ‖_∞ is reached at a corner: all 2^d are tried."""
    draw = torch.Generator().manual_seed(1)
    model = nn.Linear(5, 3).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 5, generator=draw))
    x = 0.4 + 0.2 * torch.rand(6, 5, dtype=torch.float64, generator=draw)
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=5)), dtype=torch.float64)
    exact = (corners @ model.weight.T).abs().sum(1).max().item()
    found = Lipschitz(eps=0.1, restarts=5)(model, x)
    assert (found <= exact * (1 + 1e-9)).all()
    assert found.tolist() == pytest.approx([exact] * 6, rel=1e-6)


def test_lipschitz_of_the_softmax_is_below_that_of_the_logits():
    model, x, _ = problem(b=6)
    assert (Lipschitz(of="softmax")(model, x) < Lipschitz()(model, x)).all()
    assert (Lipschitz(norm="L2", eps=0.1)(model, x) > 0).all()


def test_flatness_and_its_profile():
    model, x, _ = problem(b=15)
    with torch.no_grad():
        p = model(x).softmax(1)
    assert Entropy()(model, x).tolist() == pytest.approx([literal.entropy(r) for r in p.tolist()])
    assert torch.equal(MaxSoftmax()(model, x), p.amax(1))
    found = profile(model, x)
    assert torch.allclose(found.mean, p.mean(0))
    assert torch.allclose(found.std, p.std(0, correction=0))
    assert found.mean.sum().item() == pytest.approx(1)


def test_images_take_the_shape_of_others():
    x = torch.rand(2, 3, 8, 8)
    grey = as_shape(x, (1, 8, 8))
    assert torch.allclose(grey[:, 0], x.mean(1))
    assert torch.equal(as_shape(grey, (3, 8, 8)), grey.expand(-1, 3, -1, -1))
    flat = torch.full((1, 1, 5, 5), 0.3)
    assert torch.allclose(as_shape(flat, (1, 9, 4)), torch.full((1, 1, 9, 4), 0.3))
    assert as_shape(x, (3, 8, 8)) is x
    levels = torch.full((1, 3, 6, 6), 200.0)  # of a box [0, 255]
    assert torch.allclose(as_shape(levels, (1, 9, 4)), torch.full((1, 1, 9, 4), 200.0))
    assert as_shape(-flat, (1, 9, 4)).min() == pytest.approx(-0.3)
    with pytest.raises(ValueError, match="off = "):
        as_shape(torch.rand(2, 7), (1, 8, 8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ENI(eps=0),
        lambda: ENI(draws=0),
        lambda: CLEVER(norm="L0"),
        lambda: CLEVER(radius=0),
        lambda: CLEVER(batches=2),
        lambda: CLEVER(samples=0),
        lambda: CLEVER(rivals=0),
        lambda: Lipschitz(norm="L0"),
        lambda: Lipschitz(of="features"),
    ],
    ids=["eps", "draws", "norm", "radius", "batches", "samples", "rivals", "norm", "of"],
)
def test_values_that_are_refused(make, request):
    key = request.node.callspec.id.rstrip("0123456789")
    with pytest.raises(ValueError, match=f"{key} = .* is not allowed"):
        make()
