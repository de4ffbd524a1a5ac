"""The battery of every attack: what it returns, and that it leaves everything else as it was."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import Attack
from sparring.batch import Batch
from sparring.config import registry
from sparring.functional.losses import cross_entropy, dlr, margin
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import L0, L1, L2, Bits, Box, Linf, Threat
from tests.contract.pieces import every, norms, takes
from tests.contract.pieces import quick as make
from tests.oracles import NormedNet, problem

THREATS = [Linf(0.1), L2(0.3), L1(0.8), L0(2), Box(), Linf(0.0), L0(0)]
THREATS += [Bits(), Bits(2), Bits(2, add_only=False, mutable=[1, 0, 1, 1, 0, 1]), Bits(0)]


def fitted(name: str, threat: Threat, **more) -> Attack:
    """The attack against this threat; skips what it refuses, with a message that says so, and what
    does not say that it ends at bits where it must."""
    if threat.binary and "bits" not in norms("attack", name):
        pytest.skip(f"{name} ends between bits")
    try:
        return make("attack", name, threat=threat, **more)
    except ValueError as error:
        if not re.search(r"threat = .* is not allowed: threat must be a ball of", str(error)):
            raise
        pytest.skip(str(error))


def suited(threat: Threat, x: Tensor) -> Tensor:
    """Inputs that the threat takes: bits where there is nothing between."""
    return torch.where(x > 0.5, threat.high, threat.low).to(x.dtype) if threat.binary else x


def callable_alone(attack: Attack) -> bool:
    """Whether it can be called without an objective; `Free` cannot."""
    return type(attack).__call__ is not Attack.__call__


def run(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Adversarial inputs, by a call or as a trainer gets them."""
    if callable_alone(attack):
        return attack(model, x, y)
    found = Objective(attack, AT(), Mean()).maximize(model, Batch(x, y)).x_adv
    assert found is not None
    return found.detach()


def losses(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What the attack climbs, the margin where it does not say."""
    value = {"ce": cross_entropy, "dlr": dlr}.get(getattr(attack, "loss", ""), margin)
    with torch.no_grad():
        return value(model(x), y)


@every("attack")
@pytest.mark.parametrize("threat", THREATS, ids=repr)
class TestResult:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_it_lies_in_the_set_and_keeps_the_dtype(self, name, threat: Threat, dtype):
        model, x, y = problem(dtype=dtype)
        x = suited(threat, x)
        x_adv = run(fitted(name, threat), model, x, y)
        assert x_adv.dtype == dtype
        assert x_adv.shape == x.shape
        assert not x_adv.requires_grad
        assert (x_adv >= 0).all()
        assert (x_adv <= 1).all()
        eps = float("inf") if threat.eps is None else threat.eps
        assert (threat.distance(x_adv, x) <= eps * (1 + 1e-5)).all()
        assert not threat.binary or torch.equal(threat.discretize(x_adv, Batch(x, y)), x_adv)

    def test_the_gain_is_not_below_the_start(self, name, threat: Threat):
        model, x, y = problem()
        attack, x = fitted(name, threat), suited(threat, x)
        if not takes("attack", name, "steps") and takes("attack", name, "draws"):
            pytest.skip("draws points, does not climb")
        begin = getattr(attack, "random_start", False)
        generator = torch.Generator().manual_seed(attack.seed)
        z0 = threat.random_start(Batch(x, y), generator) if begin else x
        found = run(attack, model, x, y)
        with torch.no_grad():  # what is wrong at the start, or at a later point, is over at once
            still = (model(z0).argmax(1) == y) & (model(found).argmax(1) == y)
        gains = losses(attack, model, found, y), losses(attack, model, z0, y)
        assert (gains[0][still] >= gains[1][still] - 1e-9).all()

    @pytest.mark.parametrize("b", [0, 1])
    def test_batches_of_zero_and_one(self, name, threat: Threat, b):
        model, x, y = problem()
        x = suited(threat, x)
        x_adv = run(fitted(name, threat), model, x[:b], y[:b])
        assert x_adv.shape == x[:b].shape


@every("attack")
def test_the_same_seed_gives_the_same_points(name):
    model, x, y = problem()
    attack = make("attack", name, seed=5)
    x = suited(attack.threat, x)
    first = run(attack, model, x, y)
    attack.reseed(5)
    assert torch.equal(run(attack, model, x, y), first)
    assert torch.equal(run(make("attack", name, seed=5), model, x, y), first)


@every("attack")
@pytest.mark.parametrize("count", ["steps", "draws", "restarts"])
def test_more_of_it_is_no_worse(name, count):
    if not takes("attack", name, count):
        pytest.skip(f"has no {count}")
    if count == "steps" and getattr(registry.pieces("attack")[name], "refines", False):
        pytest.skip("more steps are shorter ones to another end")
    model, x, y = problem(b=40)
    fixed = {"size": 0.02} if takes("attack", name, "size") else {}
    before, small = None, Linf(0.08) if math.inf in norms("attack", name) else None
    for n in (1, 2, 4, 8):
        attack = make("attack", name, threat=small, **{count: n}, **fixed)
        with torch.no_grad():
            z = suited(attack.threat, x)
            wrong = model(run(attack, model, z, y)).argmax(1) != y
        if before is not None:
            assert wrong[before].all()
        before = wrong


@every("attack")
@pytest.mark.parametrize("mode", ["eval", "train", "keep"])
def test_it_leaves_no_trace(name, mode):
    model = NormedNet()
    model[1].eval()  # a model whose modules do not all stand in the same mode
    model[0].bias.requires_grad_(False)
    for i, w in enumerate(model.parameters()):
        if w.requires_grad:
            w.grad = torch.full_like(w, float(i))
    draw = torch.Generator().manual_seed(2)
    x, y = torch.rand(6, 1, 4, 4, generator=draw), torch.arange(6) % 3
    state = copy.deepcopy(model.state_dict())
    grads = [None if w.grad is None else w.grad.clone() for w in model.parameters()]
    flags = [w.requires_grad for w in model.parameters()]
    modes = [m.training for m in model.modules()]
    count, momentum = model[1].num_batches_tracked, model[1].momentum
    attack = make("attack", name)
    attack.mode = mode
    x = suited(attack.threat, x)
    model[3].p = (
        0.0 if mode != "eval" else 0.3
    )  # dropout in train mode draws from the global generator
    rng = torch.get_rng_state()
    kept_x, kept_y = x.clone(), y.clone()

    run(attack, model, x, y)

    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [w.requires_grad for w in model.parameters()] == flags
    assert [m.training for m in model.modules()] == modes
    assert model[1].num_batches_tracked is count
    assert model[1].momentum == momentum
    for w, grad in zip(model.parameters(), grads, strict=True):
        assert (w.grad is None) if grad is None else torch.equal(w.grad, grad)
    assert torch.equal(x, kept_x)
    assert torch.equal(y, kept_y)
    assert not x.requires_grad


@every("attack")
class TestRefusals:
    def test_integer_inputs(self, name):
        model, x, y = problem()
        attack = make("attack", name)
        if not callable_alone(attack):
            pytest.skip("works inside an objective")
        with pytest.raises(ValueError, match=r"dtype torch\.uint8: an attack needs floats"):
            attack(model, (255 * x).to(torch.uint8), y)

    @pytest.mark.parametrize("shift", [-1.5, 1.5, float("nan")])
    def test_inputs_outside_of_the_box(self, name, shift):
        model, x, y = problem()
        attack = make("attack", name)
        if not callable_alone(attack):
            pytest.skip("works inside an objective")
        with pytest.raises(ValueError, match="put normalisation into the model"):
            attack(model, x + shift, y)

    def test_labels_of_other_samples(self, name):
        model, x, y = problem()
        attack = make("attack", name)
        if not callable_alone(attack):
            pytest.skip("works inside an objective")
        with pytest.raises(ValueError, match="x has 8 rows and y has 7"):
            attack(model, x, y[:-1])
