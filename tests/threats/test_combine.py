"""Threats around a threat: who may move, and the label's maximum in closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparring.attacks import MIFGSM, PGD
from sparring.batch import Batch
from sparring.component import assign_at, value_at
from sparring.evaluation.judge import feasible
from sparring.functional.losses import cross_entropy
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import L2, Bits, Box, Joint, Linf, Only, SoftLinf, Threat, Transport
from sparring.threats.combine import MAX_SHARE, optimal_mass, project_simplex
from tests.oracles import problem
from tests.reference import threats as reference


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=draw(seed), dtype=torch.float64)


def batch_of(b: int = 6, *shape: int, k: int = 3) -> Batch:
    x = (1.4 * torch.rand(b, *(shape or (5,)), generator=draw(0), dtype=torch.float64) - 0.2).clamp(
        0, 1
    )
    return Batch(x, torch.arange(b) % k)


INNER = [Linf(0.2), L2(0.3), Box(), Transport(0.5), SoftLinf(0.1), Bits(2)]


@pytest.mark.parametrize("inner", INNER, ids=lambda t: type(t).__name__)
class TestOnly:
    def batch(self, inner: Threat) -> Batch:
        batch = batch_of(9)
        return Batch(batch.x.round() if inner.binary else batch.x, batch.y)

    def test_the_others_stay_at_x_in_every_verb(self, inner):
        threat, batch = Only(inner, classes=[0, 2]), self.batch(inner)
        still, z = batch.y == 1, batch.x + randn(9, 5)
        points = [
            threat.random_start(batch, draw(1)),
            threat.step(z, z - batch.x, 0.1, batch),
            threat.project(z, batch),
            threat.discretize(z, batch),
            threat.unpack(z, batch)[0],
        ]
        for point in points:
            assert torch.equal(point[still], batch.x[still])
            assert (point != batch.x)[~still].any()
        assert threat.cost(z, batch)[still].eq(0).all()

    def test_the_rest_moves_as_without(self, inner):
        threat, batch = Only(inner, classes=[0, 2]), self.batch(inner)
        mine, z = batch.y != 1, batch.x + randn(9, 5)
        for verb in ("project", "discretize", "cost"):
            one, other = (getattr(t, verb)(z, batch) for t in (threat, inner))
            assert torch.equal(one[mine], other[mine])
        one, other = (t.step(z, z, 0.1, batch) for t in (threat, inner))
        assert torch.equal(one[mine], other[mine])
        assert torch.equal(
            threat.random_start(batch, draw(2))[mine], inner.random_start(batch, draw(2))[mine]
        )

    def test_it_has_the_box_the_radius_and_the_state_of_the_other(self, inner):
        threat = Only(copy.deepcopy(inner), classes=[1])
        assert (threat.low, threat.high, threat.binary) == (0, 1, inner.binary)
        assert hasattr(threat, "eps") == hasattr(inner, "eps")
        if hasattr(inner, "eps"):
            assign_at(threat, "eps", 1)
            assert threat.of.eps == value_at(threat, "of.eps") == threat.eps == 1
            assert hasattr(INNER[INNER.index(inner)], "eps")
        assert len(threat.state_dict()) == len(inner.state_dict())
        assert threat.config() == {"of": threat.of, "classes": [1]}


def test_an_attack_leaves_the_others_and_a_judge_allows_no_more():
    model, x, y = problem()
    threat = Only(Linf(0.2), classes=[0, 3])
    result = PGD(threat, steps=5)(model, x, y)
    mine = (y == 0) | (y == 3)
    assert mine.any()
    assert (~mine).any()
    assert torch.equal(result[~mine], x[~mine])
    assert (result[mine] != x[mine]).any(1).all()
    assert feasible(threat, result, x, y).all()
    everyone = PGD(Linf(0.2), steps=5)(model, x, y)
    assert torch.equal(feasible(threat, everyone, x, y), mine | (everyone == x).all(1))


@pytest.mark.parametrize("attack", [PGD, MIFGSM])
def test_a_targeted_attack_refuses_it(attack):
    """Its y is the class to reach, which says nothing about whose samples may move."""
    model, x, y = problem()
    nested = Only(Only(Linf(0.2), classes=[0, 3]), classes=[0])
    for threat in (Only(Linf(0.2), classes=[0]), nested):
        with pytest.raises(ValueError, match=r"threat = .*Only.* where y is a target"):
            attack(threat, targeted=True)(model, x, y)
    attack(Linf(0.2), targeted=True)(model, x, y)


def test_a_batch_of_none_that_may_move_is_trained_on_as_it_is():
    model, x, y = problem()
    objective = Objective(PGD(Only(Transport(1.0), classes=[9]), steps=3), AT(), Mean())
    batch = objective.maximize(model, Batch(x, y))
    assert torch.equal(batch.x_adv, x)
    assert batch.cost.eq(0).all()
    expected = cross_entropy(model(x), y).mean()
    assert objective.minimize(model, batch).total.item() == pytest.approx(expected.item())


def test_only_refuses():
    for classes in ([], [-1], [1, -2]):
        with pytest.raises(ValueError, match=r"classes = .* must be one or more labels"):
            Only(Linf(0.1), classes=classes)
    with pytest.raises(ValueError, match=r"classes\.0 = True .* must be a valid integer"):
        Only(Linf(0.1), classes=[True, 2])


@given(gap=st.floats(-1, 8), multiplier=st.floats(1e-4, 5), delta=st.floats(0.05, 0.49))
def test_the_mass_beats_every_other(gap, multiplier, delta):
    mass = optimal_mass(
        torch.tensor([gap]).double(), torch.tensor([multiplier]).double(), delta
    ).item()
    assert 0 <= mass < delta

    def value(t: float) -> float:
        return gap * t - multiplier * t / (1 - t / delta)

    assert all(value(mass) >= value(delta * MAX_SHARE * i / 500) - 1e-9 for i in range(501))


def test_the_mass_at_its_limits():
    gap, multiplier = (
        torch.tensor([1.0, 0.0, -1.0, 2.0, torch.inf]),
        torch.tensor([0.0, 0, 0, 2, 1]),
    )
    mass = optimal_mass(gap, multiplier, 0.4).tolist()
    assert mass == pytest.approx([0.4 * MAX_SHARE, 0, 0, 0, 0.4 * MAX_SHARE])
    assert optimal_mass(torch.tensor([torch.nan]), torch.tensor([1.0]), 0.4).item() == 0


@given(st.integers(0, 999), st.integers(2, 6), st.floats(0.2, 1.0))
def test_the_simplex_projection_is_the_nearest_point(seed, k, total):
    q = 2 * randn(1, k, seed=seed)
    result = project_simplex(q, total)
    assert (result >= 0).all()
    assert result.sum().item() == pytest.approx(total)
    # the optimality condition: q − result is largest, and the same, wherever result > 0
    left = (q - result)[0]
    assert (left <= left[result[0] > 0].min() + 1e-9).all()


def label_batch(b: int = 6) -> Batch:
    return batch_of(b, 2, 2)


class Toy(torch.nn.Module):
    """Three logits of four inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x.flatten(1) @ randn(4, 3, seed=5)


@pytest.mark.parametrize("multiplier", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_label_step_is_the_best_of_a_grid(multiplier, scale):
    """x' stays, so that the labels are searched alone; λ is read from the gradient."""
    batch, delta = label_batch(), 0.4
    threat = Joint(Linf(0.0), scale=scale, delta=delta, classes=3)
    objective = Objective(PGD(threat, steps=2, size=0.1), AT(), Mean(multiplier=multiplier))
    result = objective.maximize(Toy(), batch)
    losses = -Toy()(batch.x).log_softmax(1)
    gain = cross_entropy(Toy()(batch.x), result.y_adv) - multiplier * result.cost
    assert torch.equal(result.x_adv, batch.x)
    for reached, row, y in zip(gain.tolist(), losses.tolist(), batch.y.tolist(), strict=True):
        best = reference.label_gain(row, y, multiplier=multiplier, scale=scale, delta=delta)
        assert reached >= best - 1e-9
        assert reached == pytest.approx(best, abs=2e-4)
    if multiplier * scale < 0.1:
        assert (result.y_adv.max(1).values < 1).any()


def test_the_label_is_the_closed_form_wherever_the_search_starts():
    batch, multiplier, delta, k = label_batch(), 0.3, 0.3, 3
    threat = Joint(Transport(0.5), scale=0.5, delta=delta, classes=k)
    rest = torch.cat([batch.x.flatten(1), randn(6, 3, seed=2)], 1)
    for z in (threat.pack(batch), threat.project(rest, batch)):
        z = z.detach().requires_grad_()
        x_adv, y_adv = threat.unpack(z, batch)
        value = cross_entropy(Toy()(x_adv), y_adv) - multiplier * threat.cost(z, batch)
        (grad,) = torch.autograd.grad(value.sum(), z)
        moved = threat.project(threat.step(z.detach(), grad, 0.0, batch), batch)
        ce = -Toy()(batch.x if z is None else x_adv.detach()).log_softmax(1)
        _, label = threat.unpack(moved, batch)
        for i, y in enumerate(batch.y.tolist()):
            top = int(ce[i].argmax())
            gap = (ce[i, top] - ce[i, y]).item()
            mass = delta * max(0.0, 1 - (0.5 * multiplier / gap) ** 0.5) if gap > 0 else 0.0
            expected = torch.zeros(k, dtype=torch.float64)
            expected[y] += 1 - mass
            expected[top] += mass
            assert torch.allclose(label[i], expected, atol=1e-9)


def test_the_sample_moves_as_its_own_threat_says_and_the_cost_is_the_sum():
    batch, inner = label_batch(), Transport(0.5)
    threat = Joint(inner, scale=0.7, delta=0.3, classes=3)
    z = threat.project(torch.cat([randn(6, 4), torch.rand(6, 3).double()], 1), batch)
    x_adv, y_adv = threat.unpack(z, batch)
    assert x_adv.shape == batch.x.shape
    of_y = y_adv.gather(1, batch.y[:, None])[:, 0]
    assert ((of_y > 1 - 0.3) & (of_y <= 1)).all()
    paid = 0.7 * (1 - of_y) / (1 - (1 - of_y) / 0.3)
    assert torch.allclose(threat.cost(z, batch), inner.cost(x_adv, batch) + paid)
    g = randn(*z.shape, seed=8)
    moved, _ = threat.unpack(threat.step(z, g, 0.1, batch), batch)
    to_x = g[:, :4].reshape(batch.x.shape)
    assert torch.equal(moved, inner.step(x_adv, to_x, 0.1, batch))


def test_the_projected_label_is_the_nearest_of_those_that_keep_the_majority():
    batch = label_batch(3)
    threat = Joint(Linf(0.1), scale=1.0, delta=0.4, classes=3)
    q = randn(3, 3, seed=1)
    result = threat.project(torch.cat([batch.x.flatten(1), q], 1), batch)[:, 4:]
    for seed in range(200):
        other = torch.rand(3, 3, generator=draw(seed), dtype=torch.float64)
        other = torch.cat([torch.zeros(3, 4), other / other.sum(1, keepdim=True)], 1)
        other = threat.project(other, batch)[:, 4:]
        far, near = ((p - q).square().sum(1) for p in (other, result))
        assert (near <= far + 1e-9).all()


def test_a_free_label_goes_as_far_as_it_may_and_pays_a_finite_cost():
    batch = label_batch()
    threat = Joint(Linf(0.0), scale=1.0, delta=0.4, classes=3)
    result = Objective(PGD(threat, steps=1, size=0.1), AT(), Mean(multiplier=0.0)).maximize(
        Toy(), batch
    )
    assert result.cost.isfinite().all()
    moved = 1 - result.y_adv.gather(1, batch.y[:, None])[:, 0]
    wrong = Toy()(batch.x).argmin(1) != batch.y
    assert torch.allclose(moved[wrong], torch.full_like(moved[wrong], 0.4 * MAX_SHARE))
    assert moved[~wrong].abs().max() < 1e-12 if (~wrong).any() else True


def test_a_sample_without_a_label_keeps_none():
    batch = label_batch()
    batch.y[2] = -1
    threat = Joint(Linf(0.1), scale=0.1, delta=0.4, classes=3)
    result = Objective(PGD(threat, steps=3), AT(), Mean()).maximize(Toy(), batch)
    assert result.y_adv[2].eq(0).all()
    assert result.cost[2] == 0
    assert (result.x_adv[2] - batch.x[2]).abs().max() <= 0.1 + 1e-9
    loss = AT().loss(Toy(), result).per_sample
    assert loss[2] == 0
    assert (loss[[0, 1]] > 0).all()


@pytest.mark.parametrize("outside", [Only, Joint])
def test_both_in_either_order(outside):
    batch = label_batch()
    label = {"scale": 0.01, "delta": 0.4, "classes": 3}
    if outside is Only:
        threat = Only(Joint(Linf(0.2), **label), classes=[1])
    else:
        threat = Joint(Only(Linf(0.2), classes=[1]), **label)
    result = Objective(PGD(threat, steps=3), AT(), Mean()).maximize(Toy(), batch)
    still = batch.y != 1
    assert threat.labels
    assert torch.equal(result.x_adv[still], batch.x[still])
    assert (result.x_adv != batch.x)[~still].any()
    stays = result.y_adv.max(1).values == 1
    assert stays[still].all() == (outside is Only)


def test_joint_refuses():
    good = {"scale": 1.0, "delta": 0.4, "classes": 3}
    for key, value in (
        ("scale", 0),
        ("delta", 0.5),
        ("delta", 0.0),
        ("delta", 0.7),
        ("classes", 1),
    ):
        with pytest.raises(ValueError, match=f"{key} = {value} is not allowed: {key} must be"):
            Joint(Linf(0.1), **{**good, key: value})
    with pytest.raises(ValueError, match="y has the label 2: Joint has classes = 2"):
        Joint(Linf(0.1), **{**good, "classes": 2}).pack(label_batch())
