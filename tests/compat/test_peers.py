"""Our answers to their calls, beside the packages themselves: never kinder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring import data
from sparring.compat import torchattacks as ours
from sparring.compat.autoattack import AutoAttack
from tests.compat.peers import SIGNATURES, arguments, recorded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs warn on import
SLACK = 0.015  # 4 of 270 samples: seeds draw differently
CALLS = [
    ("FGSM", {"eps": 0.1}),
    ("BIM", {"eps": 0.1, "alpha": 0.02}),
    ("PGD", {"eps": 0.1, "alpha": 0.02}),
    ("PGDL2", {"eps": 0.5, "alpha": 0.1}),
    ("MIFGSM", {"eps": 0.1, "alpha": 0.02}),
    ("APGD", {"eps": 0.1}),
    ("APGD", {"eps": 0.5, "norm": "L2"}),
    ("APGDT", {"eps": 0.1}),
    ("FAB", {"eps": 0.1}),
    ("Square", {"eps": 0.1, "n_queries": 300}),
    ("CW", {"steps": 50, "lr": 0.05}),
    ("AutoAttack", {"eps": 0.1}),
]


@pytest.fixture(scope="module")
def trained():
    """A small net for the digits, and its test samples."""
    digits = data.load("digits")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(digits.train.float()), digits.train.y).backward()
        optimizer.step()
    return net.eval(), digits.test.float(), digits.test.y


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_recorded_arguments_are_theirs(name):
    import torchattacks

    assert arguments(getattr(torchattacks, name)) == recorded(name)


def test_every_class_of_theirs_is_there_or_named():
    import torchattacks

    lacking = set(torchattacks.__all__) - set(ours.__all__) - ours.NEAREST.keys()
    assert not lacking


@pytest.mark.parametrize(("name", "kw"), CALLS)
def test_no_more_samples_are_robust(trained, name, kw):
    import torchattacks

    net, x, y = trained
    robust = {}
    for package in (ours, torchattacks):
        torch.manual_seed(0)
        attack = getattr(package, name)(net, **kw)
        draws = 5 if name in ("PGD", "PGDL2") else 1  # a new start in each call
        right = torch.stack([net(attack(x, y)).argmax(1) == y for _ in range(draws)])
        robust[package] = right.double().mean().item()
    assert robust[ours] <= robust[torchattacks] + SLACK


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.1), ("L2", 0.5)])
def test_autoattack_leaves_the_same_samples(trained, norm, eps):
    import pyautoattack

    net, x, y = trained
    x, y = x[:100], y[:100]
    ball = {"norm": norm, "eps": eps, "seed": 0}
    theirs, _ = pyautoattack.AutoAttack(net, **ball).run_standard_evaluation(x, y, batch_size=100)
    mine = AutoAttack(net, verbose=False, device="cpu", **ball).run_standard_evaluation(x, y, 100)
    robust = [(net(points).argmax(1) == y).sum().item() for points in (mine, theirs)]
    assert robust[0] <= robust[1]
    assert abs(robust[0] - robust[1]) <= 2
