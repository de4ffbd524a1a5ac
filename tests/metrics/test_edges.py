"""Metrics at their edges: one sample, one class, nothing right, NaN, other precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sparring.metrics import METRICS, run
from sparring.metrics.boundary_2d import slope
from sparring.metrics.flatness import profile
from tests.oracles import Shifted

FAST = {"clever": {"batches": 3, "samples": 3, "pool": 2}}


def linear(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(6, 3).to(dtype).eval()


MODELS = {
    "network": linear,
    "constant": lambda: lambda x: torch.eye(3)[[0] * len(x)] + 0 * x[:, :1],
    "huge": lambda: lambda x: 1e30 * linear()(x),
}
LABELS = {"right": 0, "wrong": 1}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_ends_on_one_sample_and_on_none_right(name, kind):
    for n in (1, 5):
        for off in LABELS.values():
            model, x = MODELS[kind](), torch.rand(n, 6)
            y = (model(x).argmax(1) + off) % 3
            report = run(model, (x, y), {name: FAST.get(name, {})}, batch_size=4, progress=False)
            (row,) = report.rows
            assert row.n == n
            assert row.value is None or np.isfinite(row.value)
            assert (row.value is None) == (row.undefined == n)


@pytest.mark.parametrize("name", ["rho-adv", "ebd2", "loss-sensitivity", "entropy"])
def test_networks_of_another_precision_are_measured(name):
    x = torch.rand(8, 6, dtype=torch.float64)
    y = linear()(x.float()).argmax(1)
    values = [
        run(linear(dtype), (x, y), [name], progress=False).rows[0].value
        for dtype in (torch.float32, torch.float64)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_a_network_that_writes_to_its_input_has_the_numbers_of_its_twin(name):
    twin, odd = Shifted(in_place=False).eval(), Shifted(in_place=True).eval()
    x = torch.rand(8, 6)
    kept, y = x.clone(), twin(x).argmax(1)
    metric = METRICS[name](**FAST.get(name, {}))
    values = [metric(model, x, y) for model in (twin, odd)]
    assert torch.equal(x, kept)
    assert torch.equal(*(v.nan_to_num(-1) for v in values))
    rows = [run(m, (x, y), {name: FAST.get(name, {})}, progress=False).rows[0] for m in (twin, odd)]
    assert (rows[0].value, rows[0].median) == (rows[1].value, rows[1].median)


@pytest.mark.parametrize("measure", [slope, lambda m, x: torch.stack(profile(m, x))])
def test_so_have_slopes_on_the_plane_and_profiles(measure):
    twin, odd = (Shifted(in_place=i, d=2).eval() for i in (False, True))
    x = torch.rand(8, 2)
    kept = x.clone()
    assert torch.equal(measure(twin, x), measure(odd, x))
    assert torch.equal(x, kept)


NONSENSE = {
    "n": (True, 2.5, "3", 0, torch.nan),
    "batch_size": (0, 2.5, "a", None, True),
    "seed": ("a", 2.5, True, None),
    "device": ("gpu", 5),
    "split": ("tset",),
    "metrics": (["ebdd"], "ebdd"),
}


@pytest.mark.parametrize("key", NONSENSE)
def test_nonsense_is_refused_by_its_key(key):
    x, y = torch.rand(4, 6), torch.zeros(4, dtype=torch.long)
    for value in NONSENSE[key]:
        options = {"metrics": ["entropy"], key: value}
        with pytest.raises(ValueError, match=key.removesuffix("s")):
            run(linear(), (x, y), **options, progress=False)


def test_numbers_of_any_library():
    x, y = torch.rand(9, 6), torch.zeros(9, dtype=torch.long)
    a, b = (
        run(linear(), (x, y), ["eni"], n=k(5), batch_size=k(2), seed=k(1), progress=False)
        for k in (int, np.int64)
    )
    assert a.rows[0].value == b.rows[0].value


@pytest.mark.parametrize("share", [0.5, 1.1])
def test_logits_that_are_not_finite_are_an_error_with_their_number(share):
    x = torch.rand(9, 6, generator=torch.Generator().manual_seed(0))
    lost = int((x[:, 0] < share).sum())

    def model(z):
        return torch.where(z[:, :1] < share, torch.nan, linear()(z))

    with pytest.raises(ValueError, match=f"not finite at {lost} of 9 samples"):
        run(model, (x, torch.zeros(9, dtype=torch.long)), ["entropy"], progress=False)


def test_a_function_that_detaches_its_input_has_no_gradient():
    layer, x = linear(), torch.rand(3, 6)
    with pytest.raises(ValueError, match="LossSensitivity needs gradients"):
        run(lambda z: layer(z.detach()), (x, torch.zeros(3).long()), ["loss-sensitivity"])
