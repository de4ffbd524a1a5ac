"""The shipped networks: published parameter counts, shapes, gradients, stages, normalisation."""

import pytest
import torch
from torch import nn

from sparring import models

# Of ARMOR's script, TRADES's code, LeCun 1998, and the implementations shared for CIFAR-10.
COUNTS = {
    ("mnist-net", (1, 28, 28)): 379_702,
    ("small-cnn", (1, 28, 28)): 312_202,
    ("lenet", (1, 28, 28)): 61_706,
    ("resnet18", (3, 32, 32)): 11_173_962,
    ("preact-resnet18", (3, 32, 32)): 11_172_170,
    ("wrn-28-10", (3, 32, 32)): 36_479_194,
    ("wrn-34-10", (3, 32, 32)): 46_160_474,
}
SMALL = {  # every name, at a size that runs in milliseconds
    "mlp": {"hidden": [16]},
    "mnist-net": {},
    "small-cnn": {},
    "lenet": {},
    "cifar-net": {"width": 8},
    "resnet18": {"width": 4},
    "preact-resnet18": {"width": 4},
    "wide-resnet": {"depth": 10, "widen": 1},
    "wrn-28-10": {"depth": 10, "widen": 2},
    "wrn-34-10": {"depth": 10, "widen": 2},
}
SHAPES = [(1, 28, 28), (3, 32, 32), (2, 17, 23)]


def small(name: str, shape: tuple[int, ...], **kw) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, shape=shape, classes=5, **SMALL[name], **kw)


def test_small_covers_every_name():
    assert list(SMALL) == models.names()


@pytest.mark.parametrize(("name", "shape"), COUNTS)
def test_parameter_count_is_the_published_one(name, shape):
    with torch.device("meta"):
        model = models.build(name, shape=shape, classes=10)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name, shape]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SMALL)
def test_logits_and_finite_gradients(name, shape):
    model = small(name, shape)
    x = torch.rand(3, *shape, requires_grad=True)
    logits = model(x)
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    grads = {n: p.grad for n, p in model.named_parameters()} | {"x": x.grad}
    assert all(g is not None and bool(g.isfinite().all()) for g in grads.values())
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", [n for n in SMALL if n != "small-cnn"])
def test_input_gradient_reaches_every_sample(name):
    model = small(name, (3, 32, 32)).eval()
    x = torch.rand(3, 3, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert (grad.flatten(1).abs().sum(1) > 0).all()


def test_small_cnn_starts_at_zero_logits_and_learns_past_them():
    model = small("small-cnn", (1, 28, 28))
    x = torch.rand(8, 1, 28, 28)
    assert model(x).abs().max() == 0
    nn.functional.cross_entropy(model(x), torch.zeros(8, dtype=torch.long)).backward()
    assert model.get_parameter("fc3.bias").grad.abs().max() > 0


@pytest.mark.parametrize("name", SMALL)
def test_rows_are_independent_in_eval_mode(name):
    model = small(name, (1, 28, 28)).eval()
    x = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_stages_compose_to_the_model(name):
    model = small(name, (1, 28, 28), mean=0.1).eval()
    assert isinstance(model, nn.Sequential)
    assert next(iter(dict(model.named_children()))) == "normalize"
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(model[3:](model[:3](x)), model(x))


@pytest.mark.parametrize("name", ["resnet18", "preact-resnet18", "wide-resnet"])
def test_residual_networks_take_digits(name):
    assert small(name, (1, 8, 8)).eval()(torch.rand(2, 1, 8, 8)).shape == (2, 5)


def test_stem_keeps_the_resolution():
    model = small("resnet18", (3, 32, 32))
    assert model[:4](torch.rand(2, 3, 32, 32)).shape == (2, 4, 32, 32)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_cifar_net_with_each_normalisation(norm):
    kinds = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "none": nn.Identity}
    model = models.build("cifar-net", shape=(3, 32, 32), classes=10, width=12, norm=norm)
    assert [type(model.get_submodule(f"norm{i}")) for i in range(1, 7)] == [kinds[norm]] * 6
    sides = [model[: 3 * i](torch.rand(2, 3, 32, 32)).shape[-1] for i in range(1, 7)]
    assert sides == [16, 16, 8, 8, 4, 4]
    in_train, in_eval = (model.train(mode)(torch.rand(4, 3, 32, 32)) for mode in (True, False))
    assert in_train.isfinite().all()
    assert in_eval.isfinite().all()


def test_building_is_decided_by_the_seed():
    one, two = small("lenet", (1, 28, 28)), small("lenet", (1, 28, 28))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_wide_resnet_initialisation_is_the_fan_out_one():
    model = models.build("wide-resnet", shape=(3, 32, 32), classes=10, depth=10, widen=4)
    weight = model.get_parameter("block3.0.conv1.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert model.get_parameter("fc.bias").abs().max() == 0


def test_normalisation_is_the_formula_and_stays_out_of_the_weights():
    plain = small("lenet", (3, 32, 32)).eval()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    inside = small("lenet", (3, 32, 32), mean=mean, std=std).eval()
    x = torch.rand(2, 3, 32, 32)
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(inside(x), plain(by_hand))
    assert inside.state_dict().keys() == plain.state_dict().keys()
    assert not isinstance(plain[0], models.Normalize)


def test_normalisation_of_tables():
    model = models.Normalize([1.0, 2.0], [2.0, 4.0])
    assert model(torch.tensor([[3.0, 6.0], [1.0, 2.0]])).tolist() == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "kw", "said"),
    [
        ("resnet-18", {}, "did you mean 'resnet18'.*lenet, mlp, mnist-net"),
        ("gibberish", {}, "There are: cifar-net, lenet, mlp.*module:Class"),
        (
            "mlp",
            {"hiden": [3]},
            "argument of mlp = 'hiden' .*did you mean 'hidden'.*hidden, mean, std",
        ),
        ("mlp", {"hidden": [0]}, "hidden = "),
        ("mlp", {"std": 0.0}, "std = 0.0"),
        ("mlp", {"mean": float("nan")}, "mean = nan"),
        ("mlp", {"mean": [0.1, 0.2]}, r"len\(mean\) = 2 .*3 as the channels"),
        ("mlp", {"classes": 1}, "classes = 1"),
        ("mlp", {"shape": (3, 0)}, "shape = "),
        ("mlp", {"shape": ()}, "shape = "),
        ("resnet18", {"shape": (40,)}, "shape = .40,.*channels, height, width"),
        ("small-cnn", {"shape": (1, 8, 8)}, "shape = .*at least 16"),
        ("lenet", {"shape": (1, 8, 8)}, "shape = .*at least 12"),
        ("wide-resnet", {"depth": 20}, "depth = 20"),
        ("wide-resnet", {"widen": 0}, "widen = 0"),
        ("cifar-net", {"width": 0}, "width = 0"),
        ("cifar-net", {"norm": "layer"}, "norm = 'layer' .*one of batch, group, none"),
    ],
)
def test_mistakes_are_explained(name, kw, said):
    with pytest.raises(ValueError, match=said):
        models.build(name, **({"shape": (3, 32, 32), "classes": 10} | kw))
