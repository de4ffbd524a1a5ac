"""OTJR's distance in units of the logits' spread."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparring.methods import OTJR
from tests.methods.test_otjr import drawn, moved
from tests.reference import otjr as literal


class Scaled(nn.Module):
    """Its input, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: Tensor) -> Tensor:
        return self.factor * z


def test_a_distance_in_spreads_does_not_see_the_scale_of_the_logits():
    small, batch = moved()
    model = nn.Sequential(small, Scaled(9.0))
    clean, adversarial = model(batch.x).tolist(), model(batch.x_adv).tolist()
    apart = literal.sliced(adversarial, clean, drawn(model(batch.x)).tolist())
    variance = literal.mean_variance(clean)
    assert variance > 1
    loss = OTJR(sw=3.0, jac=0.0, unit="spread").loss
    torch.manual_seed(0)
    assert loss(model, batch).penalty.item() == pytest.approx(3 * apart / variance, rel=1e-10)
    torch.manual_seed(0)
    larger = nn.Sequential(model, Scaled(7.0))
    scaled = loss(larger, batch)
    assert scaled.penalty.item() == pytest.approx(3 * apart / variance, rel=1e-10)
    torch.manual_seed(0)
    (slope,) = torch.autograd.grad(scaled.penalty, [next(model.parameters())])
    torch.manual_seed(0)
    plain = OTJR(sw=3.0, jac=0.0).loss(larger, batch).penalty
    (wanted,) = torch.autograd.grad(plain / (49 * variance), [next(model.parameters())])
    assert torch.allclose(slope, wanted), "the spread is a constant"


def test_a_spread_below_one_logit_counts_as_one():
    """Else the slope of the term would grow without bound as the logits shrink."""
    model, batch = moved()
    small = nn.Sequential(model, Scaled(0.01))
    assert literal.mean_variance(small(batch.x).tolist()) < 1
    penalties = []
    for unit in ("logit", "spread"):
        torch.manual_seed(0)
        penalties.append(OTJR(sw=3.0, jac=0.0, unit=unit).loss(small, batch).penalty)
    assert penalties[0] == penalties[1] > 0
