"""EBD, EBD2 and thickness against loops and against planes."""

import math

import pytest
import torch

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.functional.losses import cross_entropy
from sparring.metrics import EBD, EBD2, Thickness
from sparring.metrics.boundary import frames
from sparring.threats import L2
from tests.oracles import Linear, problem
from tests.reference import metrics as literal


@pytest.mark.parametrize("m", [3, 6, 9])
def test_frames_are_orthonormal_but_for_their_scale(m):
    way = frames(torch.zeros(4, 2, 3), m, torch.Generator().manual_seed(0)).flatten(2)
    assert way.shape == (4, min(m, 6), 6)
    assert torch.allclose(way @ way.mT, 6 * torch.eye(min(m, 6)).expand(4, -1, -1), atol=1e-5)
    assert torch.allclose(way.square().mean(2), torch.ones(4, min(m, 6)), atol=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_frames_look_at_every_side(m):
    """Each direction is uniform: LAPACK's signs keep some coordinates on one side."""
    way = frames(torch.zeros(4000, 3), m, torch.Generator().manual_seed(0))
    assert (way.mean(0).abs() < 4 / 4000**0.5).all()  # coordinates have an RMS of 1
    assert ((way > 0).double().mean(0) - 0.5).abs().max() < 4 * 0.5 / 4000**0.5
    line = frames(torch.zeros(50, 1), m, torch.Generator().manual_seed(0))
    assert set(line.flatten().tolist()) == {-1.0, 1.0}


def test_ebd_is_the_literal_scan():
    model, x, y = problem(b=12)
    metric = EBD(directions=4, step=0.02, most=0.4, seed=3)
    found = metric(model, x, y)
    ways = frames(x, 4, torch.Generator().manual_seed(3))
    expected = [literal.ebd(model, x[i], int(y[i]), ways[i], 0.02, 0.4) for i in range(12)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert {0.0, 0.4} < set(found.tolist())


def test_ebd_of_a_plane_is_the_best_direction_s_crossing():
    w = torch.tensor([1.0, 2.0, -0.5, 1.5], dtype=torch.float64)
    x = torch.full((30, 4), 0.5, dtype=torch.float64)
    model = Linear(w, -(x[0] @ w).item() - 0.2)  # 0.2 / (way·w) along a way
    metric = EBD(directions=4, step=1e-3, most=0.2)
    ways = frames(x, 4, torch.Generator().manual_seed(0))
    steep = (ways @ w).amax(1).clamp_min(1e-9)
    best = (0.2 / steep).clamp_max(0.2)
    found = metric(model, x, torch.zeros(30, dtype=torch.long))
    assert ((found - best) >= -1e-9).all()
    assert ((found - best) <= 1e-3 + 1e-9).all()
    assert (found >= 0.2 / (2 * w.norm()) - 1e-9).all()  # the true distance, as an RMS


def test_ebd2_is_the_literal_walk():
    model, x, y = problem(b=12)
    found = EBD2(size=0.01, cap=15)(model, x, y)
    expected = [literal.ebd2(model, x[i], int(y[i]), 0.01, 15) for i in range(12)]
    assert found.tolist() == pytest.approx(expected, nan_ok=True)
    assert found.isnan().any()
    assert found.eq(0).any()


def test_ebd2_of_a_plane_is_its_linf_distance_in_steps():
    w = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    x = torch.full((1, 3), 0.5, dtype=torch.float64)
    model = Linear(w, -(x[0] @ w).item() - 0.2)
    steps = EBD2(size=1e-3)(model, x, torch.zeros(1, dtype=torch.long))
    assert steps.item() == math.ceil(0.2 / 3.5 / 1e-3)


def test_thickness_of_a_sigmoid_is_known():
    """p_0 − p_1 = tanh(−s/2) for logits (0, s): between 0 and 0.75 for s in (−2·artanh 0.75, 0)."""
    w = torch.tensor([12.0, 5.0], dtype=torch.float64)
    x = torch.tensor([[0.3, 0.4], [0.2, 0.6], [0.35, 0.35]], dtype=torch.float64)
    model = Linear(w, -8.5)
    metric = Thickness(points=20001, eps=0.3, steps=6, size=0.1)
    found = metric(model, x)
    exact = 2 * math.atanh(0.75) / w.norm().item()  # the way there is along w
    assert found.tolist() == pytest.approx([exact] * 3, rel=1e-3)


def test_thickness_is_the_literal_count():
    model, x, _ = problem(b=10)
    metric = Thickness(points=33, eps=0.6, size=0.1, steps=7, seed=5)
    i = model(x).argmax(1)
    j = (i + torch.randint(1, 4, (10,), generator=torch.Generator().manual_seed(5))) % 4

    def nearer(z):
        out = model(z)
        return -cross_entropy(out, j)

    attack = PGD(L2(0.6), steps=7, size=0.1, random_start=False, best=False)
    end = attack.maximize(nearer, Batch(x, j))
    with torch.no_grad():
        expected = [
            literal.thickness(model, x[n], end[n], int(i[n]), int(j[n]), 33, 0.0, 0.75)
            for n in range(10)
        ]
    assert metric(model, x).tolist() == pytest.approx(expected, rel=1e-9)
    assert max(expected) > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: EBD(directions=0),
        lambda: EBD(step=0),
        lambda: EBD(most=0.001),
        lambda: EBD2(size=0),
        lambda: EBD2(cap=0),
        lambda: Thickness(alpha=0.8),
        lambda: Thickness(points=1),
    ],
    ids=["directions", "step", "most", "size", "cap", "alpha", "points"],
)
def test_values_that_are_refused(make, request):
    key = request.node.callspec.id
    with pytest.raises(ValueError, match=f"{key} = .* is not allowed"):
        make()
