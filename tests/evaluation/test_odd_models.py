"""Networks that write to their input, mask classes or compute in float64 have their twin's
accuracies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparring.evaluation import evaluate
from sparring.evaluation.probes import PROBES
from tests.oracles import Net

ANY_SHAPE = [p for p in PROBES if p not in ("statistics", "references")]  # those need images


class Twisted(nn.Module):
    """A network with one oddity, or with none."""

    def __init__(self, net: nn.Module, oddity: str) -> None:
        super().__init__()
        self.net, self.oddity = net, oddity

    def forward(self, x: Tensor) -> Tensor:
        if self.oddity == "in place":
            x.sub_(0.1)
        else:
            x = x - 0.1
        z = self.net(x)[:, :3]
        mask = self.oddity == "masked"
        return torch.cat([z, torch.full_like(z[:, :1], -torch.inf)], 1) if mask else z


@pytest.mark.parametrize("suite", ["quick", "pgd"])
@pytest.mark.parametrize("oddity", ["in place", "masked", "float64"])
def test_its_accuracies_are_those_of_its_twin(suite, oddity):
    net, x = Net(scale=4.0).eval(), torch.rand(60, 6)
    twin = Twisted(net, "none")
    y = twin(x).argmax(1)
    y[::10] = (y[::10] + 1) % 3
    kept = x.clone()
    options = {"eps": 0.2, "suite": suite, "progress": False}
    right = evaluate(twin, (x, y), "Linf", **options)
    odd = Twisted(net, oddity)
    result = evaluate(odd.double() if oddity == "float64" else odd, (x, y), "Linf", **options)
    assert torch.equal(x, kept)
    assert result.clean.accuracy == right.clean.accuracy == 0.9
    assert abs(result.robust.accuracy - right.robust.accuracy) < 0.02
    assert result.verdict == right.verdict
    assert right.robust.accuracy < right.clean.accuracy


@pytest.mark.parametrize("oddity", ["in place", "float64"])
def test_its_probes_are_those_of_its_twin(oddity):
    net, x = Net(scale=4.0).eval(), torch.rand(16, 6)
    twin, odd = Twisted(net, "none"), Twisted(net, oddity)
    options = {"eps": 0.2, "probes": ANY_SHAPE, "progress": False}
    y = twin(x).argmax(1)
    right = evaluate(twin, (x, y), "Linf", **options).probes
    odd = odd.double() if oddity == "float64" else odd
    rows = evaluate(odd, (x, y), "Linf", **options).probes
    assert [(r.probe, r.name) for r in rows] == [(r.probe, r.name) for r in right]


@pytest.mark.parametrize("norm", [float("inf"), 2, "2"])
def test_a_norm_by_its_number(norm):
    net, x = Net().eval(), torch.rand(20, 6)
    options = {"eps": 0.05, "progress": False}
    named = evaluate(
        net, (x, net(x).argmax(1)), "L2" if norm != float("inf") else "Linf", **options
    )
    assert evaluate(net, (x, net(x).argmax(1)), norm, **options).robust == named.robust
