"""Certificates: never broken, exact where a closed form is known, refused elsewhere."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import certification, models
from sparring.attacks import PGD
from sparring.certification import bounds, graph, smoothing
from sparring.evaluation import evaluate
from sparring.functional import losses
from sparring.threats import L1, L2, Linf
from tests.oracles import Linear, Net, gain_in_linf_and_box

METHODS = ("ibp", "crown-ibp", "crown")


class Odd(nn.Module):
    """Everything that a traced network may hold and a `Sequential` does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1, groups=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.last = nn.Linear(16, 3)
        self.mean = nn.Parameter(torch.full((1, 1, 1), 0.4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv((x - self.mean) / 0.5)
        h = F.relu(self.deep(h)) + self.pool(h)
        h = torch.sigmoid(1 - 2 * h)
        return self.last(h.view(h.size(0), -1))


def net(name: str) -> Any:
    """A small seeded network for images (1, 4, 4), its batch norms with statistics of their own."""
    builders = {
        "mlp": lambda: models.mlp(shape=(1, 4, 4), classes=3, hidden=(12, 8)),
        "tanh": lambda: nn.Sequential(nn.Flatten(), Net(16, 3)),
        "leaky": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(16, 9), nn.LeakyReLU(0.1), nn.Linear(9, 3)
        ),
        "conv": lambda: nn.Sequential(
            models.Normalize(0.4, 0.3),
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        "pool": lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
        ),
        "resnet": lambda: models.resnet18(shape=(1, 4, 4), classes=3, width=2),
        "preact": lambda: models.preact_resnet18(shape=(1, 4, 4), classes=3, width=2),
        "odd": Odd,
    }
    torch.manual_seed(3)
    model = builders[name]()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None
            assert m.running_var is not None
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


NETS = ("mlp", "tanh", "leaky", "conv", "pool", "resnet", "preact", "odd")


def worst(model: nn.Module, x: Tensor, y: Tensor, threat: Linf | L2) -> Tensor:
    """The largest margin that sampling finds in the ball: corners, its surface, its inside."""
    largest = torch.full((len(x),), -torch.inf)
    for k in range(300):
        delta = torch.randn(x.shape)
        if type(threat) is Linf:
            delta = delta.sign() * (1 if k % 3 else torch.rand(x.shape))
        else:
            delta = delta / delta.flatten(1).norm(dim=1)[:, None, None, None]
        with torch.no_grad():
            z = model((x + threat.eps * delta).clamp(0, 1))
        largest = torch.maximum(largest, losses.margin(z, y))
    return largest


@pytest.mark.parametrize("threat", [Linf(0.03), L2(0.1)], ids=["Linf", "L2"])
@pytest.mark.parametrize("name", NETS)
def test_bounds_hold_and_crown_is_no_looser(name: str, threat: Linf | L2) -> None:
    model, x = net(name), torch.rand(8, 1, 4, 4)
    x[0] = x[0].round()  # at the edge of the box
    y = model(x).argmax(1)
    methods = METHODS[: 2 if name in ("resnet", "preact") else 3]
    result = {m: bounds.margin_upper_bounds(model, x, y, threat=threat, method=m) for m in methods}
    largest = worst(model, x, y, threat)
    for bound in result.values():
        assert (bound >= largest - 1e-5).all()
    for looser, tighter in itertools.pairwise(result.values()):
        assert (tighter <= looser + 1e-9).all()
    if name not in ("resnet", "preact"):
        assert (result["crown"] < result["ibp"] - 1e-4).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mlp", "conv", "pool", "odd"])
def test_what_is_certified_is_not_broken(name: str, method: str) -> None:
    model, x = net(name), torch.rand(40, 1, 4, 4)
    y = model(x).argmax(1)
    for eps in (0.002, 0.005, 0.01, 0.03):
        sure = certification.certify(model, x, y, threat=Linf(eps), method=method)
        x_adv = PGD(Linf(eps), steps=20, restarts=2)(model, x, y)
        robust = model(x_adv).argmax(1) == y
        assert (robust | ~sure).all()
        assert eps > 0.002 or method == "ibp" or sure.any()


@pytest.mark.parametrize("method", METHODS)
def test_one_linear_layer_is_exact(method: str) -> None:
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(5, 2))
    x, y = torch.rand(7, 5), torch.zeros(7, dtype=torch.long)
    w = (model[1].weight[1] - model[1].weight[0]).detach()
    z = model(x).detach()
    inside = Linf(0.2)
    want = z[:, 1] - z[:, 0] + gain_in_linf_and_box(w, x, 0.2)
    result = bounds.margin_upper_bounds(model, x, y, threat=inside, method=method)
    assert torch.allclose(result.float(), want, atol=1e-5)
    middle = torch.full((1, 5), 0.5)
    z = model(middle).detach()
    result = bounds.margin_upper_bounds(model, middle, y[:1], threat=L2(0.2), method=method)
    assert result.item() == pytest.approx((z[0, 1] - z[0, 0] + 0.2 * w.norm()).item(), abs=1e-5)


def test_linear_networks_of_any_depth_are_exact_for_crown_only() -> None:
    deep = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5), nn.Identity(), nn.Linear(5, 3))
    x, y = torch.full((1, 4), 0.5), torch.tensor([2])
    whole = torch.eye(4)
    for layer in deep:
        whole = layer.weight.detach() @ whole if isinstance(layer, nn.Linear) else whole
    z = deep(x).detach()[0]
    want = max((z[j] - z[2] + 0.1 * (whole[2] - whole[j]).abs().sum()).item() for j in (0, 1))
    for method in METHODS:  # elision reaches the input where nothing is non-linear
        result = bounds.margin_upper_bounds(deep, x, y, threat=Linf(0.1), method=method).item()
        assert result == pytest.approx(want, abs=1e-5)


def test_interval_of_one_hidden_layer_by_hand() -> None:
    model: Any = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    for layer, w, b in (
        (model[0], [[1.0], [-1.0]], [-0.5, 0.5]),
        (model[2], [[1.0, -1.0], [0.0, 0.0]], [0.3, 0.0]),
    ):
        layer.weight.data, layer.bias.data = torch.tensor(w), torch.tensor(b)
    # x in [0.4, 0.6]: both hidden units lie in [0, 0.1]; the margin is 0.2 − x ≤ −0.2.
    x, y = torch.tensor([[0.5]]), torch.tensor([0])
    assert bounds.margin_upper_bounds(
        model, x, y, threat=Linf(0.1), method="ibp"
    ).item() == pytest.approx(0.1 - 0.3, abs=1e-5)
    # h₁ ≥ h₁' (slope 1 or 0), h₂ ≤ (h₂' + 0.1)/2: CROWN gives max (0.05 + h/2) − 0.3 = −0.2 too.
    assert bounds.margin_upper_bounds(
        model, x, y, threat=Linf(0.1), method="crown-ibp"
    ).item() == pytest.approx(-0.2, abs=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_radius_zero_gives_clean_accuracy(name: str) -> None:
    model, x = net(name), torch.rand(30, 1, 4, 4)
    y = torch.randint(3, (30,))
    for threat in (Linf(0.0), L2(0.0)):
        sure = certification.certify(model, x, y, threat=threat, method="ibp")
        assert torch.equal(sure, model(x).argmax(1) == y)


def test_the_model_comes_back_as_it_was() -> None:
    model = net("conv").train()
    model[0].eval()
    model[-1].weight.grad = torch.ones(3, 16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long)
    state = torch.get_rng_state()
    certification.certify(model, x, y, threat=Linf(0.01), method="crown")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model] == [False, *[True] * 7]
    assert all(p.requires_grad for p in model.parameters())
    assert (model[-1].weight.grad == 1).all()


def test_batches_of_none_and_one_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net("conv"), torch.rand(7, 1, 4, 4)
    y = model(x).argmax(1)
    assert certification.certify(model, x[:0], y[:0], threat=Linf(0.1)).shape == (0,)
    whole = bounds.margin_upper_bounds(model, x, y, threat=Linf(0.01), method="crown")
    monkeypatch.setattr(bounds, "MAX_COEFFICIENTS", 256)
    parts = bounds.margin_upper_bounds(model, x, y, threat=Linf(0.01), method="crown")
    assert torch.allclose(whole, parts)
    assert not certification.certify(net("mlp"), x / 0 * 0, y, threat=Linf(0.0)).any()


class Forward(nn.Module):
    """A module that is one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


REFUSED = {
    "softplus": lambda m, x: nn.functional.softplus(m.linear(x)),
    "mul": lambda m, x: m.linear(x) * x,
    "add": lambda m, x: torch.add(x, m.linear(x), alpha=2),
    "number taken": lambda m, x: m.linear(x) * m.linear(x).nelement(),
    "can't read Forward": lambda m, x: m.linear(x) * m.linear(x).item(),
    "know max": lambda m, x: m.linear(x) * x.max(),
    "can't read": lambda m, x: m.linear(x) if x.sum() > 0 else x,
    "network differs from the model": lambda m, x: m.linear(x + 0 * F.relu(x, inplace=True)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_bounds_can_not_read_is_refused(message: str) -> None:
    x, y = torch.rand(2, 3) - 0.5, torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        bounds.margin_upper_bounds(Forward(REFUSED[message]), x, y, threat=Linf(0.1))


def test_unknown_layers_threats_and_models_are_refused_by_name() -> None:
    x, y = torch.rand(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"GELU.*supported are Linear"):
        bounds.margin_upper_bounds(
            nn.Sequential(nn.Linear(3, 3), nn.GELU()), x, y, threat=Linf(0.1)
        )
    odd = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.Flatten())
    with pytest.raises(ValueError, match="do not know Conv2d"):
        graph.trace_network(odd, torch.rand(1, 1, 3, 3))
    with pytest.raises(ValueError, match="Linf or L2"):
        bounds.margin_upper_bounds(nn.Linear(3, 3), x, y, threat=L1(0.1))
    with pytest.raises(ValueError, match="smoothing takes any function"):
        bounds.margin_upper_bounds(lambda x: x, x, y, threat=Linf(0.1))
    with pytest.raises(ValueError, match="did you mean 'crown'"):
        bounds.margin_upper_bounds(nn.Linear(3, 3), x, y, threat=Linf(0.1), method="crow")


def test_a_hook_that_changes_the_model_is_found() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3))
    model[0].register_forward_hook(lambda *args: args[2] + 1)
    x, y = torch.rand(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="Linear with hooks"):
        bounds.margin_upper_bounds(model, x, y, threat=Linf(0.1))
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].forward = lambda x: x + 1
    with pytest.raises(ValueError, match="network differs from the model"):
        bounds.margin_upper_bounds(model, x, y, threat=Linf(0.1))


@pytest.mark.parametrize(
    ("hits", "n", "alpha", "want"),
    [(100, 100, 0.001, 0.001 ** (1 / 100)), (8, 10, 0.025, 0.4439045), (0, 5, 0.05, 0.0)],
)
def test_clopper_pearson(hits: int, n: int, alpha: float, want: float) -> None:
    assert smoothing.clopper_pearson_lower(hits, n, alpha) == pytest.approx(want, abs=1e-6)


def test_clopper_pearson_agrees_with_the_beta_quantile() -> None:
    stats = pytest.importorskip("scipy.stats")
    for hits, n in ((1, 10), (731, 1000), (99_000, 100_000), (60_000, 100_000)):
        want = stats.beta.ppf(0.001, hits, n - hits + 1)
        assert smoothing.clopper_pearson_lower(hits, n, 0.001) == pytest.approx(want, rel=1e-8)


def test_smoothing_of_a_linear_model_is_its_distance() -> None:
    w = torch.tensor([1.0, -2.0, 0.5])
    model, x = Linear(w, 0.2), torch.rand(6, 3)
    distance = (x @ w + 0.2).abs() / w.norm()
    result = smoothing.certify(model, x, sigma=0.5, draws=20_000, alpha=0.01)
    known = result.prediction >= 0
    assert torch.equal(result.prediction[known], model(x).argmax(1)[known])
    for got, true in zip(result.radius, distance, strict=True):
        p = NormalDist().cdf(true.item() / 0.5)
        spread = math.sqrt(p * (1 - p) / 20_000)
        least = max(0.5, p - 6 * spread - 2e-4)
        assert 0.5 * NormalDist().inv_cdf(least) - 1e-9 <= got <= true * 1.02
    again = smoothing.certify(model, x, sigma=0.5, draws=20_000, alpha=0.01, batch_size=1000)
    assert torch.equal(result.radius, again.radius)


def test_smoothing_abstains_and_survives_nan() -> None:
    x = torch.full((1, 2), 0.5)
    nothing = smoothing.certify(lambda x: x * torch.nan, x, sigma=0.1, draws=10)
    assert nothing.prediction.tolist() == [-1]
    assert nothing.radius.tolist() == [0]
    even = smoothing.certify(lambda x: x, x, sigma=0.1, draws=200)
    assert even.prediction.tolist() == [-1]
    with pytest.raises(ValueError, match="sigma"):
        smoothing.certify(lambda x: x, x, sigma=0.0)


def test_certificates_stand_at_their_radii() -> None:
    model, x = net("mlp"), torch.rand(50, 1, 4, 4)
    y = model(x).argmax(1)
    levels = [(t.eps, t) for t in (Linf(0.001), Linf(0.02), L2(0.01), L1(0.1))]
    result = certification.certificates(
        model, x, y, levels, methods=("ibp", "crown", "smoothing"), n=20, draws=100
    )
    names = [[c.name for c in row] for row in result]
    assert names[0] == names[1] == ["IBP", "CROWN"]
    assert names[2] == ["IBP", "CROWN", "smoothing σ = 0.005"]
    assert names[3] == []
    assert all(c.n == 20 and 0 <= c.low <= c.accuracy <= c.high <= 1 for row in result for c in row)
    assert result[0][1].accuracy >= max(result[0][0].accuracy, result[1][1].accuracy)
    assert "not of the bare one" in result[2][2].detail
    with pytest.raises(ValueError, match="left out for L1"):
        certification.require_certifiable(model, x, levels[3:], methods=("ibp",))
    with pytest.raises(ValueError, match="did you mean 'ibp'"):
        certification.require_certifiable(model, x, levels, methods=("ipb",))
    with pytest.raises(ValueError, match=r"sigma = 0\.0 is not allowed"):  # and is no default
        certification.certificates(model, x, y, levels[2:3], methods=("smoothing",), sigma=0.0)


def test_an_evaluation_draws_the_bound_beside_the_attack():
    """One method by its name alone; what is proven was not broken."""
    x = torch.rand(30, 6, generator=torch.Generator().manual_seed(0))
    model = Net(6, 3, scale=2.0)
    with torch.no_grad():
        y = model(x).argmax(1)
    with pytest.raises(ValueError, match="did you mean 'ibp'"):
        evaluate(model, (x, y), "Linf", "quick", eps=0.01, certify="ipb", progress=False)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        y = linear(x).argmax(1)
    result = evaluate(linear, (x, y), "Linf", "quick", eps=0.01, certify="ibp", progress=False)
    (row,) = result.by_eps
    assert row.certified
    assert 0 < row.certified[0].accuracy <= row.robust.accuracy
