"""The battery of every threat."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparring.batch import Batch
from sparring.threats import Linf, Threat
from tests.contract.pieces import every, make, takes

SHAPES = [(5,), (2, 3, 4)]
DTYPES = [torch.float32, torch.float64]


def batch_of(
    threat: Threat,
    shape: tuple[int, ...] = (5,),
    *,
    b: int = 6,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Inputs all over the box, some on its edge; bits for a binary threat."""
    draw = torch.Generator().manual_seed(3)
    x = (1.6 * torch.rand(b, *shape, generator=draw, dtype=dtype) - 0.3).clamp(0, 1)
    if threat.binary:
        x = torch.where(x > 0.5, threat.high, threat.low).to(dtype)
    return Batch(x, torch.arange(b) % 3)


def noise(like: Tensor, seed: int = 4) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=draw, dtype=like.dtype)


def far(threat: Threat, batch: Batch, scale: float = 0.5) -> Tensor:
    """Points all around the packed inputs, most of them outside any ball and box."""
    z = threat.pack(batch)
    return z + scale * noise(z)


def start(threat: Threat, batch: Batch, seed: int = 0) -> Tensor:
    return threat.random_start(batch, torch.Generator().manual_seed(seed))


def assert_feasible(threat: Threat, z: Tensor, batch: Batch) -> None:
    x_adv, y_adv = threat.unpack(z, batch)
    assert x_adv.shape == batch.x.shape
    assert x_adv.isfinite().all()
    assert (x_adv >= threat.low).all()
    assert (x_adv <= threat.high).all()
    eps = math.inf if threat.eps is None else threat.eps
    assert (threat.distance(x_adv, batch.x) <= eps * (1 + 1e-5)).all()
    if not threat.labels:
        assert torch.equal(y_adv, batch.y)
        return
    assert (y_adv >= -1e-6).all()
    assert torch.allclose(y_adv.sum(1), torch.ones_like(y_adv[:, 0]))
    assert torch.equal(y_adv.argmax(1), batch.y)  # the label keeps most of the mass


def linear_gain(threat: Threat, batch: Batch) -> Callable[[Tensor], Tensor]:
    """A gain `(b,)` that is linear in the unpacked point, and in the label if it is soft."""
    a = noise(batch.x, 5)

    def f(z: Tensor) -> Tensor:
        x_adv, y_adv = threat.unpack(z, batch)
        value = (a * x_adv).flatten(1).sum(1)
        return value + (y_adv * noise(y_adv, 6)).sum(1) if threat.labels else value

    return f


def gradient(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    value = f(z)
    if not value.requires_grad:  # a cost of 0
        return torch.zeros_like(z)
    return torch.autograd.grad(value.sum(), z)[0]


@every("threat")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
class TestPoints:
    def test_start_project_and_discretize_are_feasible(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        for z in (
            threat.pack(batch),
            start(threat, batch),
            threat.project(far(threat, batch), batch),
            threat.discretize(threat.project(far(threat, batch), batch), batch),
        ):
            assert z.dtype == dtype
            assert_feasible(threat, z, batch)

    def test_project_is_idempotent_and_the_identity_inside(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        for z in (
            threat.pack(batch),
            start(threat, batch),
            threat.project(far(threat, batch), batch),
        ):
            assert torch.allclose(threat.project(z, batch), z, rtol=0, atol=1e-6)

    def test_cost_is_not_negative_and_zero_at_rest(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        assert threat.cost(threat.pack(batch), batch).eq(0).all()
        cost = threat.cost(start(threat, batch), batch)
        assert cost.shape == (len(batch),)
        assert (cost >= 0).all()

    def test_step_climbs_a_linear_gain(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        f, z = linear_gain(threat, batch), threat.project(far(threat, batch, 0.01), batch)
        g = gradient(f, z)
        moved = threat.step(z, g, 0.1, batch)
        assert moved.dtype == dtype
        up = torch.zeros(len(batch), dtype=torch.bool)
        for t in (1e-3, 1.0):  # a sample that may not move has no way up
            up |= f(threat.project(z + t * g, batch)) > f(z) + 1e-6
        assert up.sum() >= len(batch) / 2
        assert ((f(moved) > f(z)) | ~up).all()

    def test_a_zero_gradient_moves_nothing(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        z = start(threat, batch)
        assert torch.equal(threat.step(z, torch.zeros_like(z), 0.1, batch), z)

    def test_rows_are_independent(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        z, g = far(threat, batch), noise(threat.pack(batch), 7)
        whole = threat.project(threat.step(z, g, 0.1, batch), batch)
        for i in range(len(batch)):
            one = Batch(batch.x[i : i + 1], batch.y[i : i + 1])
            row = threat.project(threat.step(z[i : i + 1], g[i : i + 1], 0.1, one), one)
            assert torch.allclose(row[0], whole[i], rtol=0, atol=1e-6)

    def test_discretize_ends_at_a_point_that_project_and_discretize_keep(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        end = threat.discretize(threat.project(far(threat, batch, 1.0), batch), batch)
        x_adv, _ = threat.unpack(end, batch)
        if threat.binary:
            assert ((x_adv == threat.low) | (x_adv == threat.high)).all()
        again = threat.discretize(threat.project(end, batch), batch)
        assert torch.allclose(again, end, rtol=0, atol=1e-6)

    def test_the_gradient_of_the_cost_is_finite_everywhere(self, name, shape, dtype):
        threat = make("threat", name)
        batch = batch_of(threat, shape, dtype=dtype)
        for z in (
            threat.pack(batch),
            start(threat, batch),
            threat.project(far(threat, batch), batch),
        ):
            assert gradient(lambda z: threat.cost(z, batch), z).isfinite().all()

    @pytest.mark.parametrize("b", [0, 1])
    def test_batches_of_zero_and_one(self, name, shape, dtype, b):
        threat = make("threat", name)
        batch = batch_of(threat, shape, b=b, dtype=dtype)
        z = threat.project(threat.step(start(threat, batch), far(threat, batch), 0.1, batch), batch)
        assert_feasible(threat, threat.discretize(z, batch), batch)
        assert threat.cost(z, batch).shape == (b,)


@every("threat")
def test_the_same_generator_gives_the_same_start_and_the_global_one_stays(name):
    threat = make("threat", name)
    batch = batch_of(threat)
    before = torch.get_rng_state()
    assert torch.equal(start(threat, batch, 1), start(threat, batch, 1))
    assert not torch.equal(start(threat, batch, 1), start(threat, batch, 2))
    assert torch.equal(torch.get_rng_state(), before)


@every("threat")
def test_inputs_are_not_written_to(name):
    threat = make("threat", name)
    batch = batch_of(threat)
    z, g = far(threat, batch), noise(threat.pack(batch), 7)
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
    threat = boxed(name, -1.0, 2.0)
    batch = batch_of(threat)
    assert (threat.low, threat.high) == (-1.0, 2.0)
    for z in (start(threat, batch), threat.project(far(threat, batch, 3.0), batch)):
        assert_feasible(threat, z, batch)
    with pytest.raises(ValueError, match=r"low = 1\.0 is not allowed"):
        boxed(name, 1.0, 1.0)


def boxed(name: str, low: float, high: float) -> Threat:
    """The threat in another box, or around one that is."""
    if takes("threat", name, "low"):
        return make("threat", name, low=low, high=high)
    return make("threat", name, of=Linf(0.3, low=low, high=high))
