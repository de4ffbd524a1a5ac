"""Columns of bits that move together: one flip takes one out and another in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.attacks import PGD, Noise
from sparring.batch import Batch
from sparring.evaluation.judge import feasible
from sparring.threats import Bits, Only

GROUPS = [[0, 1, 2], [4, 5]]
CUBE = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))


def allowed_by_hand(x: Sequence[float], z: Sequence[float], threat: Bits) -> bool:
    """As the docstring says, in loops: columns alone flip, groups move as one, the mask holds."""
    mask, flips = threat.mutable or [1] * 6, 0
    for columns in GROUPS:
        before, after = ([j for j in columns if v[j] == 1] for v in (x, z))
        if before == after:
            continue
        if len(after) != 1 or not all(mask[j] for j in {*before, *after}):
            return False
        flips += 1
    for j in set(range(6)) - {j for columns in GROUPS for j in columns}:
        if x[j] != z[j]:
            if not mask[j] or (threat.add_only and z[j] == 0):
                return False
            flips += 1
    return flips <= threat.eps


@pytest.mark.parametrize("add_only", [True, False])
@pytest.mark.parametrize("mutable", [None, [1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1]])
@pytest.mark.parametrize("eps", [0, 1, 2, 6])
def test_the_judge_allows_what_the_docstring_says(add_only, mutable, eps):
    threat = Bits(eps, add_only=add_only, mutable=mutable, groups=GROUPS)
    for x in ([0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1], [1, 0, 0, 1, 0, 0]):
        start = torch.tensor([x] * len(CUBE), dtype=torch.float32)
        seen = feasible(threat, CUBE, start, torch.zeros(len(CUBE), dtype=torch.long))
        by_hand = [allowed_by_hand(x, z, threat) for z in CUBE.tolist()]
        assert seen.tolist() == by_hand


@given(st.integers(0, 2**31), st.integers(0, 4), st.booleans())
def test_points_of_any_search_end_inside(seed, eps, add_only):
    draw = torch.Generator().manual_seed(seed)
    x = torch.zeros(8, 6)
    x[torch.arange(8), torch.randint(0, 3, (8,), generator=draw)] = 1
    threat, y = Bits(eps, add_only=add_only, groups=GROUPS), torch.zeros(8, dtype=torch.long)
    batch = Batch(x, y)
    z = x + torch.randn(8, 6, generator=draw)
    near = threat.project(z, batch)
    assert (threat.distance(near, x) <= eps + 1e-4).all()
    assert torch.allclose(threat.project(near, batch), near, atol=1e-6)
    point = threat.discretize(near, batch)
    assert feasible(threat, point, x, y).all()
    assert feasible(threat, threat.discretize(threat.random_start(batch, draw), batch), x, y).all()


def test_a_gradient_search_rounds_to_whole_groups():
    threat = Bits(2, add_only=False, groups=GROUPS)
    x, y = torch.tensor([[0.0, 1, 0, 0, 1, 0]]), torch.tensor([0])
    w = torch.tensor([1.0, 0, 5, 2, 0, 3])
    model = lambda z: torch.stack([0 * z[:, 0] + 4, z @ w], 1)  # noqa: E731
    attack = PGD(threat, steps=20)
    z = attack.maximize(lambda z: z @ w, Batch(x, y))
    z = threat.discretize(z, Batch(x, y))
    assert feasible(threat, z, x, y).all()
    assert z[0, 2] == 1  # the column that gains most took its group's place
    assert z[0, :2].eq(0).all()
    assert Noise(threat)(model, x, y).shape == x.shape


def test_only_hands_the_groups_on():
    assert Only(Bits(1, groups=GROUPS), classes=[1]).groups == GROUPS


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0]], r"groups\.0 = \[0\] is not allowed: it must be two or more column numbers"),
        ([[0, -1]], r"groups\.0 = "),
        ([[0, 1], [1, 2]], r"groups\.1 has column 1 and groups\.0 has it too: groups must not"),
        ([[0, 0]], r"groups\.0 has column 0 twice"),
    ],
)
def test_groups_that_make_no_sense_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        Bits(1, groups=groups)


def test_rows_and_columns_that_do_not_fit_are_named():
    x = torch.tensor([[0.0, 1, 0], [1, 1, 0]])
    with pytest.raises(ValueError, match=r"row 1 of the data has several of the columns \[0, 1\]"):
        Bits(1, groups=[[0, 1]]).check_samples(Batch(x, torch.zeros(2, dtype=torch.long)))
    with pytest.raises(ValueError, match="groups names column 7 and x has 3 features"):
        Bits(1, groups=[[0, 7]]).can_flip(x)
    with pytest.raises(ValueError, match="scale = 1 is not allowed: scale must be 0 with groups"):
        Bits(1, groups=[[0, 1]], scale=1)
