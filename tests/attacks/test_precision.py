"""Searching in bfloat16 or in another memory layout: what is returned holds in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.threats import Linf
from tests.oracles import NormedNet, problem


class Differs(nn.Module):
    """Always right in one precision and always wrong in the other; counts its passes."""

    def __init__(self, *, right: str) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(6))
        self.right, self.passes = right, {"float32": 0, "bfloat16": 0}

    def forward(self, x: Tensor) -> Tensor:
        s = 1 + x @ self.w.float()
        now = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        self.passes[now] += 1
        return torch.stack([s, -s] if now == self.right else [-s, s], 1)


X, Y = torch.full((3, 6), 0.5), torch.zeros(3, dtype=torch.long)


def test_what_is_wrong_only_in_bfloat16_is_not_believed():
    model = Differs(right="float32")
    x_adv = PGD(Linf(0.1), steps=4, precision="bfloat16")(model, X, Y)
    # The search went on to its end, each success was looked at again, and so was the best point.
    assert model.passes == {"float32": 5 + 1, "bfloat16": 5}
    assert model(x_adv).argmax(1).eq(Y).all()


def test_what_is_right_only_in_bfloat16_is_broken():
    model = Differs(right="bfloat16")
    PGD(Linf(0.1), steps=4, restarts=3, precision="bfloat16")(model, X, Y)
    assert model.passes == {"float32": 1, "bfloat16": 5}  # one restart was enough


def test_bfloat16_breaks_what_float32_breaks():
    model, x, y = problem(b=60, dtype=torch.float32)
    x_adv = {p: PGD(Linf(0.1), steps=10, precision=p)(model, x, y) for p in ("float32", "bfloat16")}
    wrong = {p: (model(z).argmax(1) != y) for p, z in x_adv.items()}
    assert x_adv["bfloat16"].dtype == torch.float32
    assert (x_adv["bfloat16"] - x).abs().max() <= 0.1 * (1 + 1e-6)
    assert (wrong["float32"] ^ wrong["bfloat16"]).float().mean() < 0.05


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_channels_last_finds_the_same_and_gives_the_weights_back(precision):
    model = NormedNet().eval()
    before, weight = copy.deepcopy(model.state_dict()), model[0].weight.data
    x, y = torch.rand(8, 1, 4, 4), torch.arange(8) % 3
    plain = PGD(Linf(0.1), steps=3, precision=precision)(model, x, y)
    fast = PGD(Linf(0.1), steps=3, precision=precision, channels_last=True)(model, x, y)
    assert torch.allclose(fast, plain, atol=1e-6) or precision == "bfloat16"
    assert (fast - x).abs().max() <= 0.1 * (1 + 1e-6)
    assert model[0].weight.data.data_ptr() == weight.data_ptr()
    assert model[0].weight.is_contiguous()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
