"""The one-line losses are the trainer's step, bit for bit, and leave the model as it does."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sparring import losses, methods
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.data import Source
from sparring.objective import Objective
from sparring.risks import KL, Mean
from sparring.runtime.seeding import derive_seed
from sparring.threats import Linf, Only, SoftLinf
from sparring.training import Trainer
from tests.training.small import network, source

OPTIMIZER = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
EPS, SEED, STEPS = 0.1, 4, 5


class Layers(nn.Module):
    """A net with channels, batch norm and dropout: sites for UAD."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (3, 4)), nn.BatchNorm1d(3))
        self.second, self.drop = nn.Sequential(nn.Conv1d(3, 3, 1), nn.ReLU()), nn.Dropout(0.2)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.drop(self.second(self.first(x)).flatten(1)))


def attack(**more) -> PGD:
    return PGD(Linf(EPS), steps=3, size=0.04, best=False, **more)


SITES = {"sites": ["first"], "reference": "second"}
CALLS = {
    "pgd_at": (losses.pgd_at, methods.AT(), {}),
    "trades": (losses.trades, methods.TRADES(beta=3.0), {"beta": 3.0}),
    "mart": (losses.mart, methods.MART(beta=2.0), {"beta": 2.0}),
    "mart, inner": (losses.mart, methods.MART(inner="self"), {"inner": "self"}),
    "alp": (losses.alp, methods.ALP(beta=1.0), {"beta": 1.0}),
    "sat": (losses.sat, methods.SAT(), {}),
    "otjr": (losses.otjr, methods.OTJR(jac=0.01), {"jac": 0.01}),
    "otjr on a layer": (losses.otjr, methods.OTJR(layer="second"), {"layer": "second"}),
}


def data() -> Source:
    return source()


def by_trainer(tmp_path, method, steps=STEPS, *, risk=None, threat=None) -> dict:
    """The state after the steps of a `Trainer`, which is not in eval mode yet."""
    at = attack() if threat is None else PGD(threat, steps=3, size=0.04, best=False)
    goal = Objective(at, method, Mean() if risk is None else risk)
    run = Trainer(
        Layers(), goal, data(), out=tmp_path / "r", epochs=9, batch_size=16, optimizer=OPTIMIZER,
        seed=SEED,
    )  # fmt: skip
    run.stepper.train()
    for index, batch in enumerate(run.loader.epoch(1)):
        run.stepper.begin_batch(epoch=1, index=index, progress=0.0)
        run.stepper.step(batch, epoch=1, number=index + 1)
        if index + 1 == steps:
            break
    return {k: v.clone() for k, v in run.model.state_dict().items()}, run.loader


def by_hand(call, loader, searcher, *, steps=STEPS, update=None) -> dict:
    """An ordinary loop of PyTorch with the same seeds."""
    model = Layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for index, batch in enumerate(loader.epoch(1)):
        if index == steps:
            break
        seed = derive_seed(SEED, 1, index)
        torch.manual_seed(seed)
        searcher.reseed(seed)
        loss = call(model, batch.x, batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update is not None:
            update(model)
    return model.state_dict()


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_the_trainers_step_bit_for_bit(tmp_path, name):
    function, method, numbers = CALLS[name]
    state, loader = by_trainer(tmp_path, method)
    searcher = attack()

    def call(model, x, y):
        return function(model, x, y, attack=searcher, **numbers)

    assert same(by_hand(call, loader, searcher), state)


def test_uad_keeps_its_state_as_the_trainer_does(tmp_path):
    state, loader = by_trainer(tmp_path, methods.UAD(**SITES), steps=4)
    searcher = attack()
    loss = losses.uad(**SITES, attack=searcher)
    assert same(by_hand(loss, loader, searcher, steps=4, update=loss.update), state)


def test_duals_of_risk_and_threat_move_as_in_the_trainer(tmp_path):
    risk, threat = KL(radius=0.05), SoftLinf(EPS)
    state, loader = by_trainer(tmp_path, methods.AT(), risk=risk, threat=threat)
    searcher = PGD(SoftLinf(EPS), steps=3, size=0.04, best=False)
    loss = losses.MinMaxLoss(Objective(searcher, methods.AT(), KL(radius=0.05)))
    assert same(by_hand(loss, loader, searcher, update=loss.update), state)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_modes_grads_and_random_states_stay(name, mode):
    function, _, numbers = CALLS[name]
    model = Layers().train(mode)
    model.drop.train(not mode)
    modes = [m.training for m in model.modules()]
    marks = [torch.ones_like(p) for p in model.parameters()]
    for p, mark in zip(model.parameters(), marks, strict=True):
        p.grad = mark
    x, y = data().train.float(slice(0, 8)), data().train.y[:8]
    before = x.clone()
    loss = function(model, x, y, attack=attack(), **numbers)
    assert [m.training for m in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is m for p, m in zip(model.parameters(), marks, strict=True))
    assert torch.equal(x, before)
    assert loss.shape == ()
    assert loss.requires_grad
    # running statistics see the passes of the loss alone, never those of the attack
    count = model.first[2].num_batches_tracked
    assert count == (mode * (1 if name == "pgd_at" else 2))


def test_eps_alone_is_a_pgd_that_starts_elsewhere_in_each_call():
    model, x, y = network(), data().train.float(slice(0, 8)), data().train.y[:8]
    model.eval()
    torch.manual_seed(1)
    first, second = (losses.pgd_at(model, x, y, eps=EPS).item() for _ in range(2))
    torch.manual_seed(1)
    again = losses.pgd_at(model, x, y, eps=EPS).item()
    assert first == again != second
    assert losses.trades(model, x, y, eps="1/10").isfinite()


MISTAKES = {
    "neither": ({}, "one of both"),
    "both": ({"eps": 0.1, "attack": attack()}, "one of both"),
    "an attack that is none": ({"attack": "PGD"}, "attack"),
    "a negative eps": ({"eps": -1.0}, "eps"),
    "a negative beta": ({"eps": 0.1, "beta": -1.0}, "beta"),
    "normalised inputs": ({"eps": 0.1, "x": torch.linspace(-2, 2, 48).view(8, 6)}, "normalisation"),
    "inputs with NaN": ({"eps": 0.1, "x": torch.full((8, 6), torch.nan)}, "NaN"),
    "no samples": ({"eps": 0.1, "x": torch.rand(0, 6), "y": torch.zeros(0).long()}, "one sample"),
    "labels of another length": ({"eps": 0.1, "y": torch.zeros(3).long()}, r"labels \(8,\)"),
    "labels that are numbers": ({"eps": 0.1, "y": torch.zeros(8)}, r"integer labels"),
    "integers": ({"eps": 0.1, "x": torch.zeros(8, 6).long()}, "floating-point inputs"),
    "no model": ({"eps": 0.1, "model": len}, "a module of PyTorch"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case):
    options, message = MISTAKES[case]
    given = {"model": network(), "x": torch.rand(8, 6), "y": torch.zeros(8).long()} | options
    model, x, y = (given.pop(name) for name in ("model", "x", "y"))
    with pytest.raises(ValueError, match=message):
        losses.trades(model, x, y, **given)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool])
def test_integer_labels_of_any_width_are_labels(kind):
    model, x, y = network().eval(), data().train.float(slice(0, 8)), data().train.y[:8] % 2
    first, again = (losses.mart(model, x, some, attack=attack(seed=1)) for some in (y, y.to(kind)))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    "weight",
    [torch.ones(8, 1), torch.ones(1), torch.full((8,), torch.nan), torch.arange(8.0) - 1, [1.0]],
    ids=["a column", "one number", "NaN", "a negative one", "a list"],
)
def test_a_weight_that_is_no_base_measure_is_told(weight):
    loss = losses.MinMaxLoss(Objective(attack(), methods.AT(), Mean()))
    with pytest.raises(ValueError, match=r"weight = .* numbers ≥ 0 \(8,\)"):
        loss(network(), torch.rand(8, 6), torch.zeros(8).long(), weight=weight)


def test_inputs_lie_in_the_box_of_the_threat():
    """That of the attack, whatever it wraps; without an attack there is none."""
    x, y = torch.linspace(-2, 2, 48).view(8, 6), torch.zeros(8).long()
    wide = PGD(Only(Linf(EPS, low=-2.0, high=2.0), classes=[0]), steps=1, best=False)
    for at in (wide, None):
        loss = losses.MinMaxLoss(Objective(at, methods.AT(), Mean()))
        assert loss(network(), x, y).isfinite()
        with pytest.raises(ValueError, match="NaN"):
            loss(network(), x * torch.nan, y)


def test_what_has_no_state_yet_cannot_move_it():
    loss = losses.MinMaxLoss(Objective(attack(), methods.AT(), Mean()))
    with pytest.raises(ValueError, match="call loss"):
        loss.update(network())
    with pytest.raises(ValueError, match="a sparring Objective"):
        losses.MinMaxLoss(methods.AT())


def test_weights_are_the_base_measure():
    model, x, y = network().eval(), data().train.float(slice(0, 8)), data().train.y[:8]
    goal, weight = Objective(attack(), methods.AT(), Mean()), torch.arange(8.0) + 1
    total = losses.MinMaxLoss(goal)(model, x, y, weight=weight)
    goal.attack.reseed(0)
    u = goal.method.loss(model, goal.maximize(model, Batch(x, y, weight=weight))).per_sample
    torch.testing.assert_close(total, (weight * u).sum() / weight.sum())


@pytest.mark.parametrize("name", [*CALLS, "uad"])
def test_a_loss_of_validation_needs_no_graph(name):
    """Inside no_grad it is the same number, though a term is a derivative itself."""
    x, y = data().train.float(slice(0, 8)), data().train.y[:8]
    model, totals = Layers().eval(), []
    for context in (nullcontext(), torch.no_grad()):
        function, _, numbers = CALLS.get(name, (losses.uad, None, SITES))
        torch.manual_seed(5)
        with context:
            if name == "uad":
                totals.append(function(**numbers, attack=attack(seed=1))(model, x, y))
            else:
                totals.append(function(model, x, y, attack=attack(seed=1), **numbers))
    assert torch.equal(totals[0].detach(), totals[1])
    assert not totals[1].requires_grad
