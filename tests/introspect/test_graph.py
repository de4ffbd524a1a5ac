"""Reading a network: hooks are refused, stored activations are undone, torch.cat in both forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from sparring.certification import certify
from sparring.introspect.folded_model import FoldedModel, folded_model
from sparring.introspect.graph import read_network
from sparring.models import wrap_model
from sparring.threats import Linf

X = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def net(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = layers or (nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    return nn.Sequential(*layers).eval()


def flipped(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The columns the other way round where the first input is large."""
    return torch.where(inputs[0][:, :1] > 0.55, output.flip(1), output)


def test_no_certificate_of_a_layer_whose_hook_changes_it():
    model: Any = net(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    x, y = torch.full((1, 2), 0.5), torch.zeros(1, dtype=torch.long)
    assert certify(model, x, y, threat=Linf(0.1)).all()
    model[1].register_forward_hook(flipped)
    assert model(x + 0.1).argmax(1) == 1
    with pytest.raises(ValueError, match=r"bounds do not know Linear with hooks \(at '_0_1'\)"):
        certify(model, x, y, threat=Linf(0.1))


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("before", [False, True])
def test_a_network_with_a_hook_off_the_first_rows_is_not_folded(layer, before):
    """The hook does nothing on the rows on which the folded network is compared."""
    model: Any = net()
    if before:
        model[layer].register_forward_pre_hook(lambda m, args: (args[0].clamp(max=50),))
    else:
        model[layer].register_forward_hook(lambda m, args, out: out.clamp(max=50))
    assert folded_model(model, X) is model


def test_hooks_of_a_wrapper_are_not_left_out():
    model = wrap_model(net(), mean=[0.5, 0.4], std=[0.2, 0.3]).eval()
    assert len(read_network(model, X)) > 4
    model.register_forward_hook(lambda m, args, out: out.clamp(max=50))
    with pytest.raises(ValueError, match="Adapted with hooks"):
        read_network(model, X)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda m: prune.l1_unstructured(m, "weight", 0.5),
    ],
    ids=["weight_norm", "spectral_norm", "prune"],
)
def test_weights_that_hooks_of_torch_compute_are_read(change):
    model: Any = net()
    change(model[0])
    change(model[3])
    folded = folded_model(model, X)
    assert isinstance(folded, FoldedModel)
    assert torch.allclose(folded(X), model(X), atol=1e-5)


class Keeps(nn.Module):
    """Keep activations in each way, and count in a buffer."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.conv, self.last, self.fails = nn.Conv2d(2, 3, 3), nn.Linear(12, 3), fails
        self.features, self.by_name, self.all = torch.zeros(1), dict[str, Any](), list[Any]()
        self.count = nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        self.features = self.new = self.by_name["h"] = h
        self.all.append(h)
        self.count += 1
        return self.last(h.flatten(1)) if not self.fails or x.sum() > 0 else x


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_that_keeps_activations_is_as_before(fails):
    model = Keeps(fails).eval()
    features = model.features
    if fails:
        with pytest.raises(ValueError, match="bounds can't read"):
            read_network(model, X)
    else:
        assert [s.op.kind for s in read_network(model, X) if s.op] == ["conv", "reshape", "dense"]
    assert model.features is features
    assert not hasattr(model, "new")
    assert (model.by_name, model.all, model.count) == ({}, [], 0)
    assert list(model.state_dict()) == list(Keeps(fails).state_dict())


class Joined(nn.Module):
    def __init__(self, join: Any) -> None:
        super().__init__()
        self.join, self.last = join, nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.join(x, x + 0.1).flatten(1))


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: torch.cat([a, b], 1),
        lambda a, b: torch.cat([a, b], dim=1),
        lambda a, b: torch.concat(tensors=(a, b), dim=-3),
    ],
    ids=["position", "keyword", "keywords"],
)
def test_cat_is_read_in_every_form(join):
    steps = read_network(Joined(join).eval(), X)
    (joined,) = (step for step in steps if step.op and step.op.kind == "join")
    assert joined.op == ("join", (1,))
    assert joined.inputs == (0, 1)
    assert joined.shape == (4, 4, 4)


@pytest.mark.parametrize(
    "join",
    [lambda a, b: torch.cat([a, b]), lambda a, b: torch.cat([a, torch.ones(2, 2, 4, 4)], 1)],
    ids=["samples", "constant"],
)
def test_what_mixes_samples_or_joins_constants_is_refused(join):
    with pytest.raises(ValueError, match="bounds do"):
        read_network(Joined(join).eval(), X)
