"""Networks by "module:Class": only with trust, checked on the way in, `.logits` unwrapped."""

import sys

import pytest
import torch

from sparring import models
from sparring.models.imported import Logits

SOURCE = """
from types import SimpleNamespace
import torch
from torch import nn

RAN = []

class Net(nn.Module):
    def __init__(self, *, shape, classes, width=3):
        super().__init__()
        self.width = width
        self.bn = nn.BatchNorm1d(shape[0])
        self.linear = nn.Linear(shape[0], classes)
    def forward(self, x):
        return self.linear(self.bn(x))

def create_model(model_name, num_classes=1000):
    return nn.Sequential(nn.Linear(4, num_classes))

class Config:
    def __init__(self, num_labels=2):
        self.num_labels = num_labels

class Headed(nn.Module):
    config_class = Config
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(4, config.num_labels)
    def forward(self, x):
        return SimpleNamespace(logits=self.linear(x), loss=None)

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.LazyLinear(3))

class Broken(nn.Module):
    def __init__(self):
        raise KeyError("a long story\\nthe " + 999 * "very " + "reason")

class Stopping(Net):
    def forward(self, x):
        return next(iter(()))

def function(shape):
    return lambda x: x
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The name of a module in the current folder, not on the path."""
    (tmp_path / "strangers_net.py").write_text(SOURCE)
    (tmp_path / "strangers_slip.py").write_text("1 / 0")
    (tmp_path / "strangers_script.py").write_text("import sys; sys.exit('usage: script FILE')")
    monkeypatch.chdir(tmp_path)
    yield "strangers_net"
    sys.modules.pop("strangers_net", None)


def build(name, **kw):
    return models.build(name, **({"shape": (4,), "classes": 3, "trust": True} | kw))


def test_refused_without_trust_and_not_run(stranger):
    with pytest.raises(ValueError, match="--trust"):
        build(f"{stranger}:Net", trust=False)
    assert stranger not in sys.modules


def test_class_gets_its_arguments_and_the_shape(stranger):
    path = list(sys.path)
    model = build(f"{stranger}:Net", width=7)
    assert model.width == 7
    assert model(torch.rand(5, 4)).shape == (5, 3)
    assert sys.path == path


def test_the_check_leaves_the_model_as_built(stranger):
    model = build(f"{stranger}:Net")
    assert model.training
    assert model.bn.num_batches_tracked == 0
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_function_in_the_style_of_timm(stranger):
    model = build(f"{stranger}:create_model", model_name="tiny", num_classes=3)
    assert model(torch.rand(5, 4)).shape == (5, 3)


def test_class_in_the_style_of_hugging_face(stranger):
    model = build(f"{stranger}:Headed", num_labels=3)
    assert isinstance(model, Logits)
    assert isinstance(model(torch.rand(5, 4)), torch.Tensor)
    config = sys.modules[stranger].Config(num_labels=3)
    assert build(f"{stranger}:Headed", config=config)(torch.rand(5, 4)).shape == (5, 3)


def test_normalisation_goes_in_front(stranger):
    torch.manual_seed(0)
    plain = build(f"{stranger}:Net").eval()
    torch.manual_seed(0)
    inside = build(f"{stranger}:Net", mean=0.5, std=0.25).eval()
    x = torch.rand(5, 4)
    assert torch.equal(inside(x), plain((x - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("name", "kw", "said"),
    [
        ("no_such_module:Net", {}, "can't be loaded: ModuleNotFoundError.*no_such_module"),
        ("strangers_slip:Net", {}, "can't be loaded: ZeroDivisionError"),
        ("strangers_script:Net", {}, "can't be loaded: SystemExit: usage: script FILE"),
        ("strangers_net:Broken", {}, "cannot be built: KeyError: "),
        ("strangers_net:Stopping", {}, "does not take inputs .*: StopIteration"),
        ("strangers_net:Nett", {}, "can't be loaded: AttributeError.*Nett"),
        ("strangers_net:", {}, '"module:Class"'),
        ("strangers_net:Net", {"depth": 3}, "cannot be called with .*depth"),
        ("strangers_net:create_model", {}, "model_name"),
        ("strangers_net:create_model", {"model_name": "tiny"}, r"gives \(2, 1000\).*\(2, 3\)"),
        (
            "strangers_net:create_model",
            {"model_name": "", "shape": (5,)},
            r"inputs of shape \(b, \*\(5,\)\)",
        ),
        ("strangers_net:Pair", {}, "gives tuple"),
        ("strangers_net:function", {}, "torch.nn.Module, not a function"),
    ],
)
def test_mistakes_are_explained(stranger, name, kw, said):
    with pytest.raises(ValueError, match=said) as error:
        build(name, **kw)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_lazy_layers_are_shaped_by_the_check_with_the_draws_of_the_build(stranger):
    torch.manual_seed(0)
    first = build(f"{stranger}:Lazy")
    torch.manual_seed(0)
    again = build(f"{stranger}:Lazy")
    assert first[0].weight.shape == (5, 4)
    assert torch.equal(first[0].weight, again[0].weight)
    assert first.training
    assert all(p.requires_grad for p in first.parameters())
    assert first[1].num_batches_tracked == 0
