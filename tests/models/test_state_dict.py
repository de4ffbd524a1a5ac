"""State dicts from anywhere: names, wrappers, containers, kinds of numbers, mismatches."""

import pytest
import torch
from torch import nn

from sparring import models
from sparring.models import load_weights
from sparring.runtime.warning import SparringWarning


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return models.mlp(shape=(4,), classes=3, hidden=[5])


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "model.", "_orig_mod.", "net.", "ema_model."),
        *("module._orig_mod.", "_orig_mod.module.model."),
    ],
)
@pytest.mark.parametrize(
    "container",
    [
        *((), ("state_dict",), ("model",), ("net",), ("ema",), ("model_ema",)),
        *(("model_state_dict", "model"), ("ema", "state_dict")),
    ],
)
def test_wrappers_and_containers(prefix, container):
    source, target = net(1), net(2)
    found: dict = {prefix + k: v for k, v in source.state_dict().items()}
    for key in container:
        found = {key: found, "epoch": 7}
    assert not any(load_weights(target, found))
    assert same(source, target)


def test_wrapped_model_takes_bare_weights():
    source, target = net(1), nn.DataParallel(net(2))
    load_weights(target, source.state_dict())
    assert same(source, target.module)


class OwnNames(nn.Module):
    """Layers whose names differ by a wrapper's prefix alone."""

    def __init__(self, *names: str):
        super().__init__()
        for name in names:
            home = self
            for part in name.split(".")[:-1]:
                home = getattr(home, part, None) or self._add(home, part)
            home.add_module(name.split(".")[-1], nn.Linear(2, 2))

    @staticmethod
    def _add(home: nn.Module, part: str) -> nn.Module:
        home.add_module(part, nn.Module())
        return getattr(home, part)


TWINS = [("model.fc", "fc"), ("fc", "module.fc", "module.model.fc"), ("net.a", "ema.a", "a")]


@pytest.mark.parametrize("names", TWINS)
@pytest.mark.parametrize(
    "wrap", [lambda m: m, nn.DataParallel, torch.optim.swa_utils.AveragedModel]
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_names_that_differ_by_a_prefix_stay_apart(names, wrap, prefix):
    source, target = OwnNames(*names), OwnNames(*names)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    wrapped = wrap(target)
    rest = load_weights(wrapped, state, strict=False)
    assert rest.unexpected == rest.shapes == []
    assert same(source, target if wrapped is target else wrapped.module)


@pytest.mark.parametrize("names", TWINS)
def test_no_layer_stays_random_and_none_is_guessed(names):
    source, target, before = (OwnNames(*names) for _ in range(3))
    before.load_state_dict(target.state_dict())
    for lost in source.state_dict():
        state = {k: v for k, v in source.state_dict().items() if k != lost}
        with pytest.raises(ValueError, match=f"missing: {lost}"):
            load_weights(target, state)
        assert same(target, before)


def test_an_average_gives_its_weights_and_its_counter_is_no_key():
    source, target = net(1), net(2)
    average = torch.optim.swa_utils.AveragedModel(source)
    assert not any(load_weights(target, average.state_dict()))
    assert same(source, target)


def test_the_first_of_weights_and_their_average_is_read_and_the_other_named():
    states = [net(seed).state_dict() for seed in (1, 2)]
    target = net(3)
    with pytest.warns(
        SparringWarning, match="under 'model', which are read, and an average.*'ema'"
    ):
        load_weights(target, {"ema": states[1], "model": states[0]})
    assert same(target, net(1))
    load_weights(target, {"model": {"name": "mlp"}, "ema": states[1]})
    assert same(target, net(2))


def test_batch_counters_may_be_missing_and_nothing_else():
    source, target = (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2))
    source(torch.rand(8, 4))
    state = source.state_dict()
    del state["1.num_batches_tracked"]
    assert not any(load_weights(target, state))
    assert torch.equal(target[1].running_mean, source[1].running_mean)
    del state["1.running_mean"]
    with pytest.raises(ValueError, match=r"missing: 1\.running_mean"):
        load_weights(target, state)


class Extra(nn.Linear):
    """A layer with state beside its tensors."""

    seen = None

    def get_extra_state(self):
        return {"seen": 7}

    def set_extra_state(self, state):
        self.seen = state["seen"]


def test_extra_state_is_loaded(tmp_path):
    source, target = Extra(2, 2), Extra(2, 2)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "extra.pt")
    load_weights(target, tmp_path / "extra.pt")
    assert target.seen == 7
    assert torch.equal(source.weight, target.weight)


def test_a_lazy_network_takes_its_shapes_from_the_weights():
    source = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    target = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d())
    load_weights(target, source.state_dict())
    x = torch.rand(3, 4)
    assert torch.equal(target.eval()(x), source.eval()(x))


def test_a_network_of_inference_tensors_is_named():
    with torch.inference_mode():
        target = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"made inside torch\.inference_mode"):
        load_weights(target, nn.Linear(2, 2).state_dict())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.long(), "int64 for float32"),
        (lambda w: w > 0, "bool for float32"),
        (lambda w: w + 0j, "complex64 for float32"),
        (lambda w: w.to_sparse(), "float32 for float32"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "qint8 for float32"),
        (lambda w: w[:1], r"\(1, 5\) for \(3, 5\)"),
    ],
    ids=["integers", "bool", "complex", "sparse", "quantised", "shape"],
)
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning", "ignore:.*quantiz:UserWarning")
def test_weights_of_another_kind_are_refused(change, words):
    state = net(1).state_dict()
    state["linear.weight"] = change(state["linear.weight"])
    with pytest.raises(ValueError, match=f"shapes: linear.weight {words}"):
        load_weights(net(2), state)


def test_weights_that_are_nan_are_said():
    state = net(1).state_dict()
    state["linear.bias"][1] = torch.nan
    with pytest.warns(SparringWarning, match=r"NaN \(not a number\): linear.bias$"):
        load_weights(net(2), state)


def test_half_precision_becomes_float32():
    source, target = net(1), net(2)
    load_weights(target, {k: v.half() for k, v in source.state_dict().items()})
    assert all(p.dtype == torch.float32 for p in target.parameters())
    assert torch.equal(target.linear.weight, source.linear.weight.half().float())


def mismatched() -> dict[str, torch.Tensor]:
    state = net(1).state_dict() | {"extra": torch.ones(1), "linear1.weight": torch.ones(2, 2)}
    del state["linear.bias"]
    return state


def test_strict_says_everything_and_changes_nothing():
    target = net(2)
    with pytest.raises(ValueError, match="does not fit the model") as error:
        load_weights(target, {f"module.{k}": v for k, v in mismatched().items()})
    said = str(error.value)
    assert "missing: linear.bias" in said
    assert "unexpected: extra" in said
    assert "shapes: linear1.weight (2, 2) for (5, 4)" in said
    assert same(target, net(2))


def test_not_strict_loads_what_fits_and_returns_the_rest():
    target = net(2)
    rest = load_weights(target, mismatched(), strict=False)
    assert rest.missing == ["linear.bias"]
    assert rest.unexpected == ["extra"]
    assert rest.shapes == ["linear1.weight (2, 2) for (5, 4)"]
    assert torch.equal(target.linear.weight, net(1).linear.weight)
    assert torch.equal(target.linear1.weight, net(2).linear1.weight)


def test_wrapped_and_bare_twins_are_ambiguous():
    state = net(1).state_dict()
    with pytest.raises(ValueError, match=r"gives 'linear.bias' twice"):
        load_weights(net(2), state | {"module.linear.bias": state["linear.bias"]})


def test_wide_resnet_as_trades_spells_it():
    kw = {"shape": (3, 8, 8), "classes": 3, "depth": 10, "widen": 2}
    source, target = models.wide_resnet(**kw), models.wide_resnet(**kw)
    state = {}
    for key, value in source.state_dict().items():
        stage, _, rest = key.partition(".")
        rest = rest.replace("shortcut.0", "convShortcut")
        state[f"{stage}.layer.{rest}" if stage.startswith("block") else key] = value
    assert "block1.layer.0.convShortcut.weight" in state
    state |= {f"sub_{k}": v for k, v in state.items() if k.startswith("block1")}
    load_weights(target, state)
    assert same(source, target)


def test_small_cnn_as_trades_spells_it():
    kw = {"shape": (1, 28, 28), "classes": 10}
    source, target = models.small_cnn(**kw), models.small_cnn(**kw)
    state = source.state_dict()
    spelt = {
        ("feature_extractor." if k[:4] == "conv" else "classifier.") + k: v
        for k, v in state.items()
    }
    load_weights(target, spelt)
    assert same(source, target)


def test_resnet18_has_the_keys_of_the_shared_implementation():
    with torch.device("meta"):
        model = models.resnet18(shape=(3, 32, 32), classes=10)
    keys = set(model.state_dict())
    blocks = {
        f"layer{i}.{j}.{n}{k}.weight"
        for i in (1, 2, 3, 4)
        for j in (0, 1)
        for n in ("conv", "bn")
        for k in (1, 2)
    }
    shortcuts = {f"layer{i}.0.shortcut.{k}.weight" for i in (2, 3, 4) for k in (0, 1)}
    ends = {"conv1.weight", "bn1.weight", "linear.weight"}
    assert {k for k in keys if k.endswith(".weight")} == blocks | shortcuts | ends


@pytest.mark.parametrize("found", [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": [1]}])
def test_no_state_dict_inside_is_said(found):
    with pytest.raises(ValueError, match="holds no state dict"):
        load_weights(net(2), found)
