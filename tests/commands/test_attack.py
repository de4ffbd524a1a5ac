"""One attack by its name, on a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sparring
from sparring.attacks import PGD
from sparring.threats import L2, Linf

X, Y = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2] * 2)
torch.manual_seed(0)
MODEL = nn.Linear(5, 3)


@pytest.mark.parametrize("name", ["pgd", "PGD", "P-G-D"])
def test_it_is_the_attack_itself(name):
    x_adv = sparring.attack(name, MODEL, X, Y, eps=0.1, steps=3)
    assert torch.equal(x_adv, PGD(Linf(0.1), steps=3)(MODEL, X, Y))


def test_threats_are_named_or_given():
    expected = PGD(L2(0.5), steps=2)(MODEL, X, Y)
    for threat, eps in (("l2", 0.5), ("L2", "1/2"), (L2(0.5), None)):
        x_adv = sparring.attack(
            "pgd", MODEL, X.numpy(), Y.tolist(), eps=eps, threat=threat, steps=2
        )
        assert torch.equal(x_adv, expected)
    bits = sparring.attack("bga", MODEL, X.round(), Y, eps=1, threat="bits", steps=2)
    assert ((bits - X.round()).abs().sum(1) <= 1).all()
    wide = sparring.attack("fgsm", MODEL, 255 * X, Y, eps=8, high=255.0)
    assert (wide - 255 * X).abs().max() <= 8.001


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"name": "pdg"}, "attack = 'pdg' does not exist; did you mean 'PGD'"),
        ({"name": "autoattack"}, r"'autoattack' is a suite: sparring\.evaluate"),
        ({"threat": "Linv"}, "threat = 'Linv' does not exist; did you mean 'Linf'"),
        ({"eps": 8}, r"eps = 8 is not allowed.*8/255"),
        ({"eps": 0.1, "threat": Linf(0.1)}, "has its own"),
        ({"eps": None}, r"Linf: missing a required argument: 'eps'"),
        ({"alpha": 0.1}, "no argument 'alpha'; it takes threat, steps, size"),
        ({"name": "ead"}, "a ball of L1 for EAD"),
    ],
)
def test_what_does_not_fit_is_said(keywords, message):
    arguments = {"name": "pgd", "model": MODEL, "x": X, "y": Y, "eps": 0.1, **keywords}
    with pytest.raises((ValueError, TypeError), match=message):
        sparring.attack(**arguments)
