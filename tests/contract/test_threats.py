"""The battery of every threat."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparring.batch import Batch
from sparring.threats import Threat

from .pieces import every, make

SHAPES = [(5,), (2, 3, 4)]
DTYPES = [torch.float32, torch.float64]


def batch_of(
    shape: tuple[int, ...] = (5,), *, b: int = 6, dtype: torch.dtype = torch.float32
) -> Batch:
    """Inputs all over the box, some on its edge."""
    draw = torch.Generator().manual_seed(3)
    x = (1.6 * torch.rand(b, *shape, generator=draw, dtype=dtype) - 0.3).clamp(0, 1)
    return Batch(x, torch.arange(b) % 3)


def far(batch: Batch, scale: float = 0.5) -> Tensor:
    """Points all around x, most of them outside of any ball and box."""
    draw = torch.Generator().manual_seed(4)
    return batch.x + scale * torch.randn(batch.x.shape, generator=draw, dtype=batch.x.dtype)


def start(threat: Threat, batch: Batch, seed: int = 0) -> Tensor:
    return threat.start(batch, torch.Generator().manual_seed(seed))


def assert_feasible(threat: Threat, z: Tensor, batch: Batch) -> None:
    x_adv, _ = threat.read(z, batch)
    assert x_adv.shape == batch.x.shape
    assert x_adv.isfinite().all()
    assert (x_adv >= threat.low).all()
    assert (x_adv <= threat.high).all()
    assert (threat.distance(x_adv, batch.x) <= getattr(threat, "eps", math.inf) * (1 + 1e-5)).all()


@every("threat")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
class TestPoints:
    def test_start_project_and_snap_are_feasible(self, name, shape, dtype):
        threat, batch = make("threat", name), batch_of(shape, dtype=dtype)
        for z in (
            threat.point(batch),
            start(threat, batch),
            threat.project(far(batch), batch),
            threat.snap(threat.project(far(batch), batch), batch),
        ):
            assert z.dtype == dtype
            assert_feasible(threat, z, batch)

    def test_project_is_idempotent_and_the_identity_inside(self, name, shape, dtype):
        threat, batch = make("threat", name), batch_of(shape, dtype=dtype)
        for z in (threat.point(batch), start(threat, batch), threat.project(far(batch), batch)):
            assert torch.allclose(threat.project(z, batch), z, rtol=0, atol=1e-6)

    def test_cost_is_not_negative_and_zero_at_rest(self, name, shape, dtype):
        threat, batch = make("threat", name), batch_of(shape, dtype=dtype)
        assert threat.cost(threat.point(batch), batch).eq(0).all()
        cost = threat.cost(start(threat, batch), batch)
        assert cost.shape == (len(batch),)
        assert (cost >= 0).all()

    def test_step_climbs_a_linear_gain(self, name, shape, dtype):
        threat, batch = make("threat", name), batch_of(shape, dtype=dtype)
        g, z = far(batch) - batch.x, threat.project(far(batch, 0.01), batch)
        moved = threat.step(z, g, 0.1, batch)
        assert moved.dtype == dtype
        assert (((moved - z) * g).flatten(1).sum(1) > 0).all()

    def test_a_zero_gradient_moves_nothing(self, name, shape, dtype):
        threat, batch = make("threat", name), batch_of(shape, dtype=dtype)
        z = start(threat, batch)
        assert torch.equal(threat.step(z, torch.zeros_like(z), 0.1, batch), z)

    def test_rows_are_independent(self, name, shape, dtype):
        threat, batch = make("threat", name), batch_of(shape, dtype=dtype)
        z, g = far(batch), far(batch) - batch.x
        whole = threat.project(threat.step(z, g, 0.1, batch), batch)
        for i in range(len(batch)):
            one = Batch(batch.x[i : i + 1], batch.y[i : i + 1])
            row = threat.project(threat.step(z[i : i + 1], g[i : i + 1], 0.1, one), one)
            assert torch.allclose(row[0], whole[i], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("b", [0, 1])
    def test_batches_of_zero_and_one(self, name, shape, dtype, b):
        threat, batch = make("threat", name), batch_of(shape, b=b, dtype=dtype)
        z = threat.project(threat.step(start(threat, batch), far(batch), 0.1, batch), batch)
        assert_feasible(threat, threat.snap(z, batch), batch)
        assert threat.cost(z, batch).shape == (b,)


@every("threat")
def test_the_same_generator_gives_the_same_start_and_the_global_one_stays(name):
    threat, batch = make("threat", name), batch_of()
    before = torch.get_rng_state()
    assert torch.equal(start(threat, batch, 1), start(threat, batch, 1))
    assert not torch.equal(start(threat, batch, 1), start(threat, batch, 2))
    assert torch.equal(torch.get_rng_state(), before)


@every("threat")
def test_inputs_are_not_written_to(name):
    threat, batch = make("threat", name), batch_of()
    z, g = far(batch), far(batch) - batch.x
    kept = [t.clone() for t in (batch.x, z, g)]
    threat.project(threat.step(z, g, 0.1, batch), batch)
    start(threat, batch)
    assert all(torch.equal(a, b) for a, b in zip(kept, (batch.x, z, g), strict=True))


@every("threat")
def test_the_constructor_is_the_configuration(name):
    threat = make("threat", name)
    again = type(threat)(**threat.config())
    assert again.config() == threat.config()
    again.load_state_dict(threat.state_dict())


@every("threat")
def test_another_box(name):
    threat, batch = make("threat", name, low=-1.0, high=2.0), batch_of()
    for z in (start(threat, batch), threat.project(far(batch, 3.0), batch)):
        assert_feasible(threat, z, batch)
    with pytest.raises(ValueError, match=r"low = 1\.0 is not allowed"):
        make("threat", name, low=1.0, high=1.0)
