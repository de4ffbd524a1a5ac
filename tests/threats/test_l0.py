"""Few locations: what counts as one, the nearest point, the start and the step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring import threats
from sparring.attacks import FGSM
from sparring.batch import Batch
from sparring.evaluation.judge import feasible
from sparring.functional.geometry import project_l0, sample_l0, topk_mask
from sparring.threats import L0
from tests.oracles import Linear
from tests.reference import sparse


def batch_of(*shape: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    x = (1.4 * torch.rand(*shape, generator=draw, dtype=torch.float64) - 0.2).clamp(0, 1)
    return Batch(x, torch.zeros(len(x), dtype=torch.long))


def by_location(z: torch.Tensor) -> list[list[float]]:
    """One sample as a list of locations, each a list of channels."""
    return (z.flatten(1).T if z.ndim == 3 else z.reshape(-1, 1)).tolist()


@given(
    st.sampled_from([(6,), (2, 3), (1, 2, 3), (3, 2, 2)]),
    st.integers(0, 7),
    st.integers(0, 99),
    st.sampled_from([0.2, 1.5]),
)
def test_the_projection_is_the_nearest_point_of_all(shape, eps, seed, scale):
    batch = batch_of(2, *shape, seed=seed)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    z = batch.x + scale * noise.double()
    threat = L0(eps)
    result = threat.project(z, batch)
    assert (threat.distance(result, batch.x) <= eps).all()
    assert result.ge(0).all()
    assert result.le(1).all()
    for i in range(2):
        best = sparse.nearest(by_location(z[i]), by_location(batch.x[i]), eps)
        assert (result[i] - z[i]).square().sum().item() == pytest.approx(best, abs=1e-12)


def test_inside_the_box_the_largest_changes_stay():
    x = torch.full((1, 4), 0.5)
    z = x + torch.tensor([[0.1, -0.3, 0.2, 0.05]])
    assert torch.equal(L0(2).project(z, Batch(x, torch.tensor([0]))) != x, (z - x).abs() > 0.15)


def test_a_radius_for_each_sample():
    batch = batch_of(3, 5)
    z = (batch.x - 0.5).abs()
    result = project_l0(z, batch.x, torch.tensor([0.0, 2.0, 9.0]), 0.0, 1.0)
    assert (result != batch.x).sum(1).tolist() == [0, 2, int((z[2] != batch.x[2]).sum())]
    assert topk_mask(torch.rand(2, 3), torch.tensor([1, 3])).sum(1).tolist() == [1, 3]


def test_a_pixel_counts_once_and_what_is_no_image_by_coordinate():
    image, threat = torch.zeros(1, 3, 2, 2), L0(1)
    other = image.clone()
    other[0, :, 1, 0] = torch.tensor([0.5, 0.2, 0.0])
    assert threat.distance(other, image).tolist() == [1.0]
    assert threat.distance(other[:, :, :, 0], image[:, :, :, 0]).tolist() == [2.0]
    assert threat.distance(other.flatten(1), image.flatten(1)).tolist() == [2.0]


@pytest.mark.parametrize("eps", [0, 3, 40])
def test_the_start_fills_eps_random_locations_evenly(eps):
    batch = batch_of(400, 2, 4, 5)
    start = L0(eps).random_start(batch, torch.Generator().manual_seed(1))
    changed = (start != batch.x).any(1).flatten(1)
    assert (changed.sum(1) == min(eps, 20)).all()
    if eps == 3:
        assert changed.double().mean(0).sub(3 / 20).abs().max() < 0.08
        values = start[(start != batch.x)]
        assert values.mean().item() == pytest.approx(0.5, abs=0.03)
        assert values.std().item() == pytest.approx(12**-0.5, abs=0.02)


def test_the_other_starts():
    batch = batch_of(5, 9)
    assert torch.equal(L0(3, init="zero").random_start(batch), batch.x)
    noisy = L0(3, init="noise", noise=0.1).random_start(batch, torch.Generator().manual_seed(0))
    assert (L0(3).distance(noisy, batch.x) <= 3).all()
    assert not torch.equal(noisy, batch.x)
    far = sample_l0(batch.x, 3, -2.0, 5.0, torch.Generator().manual_seed(0))
    assert far.amin() < 0
    assert far.amax() > 1


def test_a_step_takes_the_locations_of_largest_gain_to_the_edge():
    x = torch.tensor([[0.9, 0.5, 0.1, 1.0]])
    g, batch = torch.tensor([[4.0, -1.0, 2.0, 9.0]]), Batch(x, torch.tensor([0]))
    for size, moved in ((0.3, [0, 0, 1, 0]), (2, [0, 1, 1, 0]), (7, [1, 1, 1, 0])):
        edge = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
        expected = torch.where(torch.tensor([moved]).bool(), edge, x)
        assert torch.equal(L0(3).step(x, g, size, batch), expected)


def test_one_step_is_the_best_on_a_linear_model():
    draw = torch.Generator().manual_seed(3)
    w, x = torch.randn(12, generator=draw), torch.rand(5, 12, generator=draw)
    y = torch.zeros(5, dtype=torch.long)
    result = FGSM(L0(4))(Linear(w), x, y)
    gain = torch.where(w > 0, 1 - x, x) * w.abs()
    assert torch.allclose((result - x) @ w, gain.topk(4).values.sum(1), atol=1e-6)
    assert feasible(L0(4), result, x, y).all()
    assert not feasible(L0(3), result, x, y).any()


def test_named_and_refusals():
    assert isinstance(threats.norm_ball("L0", eps=5), L0)
    for eps in (0.5, float("inf")):
        with pytest.raises(ValueError, match=r"eps = .* must be a whole number of locations"):
            L0(eps)
    with pytest.raises(ValueError, match="eps = -1 is not allowed"):
        L0(-1)
