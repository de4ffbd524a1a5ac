"""Every way to write a network: layers, functions, methods, wrappers; else a sentence, at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import certification
from sparring.certification import bounds
from sparring.evaluation import Suite, evaluate
from sparring.models import load_program, wrap_model
from sparring.threats import L2, Linf
from tests.certification.test_certification import Forward

METHODS = ("ibp", "crown-ibp", "crown")


def convolved(m: Any, x: Tensor) -> Tensor:
    return F.relu(F.conv2d(x, m.kernel, m.offset, padding=1))


FORMS = {
    "max_pool2d": lambda m, x: F.max_pool2d(convolved(m, x), 2),
    "torch.max_pool2d": lambda m, x: torch.max_pool2d(convolved(m, x), 2, stride=2),
    "avg_pool2d": lambda m, x: F.avg_pool2d(convolved(m, x), 2),
    "adaptive": lambda m, x: F.adaptive_avg_pool2d(convolved(m, x), 2),
    "mean": lambda m, x: convolved(m, x).mean((2, 3)),
    "torch.mean": lambda m, x: torch.mean(convolved(m, x), dim=-1, keepdim=True),
    "cat": lambda m, x: torch.cat([convolved(m, x), x, x], 1),
    "leaky_relu": lambda m, x: F.leaky_relu(x, 0.2),
    "dropout": lambda m, x: F.dropout(convolved(m, x), 0.5, m.training),
    "identity": lambda m, x: m.same(convolved(m, x)).contiguous(),
    "sum": lambda m, x: convolved(m, x) + convolved(m, x + 0.1),
    "linear": lambda m, x: F.linear(x.flatten(1), m.matrix, m.matrix[:, 0]),
    "to": lambda m, x: convolved(m, x).float().to(torch.float32),
}
SHAPES = {
    "flatten": lambda h: torch.flatten(h, 1),
    "method": lambda h: h.flatten(start_dim=1),
    "view": lambda h: h.view(h.size(0), -1),
    "reshape": lambda h: h.reshape(h.shape[0], -1),
}


def network(form: str, shape: str) -> nn.Module:
    """A network of one form, whose last layer fits."""
    torch.manual_seed(0)

    def function(m: Any, x: Tensor) -> Tensor:
        return m.last(SHAPES[shape](FORMS[form](m, x)))

    model = Forward(function)
    model.kernel = nn.Parameter(0.5 * torch.randn(2, 1, 3, 3))
    model.offset = nn.Parameter(0.1 * torch.randn(2))
    model.matrix = nn.Parameter(0.3 * torch.randn(5, 16))
    model.last = model.same = nn.Identity()
    with torch.no_grad():
        width = model(torch.zeros(1, 1, 4, 4)).shape[1]
    model.last = nn.Linear(width, 3)
    return model.eval()


def holds(model: Any, x: Tensor, method: str, threat: Any) -> None:
    """The bound is above every margin that sampling finds, and not by much at a small radius."""
    with torch.no_grad():
        z = model(x)
        y = z.argmax(1)
        others = z.scatter(1, y[:, None], -torch.inf).amax(1)
        at_x = others - z.gather(1, y[:, None])[:, 0]
    bound = bounds.margin_upper_bounds(model, x, y, threat=threat, method=method)
    assert (bound >= at_x - 1e-5).all()
    assert (bound <= at_x + 0.5).all()
    for k in range(20):
        delta = torch.randn(x.shape, generator=torch.Generator().manual_seed(k))
        delta = delta.sign() if isinstance(threat, Linf) else delta / delta.flatten(1).norm()
        with torch.no_grad():
            z = model((x + threat.eps * delta).clamp(0, 1))
        margin = z.scatter(1, y[:, None], -torch.inf).amax(1) - z.gather(1, y[:, None])[:, 0]
        assert (bound >= margin - 1e-5).all()


@pytest.mark.parametrize("form", FORMS)
def test_functions_are_read_as_their_layers(form: str) -> None:
    x = torch.rand(6, 1, 4, 4)
    for shape, method in zip(SHAPES, (*METHODS, "ibp"), strict=True):
        holds(network(form, shape), x, method, Linf(0.01))
    holds(network(form, "flatten"), x, "crown", L2(0.02))


def net(columns: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, columns)).eval()


WRAPPED = {
    "mean and std": lambda: wrap_model(net(3), mean=0.3, std=0.5),
    "scale": lambda: wrap_model(net(3), scale=255, mean=[127.0], std=[60.0]),
    "one logit": lambda: wrap_model(net(1)),
    "one logit, normalised": lambda: wrap_model(net(1), mean=0.3, std=0.5),
    "float64": lambda: wrap_model(net(3).double()),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_models_are_certified_with_their_preprocessing(kind: str) -> None:
    x = torch.rand(20, 1, 4, 4)
    model = WRAPPED[kind]()
    if kind == "float64":
        y = net(3)(x).argmax(1)
    else:
        with torch.no_grad():
            y = model(x).argmax(1)
        for method in METHODS:
            holds(model, x, method, Linf(0.001))
    result = evaluate(model, (x, y), "Linf", eps=0.0005, certify=METHODS, progress=False)
    for certificate in result.by_eps[0].certified:
        assert certificate.robust == result.robust.accuracy
        assert 0 < certificate.accuracy <= result.robust.accuracy


def test_one_probability_is_certified_as_its_two_classes() -> None:
    x = torch.rand(20, 1, 4, 4)
    model = wrap_model(nn.Sequential(net(1), nn.Sigmoid()), outputs="probabilities")
    with torch.no_grad():
        y = model(x).argmax(1)
    proven = certification.certify(model, x, y, threat=Linf(0.001), method="crown")
    assert proven.sum() > 0
    away = model((x + 0.001).clamp(0, 1)).argmax(1) == y
    assert (away | ~proven).all()


def exported(path: Any) -> Any:
    torch.export.save(torch.export.export(net(3), (torch.rand(2, 1, 4, 4),)), path)
    return path


def scripted(path: Any) -> Any:
    program: Any = torch.jit.trace(net(3), torch.rand(2, 1, 4, 4))
    program.save(path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("save", [exported, scripted])
@pytest.mark.parametrize("mean", [None, 0.5])
def test_programs_are_refused_before_the_attacks(tmp_path: Any, save: Any, mean: Any) -> None:
    model = wrap_model(load_program(save(tmp_path / "model.pt2"), trust=True), mean=mean)
    x = torch.rand(4, 1, 4, 4)
    with torch.no_grad():
        y = model(x).argmax(1)
    attacks: list[int] = []

    def attack(threat: Any) -> Any:
        attacks.append(1)
        return lambda model, x, y: x

    suite = Suite("own", 1, (("A", attack),))
    with pytest.raises(ValueError, match=r"^bounds can't read .*network itself") as caught:
        evaluate(model, (x, y), "Linf", suite, eps=0.1, certify="crown", progress=False)
    assert not attacks
    assert len(str(caught.value)) < 500
    evaluate(model, (x, y), "L2", "quick", eps=0.1, certify="smoothing", progress=False)


def test_resized_inputs_are_refused() -> None:
    model, x, y = wrap_model(net(3), size=4), torch.rand(1, 1, 8, 8), torch.zeros(1).long()
    with pytest.raises(ValueError, match="certify the network at its own size"):
        certification.certify(model, x, y, threat=Linf(0.1))
