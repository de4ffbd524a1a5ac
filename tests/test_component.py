"""Configuration, paths and messages."""

from __future__ import annotations

import pytest
from torch import nn

from sparring.attacks import BCA, FGSM, PGD
from sparring.component import Component, assign_at, did_you_mean, require, value_at
from sparring.methods import MART
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf


def objective() -> Objective:
    return Objective(PGD(Linf(0.3), steps=7), MART(beta=4.0), Mean())


def test_the_constructor_is_the_configuration():
    assert MART(beta=4.0).config() == {"beta": 4.0, "inner": "ce", "compat": False}
    result = objective().attack.config()
    assert result["steps"] == 7
    assert isinstance(result["threat"], Linf)


def test_configuration_follows_what_a_schedule_sets():
    method = MART()
    method.beta = 2.0
    assert method.config()["beta"] == 2.0


def test_a_piece_is_printed_as_the_call_that_makes_it():
    text = repr(objective())
    for message in ("PGD(Linf(0.3), steps=7)", "MART(beta=4.0)", "Mean()"):
        assert message in text
    attack = PGD(Linf(8 / 255, low=-1.0), steps=20, size=None)
    assert repr(attack) == "PGD(Linf(8/255, low=-1.0), steps=20)"
    assert eval(repr(attack), {"PGD": PGD, "Linf": Linf}).table() == attack.table()


@pytest.mark.parametrize("make", [PGD, FGSM])
@pytest.mark.parametrize("threat", [0.1, "Linf", nn.Linear(2, 2), Linf, None])
def test_an_attack_of_no_threat_says_how_it_is_called(make, threat):
    call = rf"{make.__name__}\(Linf\(8/255\).*\)\(model, x, y\)"
    with pytest.raises(ValueError, match=rf"^threat = .* must be a Threat\. Call it as {call}$"):
        make(threat)
    call = rf"{make.__name__}\(Linf\(0.1\).*\)\(model, x, y\); or keep the calls of torchattacks"
    with pytest.raises((ValueError, TypeError), match=rf"Call it as {call}"):
        make(threat, eps=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PGD(Linf(0.1), 10), r"PGD: too many positional arguments\. Call it as PGD\("),
        (PGD, r"PGD: missing a required argument: 'threat'\. Call it as PGD\(Linf"),
        (lambda: PGD(Linf(0.1), alpha=1), r"no argument 'alpha'; it takes threat, steps, size"),
        (lambda: MART(betta=1), r"'betta'\. Call it as MART\(beta=5.0, inner='ce'"),
        (lambda: BCA(Linf), r"Call it as BCA\(Bits\(10\), steps=10\)\(model, x, y\)$"),
    ],
)
def test_a_wrong_call_is_answered_by_a_right_one(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_radius_wider_than_the_box_is_refused_at_once():
    with pytest.raises(ValueError, match=r"eps = 8 .* at most 1, .* \(8/255\?\)$"):
        Linf(8)
    assert Linf(8, high=255.0).eps == 8


def test_help_on_a_constructor_is_the_one_of_its_class():
    assert PGD.__init__.__doc__.startswith("Climb the loss")
    assert ">>>" not in PGD.__init__.__doc__  # examples are run once, in the class


def test_update_does_nothing_by_default():
    assert Component().update(nn.Identity(), None) is None


def test_paths():
    root = objective()
    assert value_at(root, "attack.threat.eps") == 0.3
    assign_at(root, "attack.threat.eps", 0.1)
    assert root.attack.threat.eps == 0.1
    assign_at(root, "natural", 0.5)
    assert root.natural == 0.5


@pytest.mark.parametrize(
    "path", ["attack.threat.epsilon", "attack.treat.eps", "methd.beta", "", "attack.threat.eps.x"]
)
def test_a_path_that_leads_nowhere(path):
    with pytest.raises(ValueError, match=r"path .* has no .*; it has "):
        assign_at(objective(), path, 1.0)


def test_the_message_of_a_wrong_path_says_what_there_is():
    with pytest.raises(
        ValueError, match=r"Linf has no 'epsilon'; it has eps, high, init, low, noise"
    ):
        value_at(objective(), "attack.threat.epsilon")


def test_require():
    require(True, "eps", 0.1, "≥ 0")
    with pytest.raises(ValueError, match=r"^eps = -1 is not allowed: eps must be ≥ 0$"):
        require(False, "eps", -1, "≥ 0")


def test_the_message_of_an_unknown_name():
    assert did_you_mean("method", "mart", ["AT", "MART"]).startswith(
        "method = 'mart' does not exist; did you mean 'MART'?"
    )
    assert (
        did_you_mean("method", "zzzzzz", ["AT", "MART"])
        == "method = 'zzzzzz' does not exist. There are: AT, MART"
    )


def test_the_message_of_a_long_list_has_the_nearest_three():
    known = [f"{data}-{method}" for data in ("digits", "mnist", "x" * 90) for method in "abcd"]
    assert did_you_mean("recipe", "digits-e", known, listed="recipes").startswith(
        "recipe = 'digits-e' does not exist; did you mean 'digits-d', 'digits-c' or 'digits-b'? "
        "`sparring list recipes` has all 12"
    )
    assert did_you_mean("cite", "?", known, listed="").endswith(". `sparring list` has all 12")
    unlisted = did_you_mean("key", "?", known)
    assert unlisted.endswith("There are 12: digits-a, digits-b, digits-c …")
    assert "There are: a0, a1" in did_you_mean("key", "?", [f"a{k}" for k in range(20)])
