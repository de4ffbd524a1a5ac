"""Bounds over many classes: those of all pairs, at a cost linear in the classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring import certification
from sparring.certification import bounds, class_gaps, graph
from sparring.certification.region import region
from sparring.threats import L2, Linf

METHODS = ("ibp", "crown-ibp", "crown")


class Sum(nn.Module):
    """A network that ends in a sum, behind which no single layer stands."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, k), nn.Linear(6, k)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x)) + self.second(x)


class Scaled(nn.Module):
    """A network whose logits are scaled and shifted behind its last layer."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Linear(5, k))
        self.shift = nn.Parameter(torch.linspace(-0.1, 0.1, k))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) * 3 + self.shift) / 2


NETS: dict[str, Any] = {
    "mlp": lambda k: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, k)),
    "linear": lambda k: nn.Linear(6, k, bias=False),
    "conv": lambda k: nn.Sequential(
        nn.Conv2d(1, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, k)
    ),
    "sum": Sum,
    "scaled": Scaled,
}


def problem(name: str, k: int, n: int = 12) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    model, x = NETS[name](k).eval(), torch.rand(n, 6)
    x = x.reshape(n, 1, 2, 3) if name == "conv" else x
    return model, x, model(x).argmax(1)


def of_all_pairs(
    model: nn.Module, x: Tensor, y: Tensor, threat: Any, method: str, *, rounding: bool
) -> Tensor:
    """Bound the margin with the whole specification e_y − e_j `(b, k − 1, k)`, class by class."""
    nodes, inputs = graph.trace_network(model, x), region(x, threat)
    k, errors = nodes[-1].shape[0], [] if rounding else None
    one_hot = torch.eye(k, dtype=torch.float64)
    others = (one_hot[y] == 0).nonzero()[:, 1].reshape(len(y), k - 1)
    a = one_hot[y][:, None] - one_hot[others]
    with torch.no_grad():
        known = bounds.interval_bounds(nodes, inputs, errors)
        gap = bounds.linear_lower_bound(nodes, known, inputs, a, relax=False, errors=errors)
        if method == "crown":
            known = bounds.crown_bounds(nodes, known, inputs, errors)
        if method != "ibp":
            rest = {"relax": True, "errors": errors}
            gap = gap.maximum(bounds.linear_lower_bound(nodes, known, inputs, a, **rest))
    return -gap.amin(1)


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("k", [2, 10, 41])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_the_margin_is_that_of_all_pairs(
    name: str, method: str, k: int, rounding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "CPU_CROWN_SAMPLES", 12)  # as many at once as the twin
    model, x, y = problem(name, k)
    for threat in (Linf(0.02), L2(0.3)):
        wanted = of_all_pairs(model, x, y, threat, method, rounding=rounding)
        parts = bounds._bounds(model, x, y, threat, method, rounding=rounding)
        assert torch.allclose(torch.cat([m for m, _ in parts]), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("eps", [0.0, 0.005, 0.02, 0.1])
def test_what_is_proven_is_what_all_pairs_prove(method: str, eps: float) -> None:
    model, x, y = problem("mlp", 41, 60)
    y = torch.where(torch.arange(60) % 5 == 0, (y + 1) % 41, y)  # wrong ones are never proven
    threat = Linf(eps)
    margin = of_all_pairs(model, x, y, threat, method, rounding=eps > 0)
    if method == "crown":  # a few at once, of which each may be tighter for the others
        parts = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 60, 4)]
        rest: Any = {"rounding": eps > 0}
        margin = torch.cat([of_all_pairs(model, *part, threat, method, **rest) for part in parts])
    z = model(x)
    wanted = (z.argmax(1) == y) & (margin < -1e-6 * z.abs().amax(1).clamp_min(1))
    proven = certification.certify(model, x, y, threat=threat, method=method)
    assert torch.equal(proven, wanted)
    assert eps > 0.005 or 0 < int(proven.sum()) < 60


def test_little_memory_gives_the_same_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = problem("mlp", 41)
    whole = bounds.margin_upper_bounds(model, x, y, threat=Linf(0.02))
    monkeypatch.setattr(bounds, "MAX_COEFFICIENTS", 50)  # one sample, one class at once
    small = bounds.margin_upper_bounds(model, x, y, threat=Linf(0.02))
    assert torch.allclose(small, whole, rtol=1e-12, atol=1e-12)


def test_coefficients_are_linear_in_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of coefficients has more numbers than the limit, at 1,000 classes too."""
    sizes: list[int] = []
    plain = bounds.linear_lower_bound

    def counted(nodes: Any, known: Any, inputs: Any, a: Tensor, **kw: Any) -> Tensor:
        sizes.append(a.shape[0] * a.shape[1] * max(n.shape.numel() for n in _sized(nodes)))
        return plain(nodes, known, inputs, a, **kw)

    monkeypatch.setattr(bounds, "linear_lower_bound", counted)
    monkeypatch.setattr(bounds, "MAX_COEFFICIENTS", 2**15)
    model, x, y = problem("mlp", 1000)
    certification.certify(model, x, y, threat=Linf(0.02))
    assert max(sizes) <= 2**15


def _sized(nodes: Any) -> Any:
    return [type("Node", (), {"shape": torch.Size(n.shape)}) for n in nodes]


def test_only_classes_that_can_set_the_minimum_are_refined() -> None:
    torch.manual_seed(0)
    cheap = torch.randn(30, 100).scatter(1, torch.zeros(30, 1).long(), torch.inf)
    gain, refined = torch.rand(30, 100), torch.zeros(30, 100, dtype=torch.int64)

    def refine(rows: Tensor, classes: Tensor) -> Tensor:
        refined[rows[:, None], classes] += 1
        return cheap[rows].gather(1, classes) + gain[rows].gather(1, classes)

    least = class_gaps.least_gaps(cheap, refine, most=lambda _: 100)
    assert torch.equal(least, (cheap + gain).amin(1))
    assert int(refined.max()) == 1
    assert refined.sum() < 0.4 * 30 * 99
    enough = torch.zeros(30)
    before = refined.clone()
    decided = class_gaps.least_gaps(cheap, refine, most=lambda _: 100, enough=enough)
    assert torch.equal(decided > 0, least > 0)
    assert (refined - before).sum() <= 30 * class_gaps.FIRST_CLASSES


def test_bounds_without_a_number_prove_nothing() -> None:
    cheap = torch.tensor([[torch.inf, 1.0, torch.nan], [torch.inf, -torch.inf, 2.0]])
    keep = lambda rows, classes: cheap[rows].gather(1, classes)  # noqa: E731
    for enough in (None, torch.zeros(2)):
        least = class_gaps.least_gaps(cheap, keep, most=lambda _: 1, enough=enough)
        assert not (least > 0).any()
