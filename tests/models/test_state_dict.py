"""State dicts from anywhere: wrappers, containers, files, mismatches; nothing in a file is run."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparring import models
from sparring.models import load_weights


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return models.mlp(shape=(4,), classes=3, hidden=[5])


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.model."],
)
@pytest.mark.parametrize(
    "container", [(), ("state_dict",), ("model",), ("net",), ("model_state_dict", "model")]
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


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_files(tmp_path, suffix):
    source, target, path = net(1), net(2), tmp_path / f"weights{suffix}"
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(
        {"model": state, "epoch": 3}, path
    )
    load_weights(target, str(path))
    assert same(source, target)


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


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_strangers_pickle_is_refused_and_not_run(tmp_path, how):
    path, mark = tmp_path / "weights.pt", tmp_path / "ran"
    found = {"state_dict": net(1).state_dict(), "extra": Bomb(mark)}
    torch.save(found, path) if how == "torch" else path.write_bytes(pickle.dumps(found, protocol=2))
    with pytest.raises(ValueError, match=r"weights.pt was refused: .*can run any code"):
        load_weights(net(2), path)
    assert not mark.exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(net(1), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"refused.*state dict alone"):
        load_weights(net(2), tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "noise", "empty"])
def test_damaged_files_are_said(tmp_path, suffix, damage):
    path, state = tmp_path / f"weights{suffix}", net(1).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    noise = bytes((7 * i * i + 3) % 256 for i in range(len(whole)))
    path.write_bytes({"truncated": whole[: len(whole) // 2], "noise": noise, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"weights\..* is damaged, or not a file of weights"):
        load_weights(net(2), path)


@pytest.mark.parametrize("found", [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": [1]}])
def test_no_state_dict_inside_is_said(found):
    with pytest.raises(ValueError, match="holds no state dict"):
        load_weights(net(2), found)


def test_a_tensor_file_is_no_state_dict(tmp_path):
    torch.save(torch.ones(3), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="holds no state dict but a Tensor"):
        load_weights(net(2), tmp_path / "x.pt")


def test_wrong_suffix_and_absent_file(tmp_path):
    with pytest.raises(ValueError, match=r"\.pt, \.pth or \.safetensors"):
        load_weights(net(2), tmp_path / "weights.h5")
    with pytest.raises(FileNotFoundError, match="there is no file of weights"):
        load_weights(net(2), tmp_path / "weights.pt")
