"""The shipped networks: published parameter counts, shapes, gradients, stages, normalisation."""

import pytest
import torch
from torch import nn

from sparring import models
from sparring.models.xresnet import BlurPool

# Of ARMOR's script, TRADES's code, LeCun 1998, and the implementations shared for CIFAR-10.
COUNTS = {
    ("mnist-net", (1, 28, 28)): 379_702,
    ("conv-small", (1, 28, 28)): 166_406,
    ("small-cnn", (1, 28, 28)): 312_202,
    ("lenet", (1, 28, 28)): 61_706,
    ("lenet-sigmoid", (1, 28, 28)): 61_706,
    ("resnet9", (3, 32, 32)): 5_777_354,
    ("xresnet18", (3, 128, 128)): 10_137_186,
    ("resnet18", (3, 32, 32)): 11_173_962,
    ("preact-resnet18", (3, 32, 32)): 11_172_170,
    ("wrn-28-10", (3, 32, 32)): 36_479_194,
    ("wrn-34-10", (3, 32, 32)): 46_160_474,
}
SMALL = {  # every name, at a size that runs in milliseconds
    "mlp": {"hidden": [16]},
    "monotone": {"hidden": [12]},
    "mnist-net": {},
    "conv-small": {"width": 8},
    "small-cnn": {},
    "lenet": {},
    "cifar-net": {"width": 8},
    "lenet-sigmoid": {},
    "resnet9": {"width": 2},
    "resnet18": {"width": 4},
    "preact-resnet18": {"width": 4},
    "wide-resnet": {"depth": 10, "widen": 1},
    "wrn-28-10": {"depth": 10, "widen": 2},
    "wrn-34-10": {"depth": 10, "widen": 2},
    "xresnet18": {"width": 8, "groups": 4},
}
SHAPES = [(1, 28, 28), (3, 32, 32), (2, 17, 23)]


def sized(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that the network takes: as it is, or larger by 32 pixels a side."""
    return (shape[0], *(n + 32 for n in shape[1:])) if name == "xresnet18" else shape


def many(name: str) -> int:
    """How many classes the network is tried with."""
    return 2 if name == "monotone" else 5


def small(name: str, shape: tuple[int, ...], **kw) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, shape=shape, classes=many(name), **SMALL[name], **kw)


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
    shape = sized(name, shape)
    model = small(name, shape)
    x = torch.rand(3, *shape, requires_grad=True)
    logits = model(x)
    assert logits.shape == (3, many(name))
    assert logits.dtype == torch.float32
    nn.functional.cross_entropy(logits, torch.arange(3) % many(name)).backward()
    grads = {n: p.grad for n, p in model.named_parameters()} | {"x": x.grad}
    assert all(g is not None and bool(g.isfinite().all()) for g in grads.values())
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", [n for n in SMALL if n != "small-cnn"])
def test_input_gradient_reaches_every_sample(name):
    shape = sized(name, (3, 32, 32))
    model = small(name, shape).eval()
    x = torch.rand(3, *shape, requires_grad=True)
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
    shape = sized(name, (1, 28, 28))
    model = small(name, shape).eval()
    x = torch.rand(4, *shape)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_stages_compose_to_the_model(name):
    shape = sized(name, (1, 28, 28))
    model = small(name, shape, mean=0.1).eval()
    assert isinstance(model, nn.Sequential)
    assert next(iter(dict(model.named_children()))) == "normalize"
    x = torch.rand(2, *shape)
    assert torch.equal(model[3:](model[:3](x)), model(x))


@pytest.mark.parametrize("name", ["resnet18", "preact-resnet18", "wide-resnet"])
def test_residual_networks_take_digits(name):
    assert small(name, (1, 8, 8)).eval()(torch.rand(2, 1, 8, 8)).shape == (2, 5)


def test_lenet_has_the_activation_asked_for():
    model = small("lenet-sigmoid", (1, 28, 28))
    assert sum(isinstance(m, nn.Sigmoid) for m in model.modules()) == 4
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())


@pytest.mark.parametrize("name", ["resnet9", "xresnet18"])
def test_rows_do_not_see_each_other_even_in_training(name):
    shape = sized(name, (3, 32, 32))
    model = small(name, shape, **({"drop": 0.0} if name == "xresnet18" else {})).train()
    x = torch.rand(4, *shape)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-4, rtol=1e-3)


def test_a_blurred_stride_is_the_binomial_filter():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 16.0
    by_hand = torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(BlurPool()(x)[0, 0], by_hand)
    assert torch.allclose(BlurPool()(torch.ones(2, 3, 4, 7)), torch.ones(2, 3, 2, 4))


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
        ("resnet-18", {}, "did you mean 'resnet18', .*`sparring list models` has all"),
        ("gibberish", {}, "`sparring list models` has all.*module:Class"),
        (
            "mlp",
            {"hiden": [3]},
            "argument of mlp = 'hiden' .*did you mean 'hidden'.*hidden, mean, std",
        ),
        ("mlp", {"hidden": [0]}, "hidden = "),
        ("mlp", {"hidden": 300}, "hidden = 300 .*a list of integers"),
        ("mlp", {"hidden": [3.5]}, "hidden.0 = 3.5 .*a valid integer"),
        ("resnet18", {"width": 8.5}, "width = 8.5 .*a valid integer"),
        ("wide-resnet", {"drop": "half"}, "drop = 'half'"),
        ("monotone", {"classes": 2, "benign": 1.5}, "benign = 1.5 .*a valid integer"),
        ("mlp", {"std": 0.0}, "std = 0.0"),
        ("mlp", {"mean": float("nan")}, "mean = nan"),
        ("mlp", {"mean": [0.1, 0.2]}, r"len\(mean\) = 2 .*3 as the channels"),
        ("mlp", {"classes": 1}, "classes = 1"),
        ("mlp", {"shape": (3, 0)}, "shape = "),
        ("mlp", {"shape": ()}, "shape = "),
        ("resnet18", {"shape": (40,)}, "shape = .40,.*channels, height, width"),
        ("conv-small", {"shape": (1, 3, 8)}, "shape = .*at least 4"),
        ("conv-small", {"width": 0}, "width = 0"),
        ("small-cnn", {"shape": (1, 8, 8)}, "shape = .*at least 16"),
        ("lenet", {"shape": (1, 8, 8)}, "shape = .*at least 12"),
        ("lenet", {"activation": "elu"}, "activation = 'elu' .* one of relu, sigmoid, tanh"),
        ("resnet9", {"shape": (1, 7, 9)}, "shape = .*at least 8"),
        ("xresnet18", {}, "shape = .*at least 33"),
        ("xresnet18", {"shape": (3, 64, 64), "groups": 5}, "groups = 5 .* divisor of width = 64"),
        ("wide-resnet", {"depth": 20}, "depth = 20"),
        ("wide-resnet", {"widen": 0}, "widen = 0"),
        ("cifar-net", {"width": 0}, "width = 0"),
        ("monotone", {}, "classes = .*2: it scores one class against another"),
        ("monotone", {"classes": 2, "benign": 0}, "benign = 0 is not allowed"),
        ("monotone", {"classes": 2, "benign": 3073}, "benign = 3073 .*1 to 3072"),
        ("cifar-net", {"norm": "layer"}, "norm = 'layer' .*one of batch, group, none"),
    ],
)
def test_mistakes_are_explained(name, kw, said):
    with pytest.raises(ValueError, match=said):
        models.build(name, **({"shape": (3, 32, 32), "classes": 10} | kw))


@pytest.mark.parametrize("name", ["small-cnn", "wide-resnet", "xresnet18"])
def test_no_dropout_may_be_written_as_a_whole_number(name):
    built = [
        models.build(name, shape=(3, 40, 40), classes=2, drop=drop, **SMALL.get(name, {}))
        for drop in (0, 0.0)
    ]
    assert str(built[0]) == str(built[1])
    assert {m.p for m in built[0].modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


def test_added_features_never_lower_a_monotone_score():
    torch.manual_seed(1)
    model = models.build("monotone", shape=(40,), classes=2, hidden=[30, 30])
    for p in model.parameters():  # any weights, negative ones too
        nn.init.normal_(p)
    x = (torch.rand(500, 40) < 0.3).float()
    more = torch.maximum(x, (torch.rand(500, 40) < 0.2).float())
    score, after = ((z[:, 1] - z[:, 0]).detach() for z in (model(x), model(more)))
    assert (after >= score - 1e-5 * score.abs()).all()
    assert (after > score).float().mean() > 0.9


class TestFeaturesThatSpeakForBenign:
    def net(self, benign: int | None = 3, inputs: int = 12):
        torch.manual_seed(1)
        return models.build("monotone", shape=(inputs,), hidden=[30], classes=2, benign=benign)

    def score(self, model, x):
        return model(x).diff(dim=1)[:, 0].detach()

    def test_the_score_never_rises_with_them_and_never_falls_with_others(self):
        model, x = self.net(), (torch.rand(200, 12) < 0.4).float()
        listed = model.benign.features()
        assert len(listed) == 3
        for j in range(12):
            more = x.clone()
            more[:, j] = 1
            change = self.score(model, more) - self.score(model, x)
            assert ((change if j not in listed else -change) >= -1e-6).all()
            assert change.abs().max() > 0

    def test_adding_all_of_them_is_the_worst_case(self):
        model, x = self.net(), (torch.rand(8, 12) < 0.4).float()
        worst = x.clone()
        worst[:, model.benign.features()] = 1
        added = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 12)
        for row, at_worst in zip(x, self.score(model, worst), strict=True):
            every = self.score(model, torch.maximum(row, added))
            torch.testing.assert_close(every.min(), at_worst)

    def test_a_training_learns_the_list(self):
        """Three features say benign, and the others say nothing or malware."""
        draw = torch.Generator().manual_seed(0)
        x = (torch.rand(600, 12, generator=draw) < 0.5).float()
        y = (x[:, [9, 10, 11]].sum(1) < 1.5).long()
        model = self.net()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(400):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        assert model.benign.features() == [9, 10, 11]
        assert (model(x).argmax(1) == y).float().mean() > 0.95

    def test_none_is_the_network_of_before(self):
        assert repr(self.net(None)) == repr(
            models.build("monotone", shape=(12,), hidden=[30], classes=2)
        )
        assert "benign" not in dict(self.net(None).named_children())
