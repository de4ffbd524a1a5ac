"""Looking inside a model: features, replacement, the tail, and norms of Jacobian products."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sparring import models
from sparring.introspect import freeze, hooks, jacobian
from tests.oracles import NormedNet

X = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Branches(nn.Module):
    """No Sequential: a skip around the middle, one activation used twice, a part never used, a part
    that gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(16, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.act, self.unused = nn.ReLU(), nn.Linear(1, 1)
        self.pair = nn.LSTM(5, 5)

    def forward(self, x):
        h = self.act(self.first(x.flatten(1)))
        return self.last(h + self.act(self.middle(h)) + self.pair(h)[0])


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return models.resnet18(shape=(1, 8, 8), classes=3, width=2)


def images(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def registered(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in model.modules())


WRAPPED = {
    "bare": lambda m: m,
    "view": freeze.ModelView,
    "view of a view": lambda m: freeze.ModelView(freeze.ModelView(m)),
    "average": AveragedModel,
    "copy": copy.deepcopy,
}


class TestFeatures:
    @pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
    def test_they_are_the_outputs_of_the_submodules(self, wrap):
        model, x = net().eval(), images()
        logits, seen = hooks.extract_features(
            wrap(model), x, ["layer2", "layer1.0.conv1", "linear"]
        )
        assert list(seen) == ["layer2", "layer1.0.conv1", "linear"]
        assert torch.equal(logits, model(x))
        assert torch.equal(seen["layer2"], model[:5](x))
        assert torch.equal(seen["layer1.0.conv1"], model[3][0].conv1(model[:3](x)))
        assert torch.equal(seen["linear"], logits)

    def test_the_graph_runs_from_the_input_through_them_to_the_logits(self):
        model, x = net().eval(), images().requires_grad_()
        logits, seen = hooks.extract_features(model, x, ["layer1", "layer2"])
        direct = torch.autograd.grad(logits.sum(), x, retain_graph=True)[0]
        (through,) = torch.autograd.grad(logits.sum(), seen["layer2"], retain_graph=True)
        chained = torch.autograd.grad(seen["layer2"], x, through)[0]
        assert torch.allclose(direct, chained, atol=1e-6)

    def test_an_activation_in_place_does_not_overwrite_what_was_seen(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
        x = torch.randn(5, 3)
        logits, seen = hooks.extract_features(model, x, ["0"])
        assert torch.equal(seen["0"], model[0](x))
        assert (seen["0"] < 0).any()
        assert (logits >= 0).all()
        logits.sum().backward()

    def test_a_view_gives_its_precision(self):
        logits, seen = hooks.extract_features(
            freeze.ModelView(net(), amp="bfloat16"), images(), ["layer1.0"]
        )
        assert logits.dtype == torch.float32
        assert seen["layer1.0"].dtype == torch.bfloat16

    def test_any_module(self):
        _, seen = hooks.extract_features(Branches(), X, ["middle"])
        assert seen["middle"].shape == (6, 5)


class TestReplace:
    def test_by_a_tensor_and_by_a_function(self):
        model, x = net().eval(), images()
        _, seen = hooks.extract_features(model, x, ["layer2"])
        doubled = model[5:](2 * seen["layer2"])
        assert torch.equal(hooks.replace_outputs(model, x, {"layer2": 2 * seen["layer2"]}), doubled)
        assert torch.equal(hooks.replace_outputs(model, x, {"layer2": lambda h: 2 * h}), doubled)

    def test_several_at_once_in_the_order_of_the_pass(self):
        model, x = net().eval(), images()
        result = hooks.replace_outputs(
            model, x, {"layer2": lambda h: h + 1, "layer1": lambda h: 3 * h}
        )
        assert torch.equal(result, model[5:](model[4](3 * model[:4](x)) + 1))

    def test_gradients_reach_the_tensor(self):
        model, x = net().eval(), images()
        value = torch.rand(4, 4, 4, 4, requires_grad=True)
        hooks.replace_outputs(model, x, {"layer2": value}).sum().backward()
        assert value.grad.abs().sum() > 0


class TestTail:
    @pytest.mark.parametrize("name", ["conv1", "layer1", "layer2.0", "pool", "linear"])
    @pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
    def test_from_a_feature_on_it_gives_the_logits(self, wrap, name):
        model, x = net().eval(), images()
        logits, seen = hooks.extract_features(model, x, [name])
        wrapped = wrap(model)
        calls = []
        freeze.unwrap(wrapped).get_submodule("conv1").register_forward_hook(
            lambda *a: calls.append(1)
        )
        assert torch.equal(hooks.forward_from(wrapped, name, seen[name], x=x), logits)
        if wrap is not AveragedModel:
            assert not calls, "only what follows is run"

    def test_a_module_within_a_block_is_replaced_in_a_whole_pass(self):
        model, x = net().eval(), images()
        logits, seen = hooks.extract_features(model, x, ["layer1.0.conv1"])
        result = hooks.forward_from(model, "layer1.0.conv1", seen["layer1.0.conv1"], x=x)
        assert torch.equal(result, logits)
        with pytest.raises(ValueError, match=r"x is needed: 'layer1.0.conv1' is not inside"):
            hooks.forward_from(model, "layer1.0.conv1", seen["layer1.0.conv1"])

    def test_a_skip_around_the_module_still_counts(self):
        model = Branches()
        logits, seen = hooks.extract_features(model, X, ["middle"])
        assert torch.equal(hooks.forward_from(model, "middle", seen["middle"], x=X), logits)

    def test_a_module_that_stands_there_twice_runs_twice(self):
        act = nn.Tanh()
        model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 2))
        x = torch.rand(3, 4)
        for name in ("0", "2", "4"):
            value = hooks.extract_features(model, x, [name])[1][name]
            assert torch.equal(hooks.forward_from(model, name, value), model(x))
        for given in (None, x):
            with pytest.raises(ValueError, match=r"submodule = '1' .* one called once"):
                hooks.forward_from(model, "1", x, x=given)

    def test_a_module_within_a_block_that_runs_twice(self):
        block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        model, x = nn.Sequential(block, nn.Linear(4, 4), block), torch.rand(3, 4)
        with pytest.raises(ValueError, match=r"submodule = '0.0' .* one called once"):
            hooks.forward_from(model, "0.0", x)
        assert torch.equal(hooks.forward_from(model, "1", model[:2](x)), model(x))

    def test_a_view_keeps_its_precision(self):
        model, x = net().eval(), images()
        view = freeze.ModelView(model, amp="bfloat16")
        logits, seen = hooks.extract_features(view, x, ["layer1"])
        result = hooks.forward_from(view, "layer1", seen["layer1"])
        assert result.dtype == torch.float32
        assert torch.equal(result, logits)


CALLS = {
    "features": lambda m, x, name: hooks.extract_features(m, x, [name]),
    "replace": lambda m, x, name: hooks.replace_outputs(m, x, {name: lambda h: h}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
class TestRefusals:
    def test_an_unknown_name(self, call):
        wanted = (
            "submodule = 'layr1' does not exist; did you mean 'layer1'? There are: bn1, conv1, "
            "flatten, layer1, layer2, layer3, layer4, linear, pool, relu"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
            call(net(), images(), "layr1")
        with pytest.raises(ValueError, match=r"did you mean 'layer2\.0\.conv1'"):
            call(net(), images(), "layer2.0.con1")

    def test_a_module_called_twice(self, call):
        model = Branches()
        with pytest.raises(ValueError, match=r"submodule = 'act' is not allowed.*called once"):
            call(model, X, "act")
        assert not registered(model)

    def test_a_module_never_called(self, call):
        model = Branches()
        with pytest.raises(RuntimeError, match=r"submodule = 'unused'.*was not called"):
            call(model, X, "unused")
        assert not registered(model)

    def test_a_module_that_gives_a_tuple(self, call):
        with pytest.raises(ValueError, match=r"submodule = 'pair'.*gives a tensor, not a tuple"):
            call(Branches(), X, "pair")

    def test_a_compiled_model(self, call):
        for model in (
            torch.compile(net(), backend="eager"),
            freeze.ModelView(net(), compile=True),
            freeze.ModelView(torch.compile(net(), backend="eager")),
        ):
            with pytest.raises(ValueError, match=r"model is compiled.*compile = false"):
                call(model, images(), "layer1")

    def test_hooks_go_whatever_happens(self, call):
        model = net()
        call(model, images(), "layer1")
        assert not registered(model)
        with pytest.raises(RuntimeError):
            call(model, torch.rand(2, 7, 8, 8), "layer1")
        assert not registered(model)


def products(model: nn.Module, x: torch.Tensor):
    x = x.clone().requires_grad_()
    return model(x), x


class TestJacobian:
    def linear(self) -> tuple[nn.Linear, torch.Tensor]:
        torch.manual_seed(0)
        return nn.Linear(5, 3, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)

    def test_of_a_linear_layer(self):
        layer, x = self.linear()
        z, x = products(layer, x)
        exact = layer.weight.square().sum().expand(4)
        assert torch.allclose(jacobian.squared_jacobian_norm(z, x), exact, atol=1e-12)
        v = torch.randn_like(z)
        assert torch.allclose(
            jacobian.squared_vjp_norm(z, x, v), (v @ layer.weight).square().sum(1)
        )

    def test_against_the_jacobian_of_torch(self):
        model = NormedNet().double().eval()
        z, x = products(model, X.double())
        rows = [torch.autograd.functional.jacobian(model, X[i : i + 1].double()) for i in range(6)]
        exact = torch.stack([j.square().sum() for j in rows])
        assert torch.allclose(jacobian.squared_jacobian_norm(z, x), exact, atol=1e-12)

    @pytest.mark.parametrize("training", [True, False])
    def test_batched_directions_are_the_single_ones_and_so_are_their_gradients(self, training):
        model = NormedNet().double().train(training)
        model[3].p = 0.0
        v = jacobian.random_directions(torch.zeros(6, 3, dtype=torch.float64), 4)
        result = []
        for batched in (True, False):
            z, x = products(model, X.double())
            norms = (
                jacobian.squared_vjp_norm(z, x, v)
                if batched
                else torch.stack([jacobian.squared_vjp_norm(z, x, one) for one in v])
            )
            grads = torch.autograd.grad(norms.sum(), list(model.parameters()), allow_unused=True)
            result.append([norms, *(g for g in grads if g is not None)])
        assert result[0][0].shape == (4, 6)
        for a, b in zip(*result, strict=True):
            assert torch.allclose(a, b, atol=1e-10)

    def test_random_directions_average_to_the_exact_norm(self):
        model = NormedNet().double().eval()
        z, x = products(model, X.double())
        v = jacobian.random_directions(z, 20_000, generator=torch.Generator().manual_seed(0))
        estimate = 3 * jacobian.squared_vjp_norm(z, x, v, create_graph=False).mean(0)
        assert torch.allclose(estimate, jacobian.squared_jacobian_norm(z, x), rtol=0.03)

    def test_directions_are_unit_isotropic_and_reproducible(self):
        def draw():
            return jacobian.random_directions(
                torch.zeros(3, 4), 50_000, generator=torch.Generator().manual_seed(1)
            )

        v = draw()
        assert torch.equal(v, draw())
        assert torch.allclose(v.norm(dim=2), torch.ones(50_000, 3))
        rows = v.flatten(0, 1)
        assert torch.allclose(rows.T @ rows / len(rows), torch.eye(4) / 4, atol=0.005)
        assert abs(rows[:, 0].pow(4).mean() - 3 / (4 * 6)) < 0.003, "the sphere, not the cube"

    def test_an_input_without_gradient(self):
        layer, x = self.linear()
        with pytest.raises(ValueError, match=r"x.requires_grad = False is not allowed"):
            jacobian.squared_vjp_norm(layer(x), x, torch.ones(4, 3, dtype=torch.float64))

    def test_a_compiled_model_refuses_the_second_derivative_clearly(self):
        layer, x = self.linear()
        z, x = products(torch.compile(layer, backend="aot_eager"), x)
        v = torch.ones_like(z)
        with pytest.raises(ValueError, match="outputs come from a compiled model"):
            jacobian.squared_vjp_norm(z.sin(), x, v)
        assert jacobian.squared_vjp_norm(z, x, v, create_graph=False).shape == (4,)
