"""Files of weights: their names, damage, and what else they are; nothing in them is run."""

import os
import pickle
import zipfile

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


SUFFIXES = [".pt", ".pth", ".pth.tar", ".tar", ".ckpt", ".bin", ".PT", ".safetensors"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files(tmp_path, suffix):
    source, target, path = net(1), net(2), tmp_path / f"weights{suffix}"
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(
        {"model": state, "epoch": 3}, path
    )
    load_weights(target, str(path))
    assert same(source, target)


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


def zipped(path, name, content=b"x"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)


def itself():
    content: dict = {"epoch": 3}
    content["model"] = content
    return content


FOREIGN = {
    "empty": (lambda p: p.write_bytes(b""), "it is empty"),
    "blank": (lambda p: p.write_bytes(b"\n \n"), "it is empty"),
    "page": (lambda p: p.write_text("<!DOCTYPE html><html>404</html>"), "it is a web page"),
    "pointer": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "archive": (lambda p: zipped(p, "photo.png"), "an archive of something else"),
    "program": (lambda p: torch.jit.script(nn.Linear(2, 2)).save(str(p)), "it is a program"),
    "text": (lambda p: p.write_text("weights: none"), "UnpicklingError"),
    "bytes": (lambda p: p.write_bytes(b"\x80\x02]q\x00K"), "damaged"),
    "json": (lambda p: p.write_bytes((9).to_bytes(8, "little") + b'{"a":{}}x'), "SafetensorError"),
    "itself": (lambda p: torch.save(itself(), p), "holds no state dict: only epoch, model"),
    "folder": (lambda p: p.mkdir(), "is a folder"),
    "pipe": (os.mkfifo, "no regular file"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # scripting, in favour of export
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_something_else_are_named_in_a_line(tmp_path, name, suffix):
    path, (make, words) = tmp_path / f"weights{suffix}", FOREIGN[name]
    make(path)
    with pytest.raises((ValueError, IsADirectoryError), match=words) as error:
        load_weights(net(2), path)
    text = str(error.value)
    assert text.count("\n") == 0
    assert len(text) < 300


def test_a_changed_weight_in_a_file_is_said(tmp_path):
    path, weight = tmp_path / "weights.pt", net(1).linear.weight.detach().numpy().tobytes()
    torch.save(net(1).state_dict(), path)
    whole = path.read_bytes()
    assert whole.count(weight) == 1
    path.write_bytes(whole.replace(weight, weight[::-1]))
    with pytest.raises(ValueError, match=r"is damaged, or not .*does not have its checksum"):
        load_weights(net(2), path)


def test_names_in_a_strangers_file_cannot_write_to_the_terminal():
    for state in ({"fc\x1b[2J\n" + 999 * "x": torch.ones(1)}, {"fc\x1b[2J\n": 3}):
        with pytest.raises(ValueError, match="fc") as error:
            load_weights(net(1), state)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 400


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    torch.save(net(1).state_dict(), tmp_path / "weights.pt")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="not enough memory"):
        load_weights(net(2), tmp_path / "weights.pt")


def test_a_tensor_file_is_no_state_dict(tmp_path):
    torch.save(torch.ones(3), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="holds no state dict but a Tensor"):
        load_weights(net(2), tmp_path / "x.pt")


def test_wrong_suffix_and_absent_file(tmp_path):
    with pytest.raises(ValueError, match=r"\.pt, \.pth or \.safetensors"):
        load_weights(net(2), tmp_path / "weights.h5")
    with pytest.raises(FileNotFoundError, match="there is no file of weights"):
        load_weights(net(2), tmp_path / "weights.pt")
