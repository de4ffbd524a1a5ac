"""Attacks on bits within a budget that a schedule has set to a fraction."""

from __future__ import annotations

import pytest
import torch

from sparring.attacks import BCA, BGA, DFGSM, RFGSM, BitSearch, Grosse
from sparring.attacks.bit_flips import max_flips
from sparring.threats import Bits
from tests.oracles import Linear


@pytest.mark.parametrize("attack", [DFGSM, RFGSM, BGA, BCA, Grosse, BitSearch])
def test_a_fraction_of_a_flip_is_none(attack):
    threat, x, y = Bits(3), torch.zeros(4, 9).double(), torch.zeros(4).long()
    threat.eps = 2.5  # as a schedule does
    assert max_flips(threat, x) == 2
    x_adv = attack(threat)(Linear(torch.linspace(1, 2, 9).double(), b=-9.0), x, y)
    assert (x_adv != x).sum(1).tolist() == [2] * 4


def test_a_budget_of_all_bits_is_no_budget():
    assert max_flips(Bits(9), torch.zeros(1, 9)) == float("inf")
    assert max_flips(Bits(), torch.zeros(1, 9)) == float("inf")
