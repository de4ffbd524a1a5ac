"""Queries in windows: equal to whole passes, for every kind of layer; what runs whole instead."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.introspect import local, local_plan
from sparring.introspect.folded import Folded
from sparring.introspect.local import LocalForward, local_forward
from sparring.models import cnn, resnet
from sparring.models.normalize import Normalize
from sparring.models.wrap import wrap_model
from sparring.runtime import compiled

conv: Any = nn.Conv2d


def net(*layers: nn.Module, shape: tuple[int, ...] = (2, 9, 8)) -> Any:
    """A network of these layers on images of a shape, with a linear layer at its end."""
    body = nn.Sequential(*layers, nn.Flatten())
    return nn.Sequential(*body, nn.Linear(body.eval()(torch.zeros(1, *shape)).shape[1], 4))


class Residual(nn.Module):
    """The sum of two convolutions, of one with a stride, and of the image itself."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(3, 3, 3, stride=stride, padding=1)
        self.norm, self.conv2 = nn.BatchNorm2d(3), conv(3, 3, 3, padding=1)
        self.shortcut = conv(3, 3, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.norm(self.conv1(x)))) + self.shortcut(x))


class Dense(nn.Module):
    """Concatenates channels, as DenseNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), conv(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


STEM = [conv(2, 3, 3, padding=1), nn.ReLU()]
NETS: dict[str, Any] = {
    "plain": net(*STEM, conv(3, 2, 3)),
    "strides": net(conv(2, 3, 3, stride=2, padding=1), conv(3, 2, 2, stride=2)),
    "uneven": net(conv(2, 3, (3, 2), stride=(1, 2), padding=(0, 1)), nn.ReLU()),
    "wide border": net(conv(2, 3, 3, padding=4), nn.ReLU(), conv(3, 2, 3)),
    "skips pixels": net(conv(2, 3, 1, stride=3), nn.ReLU()),
    "dilation and groups": net(conv(2, 4, 3, dilation=2, padding=2), conv(4, 2, 3, groups=2)),
    "norms": net(Normalize([0.4, 0.5], 0.3), conv(2, 3, 3, padding=1, bias=False),
                 nn.BatchNorm2d(3), nn.ReLU(), conv(3, 2, 3), nn.BatchNorm2d(2)),
    "curves": net(*STEM, nn.Tanh(), conv(3, 2, 3), nn.LeakyReLU(0.1), nn.Sigmoid()),
    "max-pool": net(*STEM, nn.MaxPool2d(2), conv(3, 2, 3), nn.ReLU()),
    "max-pool with a border": net(conv(2, 3, 3), nn.MaxPool2d(3, 2, 1), conv(3, 2, 2)),
    "average pool": net(*STEM, nn.AvgPool2d(2), conv(3, 2, 3)),
    "average pool with a border": net(*STEM, nn.AvgPool2d(3, 2, 1), conv(3, 2, 2)),
    "average pool of what is there": net(*STEM, nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "mean of the map": net(*STEM, conv(3, 6, 3), nn.AdaptiveAvgPool2d(1)),
    "mean as a function": net(*STEM, conv(3, 6, 3), Mean()),
    "residual": net(*STEM, Residual(1), conv(3, 2, 3)),
    "residual with stride": net(*STEM, Residual(2), Residual(1)),
    "dense": net(*STEM, Dense(), conv(5, 2, 3)),
    "two heads deep": net(*STEM, nn.Flatten(), nn.Linear(216, 20), nn.ReLU(), nn.Dropout()),
}  # fmt: skip


def drawn(model: Any) -> Any:
    """The model in eval mode, with norms that do something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for t, low in ((module.running_mean, -0.2), (module.running_var, 0.5)):
                assert t is not None
                t.uniform_(low, low + 1)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.2)
    return model.eval()


def changed(best: Tensor, sides: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Points with one new window each, and the windows' corners."""
    h, w = sides
    z, (top, left) = (
        best.clone(),
        (
            torch.randint(n - s + 1, (len(best),))
            for n, s in zip(best.shape[2:], sides, strict=True)
        ),
    )
    for row, i, j in zip(z, top.tolist(), left.tolist(), strict=True):
        row[:, i : i + h, j : j + w] = torch.rand(len(row), h, w)
    return z, top, left


def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WORTH_IT", 1e9)


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_it_equals_whole_passes(name, monkeypatch):
    always(monkeypatch)
    monkeypatch.setattr(local, "CHUNK_ROWS", 5)
    model, best = drawn(NETS[name]), torch.rand(12, 2, 9, 8)
    queries = local_forward(model, best)
    assert queries is not None
    for sides in ((5, 5), (3, 3), (2, 4), (1, 1), (9, 1), (1, 8)):
        assert queries.prepare(best, sides)
        for _ in range(3):
            z, top, left = changed(best, sides)
            assert torch.allclose(queries(z, top, left), model(z), rtol=0, atol=1e-6)
            better = torch.rand(len(z)) < 0.5
            queries.accept(better)
            best = torch.where(better[:, None, None, None], z, best)
        rows = torch.arange(len(best)) != 1
        queries.keep(rows)
        best = best[rows]
        z, top, left = changed(best, sides)
        assert torch.allclose(queries(z, top, left), model(z), rtol=0, atol=1e-6)


@pytest.mark.parametrize("build", [cnn.mnist_net, cnn.small_cnn, cnn.lenet, cnn.cifar_net])
@torch.no_grad()
def test_it_equals_whole_passes_of_our_networks(build, monkeypatch):
    always(monkeypatch)
    torch.manual_seed(0)
    model, best = drawn(build(shape=(1, 28, 28), classes=10)), torch.rand(3, 1, 28, 28)
    model[-1].weight.data.normal_(0, 0.1)
    queries = local_forward(model, best)
    assert queries is not None
    assert queries.prepare(best, (3, 3))
    for _ in range(3):
        z, top, left = changed(best, (3, 3))
        assert torch.allclose(queries(z, top, left), model(z), rtol=1e-6, atol=1e-6)
        queries.accept(torch.tensor([True, False, True]))
        best = torch.where(torch.tensor([True, False, True])[:, None, None, None], z, best)


@pytest.mark.parametrize("build", [resnet.resnet18, resnet.preact_resnet18])
@torch.no_grad()
def test_it_equals_whole_passes_of_residual_networks(build, monkeypatch):
    always(monkeypatch)
    torch.manual_seed(0)
    model, best = drawn(build(shape=(3, 16, 16), classes=10, width=8)), torch.rand(3, 3, 16, 16)
    queries = local_forward(model, best)
    assert queries is not None
    assert queries.prepare(best, (2, 2))
    z, top, left = changed(best, (2, 2))
    assert torch.allclose(queries(z, top, left), model(z), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_bfloat16_rounds_as_autocast_does(monkeypatch):
    always(monkeypatch)
    torch.manual_seed(0)
    model, best = drawn(NETS["norms"]), torch.rand(16, 2, 9, 8)
    queries = local_forward(model, best, torch.bfloat16)
    assert queries is not None
    assert queries.prepare(best, (3, 3))
    z, top, left = changed(best, (3, 3))
    logits, exact = queries(z, top, left), model(z)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(z).float()
    assert logits.dtype == torch.float32
    assert (logits - exact).abs().mean() < 2 * (rounded - exact).abs().mean() + 1e-4


@torch.no_grad()
def test_behind_preprocessing(monkeypatch):
    always(monkeypatch)
    model, best = wrap_model(drawn(NETS["plain"]), mean=[0.1, 0.2], std=0.5), torch.rand(4, 2, 9, 8)
    queries = local_forward(model.eval(), best)
    assert queries is not None
    assert queries.prepare(best, (2, 2))
    z, top, left = changed(best, (2, 2))
    assert torch.allclose(queries(z, top, left), model(z), atol=1e-6)


def test_a_compiled_model_hands_out_its_own(monkeypatch):
    monkeypatch.setattr(compiled, "_compiled", lambda model, graphs: model)
    assert local_forward(compiled.CompiledModel(drawn(NETS["plain"]), [4]), X) is not None


class Shuffled(nn.Module):
    """A network that the reader cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)[:, :4] if x.sum() > 0 else self.conv(x).flatten(1)[:, 4:8]


class Hooked(nn.Module):
    """A network with a change that no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = copy.deepcopy(drawn(NETS["plain"]))  # the nets share layers
        self.inner[0].register_forward_hook(lambda m, args, out: 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


X = torch.rand(4, 2, 9, 8)
INSTANCE = net(conv(2, 3, 3), nn.InstanceNorm2d(3))
WHOLE: dict[str, tuple[Any, Tensor]] = {
    "a function": (lambda x: x.flatten(1), X),
    "no convolution": (nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), X),
    "no image": (nn.Sequential(nn.Linear(5, 3)), torch.rand(4, 5)),
    "no rows": (NETS["plain"], X[:0]),
    "float64": (NETS["plain"], X.double()),
    "weights in bfloat16": (net(conv(2, 3, 3)).bfloat16(), X),
    "control flow": (Shuffled(), X),
    "a layer that reads whole maps": (INSTANCE, X),
    "a map that turns": (net(conv(2, 2, 3), nn.Upsample(scale_factor=2)), X),
}


@pytest.mark.parametrize("name", WHOLE)
def test_other_models_run_whole(name):
    model, x = WHOLE[name]
    assert local_forward(model.eval() if isinstance(model, nn.Module) else model, x) is None


def test_train_mode_half_precision_and_hooks_run_whole():
    model = drawn(net(*STEM, nn.BatchNorm2d(3)))
    assert local_forward(model, X) is not None
    assert local_forward(model, X, torch.float16) is None
    assert local_forward(Hooked().eval(), X) is None
    assert local_forward(model.train(), X) is None
    assert model[2].num_batches_tracked == 0


class TestCost:
    def test_large_windows_run_whole(self):
        model = drawn(cnn.mnist_net(shape=(1, 28, 28), classes=10))
        x = torch.rand(2, 1, 28, 28)
        for dtype in (torch.float32, torch.bfloat16):
            queries = local_forward(model, x, dtype)
            assert queries is not None
            assert [queries.prepare(x, (s, s)) for s in (25, 18, 4, 3, 2)] == [0, 0, 1, 1, 1]

    def test_what_needs_too_much_memory_runs_whole(self, monkeypatch):
        always(monkeypatch)
        queries = LocalForward(Folded(drawn(NETS["plain"]), X))
        assert queries.prepare(X, (2, 2))
        monkeypatch.setattr(local, "MAX_BYTES", 1000)
        assert not queries.prepare(X, (3, 3))
        assert queries.prepare(X, (3, 3)) is False  # as before, without a second plan
        monkeypatch.setattr(local, "MAX_BYTES", 2**30)
        monkeypatch.setattr(local_plan, "MAX_ENTRIES", 100)
        assert not queries.prepare(X, (2, 2))

    def test_less_is_multiplied_and_moved(self):
        layers = Folded(
            drawn(cnn.mnist_net(shape=(1, 28, 28), classes=10)), torch.rand(1, 1, 28, 28)
        ).layers
        plans = [local_plan.WindowPlan(layers, (s, s)) for s in (2, 3, 6, 9)]
        assert plans[0].macs < 0.2 * sum(layer.macs for layer in layers)
        for key in ("macs", "moved"):
            values = [getattr(plan, key) for plan in plans]
            assert values == sorted(values)
