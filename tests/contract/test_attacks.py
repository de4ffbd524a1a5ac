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
from sparring.threats import Linf, Threat
from tests.contract.pieces import every, fitting_pairs, make_quick, norms, refused_pairs, takes
from tests.oracles import NormedNet, problem

SHORTER_STEPS = {"DFGSM", "RFGSM"}  # more steps are shorter ones, to another end
COUNTS = [
    (name, count)
    for name in registry.pieces("attack")
    for count in ("steps", "draws", "restarts")
    if takes("attack", name, count) and not (count == "steps" and name in SHORTER_STEPS)
]


def callable_alone(attack: Attack) -> bool:
    """Return whether it can be called without an objective; `Free` and its like cannot."""
    return type(attack).__call__ is not Attack.__call__


ALONE = [n for n in registry.pieces("attack") if callable_alone(make_quick("attack", n))]
fitting = pytest.mark.parametrize(("name", "threat"), fitting_pairs())


def suited(threat: Threat, x: Tensor) -> Tensor:
    """Return inputs that the threat takes: bits for a binary one."""
    return torch.where(x > 0.5, threat.high, threat.low).to(x.dtype) if threat.binary else x


def num_radii(name: str) -> float:
    """Return how many radii from x its points may lie: 1, but for an attack that trains outside
    of the ball, and says how far."""
    return make_quick("attack", name).num_radii if name == "NFGSM" else 1.0


def run(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return adversarial inputs, by a call or as a trainer gets them."""
    if callable_alone(attack):
        return attack(model, x, y)
    x_adv = Objective(attack, AT(), Mean()).maximize(model, Batch(x, y)).x_adv
    assert x_adv is not None
    return x_adv.detach()


def losses(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss that the attack climbs, the margin if it names none."""
    value = {"ce": cross_entropy, "dlr": dlr}.get(getattr(attack, "loss", ""), margin)
    with torch.no_grad():
        return value(model(x), y)


@fitting
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_lies_in_the_set_and_keeps_the_dtype(name, threat: Threat, dtype):
    model, x, y = problem(dtype=dtype)
    x = suited(threat, x)
    x_adv = run(make_quick("attack", name, threat=threat), model, x, y)
    assert x_adv.dtype == dtype
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert (x_adv >= 0).all()
    assert (x_adv <= 1).all()
    eps = float("inf") if threat.eps is None else threat.eps
    assert (threat.distance(x_adv, x) <= num_radii(name) * eps * (1 + 1e-5)).all()
    assert not threat.binary or torch.equal(threat.discretize(x_adv, Batch(x, y)), x_adv)


@pytest.mark.parametrize(("name", "threat"), fitting_pairs(climbing=True))
def test_the_gain_is_not_below_the_start(name, threat: Threat):
    model, x, y = problem()
    attack, x = make_quick("attack", name, threat=threat), suited(threat, x)
    begin = getattr(attack, "random_start", False)
    generator = torch.Generator().manual_seed(attack.seed)
    z0 = threat.random_start(Batch(x, y), generator) if begin else x
    x_adv = run(attack, model, x, y)
    with torch.no_grad():  # what is wrong at the start, or at a later point, is over at once
        still = (model(z0).argmax(1) == y) & (model(x_adv).argmax(1) == y)
    gains = losses(attack, model, x_adv, y), losses(attack, model, z0, y)
    assert (gains[0][still] >= gains[1][still] - 1e-9).all()


@fitting
@pytest.mark.parametrize("b", [0, 1])
def test_batches_of_zero_and_one(name, threat: Threat, b):
    model, x, y = problem()
    x = suited(threat, x)
    x_adv = run(make_quick("attack", name, threat=threat), model, x[:b], y[:b])
    assert x_adv.shape == x[:b].shape


@pytest.mark.parametrize(("name", "threat"), refused_pairs())
def test_a_threat_that_does_not_fit_is_refused_by_name(name, threat: Threat):
    """Only for a ball that the attack does not claim, and with the balls that it does."""
    kind = "bits" if threat.binary else getattr(threat, "p", None)
    assert kind not in norms("attack", name)
    message = rf"threat = {re.escape(repr(threat))} is not allowed: threat must be a ball of "
    with pytest.raises(ValueError, match=message + r"(Linf|L2|L1|L0|Bits)( or \w+)* for \w+$"):
        make_quick("attack", name, threat=threat)


@every("attack")
def test_the_same_seed_gives_the_same_points(name):
    model, x, y = problem()
    attack = make_quick("attack", name, seed=5)
    x = suited(attack.threat, x)
    first = run(attack, model, x, y)
    attack.reseed(5)
    assert torch.equal(run(attack, model, x, y), first)
    assert torch.equal(run(make_quick("attack", name, seed=5), model, x, y), first)


@pytest.mark.parametrize(("name", "count"), COUNTS)
def test_more_of_it_is_no_worse(name, count):
    model, x, y = problem(b=40)
    fixed = {"size": 0.02} if takes("attack", name, "size") else {}
    before, small = None, Linf(0.08) if math.inf in norms("attack", name) else None
    for n in (1, 2, 4):
        attack = make_quick("attack", name, threat=small, **{count: n}, **fixed)
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
    model[1].eval()  # a model whose modules are not all in the same mode
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
    attack = make_quick("attack", name)
    attack.mode = mode
    x = suited(attack.threat, x)
    # dropout in train mode draws from the global generator
    model[3].p = 0.0 if mode != "eval" else 0.3
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


@pytest.mark.parametrize("name", ALONE)
class TestRefusals:
    def test_integer_inputs(self, name):
        model, x, y = problem()
        with pytest.raises(ValueError, match=r"dtype torch\.uint8: an attack needs floats"):
            make_quick("attack", name)(model, (255 * x).to(torch.uint8), y)

    @pytest.mark.parametrize("shift", [-1.5, 1.5, float("nan")])
    def test_inputs_outside_the_box(self, name, shift):
        model, x, y = problem()
        with pytest.raises(ValueError, match="put normalisation into the model"):
            make_quick("attack", name)(model, x + shift, y)

    def test_labels_of_other_samples(self, name):
        model, x, y = problem()
        with pytest.raises(ValueError, match="x has 8 rows and y has 7"):
            make_quick("attack", name)(model, x, y[:-1])
