"""Certificates hold for the model as it computes, in float32: whatever cancels inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring import certification
from sparring.certification import bounds, smoothing
from sparring.evaluation import evaluate
from sparring.runtime.warning import SparringWarning
from sparring.threats import L2, Linf

METHODS = ("ibp", "crown-ibp", "crown")
KINDS = ("dense", "conv", "scale", "norm", "mean", "curve")


def cancelling(kind: str, size: float) -> nn.Module:
    """Activations near `size` that differ by parts of 1, and logits that are their difference."""
    torch.manual_seed(0)
    first: Any = nn.Linear(8, 8)
    nn.init.eye_(first.weight)
    nn.init.constant_(first.bias, size)
    middle: list[nn.Module] = [nn.ReLU()]
    if kind == "conv":
        conv = nn.Conv2d(1, 1, (1, 1))
        nn.init.ones_(conv.weight)
        nn.init.constant_(conv.bias, size)  # type: ignore[arg-type]
        first, middle = nn.Sequential(Image(1, 2, 4), conv), [nn.ReLU(), nn.Flatten()]
    elif kind == "scale":
        first = Plus(size)
    elif kind == "norm":
        first = nn.BatchNorm1d(8)
        nn.init.constant_(first.bias, size)
    elif kind == "mean":
        nn.init.zeros_(first.bias)
        middle = [Plus(size), Image(2, 2, 2), nn.AvgPool2d((1, 2)), nn.Flatten()]
    elif kind == "curve":
        middle = [nn.LeakyReLU(0.5)]
    last = nn.Linear(4 if kind == "mean" else 8, 2, bias=False)
    with torch.no_grad():
        last.weight.zero_()
        last.weight[0, 0] = last.weight[1, 1] = 1.0
        last.weight[0, 2] = last.weight[1, 3] = -1.0
    return nn.Sequential(first, *middle, last).eval()


class Image(nn.Module):
    """Reshape rows to images."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self.shape)


class Plus(nn.Module):
    """Add a number."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x + self.size


def samples(model: nn.Module, n: int = 400) -> tuple[Tensor, Tensor]:
    """Samples that the model gets right, of two classes."""
    x = torch.rand(n, 8, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    with torch.no_grad():
        return x, model(x).argmax(1)


@pytest.mark.parametrize("threat", [Linf(1e-3), L2(1e-3)], ids=["Linf", "L2"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_activations_of_a_million_and_logits_of_one(kind: str, method: str, threat: Any) -> None:
    model = cancelling(kind, 1e6)
    x, y = samples(model)
    proven = certification.certify(model, x, y, threat=threat, method=method)
    exact = bounds.margin_upper_bounds(model, x, y, threat=threat, method=method) < -1e-6
    broken = torch.zeros(len(x), dtype=torch.bool)
    for k in range(200):
        delta = torch.randn(x.shape, generator=torch.Generator().manual_seed(k))
        scale = 1.0 if isinstance(threat, Linf) else delta.norm(dim=1, keepdim=True)
        delta = delta.sign() if isinstance(threat, Linf) else delta / scale
        broken |= model((x + 1e-3 * delta).clamp(0, 1)).argmax(1) != y
    assert not (proven & broken).any()
    assert (exact & broken).any()  # what exact arithmetic proves, rounding breaks


def test_rounding_costs_an_ordinary_network_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.rand(300, 8)
    y = model(x).argmax(1)
    for method in METHODS:
        proven = certification.certify(model, x, y, threat=Linf(0.02), method=method)
        exact = bounds.margin_upper_bounds(model, x, y, threat=Linf(0.02), method=method) < -1e-4
        assert (exact & ~proven).sum() == 0
        assert 0 < proven.sum() < len(x)


def two_layers() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.rand(150, 8)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def test_bound_and_attack_are_of_the_same_samples() -> None:
    model, x, y = two_layers()
    y[:100] = (y[:100] + 1) % 3  # the bound's samples are all wrong, the others all right
    names = ("ibp", "crown")
    result = evaluate(model, (x, y), "Linf", eps=0.001, certify=names, progress=False)
    every, first = result.by_eps[0].certified
    assert (every.n, first.n) == (150, 100)
    assert first.accuracy == first.robust == 0 < every.accuracy
    assert every.accuracy <= result.robust.accuracy == every.robust
    assert "on the same 100 samples the attacks leave 0.00 % robust" in first.detail
    assert result.by_eps[0].certified[0].contradicted == 0
    assert "contradiction" not in {c.name for c in result.checks}


def test_a_proven_sample_that_is_broken_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = two_layers()
    monkeypatch.setattr(
        certification, "certify", lambda m, x, y, **_: torch.ones(len(x), dtype=torch.bool)
    )
    with pytest.warns(SparringWarning, match=r"contradiction: \d+ proven samples.*report it"):
        result = evaluate(model, (x, y), "Linf", eps=0.1, certify="ibp", progress=False)
    (certificate,) = result.by_eps[0].certified
    assert certificate.contradicted == 150 - result.by_eps[0].count > 0
    assert result.verdict == "not sound"
    assert any("contradiction" in reason for reason in result.reasons)


def test_progress_counts_every_sample() -> None:
    model, x, y = two_layers()
    for method in METHODS:
        steps: list[tuple[int, int]] = []
        options: Any = {"method": method, "progress": lambda n, k, to=steps: to.append((n, k))}
        proven = certification.certify(model, x, y, threat=Linf(0.01), **options)
        assert [sum(s) for s in zip(*steps, strict=True)] == [150, int(proven.sum())]
        assert method != "crown" or len(steps) > 10


def test_progress_of_smoothing_counts_every_sample() -> None:
    model, x, _ = two_layers()
    for n in (0, 1, 5):
        steps: list[tuple[int, int]] = []
        count: Any = lambda n, k, to=steps: to.append((n, k))  # noqa: E731
        vote = smoothing.certify(model, x[:n], sigma=0.5, select=5, draws=20, progress=count)
        assert len(steps) == n
        assert sum(k for _, k in steps) == int((vote.prediction >= 0).sum())


def test_memory_that_runs_out_makes_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = two_layers()
    whole = certification.certify(model, x, y, threat=Linf(0.01))
    plain = bounds._margins

    def tight(nodes: Any, inputs: Any, *args: Any, **kw: Any) -> Tensor:
        if len(inputs.x) > 7:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return plain(nodes, inputs, *args, **kw)

    monkeypatch.setattr(bounds, "_margins", tight)
    assert torch.equal(certification.certify(model, x, y, threat=Linf(0.01)), whole)
