"""Channel statistics, their spread and moved features: the literal twin, exact cases, bad input."""

from __future__ import annotations

import pytest
import torch

from sparring.introspect import feature_statistics, hooks
from tests.oracles import NormedNet
from tests.reference import uad as literal


def features(b: int = 4, c: int = 3, *, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(b, c, 2, 3, generator=draw, dtype=torch.float64) + 1


def rows(t: torch.Tensor) -> list:
    return t.flatten(2).tolist()


def test_channels_and_spread_are_the_twin():
    f = features()
    result = feature_statistics.channel_statistics(f)
    twin = literal.channels(rows(f))
    for a, b in zip(result, twin, strict=True):
        assert torch.allclose(a, torch.tensor(b, dtype=a.dtype), atol=1e-12)
        exact = torch.tensor(literal.spread(b), dtype=a.dtype)
        assert torch.allclose(feature_statistics.batch_spread(a)[0], exact, atol=1e-12)


def test_moved_features_have_the_moved_statistics():
    f = features()
    mean, std = feature_statistics.channel_statistics(f)
    by_mean, by_std = torch.randn(
        2, 4, 3, dtype=f.dtype, generator=torch.Generator().manual_seed(1)
    )
    by_std = by_std.abs()
    result = feature_statistics.shift_statistics(f, mean, std, by_mean, by_std)
    again = result.flatten(2)
    assert torch.allclose(again.mean(2), mean + by_mean)
    bare = (f.flatten(2).var(2, unbiased=False)).sqrt()
    assert torch.allclose(again.std(2, unbiased=False), bare * (std + by_std) / std)


def test_the_affine_map_is_the_formula_written_out_and_so_are_its_gradients():
    results = []
    for affine in (True, False):
        f = features().float().requires_grad_()
        mean, std = feature_statistics.channel_statistics(f)
        move = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        if affine:
            moved = feature_statistics.shift_statistics(f, mean, std, *move)
        else:
            at = [t[:, :, None, None] for t in (mean, std, *move)]
            moved = (f - at[0]) / at[1] * (at[1] + at[3]) + at[0] + at[2]
        results.append([moved, *torch.autograd.grad(moved.cos().sum(), (f, move))])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=5e-7, atol=5e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_no_move_is_exactly_none_and_keeps_the_precision(dtype):
    f = features().to(dtype)
    mean, std = feature_statistics.channel_statistics(f)
    assert mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    zero = torch.zeros_like(mean)
    result = feature_statistics.shift_statistics(f, mean, std, zero, zero)
    assert result.dtype == dtype
    assert torch.equal(result, f)


@pytest.mark.parametrize("shape", [(3, 2, 1, 1), (3, 2, 4, 4), (3, 2, 5)])
def test_constant_channels_and_single_positions_have_finite_gradients(shape):
    f = torch.ones(shape, requires_grad=True)
    mean, std = feature_statistics.channel_statistics(f)
    result = feature_statistics.shift_statistics(
        f, mean, std, feature_statistics.batch_spread(mean).expand_as(mean), std
    )
    assert result.isfinite().all()
    result.square().sum().backward()
    assert f.grad.isfinite().all()


def test_logits_are_the_plain_ones_and_the_zeros_have_the_slopes():
    model, x = NormedNet().double().eval(), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    z, seen = feature_statistics.extract_statistics(model, x, ["0"])
    assert torch.equal(z, model(x))
    at = seen["0"]
    slopes = torch.autograd.grad(z[:, 0].sum(), at.shift)
    for k, slope in enumerate(slopes):
        for sign in (1, -1):
            step = [torch.zeros_like(slope), torch.zeros_like(slope)]
            step[k][2, 1] = sign * 1e-5
            near = hooks.replace_outputs(model, x, {"0": at.shifted(*step)})
            change = (near - z)[2, 0] / (sign * 1e-5)
            assert torch.allclose(change, slope[2, 1], atol=1e-4)


def test_features_without_positions():
    with pytest.raises(ValueError, match=r"features.shape = \(4, 3\) is not allowed.*positions"):
        feature_statistics.channel_statistics(torch.rand(4, 3))


@pytest.mark.parametrize("b", [0, 1])
def test_a_batch_of_one_has_no_spread(b):
    with pytest.raises(ValueError, match=rf"batch = {b} is not allowed.*one sample has none"):
        feature_statistics.batch_spread(torch.rand(b, 3))
