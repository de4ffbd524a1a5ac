"""Square by windows: the same points, verdicts and counts as by whole passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import Square, square
from sparring.evaluation.budget import Budget, BudgetSpent
from sparring.evaluation.guard import Guard
from sparring.introspect import local
from sparring.introspect.local import LocalForward
from sparring.threats import L2, Linf


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A network trained on handwritten digits for a second, and 48 of them."""
    data = load_digits()
    x = torch.from_numpy(data.images).float()[:, None] / 16
    y = torch.from_numpy(data.target).long()
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(40):
        rows = slice(100 * (step % 10), 100 * (step % 10) + 100)
        loss = F.cross_entropy(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval(), x[-48:], y[-48:]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(local, "WORTH_IT", 1e9)


def run(model, x, y, monkeypatch=None, **how: Any) -> tuple[Tensor, Guard]:
    """The points of Square, and the guard; without windows if `monkeypatch` is given."""
    guard = Guard(model, strict=False)
    keywords: dict[str, Any] = {"threat": Linf(0.15), "queries": 100, "seed": 3, **how}
    attack = Square(**keywords)
    if monkeypatch is None:
        return attack(guard, x, y), guard
    with monkeypatch.context() as context:
        context.setattr(square, "local_forward", lambda *_: None)
        return attack(guard, x, y), guard


def is_wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


@pytest.mark.parametrize("how", [{}, {"restarts": 2}, {"loss": "ce", "p_init": 0.3}])
def test_the_same_points(digits, monkeypatch, how):
    model, x, y = digits
    points, _ = run(model, x, y, **how)
    whole, _ = run(model, x, y, monkeypatch, **how)
    assert torch.equal(points, whole)
    wrong = is_wrong(model, points, y)
    assert 0.1 < wrong.float().mean() < 0.9


def test_a_targeted_search(digits, monkeypatch):
    model, x, y = digits
    points = [run(model, x, (y + 1) % 10, patch, targeted=True)[0] for patch in (None, monkeypatch)]
    assert torch.equal(*points)


def test_every_query_counts(digits, monkeypatch):
    model, x, y = digits
    _, guard = run(model, x, y)
    _, whole = run(model, x, y, monkeypatch)
    right = int((~is_wrong(model, x, y)).sum())
    # on top comes one float32 pass for each row: when it breaks, or at the end
    assert guard.forwards == whole.forwards + right
    assert (guard.backwards, guard.outside, guard.classes) == (0, 0, 10)


def test_the_budget_holds(digits):
    model, x, y = digits
    budget = Budget(queries=20 * len(x))
    guard = Guard(model, strict=False, budget=budget)
    with pytest.raises(BudgetSpent):
        Square(Linf(0.01), queries=150)(guard, x, y)
    assert 20 * len(x) <= guard.forwards <= 21 * len(x)


def test_the_guard_looks_at_proposals(digits):
    model, x, _ = digits
    corner = torch.zeros(len(x), dtype=torch.long)
    for strict in (False, True):
        guard = Guard(model, shape=(1, 8, 8), strict=strict)
        queries = guard.local_forward(x, torch.float32)
        assert queries is not None
        assert queries.prepare(x, (1, 1))
        assert guard.forwards == 0
        z = x.clone()
        z[:5, :, 0, 0] = 1.5
        if strict:
            with pytest.raises(ValueError, match=r"x reaches from 0 to 1\.5"):
                queries(z, corner, corner)
        else:
            queries(z, corner, corner)
            assert (guard.forwards, guard.outside) == (len(x), 5)


def test_a_model_that_runs_whole_has_no_queries():
    assert Guard(lambda x: x).local_forward(torch.rand(2, 1, 4, 4), torch.float32) is None


def test_what_only_the_windows_see_is_not_believed(digits, monkeypatch):
    model, x, y = digits
    queries = LocalForward.__call__
    monkeypatch.setattr(LocalForward, "__call__", lambda *arguments: -queries(*arguments))
    guard = Guard(model, strict=False)
    points = Square(Linf(1e-4), queries=30)(guard, x, y)
    right = ~is_wrong(model, x, y)
    assert torch.equal(is_wrong(model, points, y), ~right)
    assert guard.forwards > len(x) + 30 * int(right.sum())  # no row left early


def test_bfloat16(digits):
    model, x, y = digits
    share = []
    for precision in ("float32", "bfloat16"):
        points, _ = run(model, x, y, precision=precision, channels_last=True)
        assert points.dtype == torch.float32
        share.append(is_wrong(model, points, y).float().mean())
    # rounding leads to other points: single samples may differ, as by another seed
    assert abs(share[0] - share[1]) < 0.1


@pytest.mark.parametrize("threat", [L2(0.5), Linf(0.1)])
def test_what_runs_whole(digits, monkeypatch, threat):
    def refused(*_):
        raise AssertionError

    monkeypatch.setattr(LocalForward, "__call__", refused)
    model, x, y = digits
    if isinstance(threat, L2):  # its proposals scale the whole perturbation
        run(model, x, y, threat=threat, queries=5)
    else:  # vectors
        flat = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), model)
        run(flat.eval(), x.flatten(1), y, threat=threat, queries=5)
