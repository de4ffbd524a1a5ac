"""The battery of every risk."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.batch import Batch
from tests.contract.pieces import every, make

U = torch.tensor([0.3, 2.0, 1.1, 0.0, 0.7], dtype=torch.float64)


def rho(
    name: str, u: Tensor, *, y: Tensor | None = None, weight: Tensor | None = None, **more
) -> Tensor:
    b, cost = len(u), more.pop("cost", None)
    y = torch.arange(b) % 2 if y is None else y
    batch = Batch(torch.zeros(b, 1, dtype=u.dtype), y, weight=weight)
    return make("risk", name, **more)(u, torch.zeros_like(u) if cost is None else cost, batch)


@every("risk")
def test_a_scalar_between_mean_and_max(name):
    value = rho(name, U)
    assert value.shape == ()
    assert value.dtype == U.dtype
    assert U.mean() - 1e-12 <= value <= U.max() + 1e-12
    assert torch.isclose(rho(name, U[:1]), U[0])


@every("risk")
def test_monotone(name):
    for i in range(len(U)):
        higher = U.clone()
        higher[i] += 0.5
        assert rho(name, higher) >= rho(name, U) - 1e-12
    u = U.clone().requires_grad_()
    (grad,) = torch.autograd.grad(rho(name, u), u)
    assert (grad >= 0).all()
    assert torch.isclose(grad.sum(), torch.tensor(1.0, dtype=U.dtype))


@every("risk")
def test_translation_equivariant_and_permutation_invariant(name):
    assert torch.isclose(rho(name, U + 3), rho(name, U) + 3)
    assert torch.isclose(rho(name, U.flip(0)), rho(name, U))


@every("risk")
def test_the_base_measure_is_respected(name):
    weight = torch.tensor([1.0, 2.0, 0.0, 3.0, 1.0], dtype=U.dtype)
    repeated = U.repeat_interleave(weight.long())
    labels = (torch.arange(len(U)) % 2).repeat_interleave(weight.long())
    assert torch.isclose(rho(name, U, weight=weight), rho(name, repeated, y=labels))
    assert torch.isclose(rho(name, U, weight=7 * weight), rho(name, repeated, y=labels))


@every("risk")
def test_cost_lowers_it_by_the_multiplier(name):
    """Its slope in the costs is −λ times its slope in the losses."""
    risk, batch = make("risk", name), Batch(torch.zeros(5, 1, dtype=U.dtype), torch.arange(5) % 2)
    u, cost = U.clone().requires_grad_(), torch.full_like(U, 0.02).requires_grad_()
    value = risk(u, cost, batch)
    w, slope = torch.autograd.grad(value, (u, cost))
    assert torch.allclose(slope, -float(torch.as_tensor(risk.multiplier)) * w)
    assert value < rho(name, U)


@every("risk")
def test_state_and_configuration_make_a_round_trip(name):
    risk = make("risk", name)
    again = type(risk)(**risk.config())
    again.load_state_dict(risk.state_dict())
    batch = Batch(torch.zeros(5, 1, dtype=U.dtype), torch.zeros(5, dtype=torch.long))
    assert torch.equal(again(U, 0 * U, batch), risk(U, 0 * U, batch))
